//! Both doors over a real engine and a real socket.
#![allow(clippy::unwrap_used)]
use futures_util::StreamExt;
use proximadb_proto::v1;
use proximadb_proto::v1::collections_client::CollectionsClient;
use proximadb_proto::v1::pipelines_client::PipelinesClient;
use proximadb_proto::v1::points_client::PointsClient;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use crate::assemble::Server;
use crate::config::ServerConfig;

struct Scene {
    _dir: tempfile::TempDir,
    server: Server,
    channel: Channel,
}

impl Scene {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ServerConfig {
            data_dir: dir.path().to_path_buf(),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..ServerConfig::default()
        };
        change(&mut config);
        let server = Server::start(&config).await.unwrap();
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
        Self { channel: endpoint.connect().await.unwrap(), server, _dir: dir }
    }

    fn collections(&self) -> CollectionsClient<Channel> {
        CollectionsClient::new(self.channel.clone())
    }

    fn points(&self) -> PointsClient<Channel> {
        PointsClient::new(self.channel.clone())
    }

    async fn create(&self, distance: v1::Distance) {
        let request = v1::CreateCollectionRequest {
            collection: "c".into(),
            dim: 2,
            distance: distance.into(),
            graph: None,
            recall_target: None,
            index: 0,
            clusters: None,
        };
        self.collections().create(request).await.unwrap();
    }

    /// A request over REST: status and body.
    async fn rest(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        use tower::{Service, ServiceExt};
        let mut channel = self.channel.clone();
        let request = axum::http::Request::builder()
            .method(method)
            .uri(path)
            .body(tonic::body::Body::new(axum::body::Body::from(body.to_string())))
            .unwrap();
        let answer = channel.ready().await.unwrap().call(request).await.unwrap();
        let status = answer.status().as_u16();
        let bytes =
            axum::body::to_bytes(axum::body::Body::new(answer.into_body()), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }
}

fn id(text: &str) -> v1::PointId {
    v1::PointId { form: Some(v1::point_id::Form::Text(text.into())) }
}

fn point(name: &str, vector: [f32; 2], payload: &str) -> v1::Point {
    v1::Point { id: Some(id(name)), vector: vector.to_vec(), payload_json: payload.as_bytes().to_vec() }
}

fn upsert(points: Vec<v1::Point>) -> v1::UpsertRequest {
    v1::UpsertRequest { collection: "c".into(), points, wait: 0 }
}

fn near(vector: [f32; 2]) -> v1::QueryRequest {
    v1::QueryRequest {
        collection: "c".into(),
        nearest: Some(v1::query_request::Nearest::Vector(v1::Vector { components: vector.to_vec() })),
        ..Default::default()
    }
}

fn ids_of(hits: &[v1::Hit]) -> Vec<v1::PointId> {
    hits.iter().filter_map(|hit| hit.record.as_ref()?.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_over_grpc() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    let mut points = scene.points();
    let payload = r#"{"lang": "en", "n": 9007199254740993}"#;
    let batch = vec![
        point("a", [0.0, 0.0], payload),
        point("b", [1.0, 0.0], "{\"lang\": \"fr\"}"),
        point("d", [0.0, 3.0], ""),
    ];
    let lsn = points.upsert(upsert(batch)).await.unwrap().into_inner().lsn;
    assert!(lsn >= 1);

    let read = v1::ReadOptions {
        fresh_as_of: Some(v1::FreshAsOf { state: Some(v1::fresh_as_of::State::Lsn(lsn)) }),
        timeout_ms: 5_000,
        with_freshness: true,
    };
    let everything = v1::payload_selection::Selection::Everything(true);
    let query = v1::QueryRequest {
        with_payload: Some(v1::PayloadSelection { selection: Some(everything) }),
        with_vector: true,
        read: Some(read),
        ..near([0.1, 0.0])
    };
    let answer = points.query(query).await.unwrap().into_inner();
    assert_eq!(ids_of(&answer.hits), [id("a"), id("b"), id("d")]);
    assert!((answer.hits[0].score - 0.1).abs() < 1e-6);
    let record = answer.hits[0].record.as_ref().unwrap();
    assert_eq!(record.vector, [0.0, 0.0]);
    let stored: Value = serde_json::from_slice(&record.payload_json).unwrap();
    assert_eq!(stored["n"], 9_007_199_254_740_993_i64);
    assert!(answer.freshness.unwrap().lsn >= lsn);

    let french = r#"{"must": {"key": "lang", "match": {"value": "fr"}}}"#;
    let batch = v1::QueryBatchRequest {
        collection: "c".into(),
        queries: vec![near([0.0, 3.0]), v1::QueryRequest { filter_json: french.into(), ..near([0.0, 0.0]) }],
    };
    let answers = points.query_batch(batch).await.unwrap().into_inner().answers;
    assert_eq!(ids_of(&answers[0].hits)[0], id("d"));
    assert_eq!(ids_of(&answers[1].hits), [id("b")]);

    let these = |ids: Vec<v1::PointId>| {
        Some(v1::PointSelector { selector: Some(v1::point_selector::Selector::Ids(v1::PointIds { ids })) })
    };
    let set = v1::SetPayloadRequest {
        collection: "c".into(),
        points: these(vec![id("d")]),
        payload_json: b"{\"lang\": \"fr\"}".to_vec(),
        wait: 0,
    };
    points.set_payload(set).await.unwrap();
    let count =
        |filter: &str| v1::CountRequest { collection: "c".into(), filter_json: filter.into(), read: None };
    assert_eq!(points.count(count(french)).await.unwrap().into_inner().count, 2);
    let delete = v1::DeleteRequest { collection: "c".into(), points: these(vec![id("b")]), wait: 0 };
    points.delete(delete).await.unwrap();
    let matching = v1::point_selector::Selector::FilterJson(french.into());
    let matching = Some(v1::PointSelector { selector: Some(matching) });
    points.delete(v1::DeleteRequest { collection: "c".into(), points: matching, wait: 0 }).await.unwrap();

    let get = v1::GetRequest { collection: "c".into(), ids: vec![id("b"), id("a")], ..Default::default() };
    let found = points.get(get).await.unwrap().into_inner().points;
    assert_eq!(found.len(), 1);
    assert!(!found[0].payload_json.is_empty() && found[0].vector.is_empty());
    let page = v1::ScrollRequest { collection: "c".into(), ..Default::default() };
    let page = points.scroll(page).await.unwrap().into_inner();
    assert_eq!((page.points.len(), page.next_page_offset), (1, None));

    let mut collections = scene.collections();
    let described = collections
        .describe(v1::DescribeCollectionRequest { collection: "c".into() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!((described.points, described.config.unwrap().dim), (1, 2));
    assert_eq!(
        collections.list(v1::ListCollectionsRequest {}).await.unwrap().into_inner().collections.len(),
        1
    );
    let mut pipelines = PipelinesClient::new(scene.channel.clone());
    assert!(pipelines.list(v1::ListPipelinesRequest {}).await.unwrap().into_inner().pipelines.is_empty());
    let gone = v1::DeleteCollectionRequest { collection: "c".into() };
    assert!(collections.delete(gone).await.unwrap().into_inner().deleted);
    let exists = v1::CollectionExistsRequest { collection: "c".into() };
    assert!(!collections.exists(exists).await.unwrap().into_inner().exists);
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_over_grpc_carry_code_details_and_request_id() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::Cosine).await;
    let mut points = scene.points();
    let mut request =
        tonic::Request::new(upsert(vec![point("a", [1.0, 0.0], ""), point("b", [f32::NAN, 0.0], "")]));
    request.metadata_mut().insert("x-request-id", "r-9".parse().unwrap());
    let status = points.upsert(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("points[1].vector (id \"b\"): component 0 is NaN"), "{status:?}");
    assert_eq!(status.metadata().get(super::GRPC_CODE_KEY).unwrap(), "not_finite");
    assert_eq!(status.metadata().get(super::REQUEST_ID).unwrap(), "r-9");
    assert_eq!(serde_json::from_slice::<Value>(status.details()).unwrap()["id"], "b");

    let missing = v1::CountRequest { collection: "missing".into(), ..Default::default() };
    assert_eq!(points.count(missing).await.unwrap_err().code(), Code::NotFound);
    let again = v1::CreateCollectionRequest { collection: "c".into(), dim: 2, ..Default::default() };
    assert_eq!(scene.collections().create(again).await.unwrap_err().code(), Code::AlreadyExists);
    let stale = v1::ReadOptions {
        fresh_as_of: Some(v1::FreshAsOf { state: Some(v1::fresh_as_of::State::Lsn(1_000)) }),
        timeout_ms: 50,
        with_freshness: false,
    };
    let waiting = v1::QueryRequest { read: Some(stale), ..near([1.0, 0.0]) };
    assert_eq!(points.query(waiting).await.unwrap_err().code(), Code::DeadlineExceeded);
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_acknowledged_in_order_and_keeps_the_order_of_a_point() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    let message = |tag: u64, points: Vec<v1::Point>| v1::UpsertStreamRequest {
        collection: if tag == 0 { "c".into() } else { String::new() },
        points,
        tag,
        ..Default::default()
    };
    // Every message writes the same point and one of its own; one of them is wrong.
    let messages: Vec<_> = (0..200_u64)
        .map(|tag| {
            let own = point(&format!("own-{tag}"), [tag as f32, 1.0], "");
            let shared = point("shared", [tag as f32, 0.0], &format!("{{\"tag\": {tag}}}"));
            match tag {
                77 => message(tag, vec![point("bad", [f32::INFINITY, 0.0], "")]),
                tag if tag % 3 == 0 => message(tag, vec![own]),
                _ => message(tag, vec![own, shared]),
            }
        })
        .collect();
    let mut points = scene.points();
    let acks = points.upsert_stream(futures_util::stream::iter(messages)).await.unwrap().into_inner();
    let acks: Vec<_> = acks.map(Result::unwrap).collect().await;
    assert_eq!(acks.iter().map(|ack| ack.tag).collect::<Vec<_>>(), (0..200).collect::<Vec<_>>());
    for ack in acks {
        match ack.outcome.unwrap() {
            v1::upsert_ack::Outcome::Lsn(lsn) => assert!(lsn > 0 && ack.tag != 77),
            v1::upsert_ack::Outcome::Refusal(refusal) => {
                assert_eq!((ack.tag, refusal.code.as_str()), (77, "not_finite"));
                assert_eq!(refusal.grpc_status, Code::InvalidArgument as i32);
            }
        }
    }
    let get = v1::GetRequest { collection: "c".into(), ids: vec![id("shared")], ..Default::default() };
    let found = points.get(get).await.unwrap().into_inner().points;
    assert_eq!(found[0].payload_json, b"{\"tag\":199}");
    let all = v1::CountRequest { collection: "c".into(), ..Default::default() };
    assert_eq!(points.count(all).await.unwrap().into_inner().count, 200);

    let nameless = v1::UpsertStreamRequest { tag: 5, ..Default::default() };
    let acks = points.upsert_stream(futures_util::stream::iter([nameless])).await.unwrap().into_inner();
    let acks: Vec<_> = acks.map(Result::unwrap).collect().await;
    assert!(matches!(&acks[0].outcome, Some(v1::upsert_ack::Outcome::Refusal(_))), "{acks:?}");
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_outlives_its_collection_is_told_that_it_is_gone() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    let (send, messages) = tokio::sync::mpsc::channel(1);
    let messages = futures_util::stream::unfold(messages, |mut messages| async move {
        messages.recv().await.map(|message| (message, messages))
    });
    let mut points = scene.points();
    let message = |collection: &str, name: &str| v1::UpsertStreamRequest {
        collection: collection.into(),
        points: vec![point(name, [1.0, 0.0], "")],
        ..Default::default()
    };
    send.send(message("c", "first")).await.unwrap();
    let mut acks = points.upsert_stream(messages).await.unwrap().into_inner();
    let mut outcome = async || acks.next().await.unwrap().unwrap().outcome.unwrap();
    assert!(matches!(outcome().await, v1::upsert_ack::Outcome::Lsn(_)));

    let delete = || v1::DeleteCollectionRequest { collection: "c".into() };
    scene.collections().delete(delete()).await.unwrap();
    send.send(message("", "second")).await.unwrap();
    match outcome().await {
        v1::upsert_ack::Outcome::Refusal(refusal) => {
            assert_eq!(refusal.code, "collection_not_found", "{}", refusal.message);
            assert_eq!(refusal.grpc_status, Code::NotFound as i32);
        }
        v1::upsert_ack::Outcome::Lsn(lsn) => panic!("written at {lsn} to a deleted collection"),
    }
    // A name belongs to whoever bears it.
    scene.create(v1::Distance::L2).await;
    send.send(message("", "third")).await.unwrap();
    assert!(matches!(outcome().await, v1::upsert_ack::Outcome::Lsn(_)));
    let all = v1::CountRequest { collection: "c".into(), ..Default::default() };
    assert_eq!(scene.points().count(all).await.unwrap().into_inner().count, 1);
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_is_left_to_samples_again_by_an_update() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    let mut collections = scene.collections();
    let chosen = v1::quantization::Kind::RabitqBits(2);
    for (kind, levels) in [(chosen, v1::Levels::On), (v1::quantization::Kind::Auto(true), v1::Levels::Auto)] {
        let quantization = Some(v1::Quantization { kind: Some(kind) });
        let graph = v1::GraphParams { quantization, levels: levels.into(), ..Default::default() };
        let said = v1::UpdateCollectionRequest { graph: Some(graph), ..Default::default() };
        // What says nothing of the graph leaves it as it is.
        let silent = v1::UpdateCollectionRequest { graph: Some(v1::GraphParams::default()), ..said.clone() };
        for update in [said, silent] {
            let update = v1::UpdateCollectionRequest { collection: "c".into(), ..update };
            collections.update(update).await.unwrap();
            let describe = v1::DescribeCollectionRequest { collection: "c".into() };
            let config = collections.describe(describe).await.unwrap().into_inner().config.unwrap();
            let graph = config.graph.unwrap();
            assert_eq!((graph.quantization, graph.levels), (quantization, levels.into()));
        }
    }
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_door_writes_the_other_finds() {
    let scene = Scene::start().await;
    let create = json!({"vectors": {"size": 2, "distance": "Cosine"}});
    assert_eq!(scene.rest("PUT", "/collections/c", create).await.0, 200);
    let body = json!({"points": [{"id": 7, "vector": [3, 4], "payload": {"a": [1]}}]});
    let (status, answer) = scene.rest("PUT", "/collections/c/points?wait=true", body).await;
    assert_eq!((status, &answer["result"]["status"]), (200, &json!("completed")));
    let answer = scene.points().query(near([3.0, 4.0])).await.unwrap().into_inner();
    let seven = v1::PointId { form: Some(v1::point_id::Form::Integer(7)) };
    assert_eq!(ids_of(&answer.hits), [seven]);
    scene.points().upsert(upsert(vec![point("x", [4.0, -3.0], "{\"b\": 1}")])).await.unwrap();
    let query = json!({"query": [4, -3], "limit": 1, "with_payload": true, "with_vector": true});
    let (_, answer) = scene.rest("POST", "/collections/c/points/query", query).await;
    let hit = &answer["result"]["points"][0];
    assert_eq!((&hit["id"], &hit["payload"]), (&json!("x"), &json!({"b": 1})));
    assert!((hit["vector"][0].as_f64().unwrap() - 0.8).abs() < 1e-6);
    // Large enough to be parsed on another thread.
    let many: Vec<Value> =
        (0..5_000).map(|n| json!({"id": n, "vector": [n + 1, 1], "payload": {"n": n}})).collect();
    let (status, answer) = scene.rest("PUT", "/collections/c/points", json!({ "points": many })).await;
    assert_eq!(status, 200, "{answer}");
    let (_, answer) = scene.rest("POST", "/collections/c/points/count", json!({})).await;
    assert_eq!(answer["result"]["count"], 5_001);
    scene.server.stop().await;
}

/// With few threads, too: searches of a batch wait for their turn, none is refused for the others' sake.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_the_most_queries_is_answered_at_both_doors_and_reads_by_id_have_an_end() {
    let scene = Scene::start_with(|config| config.limits.search_threads = 1).await;
    scene.create(v1::Distance::L2).await;
    let rows = vec![point("a", [0.0, 0.0], ""), point("b", [3.0, 0.0], "")];
    scene.points().upsert(upsert(rows)).await.unwrap();

    let queries: Vec<Value> = (0..1_024).map(|at| json!({"query": [at % 4, 0], "limit": 1})).collect();
    let (status, body) =
        scene.rest("POST", "/collections/c/points/query/batch", json!({ "searches": queries })).await;
    assert_eq!(status, 200, "{body}");
    let nearest = |at: usize| if at % 4 < 2 { "a" } else { "b" };
    for (at, answer) in body["result"].as_array().unwrap().iter().enumerate() {
        assert_eq!(answer["points"][0]["id"], nearest(at), "{at}");
    }
    let queries = (0..1_024).map(|at| near([(at % 4) as f32, 0.0])).collect();
    let batch = v1::QueryBatchRequest { collection: "c".into(), queries };
    let answers = scene.points().query_batch(batch).await.unwrap().into_inner().answers;
    assert_eq!(answers.len(), 1_024);
    assert!(answers.iter().enumerate().all(|(at, one)| ids_of(&one.hits)[0] == id(nearest(at))));

    let (status, body) =
        scene.rest("POST", "/collections/c/points", json!({ "ids": vec!["a"; 1_000] })).await;
    assert_eq!((status, body["result"].as_array().map(Vec::len)), (200, Some(1_000)));
    let (status, body) =
        scene.rest("POST", "/collections/c/points", json!({ "ids": vec!["a"; 100_001] })).await;
    assert_eq!((status, &body["status"]["code"]), (400, &json!("limit_too_large")), "{body}");
    let get = v1::GetRequest { collection: "c".into(), ids: vec![id("a"); 100_001], ..Default::default() };
    assert_eq!(scene.points().get(get).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_set_on_many_points_is_written_in_several_entries() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    let names: Vec<String> = (0..20).map(|at| format!("p{at}")).collect();
    let rows = names.iter().map(|name| point(name, [1.0, 2.0], r#"{"kept": 1}"#)).collect();
    let before = scene.points().upsert(upsert(rows)).await.unwrap().into_inner().lsn;
    let value = "x".repeat(1 << 20);
    let edit = v1::SetPayloadRequest {
        collection: "c".into(),
        points: Some(v1::PointSelector {
            selector: Some(v1::point_selector::Selector::Ids(v1::PointIds {
                ids: names.iter().chain(&names).map(|name| id(name)).collect(),
            })),
        }),
        payload_json: json!({ "text": value }).to_string().into_bytes(),
        wait: 0,
    };
    let after = scene.points().set_payload(edit).await.unwrap().into_inner().lsn;
    assert!((4..20).contains(&(after - before)), "{before} {after}");
    for name in &names {
        let (_, body) = scene.rest("GET", &format!("/collections/c/points/{name}"), json!({})).await;
        let payload = &body["result"]["payload"];
        assert_eq!((payload["text"].as_str().map(str::len), &payload["kept"]), (Some(1 << 20), &json!(1)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recall_target_is_promised_shown_and_taken_back_at_both_doors() {
    let scene = Scene::start().await;
    let create = json!({"vectors": {"size": 2, "distance": "Dot"}, "recall_target": 0.9});
    assert_eq!(scene.rest("PUT", "/collections/c", create).await.0, 200);
    let (_, facts) = scene.rest("GET", "/collections/c", json!({})).await;
    let recall = &facts["result"]["recall"];
    assert_eq!((&recall["target"], &recall["k"]), (&json!(0.9), &json!(10)), "{facts}");
    let update = |recall_target, remove_recall_target| {
        let request = v1::UpdateCollectionRequest {
            collection: "c".into(),
            recall_target,
            remove_recall_target,
            ..v1::UpdateCollectionRequest::default()
        };
        let mut collections = scene.collections();
        async move { collections.update(request).await.map_err(|status| status.code()) }
    };
    update(Some(0.98), false).await.unwrap();
    let describe = v1::DescribeCollectionRequest { collection: "c".into() };
    let described = scene.collections().describe(describe.clone()).await.unwrap().into_inner();
    assert_eq!(described.recall.unwrap().target, 0.98);
    assert_eq!(described.config.unwrap().recall_target, Some(0.98));
    for (target, remove) in [(Some(0.3), false), (Some(0.9), true)] {
        assert_eq!(update(target, remove).await.unwrap_err(), Code::InvalidArgument);
    }
    let request = v1::UpdateCollectionRequest {
        collection: "c".into(),
        graph: Some(v1::GraphParams { m: 32, ..Default::default() }),
        index: v1::IndexKind::Flat.into(),
        ..Default::default()
    };
    scene.collections().update(request).await.unwrap();
    let described = scene.collections().describe(describe.clone()).await.unwrap().into_inner();
    let config = described.config.unwrap();
    let graph = config.graph.unwrap();
    assert_eq!((config.index(), graph.m, graph.ef_construct), (v1::IndexKind::Flat, 32, 100));
    assert_eq!((config.recall_target, described.index.unwrap().ready), (Some(0.98), true));
    let clusters = |index: v1::IndexKind, clusters, remove_clusters| {
        let index = index.into();
        let request = v1::UpdateCollectionRequest {
            collection: "c".into(),
            index,
            clusters,
            remove_clusters,
            ..Default::default()
        };
        let mut collections = scene.collections();
        async move { collections.update(request).await.map_err(|status| status.code()) }
    };
    for (kind, count) in [(v1::IndexKind::Ivf, 0), (v1::IndexKind::Ivf, 65_537), (v1::IndexKind::Flat, 9)] {
        assert_eq!(clusters(kind, Some(count), false).await.unwrap_err(), Code::InvalidArgument);
    }
    assert_eq!(clusters(v1::IndexKind::Ivf, Some(9), true).await.unwrap_err(), Code::InvalidArgument);
    for (kind, count, remove, then) in [
        (v1::IndexKind::Ivf, Some(9), false, Some(9)),
        (v1::IndexKind::Unspecified, None, false, Some(9)),
        (v1::IndexKind::Unspecified, None, true, None),
        (v1::IndexKind::Unspecified, Some(8), false, Some(8)),
        (v1::IndexKind::Flat, None, false, None),
    ] {
        clusters(kind, count, remove).await.unwrap();
        let described = scene.collections().describe(describe.clone()).await.unwrap().into_inner();
        assert_eq!(described.config.unwrap().clusters, then);
    }
    let (_, facts) = scene.rest("GET", "/collections/c", json!({})).await;
    let index = &facts["result"]["index"];
    assert_eq!((&index["kind"], &index["params"]["m"]), (&json!("flat"), &json!(32)), "{facts}");
    let (status, answer) = scene.rest("PATCH", "/collections/c", json!({"recall_target": 7})).await;
    assert_eq!((status, &answer["status"]["code"]), (400, &json!("invalid_request")), "{answer}");
    assert_eq!(scene.rest("PATCH", "/collections/absent", json!({})).await.0, 404);
    assert_eq!(scene.rest("PATCH", "/collections/c", json!({"recall_target": null})).await.0, 200);
    let described = scene.collections().describe(describe).await.unwrap().into_inner();
    assert_eq!((described.recall, described.config.unwrap().recall_target), (None, None));
    scene.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_bounds_every_read_that_looks_at_rows() {
    let scene = Scene::start().await;
    scene.create(v1::Distance::L2).await;
    scene.points().upsert(upsert(vec![point("a", [0.0, 0.0], "{\"n\": 1}")])).await.unwrap();
    let filter = json!({"must": [{"key": "n", "match": {"value": 1}}]});
    for (path, mut body) in [
        ("scroll", json!({})),
        ("scroll", json!({"filter": filter})),
        ("count", json!({"filter": filter})),
        ("query", json!({})),
        ("query", json!({"query": [0.0, 0.0], "params": {"exact": true}})),
        ("", json!({"ids": ["a"]})),
    ] {
        let path = format!("/collections/c/points/{path}");
        let path = path.trim_end_matches('/');
        let (status, answer) = scene.rest("POST", path, body.clone()).await;
        assert_eq!(status, 200, "{path}: {answer}");
        // It has passed before anything can be looked at.
        body["timeout"] = json!(1e-9);
        let (status, answer) = scene.rest("POST", path, body).await;
        assert_eq!((status, &answer["status"]["code"]), (504, &json!("timeout")), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_pipeline_says_what_it_does_and_what_of_it_is_applied() {
    let files = tempfile::tempdir().unwrap();
    let lines = files.path().join("points.jsonl");
    let text = "{\"id\": \"a\", \"v\": [1, 0]}\n{\"id\": \"b\", \"v\": [0, 1]}\n";
    std::fs::write(&lines, text).unwrap();
    let pipeline = files.path().join("p.yaml");
    let yaml = format!(
        "version: 1\npipeline: p\nsource: {{file: {{path: {lines:?}}}}}\nmap: {{id: $.id, vector: {{field: $.v, dim: \
         2}}}}\nsink: {{collection: c, create: {{distance: l2}}}}\n"
    );
    std::fs::write(&pipeline, yaml).unwrap();
    let scene = Scene::start_with(|config| config.pipelines = Some(pipeline)).await;
    let begun = std::time::Instant::now();
    let lag = loop {
        let (status, answer) = scene.rest("GET", "/pipelines/p/lag", Value::Null).await;
        assert_eq!(status, 200, "{answer}");
        if answer["result"]["state"] == "finished" {
            break answer["result"].clone();
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{answer}");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    assert_eq!((&lag["reason"], &lag["behind"]), (&Value::Null, &json!(0)), "{lag}");
    let partition = &lag["partitions"][0];
    assert_eq!(partition["applied"], json!(text.len()), "{lag}");
    assert_eq!(partition["applied"], partition["position"], "{lag}");
}
