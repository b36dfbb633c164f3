"""Tables in Markdown, and the files of docs/bench."""

import math
import pathlib

import plot
from frontier import first_at, rate_at
from plan import GROUPS, PEERS

TARGETS = (0.95, 0.99)


def number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def mega(size: float) -> str:
    return f"{size / 1e6:,.0f}" if size >= 1e7 else f"{size / 1e6:,.1f}"


def line(result: dict) -> str:
    rates = ", ".join(f"{number(rate_at(result['one'], target))}/s at {target}" for target in TARGETS)
    build = result["build"]
    return f"{result['group']} {result['label']}: build {build['cpu_s']:.1f} CPU s, {rates} (load {result['load']})"


def held(result: dict) -> tuple[float, float]:
    """Memory that opening and searching took: of the process alone, and of mapped files."""
    before, after = result["open"]["before"], result["one"][-1]["memory"]
    return tuple(max(0, after[kind] - before[kind]) for kind in ("anonymous", "mapped"))


def latency(points: list[dict], target: float) -> str:
    point = first_at(points, target)
    return f"{point['latency']['p50_us']:,.0f} / {point['latency']['p99_us']:,.0f}" if point else "–"


def table(found: dict) -> list[str]:
    meta = found["meta"]
    rows = [
        f"### {meta['name']}: {meta['rows']:,} × {meta['dim']}, {meta['metric']}"
        + (" (the repository's smaller set)" if meta["source"] == "repository" else ""),
        "",
        "| engine | settings | build s, 2 cores (CPU s) | file MB | memory MB, own + mapped | cold start ms "
        "| QPS at 0.95, one core | at 0.99 | p50 / p99 µs at 0.95 | at 0.99 | QPS on two cores at 0.95 | at 0.99 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in found["results"]:
        build, (own, mapped) = result["build"], held(result)
        files = mega(result["file_bytes"]) + (
            f" + {mega(result['rows_bytes'])} of rows" if result["rows_bytes"] else ""
        )
        two = result.get("two", [])
        cells = [
            result["group"],
            result["label"],
            f"{build['wall_s']:.1f} ({build['cpu_s']:.1f})",
            files,
            f"{mega(own)} + {mega(mapped)}",
            f"{result['open']['first_s'] * 1e3:,.0f}",
            *(number(rate_at(result["one"], target)) for target in TARGETS),
            *(latency(result["one"], target) for target in TARGETS),
            *(number(rate_at(two, target, "wall_s")) for target in TARGETS),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows + [""] + against_best(found["results"]) + [""]


def best(results: list[dict], groups, target: float):
    """Rate and result of the fastest among some groups."""
    rated = [(rate_at(result["one"], target), result) for result in results if result["group"] in groups]
    return max(((rate, result) for rate, result in rated if rate), key=lambda pair: pair[0], default=(None, None))


def against_best(results: list[dict]) -> list[str]:
    out = []
    for target in TARGETS:
        ours, mine = best(results, ["ProximaDB"], target)
        peer, theirs = best(results, PEERS, target)
        graph, _ = best(results, [group for group in PEERS if "IVF" not in group and "RaBitQ" not in group], target)
        if ours and peer:
            out.append(
                f"- At recall {target}: {ours / peer:.2f}× the best peer "
                f"({theirs['group']} {theirs['label']}, {number(peer)}/s), "
                f"{ours / graph if graph else math.inf:.2f}× the best graph among them; "
                f"{number(ours)}/s with {mine['label']}."
            )
    builds = [(result["build"]["cpu_s"], result) for result in results if result["group"] == "hnswlib"]
    mine = [result for result in results if result["group"] == "ProximaDB"]
    for result in mine:
        for cpu, peer in builds:
            out.append(
                f"- Build, {result['label']}: hnswlib with {peer['label']} takes "
                f"{cpu / result['build']['cpu_s']:.1f}× the CPU time."
            )
    return out


def filtered(found: dict) -> list[str]:
    rows = [
        f"### {found['meta']['name']} with filters",
        "",
        "Recall@10, and QPS by CPU time as a share of the same engine's without a filter at its cheapest setting with "
        "recall 0.98; in brackets the setting, where that didn't find 0.95 with the filter, and whether most searches "
        "looked at all rows that match (where the engine tells).",
        "",
    ]
    engines = list(dict.fromkeys(case["engine"] for case in found["filters"]))
    rows.append("| filter | admitted | " + " | ".join(engines) + " |")
    rows.append("|---|---|" + "---|" * len(engines))
    cases = {(case["kind"], case["share"]): {} for case in found["filters"]}
    usual = {case["engine"]: case["params"] for case in reversed(found["filters"])}
    for case in found["filters"]:
        notes = [f"{name} {value}" for name, value in case["params"].items() if case["params"] != usual[case["engine"]]]
        notes += ["scanned"] if (case.get("scanned") or 0) > 0.5 else []
        text = f"{case['recall']:.3f}, {case['relative']:.2f}×" + (f" ({', '.join(notes)})" if notes else "")
        cases[case["kind"], case["share"]][case["engine"]] = text
    for (kind, share), cells in cases.items():
        rows.append(
            f"| {kind} | {share * 100:g} % | " + " | ".join(cells.get(engine, "–") for engine in engines) + " |"
        )
    return rows + [""]


def markdown(sets: list[dict], machine: str) -> str:
    rows = [f"Machine: {machine}.", ""]
    for found in sets:
        rows += table(found)
        if found.get("filters"):
            rows += filtered(found)
    return "\n".join(rows)


def write(folder: pathlib.Path, sets: list[dict], text: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.md").write_text(text)
    for found in sets:
        curves = {}
        for group in GROUPS:
            points = [point for result in found["results"] if result["group"] == group for point in result["one"]]
            if points:
                curves[group] = points
        meta = found["meta"]
        title = f"{meta['name']}: {meta['rows']:,} × {meta['dim']}, {meta['metric']}, one core"
        (folder / f"index-{meta['name']}.svg").write_text(plot.curves(title, curves))
