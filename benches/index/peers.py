"""The libraries with Python packages, one process each: `peers.py hnswlib|faiss|usearch DATA_FOLDER`.

Answers the same commands as the Rust program beside it, one JSON line each. Many queries are one call, whose loop is
the library's own C++; latency is of calls with one query each, Python's share included.
"""

import json
import pathlib
import sys
import time

import numpy as np

from datasets import DataSet


def memory() -> dict:
    lines = dict(line.split(":", 1) for line in open("/proc/self/status", encoding="ascii"))
    kib = {name: int(lines[name].split()[0]) * 1024 for name in ["RssAnon", "RssFile", "VmHWM", "VmRSS"]}
    return {"anonymous": kib["RssAnon"], "mapped": kib["RssFile"], "peak": kib["VmHWM"], "resident": kib["VmRSS"]}


class Hnswlib:
    def __init__(self, data: DataSet):
        import hnswlib

        # Vectors for cosine have unit length already, so the dot product will do: it is what costs least.
        self.index = hnswlib.Index("ip" if data.cosine else "l2", data.dim)

    def build(self, rows, params, threads, path):
        self.index.init_index(len(rows), M=params["m"], ef_construction=params["ef_construct"], random_seed=1)
        self.index.add_items(rows, num_threads=threads)
        self.index.save_index(path)

    def open(self, path):
        self.index.load_index(path)

    def search(self, queries, k, params, threads):
        self.index.set_ef(params["ef"])
        return self.index.knn_query(queries, k, num_threads=threads)[0]


class Usearch:
    def __init__(self, data: DataSet):
        self.data, self.index = data, None

    def build(self, rows, params, threads, path):
        from usearch.index import Index

        index = Index(
            ndim=self.data.dim,
            metric="ip" if self.data.cosine else "l2sq",
            dtype=params["dtype"],
            connectivity=params["m"],
            expansion_add=params["ef_construct"],
            enable_key_lookups=False,
        )
        index.add(np.arange(len(rows)), rows, threads=threads)
        index.save(path)

    def open(self, path):
        from usearch.index import Index

        self.index = Index.restore(path)

    def search(self, queries, k, params, threads):
        self.index.expansion_search = params["ef"]
        found = self.index.search(queries, k, threads=threads)
        return found.keys.reshape(len(queries), -1)


class Faiss:
    def __init__(self, data: DataSet):
        import faiss

        self.faiss, self.data, self.index = faiss, data, None

    def build(self, rows, params, threads, path):
        faiss = self.faiss
        faiss.omp_set_num_threads(threads)
        metric = faiss.METRIC_INNER_PRODUCT if self.data.cosine else faiss.METRIC_L2
        index = faiss.index_factory(self.data.dim, params["factory"], metric)
        if "ef_construct" in params:
            faiss.downcast_index(index).hnsw.efConstruction = params["ef_construct"]
        index.train(rows)
        index.add(rows)
        faiss.write_index(index, path)

    def open(self, path):
        self.index = self.faiss.read_index(path)

    def asked(self, params, selector=None):
        faiss = self.faiss
        extra = {"sel": selector} if selector else {}
        if "ef" in params:
            return faiss.SearchParametersHNSW(efSearch=params["ef"], **extra)
        if "RaBitQ" in params["kind"]:
            inner = faiss.IVFRaBitQSearchParameters()
            inner.nprobe, inner.qb = params["nprobe"], params.get("qb", 8)
        else:
            inner = faiss.SearchParametersIVF(nprobe=params["nprobe"])
        if "rotated" in params:
            inner = faiss.SearchParametersPreTransform(index_params=inner)
        if "rescore" not in params:
            return inner
        return faiss.IndexRefineSearchParameters(k_factor=params["rescore"], base_index_params=inner)

    def search(self, queries, k, params, threads):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(queries, k, params=self.asked(params))[1]

    def filter(self, queries, masks, k, params):
        self.faiss.omp_set_num_threads(1)
        found = [
            self.index.search(query[None], k, params=self.asked(params, selector))[1][0]
            for query, (_, selector) in zip(queries, masks)
        ]
        return np.array(found)

    def masks(self, masks):
        # A selector doesn't keep the bits that it points to.
        packed = [np.packbits(mask, bitorder="little") for mask in masks]
        return [(bits, self.faiss.IDSelectorBitmap(bits)) for bits in packed]


class Session:
    def __init__(self, engine: str, folder: pathlib.Path):
        self.data = DataSet(folder)
        self.engine = {"hnswlib": Hnswlib, "usearch": Usearch, "faiss": Faiss}[engine](self.data)
        self.masks = ("", None)

    def build(self, command):
        rows = np.array(self.data.base)
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        before = memory()["resident"]
        start, cpu = time.perf_counter(), time.process_time()
        self.engine.build(rows, command["params"], command["threads"], command["path"])
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"wall_s": wall, "cpu_s": cpu, "peak_bytes": memory()["peak"] - before}

    def open(self, command):
        before = memory()
        start = time.perf_counter()
        self.engine.open(command["path"])
        opened = time.perf_counter()
        self.engine.search(self.data.queries[:1], 10, command["params"], 1)
        return {"open_s": opened - start, "first_s": time.perf_counter() - start, "before": before}

    def search(self, command):
        k, params, threads = command["k"], command["params"], command["threads"]

        def call(part, _):
            if not command.get("single"):
                return self.engine.search(part, k, params, threads)
            return np.concatenate([self.engine.search(query[None], k, params, threads) for query in part])

        # Fewer than all where they are compared with searches of so many: they share more of the caches.
        return self.measured(command, self.data.queries[: command.get("queries")], call)

    def filter(self, command):
        if self.masks[0] != command["masks"]:
            words = -(-len(self.data.base) // 64)
            bits = np.fromfile(self.data.folder / command["masks"], np.uint8).reshape(-1, words * 8)
            masks = np.unpackbits(bits, axis=1, bitorder="little")[:, : len(self.data.base)].astype(bool)
            self.masks = (command["masks"], self.engine.masks(masks))
        masks = self.masks[1]
        queries = self.data.queries[: len(masks)]
        k, params = command["k"], command["params"]
        return self.measured(
            command, queries, lambda part, at: self.engine.filter(part, masks[at : at + len(part)], k, params)
        )

    def measured(self, command, queries, call):
        found = call(queries, 0).astype(np.int64)
        found = np.pad(found, ((0, 0), (0, command["k"] - found.shape[1])), constant_values=-1)
        found.astype(np.uint32).tofile(command["path"])
        walls, cpus, began = [], [], time.perf_counter()
        while len(walls) < 3 or time.perf_counter() - began < command["seconds"]:
            start, cpu = time.perf_counter(), time.process_time()
            call(queries, 0)
            walls.append(time.perf_counter() - start)
            cpus.append(time.process_time() - cpu)
        answer = {"wall_s": min(walls), "cpu_s": min(cpus), "passes": len(walls)}
        if command.get("latency"):
            times = np.full(len(queries), np.inf)
            for _ in range(3):
                for at in range(len(queries)):
                    start = time.perf_counter()
                    call(queries[at : at + 1], at)
                    times[at] = min(times[at], (time.perf_counter() - start) * 1e6)
            answer["latency"] = {"p50_us": float(np.percentile(times, 50)), "p99_us": float(np.percentile(times, 99))}
        return answer | {"memory": memory(), "count": len(queries)}


def main():
    session = Session(sys.argv[1], pathlib.Path(sys.argv[2]))
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(session, command["do"])(command)), flush=True)


if __name__ == "__main__":
    main()
