"""Recall against queries per second as SVG, written by hand: small, and readable on light and dark pages."""

import math

from frontier import frontier, rate

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 150, 40, 48
# Told apart without red and green, by marks too; lighter on dark pages.
STYLES = {
    "ProximaDB": ("#d1495b", "#ff6b7d", "circle"),
    "ProximaDB IVF": ("#e8928f", "#ffb3ad", "circle"),
    "hnswlib": ("#1f77b4", "#63b3ed", "square"),
    "faiss HNSW": ("#b8860b", "#f0b429", "up"),
    "faiss IVF-PQ": ("#0f766e", "#4fd1c5", "down"),
    "faiss RaBitQ": ("#6b46c1", "#b794f4", "diamond"),
    "usearch": ("#555b66", "#a0aec0", "cross"),
    "hnsw_rs": ("#8c564b", "#d6a692", "dash"),
}
RECALLS = [0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995]


def mark(kind: str, x: float, y: float) -> str:
    shapes = {
        "square": "M-3-3h6v6h-6z",
        "up": "M0-4l4 7h-8z",
        "down": "M0 4l4-7h-8z",
        "diamond": "M0-4l4 4l-4 4l-4-4z",
        "cross": "M-3-3l6 6m0-6l-6 6",
        "dash": "M-4 0h8",
        "circle": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    }
    return f'<path d="{shapes[kind]}" transform="translate({x:.1f} {y:.1f})"/>'


def shown(points: list[dict]) -> list[dict]:
    """What is worth having within the plot, and one point beyond its right edge."""
    line = [point for point in frontier(points) if point["recall"] >= RECALLS[0]]
    beyond = [at for at, point in enumerate(line) if point["recall"] >= RECALLS[-1]]
    return line[: beyond[0] + 1] if beyond else line


def curves(title: str, groups: dict[str, list[dict]]) -> str:
    lines = {group: shown(points) for group, points in groups.items()}
    rates = [rate(point) for line in lines.values() for point in line] or [1, 10]
    low, high = math.log10(min(rates)) - 0.05, math.log10(max(rates)) + 0.05
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(recall: float) -> float:
        # By the share that is missed: 0.99 is as far from 0.9 as 0.999 from 0.99.
        missed = [-math.log10(1 - min(value, RECALLS[-1])) for value in (recall, RECALLS[0], RECALLS[-1])]
        return LEFT + (missed[0] - missed[1]) / (missed[2] - missed[1]) * (right - LEFT)

    def up(value: float) -> float:
        return bottom - (math.log10(value) - low) / (high - low) * (bottom - TOP)

    css = "".join(f".c{at}{{color:{STYLES[group][0]}}}" for at, group in enumerate(lines))
    dark = "".join(f".c{at}{{color:{STYLES[group][1]}}}" for at, group in enumerate(lines))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" role="img">',
        f"<title>{title}</title>",
        "<style>.bg{fill:#fff}.t{fill:#24292f}.g{stroke:#d0d7de;stroke-width:1}"
        + css
        + "[class^=c] path{stroke:currentColor;stroke-width:1.5;fill:currentColor}"
        + "[class^=c] .l{fill:none;stroke-width:2}[class^=c] text{fill:currentColor}"
        + "@media(prefers-color-scheme:dark){.bg{fill:#0d1117}.t{fill:#c9d1d9}.g{stroke:#30363d}"
        + dark
        + "}</style>",
        f'<rect class="bg" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="t" x="{LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for recall in RECALLS:
        x = across(recall)
        out.append(
            f'<path class="g" d="M{x:.1f} {TOP}V{bottom}"/>'
            f'<text class="t" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{recall:g}</text>'
        )
    for exponent in range(math.floor(low), math.ceil(high) + 1):
        for factor in (1, 2, 5):
            value = factor * 10**exponent
            if low <= math.log10(value) <= high:
                y = up(value)
                out.append(
                    f'<path class="g" d="M{LEFT} {y:.1f}H{right}"/>'
                    f'<text class="t" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:,}</text>'
                )
    out.append(f'<text class="t" x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">recall@10 →</text>')
    out.append(
        f'<text class="t" transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        "queries per CPU second →</text>"
    )
    for at, (group, line) in enumerate(lines.items()):
        places = [(across(point["recall"]), up(rate(point))) for point in line]
        path = "".join(f"{'ML'[bool(at)]}{x:.1f} {y:.1f}" for at, (x, y) in enumerate(places))
        kind, y = STYLES[group][2], TOP + 12 + 20 * at
        marks = "".join(mark(kind, *place) for place in places)
        legend = f'{mark(kind, right + 18, y)}<text x="{right + 30}" y="{y + 4}">{group}</text>'
        out.append(
            f'<g class="c{at}"><path class="l" d="{path}"/>{marks}{legend}</g>'
            if path
            else f'<g class="c{at}">{legend}</g>'
        )
    return "\n".join(out + ["</svg>\n"])
