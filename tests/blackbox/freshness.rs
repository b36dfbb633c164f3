//! `fresh_as_of` waits for what is asked, and says how far it was when it gives up.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::Client;
use crate::harness::server::Server;

fn upsert(client: &Client, id: u64) -> u64 {
    let request = json!({ "points": [{ "id": id, "vector": [id as f64, 1.0] }] });
    client.put("/collections/t/points", &request).result()["lsn"].as_u64().expect("an answer has its lsn")
}

fn query(fresh_as_of: Value) -> Value {
    json!({ "query": [9.0, 1.0], "limit": 1, "fresh_as_of": fresh_as_of, "with_freshness": true })
}

#[test]
fn fresh_as_of_waits_or_says_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), None);
    let client = server.client();
    client.create("t", 2, "Euclid");
    let lsn = upsert(client, 1);

    let path = "/collections/t/points/query?timeout=0.3";
    let begun = Instant::now();
    let late = client.post(path, &query(json!({ "lsn": lsn + 1 })));
    assert_eq!(late.status, 504, "{late:?}");
    assert_eq!(late.body["status"]["code"], json!("not_fresh"), "{late:?}");
    let text = late.body["status"]["error"].as_str().unwrap();
    assert!(text.contains(&format!("lsn {}", lsn + 1)) && text.contains(&lsn.to_string()), "{text}");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());

    let source = json!({ "nobody": { "topic/0": 42 } });
    let late = client.post(path, &query(source));
    assert_eq!((late.status, &late.body["status"]["code"]), (504, &json!("not_fresh")), "{late:?}");
    assert!(late.body["status"]["error"].as_str().unwrap().contains("nobody"), "{late:?}");

    std::thread::scope(|threads| {
        let waiting = threads.spawn(|| {
            let client = Client::new(server.client().base());
            client.post("/collections/t/points/query?timeout=30", &query(json!({ "lsn": lsn + 1 })))
        });
        assert_eq!(upsert(client, 9), lsn + 1);
        let found = waiting.join().unwrap();
        assert!(found.body["freshness"]["lsn"].as_u64() >= Some(lsn + 1), "{found:?}");
        assert_eq!(found.result()["points"][0]["id"], json!(9));
    });
}
