"""Which settings are worth having, and what they give at a recall."""

import math


def rate(point: dict, clock: str = "cpu_s") -> float:
    """Queries per second of CPU time, or of time with `wall_s`."""
    return point["count"] / point[clock] if point[clock] else math.inf


def frontier(points: list[dict], clock: str = "cpu_s") -> list[dict]:
    """Points that no other beats in both recall and rate; recall rises, rate falls."""
    best: list[dict] = []
    for point in sorted(points, key=lambda point: (-point["recall"], -rate(point, clock))):
        if not best or rate(point, clock) > rate(best[-1], clock):
            best.append(point)
    return best[::-1]


def near_frontier(point: dict, points: list[dict], clock: str = "cpu_s") -> bool:
    """May it be worth having, if it was disturbed when it was measured?"""
    best = rate_at(points, point["recall"], clock)
    return best is None or rate(point, clock) > 0.7 * best


def first_at(points: list[dict], recall: float, clock: str = "cpu_s") -> dict | None:
    """The cheapest setting measured that reaches a recall."""
    return next((point for point in frontier(points, clock) if point["recall"] >= recall), None)


def rate_at(points: list[dict], recall: float, clock: str = "cpu_s") -> float | None:
    """Queries per second at a recall, between the two settings around it; None where it isn't reached."""
    line = frontier(points, clock)
    above = next((at for at, point in enumerate(line) if point["recall"] >= recall), None)
    if above is None:
        return None
    high = line[above]
    if above == 0 or high["recall"] == recall:
        return rate(high, clock)
    low = line[above - 1]
    share = (recall - low["recall"]) / (high["recall"] - low["recall"])
    return math.exp((1 - share) * math.log(rate(low, clock)) + share * math.log(rate(high, clock)))
