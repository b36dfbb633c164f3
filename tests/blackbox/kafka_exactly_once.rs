//! Exactly once: whatever is killed, in the end a collection equals its topic.
//!
//! The server's memtables and log files are small, so that segments are written and merged, graphs built and the log
//! cut between the kills and during them. `PROXIMADB_EO_RECORDS` (20,000) and `PROXIMADB_EO_KILLS` (5) make it larger:
//! `make soak` has 200,000 records and 20 kills.
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::harness::broker::{BROKER_WAIT, Kafka, Registry};
use crate::harness::data::{Model, Random, Stream};
use crate::harness::scene::{DIM, PARTITIONS, Plot, SMALL, SMALL_GRAPHS, Scene};
use crate::harness::{copy_folder, seed, setting, wait_until};

/// Time to catch up with so many records on a busy machine.
fn catch_up(records: u64) -> Duration {
    Duration::from_secs(60 + records / 500)
}

/// Records after which the log has had to be cut: three of its files.
const CUT_RECORDS: u64 = 20_000;

fn plot() -> Plot<'static> {
    Plot { create: SMALL_GRAPHS, settings: SMALL, ..Plot::default() }
}

/// The moment of a kill: random, which is what this test is about.
fn some_moment(random: &mut Random, at_most_ms: u64) {
    std::thread::sleep(Duration::from_millis(random.below(at_most_ms)));
}

#[test]
fn killed_servers_and_brokers_lose_nothing_and_double_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::private(&[]), Registry::shared()) else { return };
    let (records, kills) = (setting("PROXIMADB_EO_RECORDS", 20_000), setting("PROXIMADB_EO_KILLS", 5).max(2));
    let seed = seed("killed_servers_and_brokers");
    let mut random = Random(seed);
    let mut scene = Scene::open(kafka, registry, plot());
    let publisher = scene.publisher();
    // A fifth as many ids as records: most are written several times, and deletes hit.
    let mut stream = Stream::new(seed, records / 5, DIM);
    let mut model = Model::default();
    let chunk = (records / (kills + 1)) as usize;
    let mut in_the_middle = 0;
    for kill in 0..kills {
        let changes: Vec<_> = stream.by_ref().take(chunk).collect();
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| publisher.publish(&mut model, changes));
            some_moment(&mut random, 300);
            if kill == kills / 3 || kill == 2 * kills / 3 {
                scene.kafka.kill9();
                some_moment(&mut random, 300);
                scene.kafka.restart();
                some_moment(&mut random, 300);
            }
            in_the_middle += u64::from(!publishing.is_finished());
            scene.server.kill9();
            // Now and then once more while it recovers.
            if random.below(3) == 0 {
                scene.server.launch();
                some_moment(&mut random, 50);
                scene.server.kill9();
            }
            scene.server.restart();
        });
        // What one kill has lost may be written again before the end: every other one is looked at by itself.
        if kill % 2 == 1 {
            scene.wait_caught_up(catch_up(records));
            scene.assert_equals(&model);
        }
    }
    let sent = chunk * kills as usize;
    publisher.publish(&mut model, stream.take(records as usize - sent));
    scene.wait_caught_up(catch_up(records));
    assert!(scene.quarantine().is_empty());
    scene.assert_equals(&model);
    scene.assert_segments_were_made(records >= CUT_RECORDS);
    assert!(in_the_middle > 0, "no server was killed while records came");

    // And the same from disk alone.
    scene.server.kill9();
    scene.server.restart();
    scene.assert_equals(&model);
    println!(
        "{records} records, {} points in the end; {kills} kills, {in_the_middle} of them while records came",
        model.len()
    );
    scene.kafka.clean();
}

#[test]
fn a_group_that_rebalances_loses_nothing_and_doubles_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let records = setting("PROXIMADB_EO_RECORDS", 20_000) / 4;
    let seed = seed("a_group_that_rebalances");
    let group = format!("group-{seed}");
    let source = format!("assignment: group\ngroup_id: {group}\nclient: {{session.timeout.ms: \"6000\"}}");
    let mut scene = Scene::open(kafka, registry, Plot { source: &source, ..plot() });
    let publisher = scene.publisher();
    let mut random = Random(seed);
    let mut stream = Stream::new(seed, records / 5, DIM);
    let mut model = Model::default();
    let mut in_the_middle = 0;
    for round in 0..2 {
        publisher.publish(&mut model, stream.by_ref().take(records as usize / 4));
        // A stranger joins, is given some partitions, reads from them and leaves.
        let stranger: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", scene.kafka.bootstrap())
            .set("group.id", &group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        stranger.subscribe(&[&scene.topic]).unwrap();
        wait_until("the stranger to be given partitions", BROKER_WAIT, || {
            let _ = stranger.poll(Duration::from_millis(50));
            let given = stranger.assignment().unwrap().count();
            (given > 0 && given < PARTITIONS as usize).then_some(())
        });
        let changes: Vec<_> = stream.by_ref().take(records as usize / 4).collect();
        std::thread::scope(|scope| {
            let publishing = scope.spawn(|| publisher.publish(&mut model, changes));
            for _ in 0..20 {
                let _ = stranger.poll(Duration::from_millis(5));
            }
            // Killed once beside the stranger, and once while it is given the stranger's partitions.
            if round == 1 {
                drop(stranger);
            }
            some_moment(&mut random, 100);
            in_the_middle += u64::from(!publishing.is_finished());
            scene.server.kill9();
            scene.server.restart();
        });
    }
    scene.wait_caught_up(catch_up(records));
    assert!(scene.quarantine().is_empty());
    scene.assert_equals(&model);
    scene.assert_segments_were_made(records / 4 >= CUT_RECORDS);
    println!("{records} records; 2 kills, {in_the_middle} of them while records came");
}

#[test]
fn an_older_copy_of_the_data_catches_up() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let records = setting("PROXIMADB_EO_RECORDS", 20_000) / 4;
    let seed = seed("an_older_copy_of_the_data");
    let mut scene = Scene::open(kafka, registry, plot());
    let publisher = scene.publisher();
    let mut stream = Stream::new(seed, records / 5, DIM);
    let mut model = Model::default();
    publisher.publish(&mut model, stream.by_ref().take(records as usize / 2));
    scene.wait_caught_up(catch_up(records));
    assert!(scene.server.sigterm().success());
    copy_folder(&scene.data(), &scene.beside("older"));

    scene.server.restart();
    publisher.publish(&mut model, stream.take(records as usize / 2));
    scene.wait_caught_up(catch_up(records));
    scene.assert_equals(&model);
    scene.server.kill9();

    std::fs::rename(scene.data(), scene.beside("newer")).unwrap();
    std::fs::rename(scene.beside("older"), scene.data()).unwrap();
    scene.server.restart();
    scene.wait_caught_up(catch_up(records));
    scene.assert_equals(&model);
    scene.assert_segments_were_made(records / 2 >= CUT_RECORDS);
}
