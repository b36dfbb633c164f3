//! A producer that is faster than the disk: memory stays bounded, nothing is dropped, the lag recovers.
//!
//! `PROXIMADB_BP_RECORDS` (50,000), `PROXIMADB_BP_RSS_MIB` (512).
use std::time::Duration;

use crate::harness::broker::{Kafka, Registry};
use crate::harness::data::{Model, Stream};
use crate::harness::scene::{DIM, Plot, Scene};
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

/// The disk stalls: each sync takes a fifth of a second. Needs a build with fail points.
#[test]
#[cfg(feature = "failpoints")]
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
