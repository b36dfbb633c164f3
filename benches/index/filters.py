"""Search with filters: each query has a filter of its own that admits a share of the rows, chosen in three ways.

    random           any rows
    correlated       the rows nearest to a neighbour of the query: what is near matches
    anti-correlated  the rows farthest from it: nothing near matches

The rate without a filter is taken at the engine's cheapest setting with recall 0.98, with calls of one query each, as
searches with filters are. These begin at the same setting and take the next ones until they find 0.95.
"""

import json
import pathlib

import numpy as np

from datasets import KEPT, DataSet, recall, say
from frontier import first_at, rate
from plan import sweep, variants

QUERIES = 200
SHARES = [0.0001, 0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9, 1.0]
KINDS = ["random", "correlated", "anti-correlated"]
RECALL = 0.98
ENOUGH = 0.95
# One variant each. Left out: hnswlib asks a function of Python about each row it meets, hnsw_rs takes minutes a filter.
ENGINES = {
    "ProximaDB": "default",
    "faiss HNSW": "Flat M 16, efC 128",
}
ANCHOR = 30  # which neighbour of the query stands for it


def admitted(kind: str, share: float, anchors: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Per query, which rows match; `anchors` are distances from each query's anchor."""
    count = max(1, round(share * anchors.shape[1]))
    order = random.random(anchors.shape) if kind == "random" else anchors if kind == "correlated" else -anchors
    masks = np.zeros(anchors.shape, bool)
    np.put_along_axis(masks, np.argpartition(order, count - 1, axis=1)[:, :count], True, axis=1)
    return masks


def distances(data: DataSet, queries: np.ndarray) -> np.ndarray:
    dots = queries @ data.base.T
    return 1 - dots if data.cosine else (queries**2).sum(1)[:, None] - 2 * dots + (data.base**2).sum(1)


def truth(data: DataSet, queries: np.ndarray, near: np.ndarray, masks: np.ndarray):
    kept = min(KEPT, near.shape[1])
    rows = np.argpartition(np.where(masks, near, np.inf), kept - 1, axis=1)[:, :kept]
    exists = np.take_along_axis(masks, rows, 1)
    out = np.full(rows.shape, np.inf)
    for at, query in enumerate(queries.astype(np.float64)):
        part = data.base[rows[at]].astype(np.float64)
        out[at] = 1 - part @ query if data.cosine else ((part - query) ** 2).sum(1)
    out[~exists] = np.inf
    order = np.argsort(out, 1, kind="stable")
    return np.take_along_axis(np.where(exists, rows, -1), order, 1), np.take_along_axis(out, order, 1)


def prepare(data: DataSet, name: str, kind: str, share: float, spaces) -> tuple:
    """Writes the masks; returns the exact answers."""
    bits, answers = data.folder / name, data.folder / f"{name}.npz"
    if not answers.exists():
        queries, near, anchors = spaces()
        masks = admitted(kind, share, anchors, np.random.default_rng([KINDS.index(kind), round(share * 1e6)]))
        padded = np.pad(masks, ((0, 0), (0, -masks.shape[1] % 64)))
        np.packbits(padded, axis=1, bitorder="little").tofile(bits)
        rows, far = truth(data, queries, near, masks)
        np.savez(answers, rows=rows, distances=far)
    kept = np.load(answers)
    return kept["rows"], kept["distances"]


def run(bench, data: DataSet, wanted: list[str], k: int = 10) -> list[dict]:
    computed = []

    def spaces():
        if not computed:
            queries = data.queries[:QUERIES]
            anchors = data.base[data.truth[0][:QUERIES, ANCHOR]]
            computed.append((queries, distances(data, queries), distances(data, anchors)))
        return computed[0]

    cases = [(kind, share) for kind in KINDS for share in SHARES if share < 1 or kind == "random"]
    answers = {case: prepare(data, mask_name(*case), *case, spaces) for case in cases}
    out = []
    for variant in variants(len(data.base), data.dim):
        if variant.group in wanted and ENGINES.get(variant.group) == variant.label:
            try:
                out += kept_or_measured(bench, data, variant, answers, k)
            except RuntimeError as error:
                say(f"{data.name}, filters: {variant.group} failed: {error}")
    return out


def kept_or_measured(bench, data: DataSet, variant, answers: dict, k: int) -> list[dict]:
    """Taken from an earlier run only where that swept the very same index and asked the same."""
    kept = pathlib.Path(data.folder) / "index" / variant.key / "filters.json"
    asked = [QUERIES, SHARES, KINDS, RECALL, ENOUGH, ANCHOR, k, bench.arguments.seconds]
    by = {"asked": asked, "swept": bench.variant(data, variant)["one"]}
    if bench.arguments.reuse and kept.exists() and (found := json.loads(kept.read_text()))["by"] == by:
        return found["cases"]
    cases = engine(bench, data, variant, answers, k)
    kept.write_text(json.dumps({"by": by, "cases": cases}))
    return cases


def dearer(variant, start: dict) -> list[dict]:
    """The settings from one on."""
    line = next(line for line in sweep(variant) if start in line)
    return line[line.index(start) :]


def mask_name(kind: str, share: float) -> str:
    return f"masks-{kind}-{share}"


def engine(bench, data: DataSet, variant, answers: dict, k: int) -> list[dict]:
    folder = pathlib.Path(data.folder) / "index" / variant.key
    swept = bench.variant(data, variant)["one"]
    start = first_at(swept, RECALL) or max(swept, key=lambda point: point["recall"])
    ask = {"params": variant.search | start["params"], "k": k, "seconds": bench.arguments.seconds}
    out, found = [], folder / "found.u32"
    with bench.session(variant, data, 1) as session:
        session.ask("open", folder / "index", params=ask["params"])
        plain = rate(session.ask("search", found, **ask, single=True, queries=QUERIES))
        for (kind, share), (rows, far) in answers.items():
            for params in dearer(variant, start["params"]):
                ask["params"] = variant.search | params
                answer = session.ask("filter", found, **ask, masks=mask_name(kind, share))
                got = recall(np.fromfile(found, np.uint32).reshape(-1, k), rows, far, k)
                if got >= ENOUGH:
                    break
            case = {
                "engine": variant.group,
                "kind": kind,
                "share": share,
                "recall": got,
                "relative": rate(answer) / plain,
            }
            out.append(case | {"params": params, "scanned": answer.get("scanned"), "cpu_us": 1e6 / rate(answer)})
    worst = min(out, key=lambda case: case["recall"])
    slowest = min(out, key=lambda case: case["relative"])
    say(
        f"{data.name}, filters, {variant.group} {start['params']}: "
        f"least recall {worst['recall']:.3f} ({worst['kind']} {worst['share']:g}), "
        f"slowest {slowest['relative']:.2f}× ({slowest['kind']} {slowest['share']:g})"
    )
    return out
