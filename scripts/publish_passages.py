#!/usr/bin/env python3
"""Publishes the demo's passages to Kafka as anybody would: registers an Avro schema, frames, sends.

    publish_passages.py [--topic passages.v1] [--partitions 3] [--also hello]

KAFKA_BOOTSTRAP and SCHEMA_REGISTRY_URL say where to. A topic that holds all records already is left as it is, so that a
second demo doesn't publish twice; one that holds some gets all again, which is harmless: the ids are the same. `--also` names topics that are only created.
"""
import argparse
import io
import json
import os
import pathlib
import sys
import time
import urllib.request

import fastavro
import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "passages.parquet"
SCHEMA = {
    "type": "record",
    "name": "Passage",
    "namespace": "demo",
    "fields": [
        *({"name": name, "type": "string"} for name in ["id", "title", "heading", "text", "category"]),
        *({"name": name, "type": "int"} for name in ["words", "section", "bucket"]),
        {"name": "ts", "type": "long"},
        {"name": "embedding", "type": {"type": "array", "items": "float"}},
    ],
}


def register(registry: str, subject: str) -> int:
    """The schema's id in the registry; the same schema always gets the same id."""
    request = urllib.request.Request(
        f"{registry}/subjects/{subject}/versions",
        data=json.dumps({"schema": json.dumps(SCHEMA)}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["id"]


def create(bootstrap: str, topics: dict[str, int]) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    wanted = [NewTopic(name, num_partitions=partitions, replication_factor=1) for name, partitions in topics.items()]
    for future in admin.create_topics(wanted).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
                raise


def held(bootstrap: str, topic: str, partitions: int) -> int:
    """Records that the topic holds."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "publish-passages", "enable.auto.commit": False})
    deadline = time.monotonic() + 30
    while True:
        try:
            marks = [consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10) for p in range(partitions)]
            consumer.close()
            return sum(high - low for low, high in marks)
        except KafkaException:  # a topic that is a moment old has no leaders yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topic", default="passages.v1")
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--also", nargs="*", default=[])
    args = parser.parse_args()
    bootstrap, registry = os.environ["KAFKA_BOOTSTRAP"], os.environ["SCHEMA_REGISTRY_URL"]

    create(bootstrap, {args.topic: args.partitions} | {name: 1 for name in args.also})
    passages = pq.ParquetFile(DATA)
    if (already := held(bootstrap, args.topic, args.partitions)) >= passages.metadata.num_rows:
        print(f"{args.topic} holds {already} records already", file=sys.stderr)
        return 0
    frame = b"\0" + register(registry, f"{args.topic}-value").to_bytes(4, "big")
    schema = fastavro.parse_schema(SCHEMA)
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "compression.type": "zstd"})
    started, count = time.monotonic(), 0
    for batch in passages.iter_batches(500):
        for record in batch.to_pylist():
            body = io.BytesIO()
            body.write(frame)
            fastavro.schemaless_writer(body, schema, record)
            # With the time of publishing, not of the passage: a broker drops records that are older than its retention.
            producer.produce(
                args.topic,
                key=record["id"],
                value=body.getvalue(),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            count += 1
        producer.poll(0)
    producer.flush()
    if failed:
        print(f"{len(failed)} records were not delivered: {failed[0]}", file=sys.stderr)
        return 1
    print(f"published {count} records to {args.topic} in {time.monotonic() - started:.1f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
