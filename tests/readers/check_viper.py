#!/usr/bin/env python3
"""Do other readers make sense of our Parquet files?

    pip install pyarrow duckdb
    python3 check_viper.py FILE.parquet...

Opens each file with pyarrow and with DuckDB, prints the schema, and checks the types that the format
promises: `vector` is a list of `dim` floats in each live row and null in each tombstone, fixed columns
have their types and no nulls, payload columns have the types that the metadata names, and both readers
see the same rows. Exit code 1 and a line on stderr for each thing that does not hold.
"""

import json
import sys

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

FIXED = {
    "id": (pa.string(), "VARCHAR"),
    "id_is_integer": (pa.bool_(), "BOOLEAN"),
    "lsn": (pa.uint64(), "UBIGINT"),
    "event_time": (pa.timestamp("ms", tz="UTC"), "TIMESTAMP WITH TIME ZONE"),
    "deleted": (pa.bool_(), "BOOLEAN"),
}
FIELD = {
    "bool": (pa.bool_(), "BOOLEAN"),
    "int": (pa.int64(), "BIGINT"),
    "float": (pa.float64(), "DOUBLE"),
    "text": (pa.string(), "VARCHAR"),
}


def is_float_list(kind):
    lists = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return lists and kind.value_type == pa.float32()


def check(path):
    """Yields what does not hold."""
    table = pq.read_table(path)
    print(f"{path}: {table.num_rows} rows")
    print("  " + str(table.schema.remove_metadata()).replace("\n", "\n  "))
    meta = json.loads(pq.read_metadata(path).metadata[b"proximadb.viper"])
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    rows = con.read_parquet(path)
    duck = dict(zip(rows.columns, (str(kind) for kind in rows.types)))
    print("  duckdb: " + ", ".join(f"{name} {kind}" for name, kind in duck.items()))

    expected = dict(FIXED)
    expected |= {field["column"]: FIELD[field["type"]] for field in meta["fields"]}
    expected["payload_json"] = (pa.string(), "VARCHAR")
    for name, (arrow, sql) in expected.items():
        found = table.schema.field(name).type
        if found != arrow:
            yield f"pyarrow reads {name} as {found}, expected {arrow}"
        if duck.get(name) != sql:
            yield f"duckdb reads {name} as {duck.get(name)}, expected {sql}"
    unexpected = set(table.column_names) - set(expected) - {"vector"}
    if unexpected:
        yield f"unexpected columns {sorted(unexpected)}"
    for name in FIXED:
        if table[name].null_count:
            yield f"{name} has nulls"

    dim = meta["dim"]
    if not is_float_list(table.schema.field("vector").type):
        yield f"pyarrow reads vector as {table.schema.field('vector').type}, expected a list of float"
    if duck["vector"] not in ("FLOAT[]", f"FLOAT[{dim}]"):
        yield f"duckdb reads vector as {duck['vector']}, expected FLOAT[]"

    deleted = table["deleted"].to_pylist()
    counts = (deleted.count(False), deleted.count(True))
    if counts != (meta["rows"], meta["tombstones"]):
        yield f"(live, deleted) rows are {counts}, the metadata says {(meta['rows'], meta['tombstones'])}"
    if deleted != sorted(deleted):
        yield "tombstones do not follow the live rows"
    vectors = table["vector"].to_pylist()
    for row, (dead, vector) in enumerate(zip(deleted, vectors)):
        if dead and vector is not None:
            yield f"row {row} is a tombstone and has a vector"
        if not dead and (vector is None or len(vector) != dim or None in vector):
            yield f"row {row} has the vector {vector}, expected {dim} floats"
    for row, text in enumerate(table["payload_json"].to_pylist()):
        if text is not None and not isinstance(json.loads(text), dict):
            yield f"row {row} has payload_json {text}, expected an object"

    ours = list(zip(table["id"].to_pylist(), table["lsn"].to_pylist(), vectors))
    query = rows.project("id, lsn, vector").fetchall()
    theirs = [(id, lsn, None if vector is None else list(vector)) for id, lsn, vector in query]
    if ours != theirs:
        yield "pyarrow and duckdb read different rows"


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    troubles = [f"{path}: {trouble}" for path in sys.argv[1:] for trouble in check(path)]
    for trouble in troubles:
        print(trouble, file=sys.stderr)
    print(f"{len(sys.argv) - 1} files, {len(troubles)} troubles")
    sys.exit(1 if troubles else 0)


if __name__ == "__main__":
    main()
