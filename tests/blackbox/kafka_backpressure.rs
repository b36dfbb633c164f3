//! A producer that is faster than the disk, a slow disk, a stalled one: memory stays bounded, nothing is dropped, the
//! lag recovers.
//!
//! `PROXIMADB_BP_RECORDS` (50,000), `PROXIMADB_BP_LIMIT_MIB` (32): with 1024 the first test must fail.
use std::time::Duration;

use serde_json::json;

use crate::harness::avro::Product;
use crate::harness::broker::{Kafka, Registry};
use crate::harness::data::{Change, Model, Stream};
use crate::harness::disk::Disk;
use crate::harness::scene::{DIM, NAME, Plot, Scene};
use crate::harness::server::ALLOCATOR;
use crate::harness::{setting, wait_until};

/// Bytes of the text in each record of the large topic.
const TEXT_BYTES: usize = 4096;
/// The server's `memory.limit`.
const LIMIT_MIB: u64 = 32;
/// What the program may hold beside its budget, and what is charged beyond it by flushes under way: as in
/// `memory_budget`, where the figures come from.
const BESIDE_MIB: u64 = 112;
const FLUSHES_MIB: u64 = 32;

/// A topic of several times what the server may hold is there when it begins to read, and its disk stalls twice.
#[test]
fn a_faster_producer_fills_the_topic_and_not_the_memory() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let records = setting("PROXIMADB_BP_RECORDS", 50_000);
    let limit = setting("PROXIMADB_BP_LIMIT_MIB", LIMIT_MIB) << 20;
    let settings = format!("[memory]\nlimit = \"{limit}\"\n");
    // A release has no fail points, so there the disk may be as fast as the source, and nothing is paused.
    let stalls = ("FAILPOINTS", "wal::before_sync=sleep(2500)@10;wal::before_sync=sleep(2500)@30");
    let stalls = cfg!(debug_assertions).then_some(stalls);
    let environment: Vec<_> = ALLOCATOR.into_iter().chain(stalls).collect();
    let more = "limits: {in_flight_bytes: 4MiB}";
    let plot = Plot { more, settings: &settings, environment: &environment, ..Plot::default() };
    let scene = Scene::open(kafka, registry, plot);
    let client = scene.server.client();
    let act = |verb: &str| client.post(&format!("/pipelines/{NAME}/{verb}"), &json!({})).result();
    act("pause");
    let mut model = Model::default();
    // Few ids: what is kept stays small, so memory that grows is memory in flight.
    let stream = Stream::new(3, 500, DIM).map(|change| match change {
        Change::Upsert(product) => {
            let text = format!("{:>16}", product.n).repeat(TEXT_BYTES / 16);
            Change::Upsert(Product { lang: text, ..product })
        }
        delete => delete,
    });
    scene.publisher().publish(&mut model, stream.take(records as usize));
    // One in ten is a delete.
    let published = records * 9 / 10 * TEXT_BYTES as u64;
    let bound = (LIMIT_MIB + BESIDE_MIB) << 20;
    assert!(published > bound, "so small a topic may lie in memory as a whole");
    let (ends, empty) = (scene.kafka.ends(&scene.topic), scene.server.anonymous_bytes());
    act("resume");
    let (mut most, mut most_charged) = (0, 0.0_f64);
    wait_until("the lag to recover", Duration::from_secs(180 + records / 200), || {
        most = most.max(scene.server.anonymous_bytes());
        let is_charged = |line: &str| !line.contains("_maps");
        most_charged = most_charged.max(client.metric_where("proximadb_memory_bytes", is_charged));
        let positions = scene.positions();
        ends.iter()
            .all(|(number, end)| positions.get(number).is_some_and(|at| *at as i64 + 1 >= *end))
            .then_some(())
    });
    let (grown, pauses) =
        (most.saturating_sub(empty), client.metric("proximadb_source_pauses_total", "") as u64);
    println!(
        "{records} records of {} MiB: at most {} MiB more than when empty, {} MiB charged, {pauses} pauses",
        published >> 20,
        grown >> 20,
        most_charged as u64 >> 20
    );
    assert!(grown <= bound, "{} MiB more than when empty", grown >> 20);
    assert!(most_charged <= ((LIMIT_MIB + FLUSHES_MIB) << 20) as f64, "{most_charged} bytes charged");
    assert!(pauses >= 1 || stalls.is_none(), "no partition was paused");
    wait_until("the lag to be 0", Duration::from_secs(30), || {
        (client.metric("proximadb_pipeline_lag", "") == 0.0).then_some(())
    });
    let decoded = client.metric("proximadb_stage_records_total", "stage=\"decode\"");
    assert_eq!(decoded as u64, records, "records decoded");
    assert!(scene.quarantine().is_empty());
    scene.assert_equals(&model);
}

/// Each sync takes a fifth of a second.
#[test]
#[cfg(debug_assertions)] // a release has no fail points
fn a_slow_disk_slows_the_source_and_loses_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let environment = [("FAILPOINTS", "wal::before_sync=sleep(200)")];
    let plot = Plot { more: "limits: {in_flight_bytes: 1MiB}", environment: &environment, ..Plot::default() };
    let scene = Scene::open(kafka, registry, plot);
    let mut model = Model::default();
    scene.publisher().publish(&mut model, Stream::new(4, 500, DIM).take(20_000));
    scene.wait_caught_up(Duration::from_secs(180));
    scene.assert_equals(&model);
}

/// No write to the disk ends until it is thawed.
#[test]
fn a_stalled_disk_pauses_partitions_serves_reads_and_loses_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("disk");
    let Some(disk) = Disk::mount(&data, 512 << 20) else { return };
    let settings = "[memory]\nlimit = \"64MiB\"\n";
    let plot = Plot { more: "limits: {in_flight_bytes: 1MiB}", settings, ..Plot::default() };
    let scene = Scene::open_at(kafka, registry, plot, folder, data);
    let (client, publisher) = (scene.server.client(), scene.publisher());
    let mut model = Model::default();
    let mut stream = Stream::new(5, 500, DIM);
    publisher.publish(&mut model, stream.by_ref().take(2_000));
    scene.wait_caught_up(Duration::from_secs(60));
    scene.assert_equals(&model);
    let (before, count) = (scene.server.resident_bytes(), client.count(NAME));
    let lag = || client.metric("proximadb_pipeline_lag", "");

    let frozen = disk.freeze().unwrap();
    publisher.publish(&mut model, stream.take(60_000));
    let mut largest = 0;
    wait_until("partitions to be paused", Duration::from_secs(60), || {
        largest = largest.max(scene.server.resident_bytes());
        (client.metric("proximadb_source_pauses_total", "") >= 1.0).then_some(())
    });
    let applied: u64 = scene.positions().values().map(|position| position + 1).sum();
    let published: i64 = scene.kafka.ends(&scene.topic).values().sum();
    assert_eq!((applied, published), (2_000, 62_000), "records applied, and published");
    // Nothing of it is durable, so nothing of it shows; what was there is.
    assert_eq!(client.count(NAME), count, "a write shows that no disk holds");
    let query = json!({ "query": vec![0.5; DIM], "limit": 10 });
    let hits = client.post(&format!("/collections/{NAME}/points/query"), &query).result();
    assert_eq!(hits["points"].as_array().map(Vec::len), Some(10), "{hits}");
    let held = client.metric("proximadb_memory_bytes", "in_flight");
    assert!(held <= 3.0 * (2 << 20) as f64, "{held} bytes in flight");
    drop(frozen);

    scene.wait_caught_up(Duration::from_secs(180));
    wait_until("the lag to be 0", Duration::from_secs(30), || {
        largest = largest.max(scene.server.resident_bytes());
        (lag() == 0.0).then_some(())
    });
    scene.assert_equals(&model);
    let grown = largest.saturating_sub(before) >> 20;
    println!("{} MiB resident before, at most {grown} MiB more", before >> 20);
    assert!(grown <= 128, "{grown} MiB more than before");
    drop(scene);
    drop(disk);
}
