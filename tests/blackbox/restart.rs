//! A kill and a start: how long it takes, and that nothing is read twice.
use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::harness::data::Random;
use crate::harness::server::Server;
use crate::harness::{setting, wait_until};

const DIM: usize = 16;

#[test]
fn a_killed_server_is_ready_again_with_its_positions() {
    let rows = setting("PROXIMADB_RESTART_ROWS", 100_000);
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
    let mut server = Server::start(&folder.path().join("data"), Some(&pipeline));
    let partition = file.to_str().unwrap();
    let within = Duration::from_secs(120 + rows / 1000);
    let begun = Instant::now();
    wait_until("all rows to be searchable", within, || {
        (server.client().position("rows", partition) == Some(text.len() as u64)).then_some(())
    });
    println!("{rows} rows of {DIM} searchable after {:?}", begun.elapsed());
    assert_eq!(server.client().count("rows"), rows);
    server.kill9();
    let begun = Instant::now();
    server.restart();
    println!("ready {:?} after a kill, with {rows} rows of {DIM}", begun.elapsed());
    assert_eq!(server.client().position("rows", partition), Some(text.len() as u64));
    assert_eq!(server.client().count("rows"), rows);
    let lsn = |server: &Server| server.client().get("/collections/rows/freshness").result()["lsn"].clone();
    let before = lsn(&server);
    assert!(server.sigterm().success());
    let begun = Instant::now();
    server.restart();
    println!("ready {:?} after a stop", begun.elapsed());
    assert_eq!(server.client().count("rows"), rows);
    assert_eq!(lsn(&server), before, "nothing was written again");
}
