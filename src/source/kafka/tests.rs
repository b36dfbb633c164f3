//! Against librdkafka's in-process mock cluster. What it cannot do (transactions, retention, real groups) is
//! in `tests/blackbox/kafka_source.rs`, against a real broker.
#![allow(clippy::unwrap_used, clippy::panic)]
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::RDKafkaRespErr;

use super::*;
use crate::source::{Polled, PositionLookup, Source, SourceError};
use crate::types::{PartitionPosition, Position, RawBatch, RawRows};

const WAIT: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(50);

/// A log that holds what it is told.
#[derive(Default)]
struct Log(Mutex<HashMap<String, PartitionPosition>>);

impl Log {
    fn holding(positions: &[(&str, u64)]) -> Arc<Self> {
        let log = Self::default();
        for (partition, position) in positions {
            log.hold(partition, 0, *position);
        }
        Arc::new(log)
    }

    fn hold(&self, partition: &str, epoch: u64, position: u64) {
        let position = PartitionPosition { epoch, position: Some(position.into()) };
        self.0.lock().insert(partition.to_owned(), position);
    }
}

impl PositionLookup for Log {
    fn position(&self, partition: &str) -> Option<PartitionPosition> {
        self.0.lock().get(partition).copied()
    }
}

type Cluster = MockCluster<'static, DefaultProducerContext>;

fn cluster(topic: &str, partitions: i32) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(topic, partitions, 1).unwrap();
    cluster
}

fn publish(cluster: &Cluster, topic: &str, partition: i32, values: std::ops::Range<usize>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    for value in values {
        let (key, value) = (format!("k{value}"), format!("v{value}"));
        producer.send(BaseRecord::to(topic).partition(partition).key(&key).payload(&value)).unwrap();
    }
    producer.flush(WAIT).unwrap();
}

fn options(cluster: &Cluster, topic: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new("test", &[&cluster.bootstrap_servers()], &[topic]);
    options.linger = Duration::from_millis(5);
    // The mock cluster answers no requests of newer kinds in some cases, and needs no long waits.
    options.client = BTreeMap::from([("fetch.wait.max.ms".to_owned(), "20".to_owned())]);
    options
}

/// Batches until `enough` says so; the deadline fails the test.
fn read_until(source: &mut KafkaSource, mut enough: impl FnMut(&[RawBatch]) -> bool) -> Vec<RawBatch> {
    let deadline = Instant::now() + WAIT;
    let mut batches = Vec::new();
    while !enough(&batches) {
        assert!(Instant::now() < deadline, "not enough came: {batches:?}");
        match source.next_batch(TURN) {
            Ok(Polled::Batch(batch)) => batches.push(batch),
            Ok(Polled::Idle) | Err(SourceError::Transient { .. }) => {}
            Ok(Polled::Finished) => return batches,
            Err(error) => panic!("{error}"),
        }
    }
    batches
}

fn records(batches: &[RawBatch]) -> usize {
    batches.iter().map(RawBatch::len).sum()
}

fn offsets(batches: &[RawBatch], partition: &str) -> Vec<u64> {
    let of = batches.iter().filter(|batch| &*batch.partition == partition);
    let rows = of.flat_map(|batch| match &batch.rows {
        RawRows::Records(rows) => rows.clone(),
        RawRows::Columns { .. } => panic!("kafka has no columns"),
    });
    rows.map(|row| row.position.as_u64()).collect()
}

/// Every batch of a partition continues the one before.
fn assert_chained(batches: &[RawBatch]) {
    let mut last: HashMap<&str, Position> = HashMap::new();
    for batch in batches {
        if let Some(before) = last.insert(&batch.partition, batch.to) {
            assert_eq!(batch.from, Some(before), "{}", batch.partition);
        }
        assert!(batch.from.is_none_or(|from| from < batch.to));
    }
}

#[test]
fn reads_all_partitions_in_order_without_holes() {
    let cluster = cluster("t", 3);
    for partition in 0..3 {
        publish(&cluster, "t", partition, 0..500);
    }
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 1500);
    for partition in ["t/0", "t/1", "t/2"] {
        assert_eq!(offsets(&batches, partition), (0..500).collect::<Vec<_>>());
    }
    assert_chained(&batches);
    assert!(batches.iter().all(|batch| batch.len() <= 256));
    let lag = source.lag();
    assert_eq!(lag.len(), 3);
    assert!(lag.iter().all(|lag| lag.position == Some(499.into()) && lag.behind == Some(0)), "{lag:?}");
    let RawRows::Records(rows) = &batches[0].rows else { panic!() };
    assert_eq!(rows[7].key.as_deref(), Some(&b"k7"[..]));
    assert_eq!(rows[7].value.as_deref(), Some(&b"v7"[..]));
    assert!(rows[7].timestamp_ms.is_some());
}

#[test]
fn goes_on_behind_our_position_and_ignores_the_brokers() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..100);
    // A committed offset that would skip records, were it read.
    let committer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "proximadb-test")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("t", 0, rdkafka::Offset::Offset(90)).unwrap();
    committer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();

    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[("t/0", 41)])).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 58);
    assert_eq!(batches[0].from, Some(41.into()));
    assert_eq!(offsets(&batches, "t/0"), (42..100).collect::<Vec<_>>());
}

#[test]
fn start_decides_only_where_our_log_holds_nothing() {
    let cluster = cluster("t", 2);
    publish(&cluster, "t", 0, 0..100);
    publish(&cluster, "t", 1, 0..100);
    let mut latest = options(&cluster, "t");
    latest.start = Start::Latest;
    let mut source = KafkaSource::open(latest.clone(), Log::holding(&[])).unwrap();
    // The skipped stretch is accounted for at once, so that a restart does not skip more.
    let batches = read_until(&mut source, |batches| batches.len() >= 2);
    for batch in &batches {
        assert_eq!((batch.from, batch.to, batch.len()), (None, 99.into(), 0));
    }
    publish(&cluster, "t", 0, 100..103);
    let batches = read_until(&mut source, |batches| records(batches) >= 3);
    assert_eq!((batches[0].from, offsets(&batches, "t/0")), (Some(99.into()), vec![100, 101, 102]));

    // The topic is known, so a partition our log has not seen was added to it: from its beginning.
    let mut source = KafkaSource::open(latest, Log::holding(&[("t/0", 102)])).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 100);
    assert_eq!(offsets(&batches, "t/1"), (0..100).collect::<Vec<_>>());

    let mut at = options(&cluster, "t");
    at.start = Start::Positions(BTreeMap::from([("0".to_string(), 98)]));
    let mut source = KafkaSource::open(at, Log::holding(&[])).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 105);
    assert_eq!(offsets(&batches, "t/0"), (98..103).collect::<Vec<_>>());
    assert_chained(&batches);
}

#[test]
fn a_bounded_read_finishes_at_the_end_it_found() {
    let cluster = cluster("t", 2);
    publish(&cluster, "t", 1, 0..10);
    let mut bounded = options(&cluster, "t");
    bounded.bounded = true;
    let mut source = KafkaSource::open(bounded, Log::holding(&[])).unwrap();
    let mut finished = false;
    let deadline = Instant::now() + WAIT;
    let mut count = 0;
    while !finished {
        assert!(Instant::now() < deadline);
        match source.next_batch(TURN) {
            Ok(Polled::Batch(batch)) => count += batch.len(),
            Ok(Polled::Finished) => finished = true,
            Ok(Polled::Idle) | Err(SourceError::Transient { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(count, 10);
}

#[test]
fn a_partition_shorter_than_our_position_is_a_new_epoch() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..10);
    let log = Arc::new(Log::default());
    log.hold("t/0", 4, 5000);
    let mut source = KafkaSource::open(options(&cluster, "t"), log).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 10);
    assert!(batches.iter().all(|batch| batch.epoch == 5));
    assert_eq!(batches[0].from, None);
    assert_eq!(offsets(&batches, "t/0"), (0..10).collect::<Vec<_>>());
}

#[test]
fn holding_hands_out_nothing_and_loses_nothing() {
    let cluster = cluster("t", 2);
    publish(&cluster, "t", 0, 0..1000);
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    let mut batches = read_until(&mut source, |batches| records(batches) >= 200);
    source.hold(Duration::from_millis(1)).unwrap();
    for _ in 0..5 {
        source.hold(Duration::from_secs(2)).unwrap();
    }
    publish(&cluster, "t", 1, 0..10);
    source.hold(Duration::from_secs(3)).unwrap();
    let already = records(&batches);
    batches.extend(read_until(&mut source, |batches| already + records(batches) >= 1010));
    assert_eq!(offsets(&batches, "t/0"), (0..1000).collect::<Vec<_>>());
    assert_eq!(offsets(&batches, "t/1"), (0..10).collect::<Vec<_>>());
    assert_chained(&batches);
}

#[test]
fn rewinding_goes_back_to_what_our_log_says() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..600);
    let log = Log::holding(&[]);
    let mut source =
        KafkaSource::open(options(&cluster, "t"), Arc::clone(&log) as Arc<dyn PositionLookup>).unwrap();
    read_until(&mut source, |batches| records(batches) >= 500);
    log.hold("t/0", 0, 99);
    source.rewind("t/0").unwrap();
    source.rewind("t/7").unwrap();
    source.rewind("nonsense").unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 500);
    assert_eq!(batches[0].from, Some(99.into()));
    assert_eq!(offsets(&batches, "t/0"), (100..600).collect::<Vec<_>>());
    assert_chained(&batches);
}

#[test]
fn offsets_follow_our_log_for_dashboards() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..100);
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    read_until(&mut source, |batches| records(batches) >= 100);
    source.durable("t/0", 59.into());
    drop(source);
    let observer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "proximadb-test")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition("t", 0);
    let committed = observer.committed_offsets(list, WAIT).unwrap();
    assert_eq!(committed.elements()[0].offset(), rdkafka::Offset::Offset(60));
}

#[test]
fn outages_pass_and_refusals_do_not() {
    let mut down = KafkaOptions::new("test", &["127.0.0.1:1"], &["t"]);
    let mut source = KafkaSource::open(down.clone(), Log::holding(&[])).unwrap();
    let error = source.next_batch(TURN).unwrap_err();
    assert!(matches!(error, SourceError::Transient { .. }), "{error}");

    let cluster = cluster("t", 1);
    cluster.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    let error = source.next_batch(TURN).unwrap_err();
    assert!(matches!(error, SourceError::Fatal { .. }) && error.to_string().contains("grant"), "{error}");

    cluster.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    let error = source.next_batch(TURN).unwrap_err();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("\"t\"") && text.contains("create it"), "{text}");
    // It appears.
    cluster.topic_error("t", RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    publish(&cluster, "t", 0, 0..5);
    assert_eq!(records(&read_until(&mut source, |batches| records(batches) >= 5)), 5);

    down.client.insert("no.such.setting".into(), "secret".into());
    let error = KafkaSource::open(down, Log::holding(&[])).err().unwrap().to_string();
    assert!(error.contains("no.such.setting") && !error.contains("secret"), "{error}");
}

#[test]
fn a_broker_that_goes_and_comes_back_loses_nothing() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..100);
    let mut source = KafkaSource::open(options(&cluster, "t"), Log::holding(&[])).unwrap();
    let mut batches = read_until(&mut source, |batches| records(batches) >= 100);
    cluster.broker_down(-1).unwrap();
    let deadline = Instant::now() + WAIT;
    // Says so once, and goes on.
    while source.next_batch(TURN).is_ok() {
        assert!(Instant::now() < deadline, "the outage is never told");
    }
    cluster.broker_up(-1).unwrap();
    publish(&cluster, "t", 0, 100..200);
    batches.extend(read_until(&mut source, |batches| records(batches) >= 100));
    assert_eq!(offsets(&batches, "t/0"), (0..200).collect::<Vec<_>>());
    assert_chained(&batches);
}

#[test]
fn a_group_reads_from_our_positions() {
    let cluster = cluster("t", 2);
    publish(&cluster, "t", 0, 0..100);
    publish(&cluster, "t", 1, 0..100);
    let mut group = options(&cluster, "t");
    group.assignment = Assignment::Group { group_id: "g".into() };
    let mut source = KafkaSource::open(group, Log::holding(&[("t/0", 49)])).unwrap();
    let batches = read_until(&mut source, |batches| records(batches) >= 150);
    assert_eq!(offsets(&batches, "t/0"), (50..100).collect::<Vec<_>>());
    assert_eq!(offsets(&batches, "t/1"), (0..100).collect::<Vec<_>>());
    // Leaving the group answers its last rebalance.
    let begun = Instant::now();
    drop(source);
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
}

#[test]
fn peeking_takes_no_more_than_asked() {
    let cluster = cluster("t", 1);
    publish(&cluster, "t", 0, 0..100);
    let batches = KafkaSource::peek(options(&cluster, "t"), 7).unwrap();
    assert_eq!(offsets(&batches, "t/0"), (0..7).collect::<Vec<_>>());
    cluster.create_topic("empty", 1, 1).unwrap();
    assert!(KafkaSource::peek(options(&cluster, "empty"), 7).unwrap().is_empty());
}

#[test]
fn dead_letters_arrive_with_their_reason() {
    let cluster = cluster("t.dlq", 1);
    let letters = DeadLetterTopic::open(&[cluster.bootstrap_servers()], "t.dlq", &BTreeMap::new()).unwrap();
    let letter = DeadLetter {
        partition: "t/3",
        position: 17.into(),
        timestamp_ms: Some(1_700_000_000_000),
        key: Some(b"k"),
        value: Some(b"not avro"),
        code: "decode",
        reason: "magic byte is 0x6e, expected 0",
        pipeline: "products",
    };
    letters.send(&[letter, DeadLetter { value: None, position: 18.into(), ..letter }], WAIT).unwrap();

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("group.id", "reader")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset("t.dlq", 0, rdkafka::Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + WAIT;
    let message = loop {
        assert!(Instant::now() < deadline);
        if let Some(Ok(message)) = consumer.poll(TURN) {
            break message.detach();
        }
    };
    assert_eq!((message.key(), message.payload()), (Some(&b"k"[..]), Some(&b"not avro"[..])));
    let headers: HashMap<String, String> = message
        .headers()
        .unwrap()
        .iter()
        .map(|header| (header.key.to_owned(), String::from_utf8(header.value.unwrap().to_vec()).unwrap()))
        .collect();
    for (key, value) in [
        ("topic", "t"),
        ("partition", "3"),
        ("offset", "17"),
        ("timestamp", "1700000000000"),
        ("code", "decode"),
        ("pipeline", "products"),
    ] {
        assert_eq!(headers[&format!("proximadb.error.{key}")], value, "{key}");
    }

    let nowhere = DeadLetterTopic::open(&["127.0.0.1:1".to_owned()], "t.dlq", &BTreeMap::new()).unwrap();
    let error = nowhere.send(&[letter], Duration::from_millis(200)).unwrap_err();
    assert!(matches!(error, SourceError::Transient { .. }), "{error}");
}
