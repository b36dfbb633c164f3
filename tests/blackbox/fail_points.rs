//! The program ends at each step of its durable path in turn: what was answered is there, and nothing twice.
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use proximadb::faults::POINTS;
use reqwest::Method;
use serde_json::json;

use crate::harness::server::Server;

/// At which passage the process ends. Late enough that something was answered before, early enough to come.
const PLAN: [(&str, u64); 17] = [
    ("wal::before_write", 30),
    ("wal::before_sync", 31),
    ("wal::after_sync", 32),
    ("wal::file_created", 2),
    ("wal::before_remove", 1),
    ("store::segment_before_dir_fsync", 2),
    ("store::segment_written", 2),
    ("store::deletes_written", 2),
    ("store::manifest_before_rename", 3),
    ("store::manifest_renamed", 3),
    ("store::manifest_after_rename", 3),
    ("store::before_collect", 1),
    ("shard::merge_published", 1),
    ("shard::graph_written", 1),
    ("shard::flush_published", 2),
    ("catalog::before_insert", 1),
    ("catalog::inserted", 1),
];
/// Ids in use: few enough that most writes replace something.
const IDS: u64 = 400;
/// Points per request.
const BATCH: u64 = 10;
/// Requests before the test gives up: some 40 times those that any point needs.
const REQUESTS_MAX: u64 = 20_000;
/// Servers at once: they wait for the disk more than for the processor.
const AT_ONCE: usize = 3;

/// What is known of the points.
#[derive(Default)]
struct Written {
    /// The number that the latest answered write gave each id.
    answered: BTreeMap<u64, u64>,
    /// Those of the one request that was not answered.
    unknown: BTreeMap<u64, u64>,
    next: u64,
}

fn vector(number: u64) -> [f64; 4] {
    [(number % 1024) as f64, (number / 1024 % 1024) as f64, (number % 7) as f64, 1.0]
}

impl Written {
    /// Writes once; `false` when no answer came.
    fn write(&mut self, server: &Server) -> bool {
        let text = "x".repeat(1500);
        let mut batch = BTreeMap::new();
        let mut points = Vec::new();
        for _ in 0..BATCH {
            // A stride that meets every id, and neighbours in different order each time.
            let id = self.next * 37 % IDS;
            let payload = json!({ "n": self.next, "text": text });
            points.push(json!({ "id": id, "vector": vector(self.next), "payload": payload }));
            batch.insert(id, self.next);
            self.next += 1;
        }
        let request = json!({ "points": points });
        match server.client().try_send(Method::PUT, "/collections/t/points?wait=true", Some(&request)) {
            Ok(answer) if answer.status == 200 => self.answered.extend(batch),
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => {
                self.unknown = batch;
                return false;
            }
        }
        true
    }

    fn check(&self, server: &Server) {
        let points = server.client().scroll_all("t");
        let mut seen = BTreeMap::new();
        for point in &points {
            let id = point["id"].as_u64().unwrap();
            assert!(
                seen.insert(id, point["payload"]["n"].as_u64().unwrap()).is_none(),
                "{id} is there twice"
            );
        }
        for (id, number) in &self.answered {
            let found = seen.get(id).unwrap_or_else(|| panic!("{id} is lost: {number} was answered"));
            let known = found == number || self.unknown.get(id) == Some(found);
            assert!(known, "{id} holds {found}, {number} was answered");
        }
        // A batch is atomic: of the unanswered one, all or nothing is there.
        let arrived = self.unknown.iter().filter(|(id, number)| seen.get(id) == Some(number)).count();
        assert!(arrived == 0 || arrived == self.unknown.len(), "{arrived} of one batch are there");
        let strangers =
            seen.keys().filter(|id| !self.answered.contains_key(id) && !self.unknown.contains_key(id));
        assert_eq!(strangers.count(), 0);
        assert_eq!(server.client().count("t"), seen.len() as u64);
    }
}

fn create(server: &Server) -> Option<u16> {
    let body = json!({
        "vectors": { "size": 4, "distance": "Euclid" },
        "hnsw_config": { "full_scan_threshold": 50 },
    });
    server.client().try_send(Method::PUT, "/collections/t", Some(&body)).ok().map(|answer| answer.status)
}

fn assert_sound(data: &Path) {
    let inspected = Command::new(env!("CARGO_BIN_EXE_proximadb")).arg("inspect").arg(data).output().unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stdout));
}

fn ends_at(point: &str, passage: u64) {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("small.toml"));
    std::fs::write(&config, "[memtable]\nrows_max = 150\n[log]\nfile_bytes_max = \"1MiB\"\n").unwrap();
    let armed = format!("{point}=abort@{passage}");
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap()), ("FAILPOINTS", &armed)];
    let mut server = Server::start_with(&data, None, &environment);
    let mut written = Written::default();
    if create(&server) == Some(200) {
        let went = (0..REQUESTS_MAX).find(|_| !written.write(&server));
        assert!(went.is_some(), "{point} was not passed {passage} times");
    }
    let ended = server.wait_end(Duration::from_secs(30));
    assert_eq!(ended.signal(), Some(6), "{point}: {ended}");
    assert!(server.log().contains(&format!("fail point {point}:")), "{point} did not end the process");

    assert_sound(&data);
    server.set_environment("FAILPOINTS", "");
    server.restart();
    // Unanswered, a creation may have come through or not; it is repeated until it is there.
    match create(&server) {
        Some(200 | 409) => {}
        other => panic!("{point}: {other:?}"),
    }
    written.check(&server);
    let answered = written.answered.len();
    // It goes on as if nothing had been: over another flush, a merge, a cut of the log.
    for _ in 0..40 {
        assert!(written.write(&server));
    }
    written.unknown.clear();
    written.check(&server);
    assert!(server.sigterm().success());
    assert_sound(&data);
    println!("{point}: {answered} answered points, all there");
}

#[test]
fn what_was_answered_survives_an_end_at_every_step() {
    let planned: BTreeSet<&str> = PLAN.iter().map(|(point, _)| *point).collect();
    assert_eq!(planned, BTreeSet::from(POINTS), "every point is in the plan");
    let left = Mutex::new(PLAN.to_vec());
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some((point, passage)) = { left.lock().unwrap().pop() } {
                    ends_at(point, passage);
                }
            });
        }
    });
}

#[test]
fn a_point_that_does_not_exist_arms_nothing_silently() {
    let output = Command::new(env!("CARGO_BIN_EXE_proximadb"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(tempfile::tempdir().unwrap().path().join("data"))
        .env("FAILPOINTS", "wal::after_sink=abort")
        .output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there is no point \"wal::after_sink\""), "{text}");
}
