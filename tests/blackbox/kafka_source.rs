//! The Kafka source alone against a real broker: what librdkafka's mock cluster cannot do.
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proximadb::source::kafka::{Assignment, KafkaOptions, KafkaSource, Start};
use proximadb::source::{Polled, PositionLookup, Source, SourceError};
use proximadb::types::{PartitionPosition, RawBatch, RawRows, SourceRange, Verdict};
use rdkafka::producer::Producer as _;

use crate::harness::broker::{BROKER_WAIT, Kafka};
use crate::harness::data::Random;
use crate::harness::{seed, setting, skip, unique, wait_until};

const TURN: Duration = Duration::from_millis(50);

/// A log that keeps the position rule, and remembers which records it has applied.
#[derive(Default)]
struct Log(Mutex<LogState>);

#[derive(Default)]
struct LogState {
    positions: BTreeMap<String, PartitionPosition>,
    applied: BTreeMap<String, Vec<(u64, u64)>>,
    refused: usize,
}

impl Log {
    fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    fn holding(partition: &str, position: u64) -> Arc<Self> {
        let log = Self::default();
        let position = PartitionPosition { epoch: 0, position: Some(position.into()) };
        log.0.lock().unwrap().positions.insert(partition.to_owned(), position);
        Arc::new(log)
    }

    /// As the program's apply does it. Says whether the batch was taken or known.
    fn apply(&self, batch: &RawBatch) -> bool {
        let mut state = self.0.lock().unwrap();
        let range = SourceRange {
            source: "test".into(),
            partition: batch.partition.to_string(),
            epoch: batch.epoch,
            from: batch.from,
            to: batch.to,
        };
        let after = match range.verdict(state.positions.get(&range.partition).copied()) {
            Verdict::Apply => None,
            Verdict::ApplyAfter(position) => Some(position),
            Verdict::Duplicate => return true,
            Verdict::Gap { .. } | Verdict::StaleEpoch { .. } => {
                state.refused += 1;
                return false;
            }
        };
        let RawRows::Records(rows) = &batch.rows else { panic!("kafka has no columns") };
        let new = rows.iter().filter(|row| after.is_none_or(|after| row.position > after));
        let new: Vec<_> = new.map(|row| (batch.epoch, row.position.as_u64())).collect();
        state.applied.entry(range.partition.clone()).or_default().extend(new);
        let position = PartitionPosition { epoch: batch.epoch, position: Some(batch.to) };
        state.positions.insert(range.partition, position);
        true
    }

    fn applied(&self, partition: &str) -> Vec<u64> {
        let state = self.0.lock().unwrap();
        state.applied.get(partition).into_iter().flatten().map(|(_, offset)| *offset).collect()
    }

    fn applied_in_epoch(&self, partition: &str, epoch: u64) -> Vec<u64> {
        let state = self.0.lock().unwrap();
        let of = state.applied.get(partition).into_iter().flatten();
        of.filter(|(of, _)| *of == epoch).map(|(_, offset)| *offset).collect()
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().applied.values().map(Vec::len).sum()
    }

    fn held(&self, partition: &str) -> Option<u64> {
        self.0.lock().unwrap().positions.get(partition)?.position.map(|position| position.as_u64())
    }
}

impl PositionLookup for Log {
    fn position(&self, partition: &str) -> Option<PartitionPosition> {
        self.0.lock().unwrap().positions.get(partition).copied()
    }
}

fn options(kafka: &Kafka, topic: &str) -> KafkaOptions {
    let mut options = KafkaOptions::new(&format!("test-{topic}"), &[kafka.bootstrap()], &[topic]);
    options.client.insert("topic.metadata.refresh.interval.ms".into(), "1000".into());
    options
}

fn open(options: KafkaOptions, log: &Arc<Log>) -> KafkaSource {
    KafkaSource::open(options, Arc::clone(log) as Arc<dyn PositionLookup>).unwrap()
}

/// One turn of a runner.
fn turn(source: &mut KafkaSource, log: &Log) -> Option<SourceError> {
    match source.next_batch(TURN) {
        Ok(Polled::Batch(batch)) if log.apply(&batch) => source.durable(&batch.partition, batch.to),
        Ok(Polled::Batch(batch)) => source.rewind(&batch.partition).unwrap(),
        Ok(Polled::Idle | Polled::Finished) => {}
        Err(error @ SourceError::Transient { .. }) => return Some(error),
        Err(error) => panic!("{error}"),
    }
    None
}

fn run_until(source: &mut KafkaSource, log: &Log, what: &str, mut done: impl FnMut(&KafkaSource) -> bool) {
    let deadline = Instant::now() + BROKER_WAIT;
    while !done(source) {
        assert!(Instant::now() < deadline, "in vain for {what}; lag {:?}", source.lag());
        turn(source, log);
    }
}

fn publish(kafka: &Kafka, topic: &str, partition: i32, values: std::ops::Range<usize>) {
    let producer = kafka.producer();
    for value in values {
        let (key, value) = (format!("k{value}"), format!("v{value}"));
        producer.send(topic, Some(partition), Some(key.as_bytes()), Some(value.as_bytes()));
    }
    producer.flush();
}

#[test]
fn transaction_markers_and_aborted_records_move_the_position() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("transactions");
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.producer_with(&[("transactional.id", &topic), ("message.timeout.ms", "60000")]);
    producer.init_transactions(BROKER_WAIT).unwrap();
    let write = |count: usize| {
        producer.begin_transaction().unwrap();
        for _ in 0..count {
            producer.send(rdkafka::producer::BaseRecord::<str, str>::to(&topic).payload("v")).unwrap();
        }
        producer.flush(BROKER_WAIT).unwrap();
    };
    // 0..5 committed, marker 5, 6..9 aborted, marker 9.
    write(5);
    producer.commit_transaction(BROKER_WAIT).unwrap();
    write(3);
    producer.abort_transaction(BROKER_WAIT).unwrap();

    let (log, partition) = (Log::new(), format!("{topic}/0"));
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the marker at the end", |_| log.held(&partition) == Some(9));
    assert_eq!(log.applied(&partition), (0..5).collect::<Vec<_>>());
    assert_eq!(source.lag()[0].behind, Some(0));

    // Nothing of an open transaction is seen; a bounded read ends before it.
    write(2);
    let mut bounded = options(&kafka, &topic);
    bounded.bounded = true;
    let (second, mut finished) = (Log::new(), false);
    let mut reader = open(bounded, &second);
    wait_until("a bounded read to finish", BROKER_WAIT, || {
        match reader.next_batch(TURN).unwrap() {
            Polled::Batch(batch) => assert!(second.apply(&batch)),
            Polled::Idle => {}
            Polled::Finished => finished = true,
        }
        finished.then_some(())
    });
    assert_eq!(second.applied(&partition), (0..5).collect::<Vec<_>>());
    assert_eq!(second.held(&partition), Some(9));

    producer.commit_transaction(BROKER_WAIT).unwrap();
    run_until(&mut source, &log, "the records of the third", |_| log.held(&partition) == Some(12));
    assert_eq!(log.applied(&partition), [0, 1, 2, 3, 4, 10, 11]);
}

#[test]
fn records_deleted_before_they_were_read_are_passed_over() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("retention");
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..100);
    kafka.delete_records_before(&topic, 0, 60);
    let partition = format!("{topic}/0");
    let log = Log::holding(&partition, 9);
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "what is left", |_| log.held(&partition) == Some(99));
    assert_eq!(log.applied(&partition), (60..100).collect::<Vec<_>>());

    // All of it deleted: nothing to read, yet the position reaches the end.
    kafka.delete_records_before(&topic, 0, 100);
    let log = Log::holding(&partition, 9);
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the end of nothing", |_| log.held(&partition) == Some(99));
    assert!(log.applied(&partition).is_empty());
}

#[test]
fn records_deleted_under_a_paused_reader_are_passed_over() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("overtaken");
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..10);
    let (log, partition) = (Log::new(), format!("{topic}/0"));
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the first ten", |_| log.held(&partition) == Some(9));
    for held in [0, 1500] {
        source.hold(Duration::from_millis(held)).unwrap();
    }
    publish(&kafka, &topic, 0, 10..100);
    kafka.delete_records_before(&topic, 0, 50);
    source.hold(Duration::from_millis(1600)).unwrap();
    run_until(&mut source, &log, "what is left", |_| log.held(&partition) == Some(99));
    assert_eq!(log.applied(&partition), (0..10).chain(50..100).collect::<Vec<_>>());
    assert_eq!(log.0.lock().unwrap().refused, 0);
}

#[test]
fn a_topic_created_anew_is_read_under_a_new_epoch() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("anew");
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..100);
    let (log, partition) = (Log::new(), format!("{topic}/0"));
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the first topic", |_| log.held(&partition) == Some(99));
    kafka.delete_topic(&topic);
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..10);
    run_until(&mut source, &log, "the second topic", |_| log.applied_in_epoch(&partition, 1).len() == 10);
    assert_eq!(log.applied_in_epoch(&partition, 1), (0..10).collect::<Vec<_>>());
    drop(source);

    // And once more while nobody reads.
    kafka.delete_topic(&topic);
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..5);
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the third topic", |_| log.applied_in_epoch(&partition, 2).len() == 5);
}

#[test]
fn added_partitions_are_read_from_their_beginning() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("grown");
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..10);
    let mut latest = options(&kafka, &topic);
    latest.start = Start::Latest;
    let log = Log::new();
    let mut source = open(latest, &log);
    run_until(&mut source, &log, "the skipped start", |_| log.held(&format!("{topic}/0")) == Some(9));
    kafka.grow_topic(&topic, 3);
    publish(&kafka, &topic, 2, 0..7);
    run_until(&mut source, &log, "the new partition", |_| log.applied(&format!("{topic}/2")).len() == 7);
    assert_eq!(log.count(), 7);
}

#[test]
fn a_timestamp_starts_at_the_first_record_that_is_young_enough() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("timestamps");
    // Retention goes by the records' own timestamps, which are years old here.
    kafka.create_topic(&topic, 2, &[("message.timestamp.type", "CreateTime"), ("retention.ms", "-1")]);
    let producer = kafka.producer_with(&[]);
    for at in 0..10_i64 {
        let record = rdkafka::producer::BaseRecord::<str, str>::to(&topic).partition(0).payload("v");
        producer.send(record.timestamp(1_700_000_000_000 + at * 1000)).unwrap();
    }
    let old = rdkafka::producer::BaseRecord::<str, str>::to(&topic).partition(1).payload("v");
    producer.send(old.timestamp(1_600_000_000_000)).unwrap();
    producer.flush(BROKER_WAIT).unwrap();
    let mut from = options(&kafka, &topic);
    from.start = Start::Timestamp(1_700_000_004_500);
    let log = Log::new();
    let mut source = open(from, &log);
    run_until(&mut source, &log, "five records and a skip", |_| {
        log.held(&format!("{topic}/0")) == Some(9) && log.held(&format!("{topic}/1")) == Some(0)
    });
    assert_eq!(log.applied(&format!("{topic}/0")), (5..10).collect::<Vec<_>>());
    assert!(log.applied(&format!("{topic}/1")).is_empty());
}

/// Members come and go while records are published; the log they share sees each record once.
#[test]
fn members_of_a_group_come_and_go_and_every_record_is_applied_once() {
    let Some(kafka) = Kafka::shared() else { return };
    for protocol in ["classic", "consumer"] {
        let topic = unique(protocol);
        kafka.create_topic(&topic, 4, &[]);
        let mut group = options(&kafka, &topic);
        group.assignment = Assignment::Group { group_id: topic.clone() };
        if protocol == "consumer" {
            group.client.insert("group.protocol".into(), "consumer".into());
        } else {
            group.client.insert("session.timeout.ms".into(), "6000".into());
        }
        let log = Log::new();
        let mut random = Random(seed("members_of_a_group"));
        let mut members = vec![open(group.clone(), &log)];
        let (mut published, deadline) = (0, Instant::now() + BROKER_WAIT * 2);
        for round in 0..6 {
            for partition in 0..4 {
                publish(&kafka, &topic, partition, published..published + 250);
            }
            published += 250;
            // A third member, a second again, one alone, …
            match round % 3 {
                2 => drop(members.remove(random.below(members.len() as u64) as usize)),
                _ => members.push(open(group.clone(), &log)),
            }
            let some = log.count() + random.below(500) as usize;
            while log.count() < some.min(published * 4) {
                assert!(Instant::now() < deadline, "{protocol}: {} of {some} in round {round}", log.count());
                for member in &mut members {
                    turn(member, &log);
                }
            }
        }
        while log.count() < published * 4 {
            assert!(Instant::now() < deadline, "{protocol}: {} of {}", log.count(), published * 4);
            for member in &mut members {
                turn(member, &log);
            }
        }
        for partition in 0..4 {
            let applied = log.applied(&format!("{topic}/{partition}"));
            assert_eq!(applied, (0..published as u64).collect::<Vec<_>>(), "{protocol} {partition}");
        }
        let shared: BTreeSet<usize> = members.iter().map(|member| member.lag().len()).collect();
        println!("{protocol}: partitions per member {shared:?}");
    }
}

#[test]
fn a_killed_broker_comes_back_and_nothing_is_missing() {
    let Some(kafka) = Kafka::private(&[]) else { return };
    let topic = unique("killed");
    kafka.create_topic(&topic, 2, &[]);
    publish(&kafka, &topic, 0, 0..100);
    let log = Log::new();
    let mut source = open(options(&kafka, &topic), &log);
    run_until(&mut source, &log, "the first hundred", |_| log.count() == 100);
    kafka.kill9();
    wait_until("the outage to be told", BROKER_WAIT, || turn(&mut source, &log));
    kafka.restart();
    publish(&kafka, &topic, 1, 0..100);
    run_until(&mut source, &log, "the second hundred", |_| log.count() == 200);
    drop(source);
    kafka.clean();
}

/// Settings under `client` reach the broker; what it refuses is fatal, and says what to do.
#[test]
fn tls_and_credentials_are_passed_through_and_refusals_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (store, certificate) = (folder.path().join("broker.p12"), folder.path().join("broker.pem"));
    let keytool = |arguments: &[&str]| {
        let shared = ["-storetype", "PKCS12", "-storepass", "changeit", "-alias", "broker", "-keystore"];
        let ran = Command::new("keytool").args(arguments).args(shared).arg(&store).output();
        ran.is_ok_and(|output| output.status.success())
    };
    let subject = ["-dname", "CN=broker", "-ext", "san=ip:127.0.0.1"];
    let made = keytool(&[&["-genkeypair", "-keyalg", "EC", "-validity", "10"], &subject[..]].concat())
        && keytool(&["-exportcert", "-rfc", "-file", certificate.to_str().unwrap()]);
    if !made {
        return skip("kafka", "keytool, which comes with Java, makes no certificate").unwrap_or_default();
    }
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"broker\" \
                password=\"b\" user_broker=\"b\" user_reader=\"r\";";
    let Some(kafka) = Kafka::private(&[
        ("listeners", "SASL_SSL://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}"),
        ("advertised.listeners", "SASL_SSL://127.0.0.1:{port}"),
        ("inter.broker.listener.name", "SASL_SSL"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
        ("listener.name.sasl_ssl.plain.sasl.jaas.config", jaas),
        ("ssl.keystore.type", "PKCS12"),
        ("ssl.keystore.location", store.to_str().unwrap()),
        ("ssl.keystore.password", "changeit"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", certificate.to_str().unwrap()),
    ]) else {
        return;
    };
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "reader"),
        ("sasl.password", "r"),
        ("ssl.ca.location", certificate.to_str().unwrap()),
    ];
    let kafka = kafka.with_client(&settings);
    let topic = unique("secured");
    kafka.create_topic(&topic, 1, &[]);
    publish(&kafka, &topic, 0, 0..10);
    let with = |change: Option<(&str, &str)>| {
        let mut options = options(&kafka, &topic);
        let settings =
            settings.into_iter().chain(change).map(|(key, value)| (key.to_owned(), value.to_owned()));
        options.client.extend(settings);
        options
    };

    let log = Log::new();
    let mut source = open(with(None), &log);
    run_until(&mut source, &log, "ten records", |_| log.count() == 10);

    for (change, hint) in [
        (("sasl.password", "wrong"), "password"),
        // A certificate that signs nothing here.
        (("ssl.ca.location", "/etc/ssl/certs"), "ssl.ca.location"),
    ] {
        let mut source = open(with(Some(change)), &Log::new());
        let error = wait_until(&format!("{change:?} to be refused"), BROKER_WAIT, || {
            source.next_batch(TURN).err().filter(|error| matches!(error, SourceError::Fatal { .. }))
        });
        let text = error.to_string();
        assert!(text.contains(hint) && !text.contains("wrong"), "{text}");
    }
    drop(source);
    kafka.clean();
}

/// A measurement: `PROXIMADB_MEASURE=1 cargo test --test blackbox -- --nocapture source_throughput`.
#[test]
fn source_throughput() {
    if setting("PROXIMADB_MEASURE", 0) == 0 {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let topic = unique("throughput");
    kafka.create_topic(&topic, 4, &[]);
    let (records, bytes) = (400_000_usize, 528);
    let producer = kafka.producer();
    let value = vec![7_u8; bytes];
    for record in 0..records {
        producer.send(&topic, Some((record % 4) as i32), Some(format!("k{record}").as_bytes()), Some(&value));
    }
    producer.flush();

    let mut bounded = options(&kafka, &topic);
    bounded.bounded = true;
    let (begun, busy) = (Instant::now(), cpu_seconds());
    let mut source = open(bounded, &Log::new());
    let mut count = 0;
    loop {
        match source.next_batch(TURN).unwrap() {
            Polled::Batch(batch) => count += batch.len(),
            Polled::Finished => break,
            Polled::Idle => {}
        }
    }
    report("the source", count, bytes, begun, busy);

    use rdkafka::consumer::{BaseConsumer, Consumer};
    let bare: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..4 {
        list.add_partition_offset(&topic, partition, rdkafka::Offset::Beginning).unwrap();
    }
    let (begun, busy) = (Instant::now(), cpu_seconds());
    bare.assign(&list).unwrap();
    let mut count = 0;
    while count < records {
        if let Some(message) = bare.poll(TURN) {
            message.unwrap();
            count += 1;
        }
    }
    report("a bare consumer", count, bytes, begun, busy);
}

fn report(what: &str, count: usize, bytes: usize, begun: Instant, busy: f64) {
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - busy);
    let rate = count as f64 / wall;
    println!(
        "{what}: {count} records of {bytes} bytes in {wall:.2} s = {rate:.0}/s, {:.0} MB/s; {cpu:.2} CPU s = {:.0} per CPU s",
        rate * bytes as f64 / 1e6,
        count as f64 / cpu
    );
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}
