//! A producer that is faster than the disk, a slow disk, a stalled one: memory stays bounded, nothing is dropped, the
//! lag recovers.
//!
//! `PROXIMADB_BP_RECORDS` (50,000), `PROXIMADB_BP_RSS_MIB` (512).
use std::time::Duration;

use serde_json::json;

use crate::harness::broker::{Kafka, Registry};
use crate::harness::data::{Model, Stream};
use crate::harness::disk::Disk;
use crate::harness::scene::{DIM, NAME, Plot, Scene};
use crate::harness::{setting, wait_until};

#[test]
fn a_faster_producer_fills_the_topic_and_not_the_memory() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let (records, most) =
        (setting("PROXIMADB_BP_RECORDS", 50_000), setting("PROXIMADB_BP_RSS_MIB", 512) << 20);
    let plot = Plot { more: "limits: {in_flight_bytes: 4MiB}", ..Plot::default() };
    let scene = Scene::open(kafka, registry, plot);
    let mut model = Model::default();
    // Few ids: what is kept stays small, so memory that grows is memory in flight.
    scene.publisher().publish(&mut model, Stream::new(3, 500, DIM).take(records as usize));
    let (ends, mut largest) = (scene.kafka.ends(&scene.topic), 0);
    wait_until("the lag to recover", Duration::from_secs(120 + records / 500), || {
        largest = largest.max(scene.server.resident_bytes());
        assert!(largest <= most, "{largest} bytes resident, {most} allowed");
        let positions = scene.positions();
        ends.iter()
            .all(|(number, end)| positions.get(number).is_some_and(|at| *at as i64 + 1 >= *end))
            .then_some(())
    });
    scene.assert_equals(&model);
    println!("{records} records, at most {} MiB resident", largest >> 20);
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
    let config = folder.path().join("small.toml");
    std::fs::write(&config, "[memory]\nlimit = \"64MiB\"\n").unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let plot = Plot { more: "limits: {in_flight_bytes: 1MiB}", environment: &environment, ..Plot::default() };
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
