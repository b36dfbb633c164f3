//! A recall that is promised: measured, held by itself, and kept through a kill.
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::wait_until;

const DIM: usize = 16;
const ROWS: u64 = 3_000;
const TARGET: f64 = 0.95;

fn vector(random: &mut Random) -> Vec<f32> {
    (0..DIM).map(|_| random.component()).collect()
}

fn hits(client: &Client, vector: &[f32], exact: bool) -> Vec<Value> {
    let query = json!({ "query": vector, "limit": 10, "params": { "exact": exact } });
    let answer = client.post("/collections/c/points/query", &query).result();
    answer["points"].as_array().expect("hits").clone()
}

/// Recall of queries that nobody has asked before.
fn recall(client: &Client, seed: u64) -> f64 {
    let mut random = Random(seed);
    let found = (0..60).map(|_| {
        let vector = vector(&mut random);
        let (exact, walked) = (hits(client, &vector, true), hits(client, &vector, false));
        let farthest = exact[9]["score"].as_f64().unwrap();
        walked.iter().filter(|hit| hit["score"].as_f64().unwrap() <= farthest).count()
    });
    found.sum::<usize>() as f64 / 600.0
}

#[test]
fn a_recall_target_is_held_and_what_holds_it_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("eager.toml");
    // So little by default that it misses; all of a core to measure, so that the test is quick.
    std::fs::write(&config, "[index]\nef_search = 10\nrecall_share = 1.0\n").unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(&folder.path().join("data"), None, &environment);
    let client = server.client();
    let graph = json!({ "m": 4, "ef_construct": 20, "full_scan_threshold": 100 });
    let vectors = json!({ "size": DIM, "distance": "Euclid" });
    client.put("/collections/c", &json!({ "vectors": vectors, "hnsw_config": graph })).result();
    let mut random = Random(1);
    let mut point = |id: u64| json!({ "id": id, "vector": vector(&mut random) });
    let points = json!({ "points": (0..ROWS).map(&mut point).collect::<Vec<_>>() });
    client.put("/collections/c/points?wait=indexed", &points).result();
    let facts = client.get("/collections/c").result();
    assert_eq!((&facts["recall"], &facts["indexed_vectors_count"]), (&Value::Null, &json!(ROWS)), "{facts}");
    let before = recall(client, 2);
    assert!(before < TARGET - 0.05, "the default misses it: {before}");

    let promise = json!({ "recall_target": TARGET });
    client.try_send(Method::PATCH, "/collections/c", Some(&promise)).unwrap().result();
    let tuned = wait_until("recall to be measured and held", Duration::from_secs(120), || {
        let recall = client.get("/collections/c").result()["recall"].clone();
        let is_held = recall["measured"].as_f64() >= Some(TARGET);
        // Measured so often that nothing moves any more.
        (is_held && recall["samples"].as_u64() >= Some(1_024)).then_some(recall)
    });
    assert_eq!((&tuned["target"], &tuned["k"]), (&json!(TARGET), &json!(10)), "{tuned}");
    assert!(tuned["confidence"][0].as_f64() < tuned["confidence"][1].as_f64(), "{tuned}");
    assert!(tuned["measured_at"].is_string(), "{tuned}");
    let held = recall(client, 3);
    println!("{before} by default, {held} of queries never asked before, tuned: {tuned}");
    assert!(held >= TARGET - 0.04, "{held} with {tuned}");
    let metric = |name: &str| client.metric(name, "collection=\"c\"");
    assert_eq!(metric("proximadb_recall_target"), TARGET);
    assert!(metric("proximadb_recall_measured") >= TARGET - 0.05);
    assert!(metric("proximadb_recall_samples_total") >= 1_024.0);
    assert!(metric("proximadb_recall_busy_microseconds_total") > 0.0);

    server.kill9();
    std::fs::write(&config, "[index]\nef_search = 10\nrecall_share = 0.0\n").unwrap();
    server.restart();
    let recall_now = server.client().get("/collections/c").result()["recall"].clone();
    let kept = recall_now["ef_search"].as_u64().unwrap();
    let seen = tuned["ef_search"].as_u64().unwrap();
    // The collection's own queries, asked above, may have moved it by a rung or two meanwhile.
    assert!(kept > 10 && kept <= seen * 2 && kept * 2 >= seen, "{kept} kept, {seen} seen");
    let held = recall(server.client(), 4);
    assert!(held >= TARGET - 0.05, "{held} with {recall_now}");
}
