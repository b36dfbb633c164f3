"""`make bench-index`: builds and searches with every engine, one process at a time, and writes table and plots.

    run.py --program TARGET/release/proximadb-bench-index [--data FOLDER] [--sets mnist,passages,synthetic-1000000x128]
           [--engines ProximaDB,hnswlib] [--reuse] [--filters] [--docs FOLDER]

Everything measured stays in the cache folder as JSON; `--reuse` takes what an earlier run left there instead of
measuring it again (for work on one engine: figures to be published come from one run).
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import shutil
import subprocess

import numpy as np

import filters
import report
from datasets import DataSet, prepare, recall, say
from frontier import frontier, near_frontier, rate
from plan import GROUPS, Variant, sweep, variants
from session import Session, evict

K = 10
ENOUGH = 0.9995  # recall from which no engine is swept any further
STALLED = 0.0005  # recall that rises by less over three settings is all that its codes can give
SLOWEST = 40  # times the rate of the first setting: nobody wants recall at that price
SHOWN = 0.85  # recall below which no setting is measured a second time
KEPT_BYTES = 256 << 20  # larger indexes are deleted once measured; those that filters are tried on are smaller
HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent


def load() -> str:
    return " ".join(open("/proc/loadavg", encoding="ascii").read().split()[:3])


class Bench:
    def __init__(self, arguments):
        self.arguments = arguments
        self.cores = len(os.sched_getaffinity(0))
        self.done = set()  # results of this run

    def session(self, variant: Variant, data: DataSet, threads: int) -> Session:
        return Session(variant.engine, data.folder, threads, self.arguments.program)

    def variant(self, data: DataSet, variant: Variant) -> dict:
        """Builds, opens cold, sweeps on one core, and repeats what was worth it on two."""
        folder = data.folder / "index" / variant.key
        kept = folder / "result.json"
        if (self.arguments.reuse or kept in self.done) and kept.exists():
            result = json.loads(kept.read_text())
            again = self.arguments.filters or self.arguments.rounds > 1
            if any(folder.glob("index*")) or not again or result["file_bytes"] > KEPT_BYTES:
                return result
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        result = {
            "group": variant.group,
            "label": variant.label,
            "load": load(),
            "at": str(datetime.datetime.now())[:16],
        }
        path = folder / "index"
        with self.session(variant, data, min(2, self.cores)) as session:
            result["build"] = session.ask("build", path, params=variant.build)
        files = [file for file in folder.iterdir() if file.name.startswith("index")]
        result["file_bytes"] = sum(file.stat().st_size for file in files)
        # Ours has the rows beside it, as a segment has; the others hold them.
        rows = [data.folder / "base.f32"] if variant.engine.startswith("proximadb") else []
        result["rows_bytes"] = sum(file.stat().st_size for file in rows)
        evict(files + rows)
        with self.session(variant, data, 1) as session:
            first = sweep(variant)[0][len(sweep(variant)[0]) // 2]
            result["open"] = session.ask("open", path, params=variant.search | first)
            result["one"] = self.sweep(session, data, variant, folder)
        if self.cores > 1 and not self.arguments.one_core:
            with self.session(variant, data, 2) as session:
                session.ask("open", path, params=variant.search | first)
                worth = [point["params"] for point in frontier(result["one"]) if point["recall"] >= SHOWN]
                result["two"] = [self.point(session, data, variant, params, folder, False) for params in worth]
        kept.write_text(json.dumps(result))
        self.done.add(kept)
        return result

    def sweep(self, session: Session, data: DataSet, variant: Variant, folder: pathlib.Path) -> list[dict]:
        points = []
        for line in sweep(variant):
            reached = []
            for params in line:
                points.append(self.point(session, data, variant, params, folder, True))
                reached.append(points[-1]["recall"])
                stalled = len(reached) > 3 and reached[-1] < reached[-4] + STALLED
                slow = rate(points[-1]) < rate(points[-len(reached)]) / SLOWEST
                if reached[-1] >= ENOUGH or stalled or slow:
                    break
        return points

    def again(self, data: DataSet, variant: Variant, result: dict):
        """Measures what may be worth it once more, minutes later, and keeps the better figures.

        On a shared machine neighbours take caches and memory bandwidth for minutes, which CPU time shows, too.
        """
        folder = data.folder / "index" / variant.key
        if not any(folder.glob("index*")):
            return
        for name, threads, clock in [("one", 1, "cpu_s"), ("two", 2, "wall_s")]:
            points = result.get(name, [])
            worth = [point for point in points if point["recall"] >= SHOWN and near_frontier(point, points, clock)]
            with self.session(variant, data, threads) as session:
                first = worth[0]["params"] if worth else sweep(variant)[0][0]
                session.ask("open", folder / "index", params=variant.search | first)
                for point in worth:
                    fresh = self.point(session, data, variant, point["params"], folder, threads == 1)
                    point.update({key: min(point[key], fresh[key]) for key in ("wall_s", "cpu_s")})
                    if "latency" in point:
                        point["latency"] = {
                            key: min(old, fresh["latency"][key]) for key, old in point["latency"].items()
                        }
        (folder / "result.json").write_text(json.dumps(result))

    def point(self, session, data, variant, params, folder, latency: bool) -> dict:
        found = folder / "found.u32"
        ask = {"params": variant.search | params, "k": K, "seconds": self.arguments.seconds, "latency": latency}
        answer = session.ask("search", found, **ask)
        rows = np.fromfile(found, np.uint32).reshape(-1, K)
        return answer | {"params": params, "recall": recall(rows, *data.truth, K)}

    def data_set(self, name: str) -> dict | None:
        given = pathlib.Path(self.arguments.data) if self.arguments.data else None
        data = prepare(name, given, REPOSITORY, pathlib.Path(self.arguments.cache))
        if data is None:
            return None
        wanted = self.arguments.engines.split(",") if self.arguments.engines else GROUPS
        mine = [variant for variant in variants(len(data.base), data.dim) if variant.group in wanted]
        if len(data.base) >= self.arguments.first_settings:
            mine = first_of_each(mine)
        results = {}
        for variant in mine:
            try:
                results[variant.key] = self.variant(data, variant)
            except RuntimeError as error:
                say(f"{data.name}: {variant.group} {variant.label} failed: {error}")
                continue
            say(f"{data.name}: {report.line(results[variant.key])}")
        for _ in range(1, self.arguments.rounds):
            for variant in mine:
                if variant.key in results:
                    self.again(data, variant, results[variant.key])
                    say(f"{data.name}, again: {report.line(results[variant.key])}")
        for variant in mine:
            for file in (data.folder / "index" / variant.key).glob("index*"):
                if results.get(variant.key, {}).get("file_bytes", 0) > KEPT_BYTES:
                    file.unlink()
        out = {"meta": data.meta, "results": list(results.values())}
        if self.arguments.filters and not name.startswith("synthetic"):
            out["filters"] = filters.run(self, data, wanted)
        return out


def first_of_each(mine: list[Variant]) -> list[Variant]:
    """The settings that build fastest, but all of our own."""
    first = {variant.group: variant for variant in reversed(mine)}
    return [variant for variant in mine if variant.group.startswith("ProximaDB") or first[variant.group] is variant]


def machine() -> str:
    info = open("/proc/cpuinfo", encoding="ascii").read()
    model = next(
        (line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "unknown"
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True
    ).stdout.strip()
    return f"{model}, {len(os.sched_getaffinity(0))} cores, load {load()} after the run, commit {commit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--cache", required=True, help="where data sets and indexes are made")
    parser.add_argument("--data", help="folder of passages.parquet and mnist.parquet with their -queries.parquet")
    parser.add_argument("--sets", default="passages,mnist,synthetic-1000000x128")
    parser.add_argument("--engines", help=f"of {', '.join(GROUPS)}; all unless named")
    parser.add_argument(
        "--seconds", type=float, default=0.7, help="each point is measured for as long, three passes at least"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often what is worth it is measured, minutes apart")
    parser.add_argument("--reuse", action="store_true")
    parser.add_argument("--one-core", action="store_true", help="skip the runs on two cores")
    parser.add_argument(
        "--first-settings",
        type=int,
        default=math.inf,
        metavar="ROWS",
        help="for sets of so many rows and more, peers with the first of their settings only, which builds fastest",
    )
    parser.add_argument("--filters", action="store_true", help="also search with filters")
    parser.add_argument("--docs", help="folder that gets index.md and index-*.svg")
    bench = Bench(parser.parse_args())
    sets = [found for name in bench.arguments.sets.split(",") if (found := bench.data_set(name))]
    text = report.markdown(sets, machine())
    print(text)
    if bench.arguments.docs:
        report.write(pathlib.Path(bench.arguments.docs), sets, text)


if __name__ == "__main__":
    main()
