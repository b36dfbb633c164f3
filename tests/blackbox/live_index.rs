//! A recall that is promised, and an index that is changed under searches, kills and changes of mind.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::wait_until;

const DIM: usize = 16;
const ROWS: u64 = 6_000;
const BATCH: u64 = 500;
/// No search may take longer, whatever is built: generous, since tests share two cores with compilers.
const DEADLINE: Duration = Duration::from_secs(10);

fn vector(row: u64) -> Vec<f32> {
    let mut random = Random(row);
    (0..DIM).map(|_| random.component()).collect()
}

fn fill(client: &Client, graph: &Value) {
    let vectors = json!({ "size": DIM, "distance": "Euclid" });
    client.put("/collections/c", &json!({ "vectors": vectors, "hnsw_config": graph })).result();
    for first in (0..ROWS).step_by(BATCH as usize) {
        let point = |id: u64| json!({ "id": id, "vector": vector(id), "payload": { "n": id } });
        let wait = if first + BATCH == ROWS { "indexed" } else { "durable" };
        let points = json!({ "points": (first..first + BATCH).map(point).collect::<Vec<_>>() });
        client.put(&format!("/collections/c/points?wait={wait}"), &points).result();
    }
}

fn describe(client: &Client) -> Value {
    client.get("/collections/c").result()
}

fn patch(client: &Client, body: &Value) {
    client.try_send(Method::PATCH, "/collections/c", Some(body)).unwrap().result();
}

/// The stored row itself must come first, at distance 0.
fn search(client: &Client, row: u64) -> Result<(), String> {
    let query = json!({ "query": vector(row), "limit": 3, "params": { "hnsw_ef": 400 } });
    let begun = Instant::now();
    let answer = client.try_send(Method::POST, "/collections/c/points/query", Some(&query))?;
    let took = begun.elapsed();
    let hits = answer.result();
    assert_eq!(hits["points"][0]["id"], json!(row), "{hits}");
    assert_eq!(hits["points"].as_array().map(Vec::len), Some(3), "{hits}");
    assert!(took < DEADLINE, "{took:?}");
    Ok(())
}

#[test]
fn an_index_is_changed_under_searches_and_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), None);
    fill(server.client(), &json!({ "m": 8, "ef_construct": 40, "full_scan_threshold": 100 }));
    let before = describe(server.client());
    assert_eq!(
        (&before["index"]["state"], &before["status"]),
        (&json!("ready"), &json!("green")),
        "{before}"
    );
    assert_eq!(before["index"]["progress"], json!(1.0), "{before}");

    // While a thorough index is built, searches go on; in the middle the server is killed.
    let (searches, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let base = server.client().base().to_owned();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let client = Client::new(&base);
            let mut random = Random(3);
            while !is_over.load(Ordering::Relaxed) {
                if search(&client, random.below(ROWS)).is_err() {
                    return; // killed
                }
                searches.fetch_add(1, Ordering::Relaxed);
            }
        });
        patch(server.client(), &json!({ "hnsw_config": { "m": 48, "ef_construct": 2_000 } }));
        let begun = searches.load(Ordering::Relaxed);
        wait_until("the build to be under way", Duration::from_secs(60), || {
            let facts = describe(server.client());
            assert!(facts["index"]["state"] == "building" || facts["index"]["progress"] == 1.0, "{facts}");
            let is_begun = facts["index"]["segments"][0]["rows_done"].as_u64() > Some(0);
            (is_begun && facts["status"] == "yellow").then_some(())
        });
        wait_until("searches meanwhile", Duration::from_secs(60), || {
            (searches.load(Ordering::Relaxed) > begun + 20).then_some(())
        });
        assert!(server.client().metric("proximadb_index_pending_rows", "collection=\"c\"") >= 0.0);
        server.kill9();
        is_over.store(true, Ordering::Relaxed);
    });

    // What was wanted is still wanted; a smaller one takes its place, and is finished.
    server.restart();
    let facts = describe(server.client());
    assert_eq!(facts["config"]["hnsw_config"]["m"], json!(48), "{facts}");
    assert_eq!(server.client().count("c"), ROWS);
    search(server.client(), 17).unwrap();
    patch(server.client(), &json!({ "hnsw_config": { "m": 6, "ef_construct": 40 } }));
    let is_ready = |client: &Client| {
        let facts = describe(client);
        (facts["index"]["state"] == "ready" && facts["status"] == "green").then_some(facts)
    };
    let facts = wait_until("the index to be ready", Duration::from_secs(120), || is_ready(server.client()));
    let segments = facts["index"]["segments"].as_array().unwrap();
    assert!(segments.iter().all(|segment| segment["m"] == 6 && segment["state"] == "ready"), "{facts}");
    assert_eq!(facts["indexed_vectors_count"], json!(ROWS), "{facts}");
    search(server.client(), 4_711).unwrap();

    // Clusters take the place of links, and are there after a restart.
    patch(server.client(), &json!({ "index": { "kind": "ivf" } }));
    let facts = wait_until("clusters", Duration::from_secs(120), || is_ready(server.client()));
    let segments = facts["index"]["segments"].as_array().unwrap();
    assert!(segments.iter().all(|segment| segment["kind"] == "ivf"), "{facts}");
    assert_eq!(facts["indexed_vectors_count"], json!(ROWS), "{facts}");
    search(server.client(), 2_718).unwrap();
    server.kill9();
    server.restart();
    assert_eq!(describe(server.client())["index"]["state"], json!("ready"));
    search(server.client(), 3_141).unwrap();

    // Without an index everything is scanned, and exact.
    patch(server.client(), &json!({ "index": { "kind": "flat" } }));
    let facts = wait_until("graphs to go", Duration::from_secs(60), || is_ready(server.client()));
    assert_eq!(
        (&facts["index"]["kind"], &facts["indexed_vectors_count"]),
        (&json!("flat"), &json!(0)),
        "{facts}"
    );
    search(server.client(), 99).unwrap();
    server.kill9();
    server.restart();
    assert_eq!(describe(server.client())["index"]["kind"], json!("flat"));

    // A deletion does not wait for a build.
    patch(
        server.client(),
        &json!({ "index": { "kind": "hnsw" }, "hnsw_config": { "m": 64, "ef_construct": 4_000 } }),
    );
    wait_until("the build to be under way", Duration::from_secs(60), || {
        (describe(server.client())["index"]["segments"][0]["rows_done"].as_u64() > Some(0)).then_some(())
    });
    let begun = Instant::now();
    assert_eq!(server.client().delete("/collections/c").result(), json!(true));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
