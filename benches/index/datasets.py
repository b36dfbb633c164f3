"""Data sets as every engine reads them, made once and kept: base.f32, queries.f32, meta.json, and the exact answers.

Answers are found by blocks in f32, then the best are ranked again in f64. A row counts as found if it is no
farther than the k-th (rows equally near are as good as each other).
"""

import json
import pathlib
import sys

import numpy as np
import pyarrow.parquet as pq

KEPT = 100  # exact answers kept per query: with ties, more than k of them may be right
BLOCK = 50_000
TIE = 1e-6


def lists(path: pathlib.Path, column: str) -> np.ndarray:
    values = pq.read_table(path, columns=[column])[column].combine_chunks()
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(values), -1).astype(np.float32)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True), 1e-30).astype(np.float32)


def synthetic(rows: int, dim: int, queries: int, seed: int = 20260101, clusters: int = 2000, inner: int = 20):
    """Clusters of unequal size and spread, each in an `inner`-dimensional subspace with a little noise around it.

    Uniform random vectors would have as many intrinsic dimensions as components, which no real data has.
    """
    random = np.random.default_rng(seed)
    rank = min(4 * inner, dim)
    shape = (
        random.standard_normal((rank, dim), dtype=np.float32)
        / np.sqrt(np.arange(1, rank + 1, dtype=np.float32))[:, None]
    )
    centres = random.standard_normal((clusters, rank), dtype=np.float32) @ shape
    centres *= 1.1 / np.linalg.norm(centres, axis=1).mean()
    bases = random.standard_normal((64, inner, dim), dtype=np.float32)
    bases *= (np.arange(1, inner + 1, dtype=np.float32) ** -0.15)[None, :, None]
    bases /= np.sqrt((bases**2).sum((1, 2), keepdims=True))
    basis_of = random.integers(0, len(bases), clusters)
    spread = random.uniform(0.6, 1.4, clusters).astype(np.float32)
    weight = 1 / np.arange(1, clusters + 1) ** 0.8
    weight /= weight.sum()

    def draw(count: int, stream: int) -> np.ndarray:
        random = np.random.default_rng([seed, stream])
        cluster = random.choice(clusters, count, p=weight)
        inside = random.standard_normal((count, inner), dtype=np.float32) * spread[cluster, None]
        out = centres[cluster]
        for at, basis in enumerate(bases):
            mine = basis_of[cluster] == at
            out[mine] += inside[mine] @ basis
        return out + random.standard_normal((count, dim), dtype=np.float32) * np.float32(0.25 / np.sqrt(dim))

    base = np.concatenate([draw(min(BLOCK, rows - at), 2 + at) for at in range(0, rows, BLOCK)])
    return base, draw(queries, 1)


def exact(base: np.ndarray, queries: np.ndarray, cosine: bool):
    """Rows and distances of the nearest, ascending. Distances are 1 - dot or squared l2, in f64."""
    kept = min(KEPT, len(base))
    more = min(2 * KEPT, len(base))
    score = np.full((len(queries), 0), 0, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for at in range(0, len(base), BLOCK):
        part = base[at : at + BLOCK]
        near = queries @ part.T
        if not cosine:
            near = 2 * near - (part * part).sum(1)
        score = np.hstack([score, near])
        rows = np.hstack([rows, np.broadcast_to(np.arange(at, at + len(part)), near.shape)])
        best = np.argpartition(-score, min(more, score.shape[1]) - 1, axis=1)[:, :more]
        score, rows = np.take_along_axis(score, best, 1), np.take_along_axis(rows, best, 1)
    distance = np.empty(rows.shape)
    for at, query in enumerate(queries.astype(np.float64)):
        near = base[rows[at]].astype(np.float64)
        distance[at] = 1 - near @ query if cosine else ((near - query) ** 2).sum(1)
    order = np.argsort(distance, 1, kind="stable")[:, :kept]
    return np.take_along_axis(rows, order, 1).astype(np.int32), np.take_along_axis(distance, order, 1)


def recall(found: np.ndarray, rows: np.ndarray, distances: np.ndarray, k: int) -> float:
    """Share of the k nearest that are among `found`; `rows` are -1 where fewer than k exist."""
    hits = wanted = 0
    for got, row, distance in zip(found, rows, distances):
        exists = min(k, int((row >= 0).sum()))
        if not exists:
            continue
        good = row[(row >= 0) & (distance <= distance[exists - 1] + TIE * max(1.0, abs(distance[exists - 1])))]
        hits += min(exists, len(np.intersect1d(got.astype(np.int64), good)))
        wanted += exists
    return hits / max(wanted, 1)


class DataSet:
    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        meta = json.loads((folder / "meta.json").read_text())
        self.meta, self.name, self.dim, self.cosine = meta, meta["name"], meta["dim"], meta["metric"] == "cosine"
        self.base = np.memmap(folder / "base.f32", np.float32, "r").reshape(-1, self.dim)
        self.queries = np.fromfile(folder / "queries.f32", np.float32).reshape(-1, self.dim)
        truth = np.load(folder / "truth.npz") if (folder / "truth.npz").exists() else None
        self.truth = truth and (truth["rows"], truth["distances"])


def store(folder: pathlib.Path, name: str, base: np.ndarray, queries: np.ndarray, metric: str, source: str):
    folder.mkdir(parents=True, exist_ok=True)
    base.astype("<f4").tofile(folder / "base.f32")
    queries.astype("<f4").tofile(folder / "queries.f32")
    rows, distances = exact(base, queries, metric == "cosine")
    np.savez(folder / "truth.npz", rows=rows, distances=distances)
    # Last: a folder without it is made again.
    meta = {"name": name, "rows": len(base), "dim": base.shape[1], "metric": metric, "source": source}
    (folder / "meta.json").write_text(json.dumps(meta))


def say(message: str):
    print(f"bench-index: {message}", file=sys.stderr, flush=True)


def prepare(name: str, given: pathlib.Path | None, repository: pathlib.Path, cache: pathlib.Path) -> DataSet | None:
    """`passages`, `mnist` or `synthetic-ROWSxDIM`; None where its data isn't at hand."""
    if name.startswith("synthetic-"):
        rows, dim = (int(number) for number in name.removeprefix("synthetic-").split("x"))
        folder = cache / name
        if not (folder / "meta.json").exists():
            say(f"making {name}")
            store(folder, name, *synthetic(rows, dim, 1000), "l2", "seeded, see datasets.py")
        return DataSet(folder)
    column, metric = {"passages": ("embedding", "cosine"), "mnist": ("pixels", "l2")}[name]
    for place, label in [(given, "full"), (repository / "data", "repository")]:
        if place and (place / f"{name}.parquet").exists():
            break
    else:
        say(f"no {name}.parquet: left out (name its folder with DATA=…)")
        return None
    if label == "repository":
        say(f"{name}: the repository's smaller set (name the folder of the full one with DATA=…)")
    folder = cache / f"{name}-{label}"
    if not (folder / "meta.json").exists():
        say(f"making {name} from the {label} set")
        base, queries = lists(place / f"{name}.parquet", column), lists(place / f"{name}-queries.parquet", column)
        if metric == "cosine":
            base, queries = unit(base), unit(queries)
        store(folder, name, base, queries, metric, label)
    return DataSet(folder)
