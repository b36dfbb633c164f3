//! Clusters by their number, from the creation of a collection to what is found after merges and a kill.
use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::wait_until;

const DIM: usize = 12;
const PARTS: u64 = 4;
const PART_ROWS: u64 = 1_000;
/// So many that every cluster is looked into.
const ALL_PROBES: u64 = 4_000;

fn vector(row: u64) -> Vec<f32> {
    let mut random = Random(row);
    (0..DIM).map(|_| random.component()).collect()
}

fn describe(client: &Client) -> Value {
    client.get("/collections/c").result()
}

fn patch(client: &Client, body: &Value) -> (u16, Value) {
    let answer = client.try_send(Method::PATCH, "/collections/c", Some(body)).unwrap();
    (answer.status, answer.body)
}

/// One merged segment with the index that is wanted.
fn merged(client: &Client) -> Value {
    wait_until("one segment with clusters", Duration::from_secs(120), || {
        let facts = describe(client);
        let is_done = facts["index"]["state"] == "ready" && facts["status"] == "green";
        (is_done && facts["segments_count"] == 1).then_some(facts)
    })
}

fn ids(client: &Client, row: u64, params: &Value) -> Vec<u64> {
    let query = json!({ "query": vector(row), "limit": 8, "params": params });
    let answer = client.post("/collections/c/points/query", &query).result();
    answer["points"].as_array().unwrap().iter().map(|point| point["id"].as_u64().unwrap()).collect()
}

/// Everything is there once, as it was written, and all probes find what a scan finds.
fn check(client: &Client, there: &BTreeSet<u64>) {
    assert_eq!(client.count("c"), there.len() as u64);
    let all = json!({ "limit": 5_000, "with_payload": true });
    let points = client.post("/collections/c/points/scroll", &all).result();
    let points = points["points"].as_array().unwrap();
    let found: Vec<u64> = points.iter().map(|point| point["id"].as_u64().unwrap()).collect();
    assert!(found.iter().eq(there), "each once, by its id");
    assert!(points.iter().all(|point| point["payload"]["n"] == point["id"]));
    for row in 100_000..100_020 {
        let exact = ids(client, row, &json!({ "exact": true }));
        assert_eq!(ids(client, row, &json!({ "hnsw_ef": ALL_PROBES })), exact);
    }
}

#[test]
fn a_collection_of_so_many_clusters_survives_merges_and_kills() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, format!("[memtable]\nrows_max = {PART_ROWS}\n")).unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(&folder.path().join("data"), None, &environment);

    let create = |index: Value| {
        let vectors = json!({ "size": DIM, "distance": "Euclid" });
        let graph = json!({ "full_scan_threshold": 500 });
        json!({ "vectors": vectors, "hnsw_config": graph, "index": index })
    };
    for (index, problem) in [
        (json!({"kind": "ivf", "clusters": 0}), "index.clusters: must be between 1 and 65536, not 0"),
        (
            json!({"kind": "ivf", "clusters": 65_537}),
            "index.clusters: must be between 1 and 65536, not 65537",
        ),
        (
            json!({"kind": "ivf", "clutsers": 9}),
            "index: unknown key \"clutsers\"; did you mean \"clusters\"?",
        ),
        (json!({"clusters": 9}), "index.clusters: only the kind \"ivf\" has clusters"),
    ] {
        let refused = server.client().put("/collections/c", &create(index));
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body["status"]["error"].as_str().unwrap().starts_with(problem), "{}", refused.body);
    }

    server.client().put("/collections/c", &create(json!({"kind": "ivf", "clusters": 40}))).result();
    let mut there = BTreeSet::new();
    for part in 0..PARTS {
        let rows = part * PART_ROWS..(part + 1) * PART_ROWS;
        there.extend(rows.clone());
        let point = |id: u64| json!({ "id": id, "vector": vector(id), "payload": { "n": id } });
        let points = json!({ "points": rows.map(point).collect::<Vec<_>>() });
        server.client().put("/collections/c/points?wait=indexed", &points).result();
    }
    let facts = merged(server.client());
    assert_eq!(
        (&facts["index"]["kind"], &facts["index"]["clusters"]),
        (&json!("ivf"), &json!(40)),
        "{facts}"
    );
    let segment = &facts["index"]["segments"][0];
    assert_eq!((&segment["rows"], &segment["clusters"]), (&json!(4_000), &json!(40)), "{facts}");
    check(server.client(), &there);

    // Rows die where clusters put them, and stay dead.
    let gone: Vec<u64> = there.iter().copied().step_by(7).collect();
    server.client().post("/collections/c/points/delete?wait=true", &json!({ "points": gone })).result();
    there.retain(|id| id % 7 != 0);
    check(server.client(), &there);
    server.kill9();
    server.restart();
    let facts = describe(server.client());
    assert_eq!(
        (&facts["index"]["clusters"], &facts["index"]["state"]),
        (&json!(40), &json!("ready")),
        "{facts}"
    );
    check(server.client(), &there);

    // Another number is another index; null leaves it to the segment again.
    let (status, answer) = patch(server.client(), &json!({ "index": { "clusters": 0 } }));
    assert_eq!((status, &answer["status"]["code"]), (400, &json!("invalid_index_parameters")), "{answer}");
    for (clusters, then) in [(json!(90), json!(90)), (json!(null), json!(null))] {
        assert_eq!(patch(server.client(), &json!({ "index": { "clusters": clusters } })).0, 200);
        let facts = merged(server.client());
        let segment = &facts["index"]["segments"][0];
        assert_eq!((&facts["index"]["clusters"], &segment["clusters"]), (&then, &then), "{facts}");
        check(server.client(), &there);
    }
}
