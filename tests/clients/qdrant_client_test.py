#!/usr/bin/env python3
"""The everyday calls of an unmodified `qdrant-client` over REST against a running ProximaDB.

    python3 -m venv target/clients && target/clients/bin/pip install -r tests/clients/requirements.txt
    PROXIMADB_URL=http://127.0.0.1:5678 target/clients/bin/python tests/clients/qdrant_client_test.py

Without PROXIMADB_URL it starts PROXIMADB_BIN itself, on a free port and an empty directory.

Prints `N passed, N failed` and ends with 0 only if nothing failed. Names of tests may be given as arguments.
"""
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import uuid
import warnings
from datetime import datetime, timezone

from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

URL = os.environ.get("PROXIMADB_URL", "http://127.0.0.1:5678")
DIM = 8
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def connect():
    return QdrantClient(url=URL, timeout=30)


class Collection:
    """A collection of its own for one test."""

    def __init__(self, distance=models.Distance.COSINE, dim=DIM):
        self.client = connect()
        self.name = "t-" + uuid.uuid4().hex
        created = self.client.create_collection(
            self.name, vectors_config=models.VectorParams(size=dim, distance=distance)
        )
        assert created is True

    def __enter__(self):
        return self.client, self.name

    def __exit__(self, *_):
        self.client.delete_collection(self.name)
        self.client.close()


def vector(seed, dim=DIM):
    source = random.Random(seed)
    return [source.uniform(-1, 1) for _ in range(dim)]


def fill(client, name, count=50):
    points = [
        models.PointStruct(
            id=number,
            vector=vector(number),
            payload={
                "number": number,
                "half": number / 2,
                "even": number % 2 == 0,
                "lang": ["en", "fr", "de"][number % 3],
                "tags": [f"t{number % 4}", f"t{number % 5}"],
                "nested": {"city": f"c{number % 7}", "list": [{"n": number}]},
                "when": datetime(2026, 1, 1 + number % 28, tzinfo=timezone.utc).isoformat(),
                "text": f"The number {number} is {'even' if number % 2 == 0 else 'odd'}",
            },
        )
        for number in range(count)
    ]
    result = client.upsert(name, points=points, wait=True)
    assert result.status == models.UpdateStatus.COMPLETED and result.operation_id >= 1
    return points


def expect_refused(status, code, work):
    try:
        work()
    except UnexpectedResponse as refusal:
        assert refusal.status_code == status, (refusal.status_code, refusal.content)
        answer = json.loads(refusal.content)
        assert answer["status"]["code"] == code, answer
        assert answer["status"]["error"] and answer["status"]["request_id"], answer
        assert isinstance(answer["time"], float), answer
        return answer["status"]
    raise AssertionError(f"expected {status} {code}, but it was accepted")


def rest(method, path, body=None, headers=None):
    request = urllib.request.Request(
        URL + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"content-type": "application/json", **(headers or {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def ids(points):
    return [point.id for point in points]


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5


@test
def the_version_check_finds_a_compatible_server():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = QdrantClient(url=URL, timeout=30, check_compatibility=True)
        time.sleep(0.5)
        client.get_collections()
    assert not [w for w in caught if "version" in str(w.message)], [str(w.message) for w in caught]
    info = client.info()
    assert info.title == "ProximaDB" and info.version.split(".")[0].isdigit()


@test
def collections_are_created_listed_described_and_deleted():
    client = connect()
    name = "t-" + uuid.uuid4().hex
    assert client.collection_exists(name) is False
    assert client.create_collection(
        name,
        vectors_config=models.VectorParams(size=5, distance=models.Distance.EUCLID, on_disk=True),
        hnsw_config=models.HnswConfigDiff(m=24, ef_construct=150),
        optimizers_config=models.OptimizersConfigDiff(indexing_threshold=0),
        on_disk_payload=True,
        shard_number=1,
        replication_factor=1,
    )
    assert client.collection_exists(name) is True
    assert name in [one.name for one in client.get_collections().collections]
    info = client.get_collection(name)
    assert info.status == models.CollectionStatus.GREEN
    assert info.optimizer_status == models.OptimizersStatusOneOf.OK
    assert info.points_count == 0 and info.indexed_vectors_count == 0 and info.segments_count >= 0
    assert info.config.params.vectors.size == 5
    assert info.config.params.vectors.distance == models.Distance.EUCLID
    assert info.config.hnsw_config.m == 24 and info.config.hnsw_config.ef_construct == 150
    assert info.payload_schema == {}
    assert client.get_aliases().aliases == []
    assert client.update_collection(
        name, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=20000)
    )
    expect_refused(
        409,
        "collection_exists",
        lambda: client.create_collection(
            name, vectors_config=models.VectorParams(size=5, distance=models.Distance.DOT)
        ),
    )
    assert client.delete_collection(name) is True
    assert client.collection_exists(name) is False
    assert client.delete_collection(name) is False


@test
def a_missing_collection_is_not_found_everywhere():
    client, name = connect(), "t-missing-" + uuid.uuid4().hex
    for work in [
        lambda: client.get_collection(name),
        lambda: client.upsert(name, points=[models.PointStruct(id=1, vector=[1.0])]),
        lambda: client.query_points(name, query=[1.0]),
        lambda: client.retrieve(name, ids=[1]),
        lambda: client.scroll(name),
        lambda: client.count(name),
        lambda: client.delete(name, points_selector=[1]),
        lambda: client.set_payload(name, payload={"a": 1}, points=[1]),
    ]:
        expect_refused(404, "collection_not_found", work)


@test
def what_is_not_supported_yet_is_refused_not_ignored():
    client, name = connect(), "t-" + uuid.uuid4().hex
    dense = models.VectorParams(size=4, distance=models.Distance.DOT)
    for settings in [
        dict(vectors_config={"title": dense}),
        dict(vectors_config=dense, sparse_vectors_config={"s": models.SparseVectorParams()}),
        dict(vectors_config=dense, shard_number=3),
        dict(vectors_config=models.VectorParams(size=4, distance=models.Distance.MANHATTAN)),
        dict(vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT, datatype="uint8")),
    ]:
        expect_refused(400, "unsupported", lambda: client.create_collection(name, **settings))
    assert not client.collection_exists(name)
    with Collection() as (client, name):
        for work in [
            lambda: client.query_points(name, query=models.FusionQuery(fusion=models.Fusion.RRF)),
            lambda: client.query_points(
                name, query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1]))
            ),
            lambda: client.query_points(name, query=vector(1), using="title"),
            lambda: client.query_points_groups(name, group_by="lang", query=vector(1)),
            lambda: client.scroll(name, order_by="number"),
            lambda: client.facet(name, key="lang"),
            lambda: client.update_vectors(name, points=[models.PointVectors(id=1, vector=vector(1))]),
        ]:
            expect_refused(400, "unsupported", work)


@test
def ids_come_back_in_the_form_in_which_they_were_given():
    with Collection() as (client, name):
        given = [7, 2**63 + 5, str(uuid.uuid4()), uuid.uuid4(), "doc-17", "a/b?c=d ü"]
        client.upsert(
            name,
            points=[models.PointStruct(id=one, vector=vector(n)) for n, one in enumerate(given)],
        )
        texts = [str(one) if isinstance(one, uuid.UUID) else one for one in given]
        found = client.retrieve(name, ids=given, with_vectors=True)
        assert ids(found) == texts, ids(found)
        for n, record in enumerate(found):
            assert cosine(record.vector, vector(n)) > 0.9999
        assert ids(client.retrieve(name, ids=["nobody", 7])) == [7]
        for n, one in enumerate(texts):
            assert client.query_points(name, query=vector(n), limit=1).points[0].id == one
        single = client.http.points_api.get_point(name, id="a/b?c=d ü").result
        assert single.id == "a/b?c=d ü" and single.vector is not None and single.payload == {}


@test
def upserts_replace_in_every_form():
    with Collection() as (client, name):
        fill(client, name, 10)
        client.upsert(
            name,
            points=models.Batch(
                ids=[1, 2, 77],
                vectors=[vector(101), vector(102), vector(177)],
                payloads=[{"v": 2}, {}, {"v": 2}],
            ),
        )
        assert client.count(name).count == 11
        one, two = client.retrieve(name, ids=[1, 2], with_vectors=True)
        assert one.payload == {"v": 2} and two.payload == {}
        assert cosine(one.vector, vector(101)) > 0.9999
        client.upload_points(
            name,
            points=(models.PointStruct(id=1000 + n, vector=vector(n)) for n in range(300)),
            batch_size=64,
            wait=True,
        )
        assert client.count(name).count == 311
        client.upload_collection(
            name,
            vectors=[vector(n) for n in range(100)],
            payload=[{"n": n} for n in range(100)],
            ids=range(5000, 5100),
            wait=True,
        )
        assert client.count(name).count == 411
        acknowledged = client.upsert(
            name, points=[models.PointStruct(id=1, vector=vector(1))], wait=False
        )
        assert acknowledged.status == models.UpdateStatus.ACKNOWLEDGED


@test
def one_bad_point_refuses_the_batch_and_is_named():
    with Collection() as (client, name):
        good = models.PointStruct(id=1, vector=vector(1))

        def refused(code, **bad):
            status = expect_refused(
                400, code, lambda: client.upsert(name, points=[good, models.PointStruct(**bad)])
            )
            assert "points[1]" in status["error"], status
            return status

        status = refused("dimension_mismatch", id="b", vector=[1.0])
        assert status["details"]["expected"] == DIM and status["details"]["given"] == 1
        assert status["details"]["id"] == "b" and '"b"' in status["error"]
        refused("zero_vector", id=2, vector=[0.0] * DIM)
        refused("not_finite", id=2, vector=[1e39] * DIM)
        refused("invalid_request", id="", vector=vector(2))
        refused("invalid_request", id=-5, vector=vector(2))
        assert client.count(name).count == 0


@test
def deletes_by_ids_and_by_filter():
    with Collection() as (client, name):
        fill(client, name)
        client.delete(name, points_selector=models.PointIdsList(points=[0, 1, 999]))
        client.delete(name, points_selector=[2])
        assert client.count(name).count == 47
        client.delete(
            name,
            points_selector=models.FilterSelector(
                filter=models.Filter(
                    must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))]
                )
            ),
        )
        assert client.count(name).count == 24
        assert all(point.payload["number"] % 2 for point in client.scroll(name, limit=100)[0])
        client.delete(name, points_selector=[])
        assert client.count(name).count == 24
        assert client.retrieve(name, ids=[0, 2, 4]) == []


@test
def queries_by_vector_and_by_id():
    with Collection() as (client, name):
        points = fill(client, name)
        wanted = sorted(points, key=lambda point: -cosine(point.vector, vector(7)))
        found = client.query_points(name, query=vector(7), limit=5).points
        assert ids(found) == [point.id for point in wanted[:5]]
        assert abs(found[0].score - 1) < 1e-5
        assert all(a.score >= b.score for a, b in zip(found, found[1:]))
        assert found[0].payload["number"] == 7 and found[0].vector is None
        assert found[0].version >= 1
        by_id = client.query_points(name, query=7, limit=4, with_payload=False).points
        assert ids(by_id) == [point.id for point in wanted[1:5]]
        assert by_id[0].payload is None
        nearest = client.query_points(name, query=models.NearestQuery(nearest=vector(7)), limit=5)
        assert ids(nearest.points) == ids(found)
        paged = client.query_points(name, query=vector(7), limit=3, offset=2).points
        assert ids(paged) == ids(found)[2:5]
        exact = client.query_points(
            name,
            query=vector(7),
            limit=5,
            search_params=models.SearchParams(exact=True, hnsw_ef=64, indexed_only=False),
            with_vectors=True,
        ).points
        assert ids(exact) == ids(found) and cosine(exact[0].vector, vector(7)) > 0.9999
        threshold = found[2].score - 1e-6
        assert len(client.query_points(name, query=vector(7), score_threshold=threshold).points) == 3
        assert len(client.query_points(name, limit=5).points) == 5
        expect_refused(404, "point_not_found", lambda: client.query_points(name, query="nobody"))
        expect_refused(400, "dimension_mismatch", lambda: client.query_points(name, query=[1.0]))


@test
def scores_are_those_that_people_know():
    for distance, score in [
        (models.Distance.COSINE, cosine),
        (models.Distance.DOT, lambda a, b: sum(x * y for x, y in zip(a, b))),
        (models.Distance.EUCLID, lambda a, b: sum((x - y) ** 2 for x, y in zip(a, b)) ** 0.5),
    ]:
        with Collection(distance) as (client, name):
            points = fill(client, name, 20)
            sign = 1 if distance == models.Distance.EUCLID else -1
            wanted = sorted(points, key=lambda point: sign * score(point.vector, vector(99)))
            found = client.query_points(name, query=vector(99), limit=20, with_vectors=True).points
            assert ids(found) == [point.id for point in wanted], distance
            for hit in found:
                assert abs(hit.score - score(vector(hit.id), vector(99))) < 1e-4, (distance, hit)
            limit = found[4].score
            passing = client.query_points(name, query=vector(99), limit=20, score_threshold=limit).points
            assert ids(passing)[:4] == ids(found)[:4] and len(passing) in (4, 5), distance


@test
def batches_of_queries_are_answered_in_order():
    with Collection() as (client, name):
        fill(client, name)
        requests = [
            models.QueryRequest(query=vector(n), limit=1, with_payload=["number"]) for n in range(20)
        ]
        answers = client.query_batch_points(name, requests=requests)
        assert [answer.points[0].id for answer in answers] == list(range(20))
        assert answers[3].points[0].payload == {"number": 3}


@test
def the_older_search_still_answers():
    with Collection() as (client, name):
        fill(client, name)
        path = f"/collections/{name}/points/search"
        status, _, body = rest("POST", path, {"vector": vector(3), "limit": 2, "with_payload": True})
        result = json.loads(body)["result"]
        assert status == 200 and result[0]["id"] == 3 and result[0]["payload"]["number"] == 3
        status, _, body = rest("POST", path + "/batch", {"searches": [{"vector": vector(4), "limit": 1}]})
        assert status == 200 and json.loads(body)["result"][0][0]["id"] == 4


@test
def filters_choose_the_same_points_in_queries_scrolls_and_counts():
    with Collection() as (client, name):
        fill(client, name)
        key = models.FieldCondition

        def check(wanted, **clauses):
            chosen = models.Filter(**clauses)
            wanted = [number for number in range(50) if wanted(number)]
            scrolled = client.scroll(name, scroll_filter=chosen, limit=100)[0]
            assert ids(scrolled) == wanted, (clauses, ids(scrolled), wanted)
            assert client.count(name, count_filter=chosen).count == len(wanted), clauses
            found = client.query_points(name, query=vector(1), query_filter=chosen, limit=50).points
            assert sorted(ids(found)) == wanted, (clauses, ids(found))

        check(lambda n: n == 7, must=[key(key="number", match=models.MatchValue(value=7))])
        check(lambda n: n % 3 == 0, must=key(key="lang", match=models.MatchValue(value="en")))
        check(lambda n: n % 2 == 0, must=[key(key="even", match=models.MatchValue(value=True))])
        check(lambda n: n in (3, 4, 49), must=[key(key="number", match=models.MatchAny(any=[3, 4, 49, 99]))])
        check(lambda n: n % 3 != 0, must=[key(key="lang", match=models.MatchExcept(**{"except": ["en"]}))])
        check(lambda n: 10 <= n < 20, must=[key(key="number", range=models.Range(gte=10, lt=20))])
        check(lambda n: n / 2 > 20.25, must=[key(key="half", range=models.Range(gt=20.25))])
        check(
            lambda n: n % 28 < 3,
            must=[key(key="when", range=models.DatetimeRange(lt=datetime(2026, 1, 4, tzinfo=timezone.utc)))],
        )
        check(lambda n: n % 4 == 1 or n % 5 == 1, must=[key(key="tags", match=models.MatchValue(value="t1"))])
        check(lambda n: n % 7 == 2, must=[key(key="nested.city", match=models.MatchValue(value="c2"))])
        check(lambda n: n == 9, must=[key(key="nested.list[].n", match=models.MatchValue(value=9))])
        check(lambda n: n % 2, must=[key(key="text", match=models.MatchText(text="ODD number"))])
        check(lambda n: True, must=[key(key="tags", values_count=models.ValuesCount(gte=2))])
        check(lambda n: n in (1, 5), must=[models.HasIdCondition(has_id=[1, 5, 999])])
        check(lambda n: True, must=[models.IsEmptyCondition(is_empty=models.PayloadField(key="absent"))])
        check(lambda n: False, must=[models.IsNullCondition(is_null=models.PayloadField(key="lang"))])
        check(
            lambda n: (n % 3 == 0 or n % 3 == 1) and n % 2 and not n < 10,
            should=[
                key(key="lang", match=models.MatchValue(value="en")),
                key(key="lang", match=models.MatchValue(value="fr")),
            ],
            must=[models.Filter(must_not=[key(key="even", match=models.MatchValue(value=True))])],
            must_not=[key(key="number", range=models.Range(lt=10))],
        )
        check(
            lambda n: (n < 30) + (n % 2 == 0) + (n % 3 == 0) >= 2,
            min_should=models.MinShould(
                conditions=[
                    key(key="number", range=models.Range(lt=30)),
                    key(key="even", match=models.MatchValue(value=True)),
                    key(key="lang", match=models.MatchValue(value="en")),
                ],
                min_count=2,
            ),
        )
        check(lambda n: True, must=[])
        geo = models.GeoRadius(center=models.GeoPoint(lon=1, lat=1), radius=1)
        status = expect_refused(
            400,
            "unsupported",
            lambda: client.count(name, count_filter=models.Filter(must=[key(key="g", geo_radius=geo)])),
        )
        assert "filter.must[0]" in status["error"] and "geo_radius" in status["error"]


@test
def scrolling_meets_every_point_once_in_order_of_ids():
    with Collection() as (client, name):
        fill(client, name)
        client.upsert(name, points=[models.PointStruct(id=f"x{n}", vector=vector(n)) for n in range(5)])
        met, offset, pages = [], None, 0
        while True:
            points, offset = client.scroll(name, limit=7, offset=offset, with_payload=["lang"])
            met += points
            pages += 1
            if offset is None:
                break
        assert pages == 8
        assert ids(met) == list(range(50)) + [f"x{n}" for n in range(5)], ids(met)
        assert set(met[0].payload) == {"lang"} and met[0].vector is None
        with_vectors, _ = client.scroll(name, limit=1, with_payload=False, with_vectors=True)
        assert with_vectors[0].payload is None and len(with_vectors[0].vector) == DIM
        excluded, _ = client.scroll(
            name, limit=1, with_payload=models.PayloadSelectorExclude(exclude=["lang", "text"])
        )
        assert "lang" not in excluded[0].payload and "number" in excluded[0].payload


@test
def payloads_are_set_overwritten_deleted_and_cleared():
    with Collection() as (client, name):
        fill(client, name, 6)
        client.set_payload(name, payload={"lang": "it", "new": [1, None]}, points=[0, 1])
        zero = client.retrieve(name, ids=[0])[0].payload
        assert zero["lang"] == "it" and zero["new"] == [1, None] and zero["number"] == 0
        odd = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=False))])
        client.set_payload(name, payload={"odd": True}, points=odd)
        assert client.count(name, count_filter=models.Filter(
            must=[models.FieldCondition(key="odd", match=models.MatchValue(value=True))]
        )).count == 3
        client.overwrite_payload(name, payload={"only": 1}, points=[2])
        assert client.retrieve(name, ids=[2])[0].payload == {"only": 1}
        client.delete_payload(name, keys=["lang", "nobody"], points=[0])
        assert "lang" not in client.retrieve(name, ids=[0])[0].payload
        client.clear_payload(name, points_selector=[0])
        assert client.retrieve(name, ids=[0])[0].payload == {}
        assert client.query_points(name, query=vector(0), limit=1).points[0].id == 0
        client.set_payload(name, payload={"a": 1}, points=[12345])
        assert client.retrieve(name, ids=[12345]) == []


@test
def payload_values_keep_their_types_and_digits():
    with Collection() as (client, name):
        payload = {
            "large": 2**53 + 1, "negative": -(2**63), "unsigned": 2**64 - 1, "float": 0.1, "null": None,
            "list": [1, "a", None, {"b": []}], "object": {"a": {"b": {"c": True}}}, "unicode": "日本 🦀 \u0000x",
            "empty": "", "a.b": 1,
        }
        client.upsert(name, points=[models.PointStruct(id=1, vector=vector(1), payload=payload)])
        assert client.retrieve(name, ids=[1])[0].payload == payload
        number = models.FieldCondition(key="large", match=models.MatchValue(value=2**53 + 1))
        assert client.count(name, count_filter=models.Filter(must=[number])).count == 1
        number = models.FieldCondition(key="large", match=models.MatchValue(value=2**53))
        assert client.count(name, count_filter=models.Filter(must=[number])).count == 0


@test
def operations_in_a_batch_take_effect_in_order():
    with Collection() as (client, name):
        results = client.batch_update_points(
            name,
            update_operations=[
                models.UpsertOperation(
                    upsert=models.PointsList(
                        points=[models.PointStruct(id=n, vector=vector(n), payload={"a": n}) for n in range(4)]
                    )
                ),
                models.SetPayloadOperation(set_payload=models.SetPayload(payload={"b": 1}, points=[0, 1])),
                models.OverwritePayloadOperation(
                    overwrite_payload=models.SetPayload(payload={"c": 1}, points=[1])
                ),
                models.DeletePayloadOperation(
                    delete_payload=models.DeletePayload(keys=["a"], points=[2])
                ),
                models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[3])),
                models.DeleteOperation(delete=models.PointIdsList(points=[2])),
            ],
        )
        assert len(results) == 6 and all(r.status == models.UpdateStatus.COMPLETED for r in results)
        found = {point.id: point.payload for point in client.scroll(name)[0]}
        assert found == {0: {"a": 0, "b": 1}, 1: {"c": 1}, 3: {}}, found


@test
def payload_indexes_are_accepted():
    with Collection() as (client, name):
        fill(client, name, 10)
        for kind in ["keyword", "integer", "float", "bool", "datetime", "uuid", "text"]:
            result = client.create_payload_index(name, field_name="lang", field_schema=kind)
            assert result.status == models.UpdateStatus.COMPLETED
        client.create_payload_index(
            name,
            field_name="text",
            field_schema=models.TextIndexParams(type="text", tokenizer=models.TokenizerType.WORD),
        )
        assert client.delete_payload_index(name, "lang").status == models.UpdateStatus.COMPLETED
        expect_refused(
            400, "unsupported", lambda: client.create_payload_index(name, field_name="g", field_schema="geo")
        )


@test
def an_acknowledged_write_is_found_at_once():
    with Collection() as (client, name):
        for number in range(200):
            client.upsert(name, points=[models.PointStruct(id=number, vector=vector(number))])
            assert client.query_points(name, query=vector(number), limit=1).points[0].id == number
            assert client.count(name).count == number + 1


@test
def freshness_is_asked_for_and_told():
    with Collection() as (client, name):
        points = [{"id": 1, "vector": vector(1)}]
        status, _, body = rest("PUT", f"/collections/{name}/points?wait=searchable", {"points": points})
        lsn = json.loads(body)["result"]["lsn"]
        assert status == 200 and lsn >= 1
        query = {"query": vector(1), "fresh_as_of": {"lsn": lsn}, "with_freshness": True}
        status, _, body = rest("POST", f"/collections/{name}/points/query", query)
        answer = json.loads(body)
        assert status == 200 and answer["result"]["points"][0]["id"] == 1, answer
        assert answer["freshness"]["lsn"] >= lsn
        assert set(answer["freshness"]) >= {"lsn", "positions", "watermark_ms", "scanned_fraction"}
        query = {"query": vector(1), "fresh_as_of": {"lsn": lsn + 1000}, "timeout": 0.2}
        began = time.monotonic()
        status, _, body = rest("POST", f"/collections/{name}/points/query", query)
        assert status == 504 and json.loads(body)["status"]["code"] == "not_fresh", body
        assert 0.15 < time.monotonic() - began < 5
        status, _, body = rest("GET", f"/collections/{name}/freshness")
        assert status == 200 and json.loads(body)["result"]["lsn"] >= lsn
        status, _, body = rest("GET", f"/collections/{name}/quarantine?limit=5")
        assert status == 200 and json.loads(body)["result"]["records"] == []


@test
def errors_have_one_shape_and_name_the_mistake():
    with Collection() as (client, name):
        def refused(method, path, body, status, code, words):
            given, headers, answer = rest(method, path, body, {"x-request-id": "my-id"})
            answer = json.loads(answer)["status"]
            assert (given, answer["code"]) == (status, code), (given, answer)
            assert words in answer["error"], answer
            headers = {key.lower(): value for key, value in headers.items()}
            assert answer["request_id"] == "my-id" == headers["x-request-id"], (answer, headers)

        base = f"/collections/{name}/points"
        refused("POST", base + "/query", {"qurey": vector(1)}, 400, "unknown_field", '"query"')
        refused("POST", base + "/query", {"query": vector(1), "limit": 0}, 400, "invalid_request", "limit")
        refused("PUT", base, {"points": [{"id": 1, "vector": [1], "payload": []}]}, 400, "dimension_mismatch", "points[0]")
        refused("PUT", base + "?wiat=true", {"points": []}, 400, "unknown_field", '"wait"')
        refused("POST", base + "/count", {"filter": {"musst": []}}, 400, "unknown_field", '"must"')
        refused("GET", "/nowhere", None, 404, "route_not_found", "/nowhere")
        refused("DELETE", base, None, 405, "method_not_allowed", "DELETE")
        refused("GET", f"{base}/nobody", None, 404, "point_not_found", "nobody")
        status, _, body = rest("POST", base + "/query")
        assert status == 200, body


@test
def health_and_metrics_answer():
    for path in ["/healthz", "/livez", "/readyz"]:
        assert rest("GET", path)[0] == 200
    status, headers, body = rest("GET", "/metrics")
    assert status == 200 and b"proximadb_http_requests_total" in body
    assert rest("GET", "/pipelines")[0] == 200


def main():
    chosen = sys.argv[1:]
    passed = failed = 0
    for function in TESTS:
        name = function.__name__
        if chosen and name not in chosen:
            continue
        try:
            function()
            passed += 1
            print(f"ok      {name}")
        except Exception:  # noqa: BLE001: every failure is told, none ends the run
            failed += 1
            print(f"FAILED  {name}")
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


@contextlib.contextmanager
def server(program):
    """A server of our own, until the block ends; its URL is printed in its first line."""
    global URL
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "serve", "--listen", "127.0.0.1:0", "--data-dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on "), f"{program} said {line!r}"
            URL = line.split()[-1]
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


if __name__ == "__main__":
    warnings.filterwarnings("ignore", message=".*wait.*")
    PROGRAM = os.environ.get("PROXIMADB_BIN")
    with contextlib.nullcontext() if "PROXIMADB_URL" in os.environ or not PROGRAM else server(PROGRAM):
        STATUS = main()
    sys.exit(STATUS)
