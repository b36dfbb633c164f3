#!/usr/bin/env python3
"""Cuts the demo's data set out of the full set of passages.

    make_demo_data.py SOURCE [--rows 8000] [--queries 100] [--out data]

SOURCE is a folder with `passages.parquet` (rows in hash order, so that every prefix is a uniform
sample) and `passages-queries.parquet` (held-out passages). Written, all three reproducibly:

    passages.parquet          the first rows, embedding as fixed-size list of f32
    passages-queries.parquet  queries with the exact ten nearest passages of *this* cut
    passages-small.jsonl      the first 200 rows as JSON lines

Needs pyarrow and numpy. The notice in data/LICENSE-passages.md goes with every copy.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 384
NEIGHBOURS = 10
COLUMNS = ["id", "title", "heading", "text", "category", "words", "section", "bucket", "ts"]
# Queries whose tenth and eleventh neighbours are this close have no exact answer that f32 can be
# measured against (the source has a few passages with equal text), so they are left out.
TIE = 1e-5
# Queries of this many characters come first: they can be read in a terminal.
READABLE = range(60, 221)
SMALL_ROWS = 200


def embeddings(table: pa.Table) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), DIM)


def embedding_column(matrix: np.ndarray) -> tuple[pa.Field, pa.Array]:
    # Neither the list nor its floats may be null: one level per float less to store and to read.
    item = pa.field("element", pa.float32(), nullable=False)
    kind = pa.list_(item, DIM)
    flat = pa.array(np.ascontiguousarray(matrix, dtype=np.float32).ravel())
    return pa.field("embedding", kind, nullable=False), pa.FixedSizeListArray.from_arrays(flat, type=kind)


def required(table: pa.Table, names: list[str]) -> tuple[list[pa.Field], list[pa.Array]]:
    fields = [pa.field(name, table.schema.field(name).type, nullable=False) for name in names]
    return fields, [table[name].combine_chunks() for name in names]


def write(path: pathlib.Path, fields: list[pa.Field], arrays: list[pa.Array], dictionary: list[str]) -> None:
    table = pa.table(arrays, schema=pa.schema(fields))
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=dictionary,
        # The bytes of a float's exponent repeat, those of its mantissa don't: apart they compress by a sixth.
        use_byte_stream_split=["embedding.list.element"],
        row_group_size=2000,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).resolve().parent.parent / "data")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    passages = pq.read_table(args.source / "passages.parquet").slice(0, args.rows)
    base = embeddings(passages)
    fields, arrays = required(passages, COLUMNS)
    field, array = embedding_column(base)
    write(args.out / "passages.parquet", fields + [field], arrays + [array], ["category", "heading", "title"])

    queries = pq.read_table(args.source / "passages-queries.parquet")
    asked = embeddings(queries)
    # Cosine in float64, whatever the lengths are.
    wide = base.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    ask = asked.astype(np.float64)
    ask /= np.linalg.norm(ask, axis=1, keepdims=True)
    scores = ask @ wide.T
    order = np.argsort(-scores, axis=1, kind="stable")[:, : NEIGHBOURS + 1]
    ranked = np.take_along_axis(scores, order, axis=1)
    clear = np.flatnonzero(ranked[:, NEIGHBOURS - 1] - ranked[:, NEIGHBOURS] > TIE)[: args.queries]
    texts = queries["text"].to_pylist()
    chosen = sorted(clear, key=lambda row: len(texts[row]) not in READABLE)  # stable: else in the source's order

    ids = passages["id"].to_numpy(zero_copy_only=False)
    if set(queries["id"].to_pylist()) & set(ids):
        print("a query is itself among the passages", file=sys.stderr)
        return 1
    fields, arrays = required(queries.take(chosen), ["id", "title", "text"])
    field, array = embedding_column(asked[chosen])
    truth = pa.array([list(ids[order[row, :NEIGHBOURS]]) for row in chosen])
    truth_scores = pa.array([ranked[row, :NEIGHBOURS] for row in chosen], pa.list_(pa.float64()))
    fields += [field, pa.field("truth", truth.type), pa.field("truth_score", truth_scores.type)]
    write(args.out / "passages-queries.parquet", fields, arrays + [array, truth, truth_scores], [])

    with open(args.out / "passages-small.jsonl", "w", encoding="utf-8") as out:
        for row, record in enumerate(passages.select(COLUMNS).slice(0, SMALL_ROWS).to_pylist()):
            # The shortest decimal form that reads back as the same f32.
            floats = ",".join(np.format_float_positional(x, unique=True, trim="-") for x in base[row])
            head = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            out.write(f'{head[:-1]},"embedding":[{floats}]}}\n')

    for name in ["passages.parquet", "passages-queries.parquet", "passages-small.jsonl"]:
        print(f"{(args.out / name).stat().st_size:>12,} {name}")
    print(f"{len(passages):,} passages, {len(chosen)} queries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
