//! A kill and a start: how little is read for it, how long it takes, and that nothing is read twice.
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::data::Random;
use crate::harness::server::Server;
use crate::harness::{setting, wait_until};

const DIM: usize = 64;
/// Small, so that nearly everything is in segments and the log has been cut, as with more rows it would be anyway.
const SETTINGS: &str = "[memtable]\nrows_max = 4000\n[log]\nfile_bytes_max = \"1MiB\"\n";
/// Largest share of the data that a start may read, and largest share of all entries that it may replay.
const READ_MAX: f64 = 0.5;

/// Sizes of all files below a folder.
fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let bytes = |path: PathBuf| match path.is_dir() {
        true => bytes_below(&path),
        false => path.metadata().map_or(0, |file| file.len()),
    };
    entries.map(bytes).sum()
}

/// What a start has read: entries replayed, and the share of the bytes below `data`, by calls and by touching
/// mapped files.
fn read_by_start(server: &Server, data: &Path) -> (u64, f64) {
    let log = server.log();
    let opened = log.lines().rev().find(|line| line.contains("shard is open")).expect("it says so");
    let opened: Value = serde_json::from_str(opened).unwrap();
    let replayed = opened["fields"]["replayed"].as_u64().or(opened["replayed"].as_u64());
    let process = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", server.pid())).unwrap();
    let number = |line: &str| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
    let called = process("io").lines().find(|line| line.starts_with("rchar:")).map(number).unwrap();
    let (mut touched, mut is_ours) = (0, false);
    for line in process("smaps").lines() {
        match line.split_whitespace().next().unwrap_or_default() {
            "Rss:" if is_ours => touched += number(line) << 10,
            // The head of a mapping: addresses, and the file's name last.
            first if !first.ends_with(':') => is_ours = line.contains(data.to_str().unwrap()),
            _ => {}
        }
    }
    let all = bytes_below(data);
    println!("{replayed:?} entries replayed; {called} bytes read, {touched} touched, of {all}");
    (replayed.unwrap(), (called + touched) as f64 / all as f64)
}

#[test]
fn a_killed_server_is_ready_again_with_its_positions() {
    let rows = setting("PROXIMADB_RESTART_ROWS", 40_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let (mut text, mut random) = (String::new(), Random(7));
    for row in 0..rows {
        let vector: Vec<f32> = (0..DIM).map(|_| random.component()).collect();
        writeln!(text, "{{\"id\":\"row-{row}\",\"v\":{vector:?},\"n\":{row}}}").unwrap();
    }
    std::fs::write(&file, &text).unwrap();
    let pipeline = folder.path().join("rows.yaml");
    let yaml = format!(
        "version: 1\npipeline: rows\nsource:\n  file: {{path: {file:?}}}\nmap:\n  id: $.id\n  \
         vector: {{field: $.v, dim: {DIM}}}\nsink:\n  collection: rows\n  \
         create: {{distance: l2, hnsw: {{full_scan_threshold: 1000000}}}}\n"
    );
    std::fs::write(&pipeline, yaml).unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("small.toml"));
    std::fs::write(&config, SETTINGS).unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap()), ("PROXIMADB_LOG_FORMAT", "json")];
    let mut server = Server::start_with(&data, Some(&pipeline), &environment);
    let partition = file.to_str().unwrap();
    let within = Duration::from_secs(120 + rows / 1000);
    let begun = Instant::now();
    wait_until("all rows to be searchable", within, || {
        (server.client().position("rows", partition) == Some(text.len() as u64)).then_some(())
    });
    println!("{rows} rows of {DIM} searchable after {:?}", begun.elapsed());
    assert_eq!(server.client().count("rows"), rows);
    let lsn = |server: &Server| server.client().get("/collections/rows/freshness").result()["lsn"].clone();
    let entries = lsn(&server).as_u64().unwrap() as f64;
    wait_until("rows to be in segments, and nothing to be left to merge", within, || {
        let facts = server.client().get("/collections/rows").result();
        let flushed = server.client().metric("proximadb_collection_flushed_lsn", "");
        (facts["status"] == "green" && flushed > entries * (1.0 - READ_MAX / 2.0)).then_some(())
    });
    server.kill9();
    let begun = Instant::now();
    server.restart();
    println!("ready {:?} after a kill, with {rows} rows of {DIM}", begun.elapsed());
    let (replayed, read) = read_by_start(&server, &data);
    assert!(
        replayed > 0 && replayed as f64 <= entries * READ_MAX,
        "{replayed} of {entries} entries replayed"
    );
    assert!(read <= READ_MAX, "{read} of the data was read");
    assert_eq!(server.client().position("rows", partition), Some(text.len() as u64));
    assert_eq!(server.client().count("rows"), rows);
    let before = lsn(&server);
    assert!(server.sigterm().success());
    let begun = Instant::now();
    server.restart();
    println!("ready {:?} after a stop", begun.elapsed());
    let (replayed, read) = read_by_start(&server, &data);
    assert!(
        replayed as f64 <= entries * READ_MAX && read <= READ_MAX,
        "{replayed} entries, {read} of the data"
    );
    assert_eq!(server.client().count("rows"), rows);
    assert_eq!(lsn(&server), before, "nothing was written again");
}
