"""One engine in a process of its own, asked line by line."""

import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RUST = ("proximadb", "proximadb-mapped", "proximadb-ivf", "proximadb-ivf-mapped", "hnsw_rs")


def prefer():
    """Ahead of what else runs on the machine, where that is allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    except PermissionError:
        pass


class Session:
    def __init__(self, engine: str, folder: pathlib.Path, threads: int, program: str):
        cores = sorted(os.sched_getaffinity(0))[:threads]

        def start():
            prefer()
            os.sched_setaffinity(0, cores)

        command = [program, engine] if engine in RUST else [sys.executable, str(HERE / "peers.py"), engine]
        pools = ["RAYON_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
        self.process = subprocess.Popen(
            [*command, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=start,
            env=os.environ | {pool: str(threads) for pool in pools},
        )
        self.threads = threads

    def ask(self, do: str, path: pathlib.Path, **more) -> dict:
        try:
            print(
                json.dumps({"do": do, "path": str(path), "threads": self.threads, **more}),
                file=self.process.stdin,
                flush=True,
            )
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.process.args[:3]} ended with {self.process.wait()} when asked to {do} {more}")
        return json.loads(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def evict(files: list[pathlib.Path]):
    """Out of the page cache, so that opening is a cold start."""
    for path in files:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
