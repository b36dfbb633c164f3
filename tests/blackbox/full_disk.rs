//! A full disk refuses writes and nothing else, and gets over it.
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{Answer, Client};
use crate::harness::server::Server;
use crate::harness::{skip, wait_until};

/// A small file system in memory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(at.to_owned())),
            Ok(done) => skip("mount", String::from_utf8_lossy(&done.stderr).trim()),
            Err(error) => skip("mount", &error.to_string()),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn upsert(client: &Client, first: u64) -> Answer {
    let text = "x".repeat(4000);
    let point = |n: u64| json!({ "id": n, "vector": [n as f64, 1.0], "payload": { "text": text } });
    let points: Vec<Value> = (first..first + 20).map(point).collect();
    client.put("/collections/t/points?wait=true", &json!({ "points": points }))
}

fn assert_has(client: &Client, points: u64) {
    let found = client.scroll_all("t");
    let ids: Vec<u64> = found.iter().map(|point| point["id"].as_u64().unwrap()).collect();
    let missing: Vec<u64> = (0..points).filter(|id| ids.binary_search(id).is_err()).collect();
    assert!(missing.is_empty(), "answered and lost: {missing:?}");
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("disk");
    let Some(disk) = SmallDisk::mount(&data, 32 << 20) else { return };
    let ballast = data.join("ballast");
    std::fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let config = folder.path().join("small.toml");
    let settings = "[memtable]\nbytes_max = \"1MiB\"\n[log]\nfile_bytes_max = \"1MiB\"\n";
    std::fs::write(&config, settings).unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(&data, None, &environment);
    server.client().create("t", 2, "Euclid");

    let mut points = 0;
    let refused = wait_until("the disk to be full", Duration::from_secs(120), || {
        loop {
            let answer = upsert(server.client(), points);
            match answer.status {
                200 => points += 20,
                429 => return None,
                _ => return Some(answer),
            }
        }
    });
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.body["status"]["code"], json!("disk_full"), "{refused:?}");
    assert!(points > 100, "{points}");

    let query = json!({ "query": [17.0, 1.0], "limit": 1 });
    let hits = server.client().post("/collections/t/points/query", &query).result();
    assert_eq!(hits["points"][0]["id"], json!(17), "{hits}");
    assert_has(server.client(), points);

    std::fs::remove_file(&ballast).unwrap();
    wait_until("writes to go on", Duration::from_secs(30), || {
        let answer = upsert(server.client(), points);
        (answer.status == 200).then_some(())
    });
    points += 20;
    assert_has(server.client(), points);
    server.kill9();
    server.restart();
    assert_has(server.client(), points);

    // Full again, and asked to end: that must not hang.
    std::fs::write(&ballast, vec![1; 15 << 20]).unwrap_or_default();
    for _ in 0..500 {
        match upsert(server.client(), points).status {
            200 => points += 20,
            _ => break,
        }
    }
    server.sigterm();
    let _ = std::fs::remove_file(&ballast);
    server.restart();
    assert_has(server.client(), points);
    println!("{points} points");
    drop(server);
    drop(disk);
}
