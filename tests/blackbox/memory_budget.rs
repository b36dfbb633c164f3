//! Many collections share one budget of memory: it holds, nothing is lost, and writing goes on.
//!
//! `PROXIMADB_MEMORY_LIMIT_MIB` (32): with 1024 the test must fail, since nothing is flushed early then.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::http::Client;
use crate::harness::server::{ALLOCATOR, Server};
use crate::harness::{setting, wait_until};

const COLLECTIONS: u64 = 12;
const DIM: u64 = 256;
const BATCH: u64 = 100;
/// Per collection: 8 MiB of vectors, so that all of them are three times the limit, and none fills its own memtable.
const BATCHES: u64 = 80;
const WRITERS: u64 = 4;
/// What the program may hold beside its budget: JSON being parsed, the allocator's leftovers. Measured: 30 to 64 MiB;
/// a loose bound, since it depends on the machine's load. The sharp one is that of the charges.
const BESIDE_MIB: u64 = 112;
/// What is charged may pass the limit by flushes under way, which are never refused. Without a budget it is 100 MiB.
const CHARGED_MIB: f64 = 64.0;

fn vector(number: u64) -> Vec<f64> {
    (0..DIM).map(|at| ((number * 7 + at * at) % 10) as f64).collect()
}

fn batch(first: u64) -> Value {
    let point = |id: u64| json!({ "id": id, "vector": vector(id), "payload": { "n": id } });
    json!({ "points": (first..first + BATCH).map(point).collect::<Vec<_>>() })
}

/// Writes until it is taken: 429 says when to come back.
fn write(client: &Client, collection: u64, body: &Value, refused: &AtomicU64) {
    let path = format!("/collections/c{collection}/points?wait=true");
    let begun = Instant::now();
    loop {
        let answer = client.try_send(Method::PUT, &path, Some(body)).unwrap();
        match answer.status {
            200 => return,
            429 => {
                refused.fetch_add(1, Ordering::Relaxed);
                assert_eq!(answer.body["status"]["code"], json!("overloaded"), "{answer:?}");
            }
            _ => panic!("{answer:?}"),
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "never taken: {answer:?}");
    }
}

fn check(client: &Client) {
    for collection in 0..COLLECTIONS {
        let name = format!("c{collection}");
        assert_eq!(client.count(&name), BATCH * BATCHES, "{name}");
        let asked = (collection * 613 + 5) % (BATCH * BATCHES);
        let query = json!({ "query": vector(asked), "limit": 1, "params": { "exact": true } });
        let hits = client.post(&format!("/collections/{name}/points/query"), &query).result();
        assert_eq!(hits["points"][0]["score"], json!(0.0), "{hits}");
    }
}

#[test]
fn many_collections_stay_within_one_budget_and_lose_nothing() {
    let limit = setting("PROXIMADB_MEMORY_LIMIT_MIB", 32) << 20;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("small.toml");
    // Neither size nor age flushes anything: only the budget does.
    let settings = format!(
        "[memory]\nlimit = \"{limit}\"\n[memtable]\nage_max = \"1h\"\n[log]\nfile_bytes_max = \"1MiB\"\n"
    );
    std::fs::write(&config, settings).unwrap();
    let mut environment = vec![("PROXIMADB_CONFIG", config.to_str().unwrap())];
    environment.extend(ALLOCATOR);
    let mut server = Server::start_with(&folder.path().join("data"), None, &environment);
    for collection in 0..COLLECTIONS {
        server.client().create(&format!("c{collection}"), DIM as usize, "Euclid");
    }
    let (empty, refused, done) = (server.anonymous_bytes(), AtomicU64::new(0), AtomicBool::new(false));
    let base = server.client().base().to_owned();
    let (mut most, mut most_mapped, mut most_charged) = (0, 0, 0.0_f64);
    std::thread::scope(|threads| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (base, refused) = (&base, &refused);
                threads.spawn(move || {
                    let client = Client::new(base);
                    for first in (0..BATCHES).map(|number| number * BATCH) {
                        for collection in (0..COLLECTIONS).filter(|one| one % WRITERS == writer) {
                            write(&client, collection, &batch(first), refused);
                        }
                    }
                })
            })
            .collect();
        while !done.load(Ordering::Relaxed) {
            let anonymous = server.anonymous_bytes();
            most = most.max(anonymous);
            most_mapped = most_mapped.max(server.resident_bytes().saturating_sub(anonymous));
            let is_charged = |line: &str| !line.contains("_maps");
            let charged = server.client().metric_where("proximadb_memory_bytes", is_charged);
            most_charged = most_charged.max(charged);
            std::thread::sleep(Duration::from_millis(20));
            done.store(writers.iter().all(std::thread::ScopedJoinHandle::is_finished), Ordering::Relaxed);
        }
    });
    let grown = most.saturating_sub(empty);
    println!(
        "{} MiB when empty, at most {} MiB more; {} MiB mapped, {} MiB charged at most; {} writes told to come back",
        empty >> 20,
        grown >> 20,
        most_mapped >> 20,
        most_charged as u64 >> 20,
        refused.load(Ordering::Relaxed)
    );
    assert!(
        server.client().metric("proximadb_memory_relief_total", "flush") > 0.0,
        "nothing was flushed early"
    );
    assert!(most_charged <= CHARGED_MIB * f64::from(1 << 20), "{most_charged} bytes charged");
    assert!(grown <= (32 + BESIDE_MIB) << 20, "{} MiB more than when empty", grown >> 20);
    check(server.client());

    // The pressure is gone: what is left fits, and the next write needs no second try.
    wait_until("memory to have room again", Duration::from_secs(30), || {
        (server.client().metric("proximadb_memory_tight", "") == 0.0).then_some(())
    });
    server.client().put("/collections/c0/points?wait=true", &batch(0)).result();
    server.kill9();
    server.restart();
    check(server.client());
}
