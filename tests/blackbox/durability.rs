//! What was answered is there, whenever the power went.
use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::http::Client;
use crate::harness::seed;
use crate::harness::server::Server;

const WRITERS: u64 = 8;
const SLOTS: u64 = 150;
const ROUNDS: u64 = 5;
/// Points per request.
const BATCH: u64 = 3;

/// What a writer knows of its points.
#[derive(Default)]
struct Written {
    /// The latest write of each that was answered.
    answered: BTreeMap<String, u64>,
    /// The latest that was sent: it may have arrived.
    sent: BTreeMap<String, u64>,
    next: u64,
}

fn vector(number: u64) -> [f64; 4] {
    // Every write has its own direction and place; few bits, so that they come back as they went.
    [(number % 1024) as f64, (number / 1024 % 1024) as f64, (number / 1_048_576) as f64, 1.0]
}

/// Writes until the server is gone.
fn write(base: &str, writer: u64, written: &mut Written) {
    let client = Client::new(base);
    loop {
        let mut points = Vec::new();
        let mut batch = BTreeMap::new();
        for _ in 0..BATCH {
            let id = format!("w{writer}-{}", written.next % SLOTS);
            let number = written.next * WRITERS + writer;
            points.push(json!({ "id": id, "vector": vector(number), "payload": { "n": number } }));
            written.sent.insert(id.clone(), number);
            batch.insert(id, number);
            written.next += 1;
        }
        let request = json!({ "points": points });
        match client.try_send(Method::PUT, "/collections/t/points?wait=true", Some(&request)) {
            Ok(answer) if answer.status == 200 => written.answered.extend(batch),
            Ok(answer) => assert!(answer.status == 503 || answer.status == 429, "{answer:?}"),
            Err(_) => return,
        }
    }
}

fn check(client: &Client, written: &[Written]) {
    let points: BTreeMap<String, Value> = client
        .scroll_all("t")
        .into_iter()
        .map(|point| (point["id"].as_str().unwrap().to_owned(), point))
        .collect();
    for known in written {
        for (id, answered) in &known.answered {
            let point = points.get(id).unwrap_or_else(|| panic!("{id} is lost: {answered} was answered"));
            let found = point["payload"]["n"].as_u64().unwrap();
            let sent = known.sent[id];
            assert!(
                found == *answered || found == sent,
                "{id} holds {found}; {answered} was answered, {sent} sent"
            );
            let request = json!({ "query": vector(found), "limit": 1, "params": { "exact": true } });
            let hits = client.post("/collections/t/points/query", &request).result();
            assert_eq!(hits["points"][0]["id"], json!(id), "{id} is not found by its vector: {hits}");
        }
    }
    assert_eq!(client.count("t"), points.len() as u64);
}

#[test]
fn acked_write_survives_kill_nine() {
    let mut random = Random(seed("acked_write_survives_kill_nine"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("small.toml");
    // Small, so that flushes and merges are killed as well.
    std::fs::write(&config, "[memtable]\nrows_max = 200\n[log]\nfile_bytes_max = \"1MiB\"\n").unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(&folder.path().join("data"), None, &environment);
    server.client().create("t", 4, "Euclid");
    let mut written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
    for _ in 0..ROUNDS {
        let base = server.client().base().to_owned();
        std::thread::scope(|threads| {
            for (writer, written) in (0..).zip(&mut written) {
                let base = &base;
                threads.spawn(move || write(base, writer, written));
            }
            // The moment of a kill is random, which is what this test is about.
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            server.kill9();
        });
        // Now and then once more while it recovers.
        if random.below(3) == 0 {
            server.launch();
            std::thread::sleep(Duration::from_millis(random.below(30)));
            server.kill9();
        }
        server.restart();
        check(server.client(), &written);
    }
    let answered: usize = written.iter().map(|one| one.answered.len()).sum();
    let writes: u64 = written.iter().map(|one| one.next).sum();
    assert!(answered > 0);
    println!("{writes} writes of {answered} points, {ROUNDS} kills");
}
