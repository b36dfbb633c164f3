//! Every kind of codes, from the creation of a collection to what a search finds in its graph.
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::wait_until;

const DIM: usize = 32;
const ROWS: usize = 5_000;

/// Rows around some centres, told by their number.
fn vector(random: &mut Random) -> Vec<f32> {
    let centre = random.below(40);
    let mut around = Random(centre + 1);
    (0..DIM).map(|_| 3.0 * around.component() + random.component()).collect()
}

fn upsert(client: &Client, collection: &str, wait: &str) {
    let mut random = Random(9);
    let rows: Vec<Value> =
        (0..ROWS).map(|row| json!({"id": row, "vector": vector(&mut random), "payload": {}})).collect();
    let batches: Vec<_> = rows.chunks(1_000).collect();
    for (at, points) in batches.iter().enumerate() {
        let wait = if at + 1 == batches.len() { wait } else { "true" };
        let path = format!("/collections/{collection}/points?wait={wait}");
        client.put(&path, &json!({ "points": points })).result();
    }
}

fn ids(answer: &Value) -> Vec<u64> {
    answer["points"].as_array().unwrap().iter().map(|point| point["id"].as_u64().unwrap()).collect()
}

/// Share of the ten nearest that a search finds, without reading what no graph holds.
fn recall(client: &Client, collection: &str, params: &Value) -> f64 {
    let mut random = Random(77);
    let mut found = 0;
    for _ in 0..20 {
        let query = vector(&mut random);
        let path = format!("/collections/{collection}/points/query");
        let ask = |params: &Value| client.post(&path, &json!({"query": query, "params": params})).result();
        let exact = ids(&ask(&json!({"exact": true})));
        found += ids(&ask(params)).iter().filter(|id| exact.contains(id)).count();
    }
    found as f64 / 200.0
}

#[test]
fn a_collection_of_every_kind_of_codes_is_found_by_its_graph() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    std::fs::write(&config, format!("[memtable]\nrows_max = {ROWS}\n")).unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let server = Server::start_with(&folder.path().join("data"), None, &environment);
    let client = server.client();
    let kinds = [
        ("auto", json!(null)),
        ("none", json!({"none": {}})),
        ("f16", json!({"f16": {}})),
        ("int8", json!({"scalar": {"type": "int8", "quantile": 0.99, "always_ram": true}})),
        ("binary", json!({"binary": {"encoding": "one_bit"}})),
        ("two", json!({"binary": {"encoding": "two_bits"}})),
        ("seven", json!({"rabitq": {"bits": 7}})),
        ("product", json!({"product": {"compression": "x16"}})),
    ];
    for (name, quantization) in &kinds {
        let body = json!({
            "vectors": {"size": DIM, "distance": "Euclid"},
            "hnsw_config": {"m": 8, "ef_construct": 50, "full_scan_threshold": 500, "levels": "on"},
            "quantization_config": quantization,
        });
        client.put(&format!("/collections/{name}"), &body).result();
        upsert(client, name, "indexed");
    }
    for (name, quantization) in &kinds {
        let facts = wait_until("a graph over all rows", Duration::from_secs(60), || {
            let facts = client.get(&format!("/collections/{name}")).result();
            (facts["indexed_vectors_count"] == ROWS).then_some(facts)
        });
        let told = &facts["config"]["quantization_config"];
        match *name {
            "int8" => assert_eq!(*told, json!({"scalar": {"type": "int8"}}), "hints are not kept"),
            _ => assert_eq!(told, quantization, "{name}"),
        }
        assert_eq!(facts["config"]["hnsw_config"]["levels"], "on");
        let found = recall(client, name, &json!({"hnsw_ef": 40}));
        assert!(found >= 0.95, "{name}: {found}");
    }
    // What a search may say of codes takes effect.
    let believing = recall(client, "binary", &json!({"hnsw_ef": 40, "quantization": {"rescore": false}}));
    let looking = recall(client, "binary", &json!({"hnsw_ef": 40, "quantization": {"oversampling": 6.0}}));
    let ignoring = recall(client, "binary", &json!({"hnsw_ef": 40, "quantization": {"ignore": true}}));
    assert!(believing < 0.95 && looking >= 0.95 && ignoring >= 0.95, "{believing} {looking} {ignoring}");
}

#[test]
fn what_is_not_known_of_codes_is_refused_with_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), None);
    let refusals = [
        (json!({"scaler": {"type": "int8"}}), "did you mean \"scalar\"?"),
        (json!({"scalar": {"type": "int8", "quantil": 1}}), "did you mean \"quantile\"?"),
        (json!({"product": {"compression": "x15"}}), "did you mean \"x16\"?"),
        (json!({"rabitq": {"bits": 3}}), "1, 2, 4 or 7 bits, not 3"),
    ];
    for (quantization, why) in refusals {
        let vectors = json!({"size": DIM, "distance": "Euclid"});
        let body = json!({"vectors": vectors, "quantization_config": quantization});
        let answer = server.client().try_send(Method::PUT, "/collections/c", Some(&body)).unwrap();
        let error = answer.body["status"]["error"].as_str().unwrap_or_default().to_string();
        assert_eq!(answer.status, 400, "{quantization}: {error}");
        assert!(error.contains(why), "{quantization}: {error}");
    }
}
