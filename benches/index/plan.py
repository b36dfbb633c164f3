"""What is measured: each engine with the settings that suit it. More settings than one where it isn't clear which wins.

`build` goes to the engine as it is. Graphs have M 16 and 128 candidates while building, and a second setting
that builds longer; quantizers have about 2 sqrt(rows) lists.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Variant:
    group: str  # one curve of the plots and one row of the short table
    engine: str  # which program or class answers
    label: str  # what sets it apart within its group
    build: dict
    search: dict  # sent with each search besides what the sweep varies
    rescore: tuple = ()  # for quantizers: how many times k candidates are rescored exactly

    @property
    def key(self) -> str:
        return f"{self.group} {self.label}".lower().replace(" ", "-").replace("/", "-").replace(",", "-")


# The order is that of tables and legends.
GROUPS = ["ProximaDB", "ProximaDB IVF", "hnswlib", "faiss HNSW", "faiss IVF-PQ", "faiss RaBitQ", "usearch", "hnsw_rs"]
PEERS = ["hnswlib", "faiss HNSW", "faiss IVF-PQ", "faiss RaBitQ", "usearch"]

# What a collection may ask for.
CODES = {
    "none": {"none": {}},
    "f16": {"f16": {}},
    "int8": {"scalar": {"type": "int8"}},
    **{f"rabitq {bits}": {"rabitq": {"bits": bits}} for bits in (7, 4, 2, 1)},
    **{f"product x{factor}": {"product": {"compression": f"x{factor}"}} for factor in (4, 8, 16, 32, 64)},
}


def variants(rows: int, dim: int) -> list[Variant]:
    graphs = [(16, 128), (32, 256)]
    lists = 2 ** round(math.log2(1.7 * math.sqrt(rows)))
    out = [
        Variant("ProximaDB", "proximadb", "default", {}, {}),
        Variant("ProximaDB", "proximadb-mapped", "default, mapped", {}, {}),
        Variant("ProximaDB IVF", "proximadb-ivf", "default", {}, {}),
    ]
    # Measured where --engines names them.
    out += [Variant("ProximaDB codes", "proximadb", name, {"quantization": codes}, {}) for name, codes in CODES.items()]
    out += [Variant("ProximaDB levels", "proximadb", levels, {"levels": levels}, {}) for levels in ("off", "on")]
    builds = [(ef, {"ef_construct": ef}) for ef in (48, 64)]
    out += [Variant("ProximaDB builds", "proximadb", f"ef_construct {ef}", build, {}) for ef, build in builds]
    out += [Variant("hnswlib", "hnswlib", f"M {m}, efC {ef}", {"m": m, "ef_construct": ef}, {}) for m, ef in graphs]
    for m, ef, store in [(16, 128, "Flat"), (32, 256, "Flat"), (32, 256, "SQ8")]:
        build = {"factory": f"HNSW{m},{store}", "ef_construct": ef}
        out.append(Variant("faiss HNSW", "faiss", f"{store} M {m}, efC {ef}", build, {}))
    rescore = (2, 4, 8, 16)
    quantizers = [
        ("faiss IVF-PQ", f"PQ{dim // 2}x4fs", {"kind": "PQ"}),
        # Queries of 4 bits: of 8, 4 and 1 what found as much for less. Rotated, for its codes hold little without.
        ("faiss RaBitQ", "RaBitQ", {"kind": "RaBitQ", "qb": 4, "rotated": True}),
        ("faiss RaBitQ", "RaBitQfs", {"kind": "RaBitQ", "qb": 4, "rotated": True}),
    ]
    for group, name, search in quantizers:
        rotation = f"RR{dim}," if "rotated" in search else ""
        factory = f"{rotation}IVF{lists},{name},RFlat"
        out.append(Variant(group, "faiss", factory.replace(",", " "), {"factory": factory}, search, rescore))
    for m, ef, dtype in [(16, 128, "f32"), (32, 256, "f32"), (32, 256, "bf16"), (32, 256, "i8")]:
        build = {"m": m, "ef_construct": ef, "dtype": dtype}
        out.append(Variant("usearch", "usearch", f"{dtype} M {m}, efC {ef}", build, {}))
    out.append(Variant("hnsw_rs", "hnsw_rs", "M 16, efC 128", {"m": 16, "ef_construct": 128}, {}))
    return out


EFS = [10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512]
PROBES = [1, 2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256]


def sweep(variant: Variant):
    """Lists of settings; each list rises in recall and in cost."""
    if not variant.rescore:
        return [[{"ef": ef} for ef in EFS]]
    return [[{"nprobe": probe, "rescore": factor} for probe in PROBES] for factor in variant.rescore]
