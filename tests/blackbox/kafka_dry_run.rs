//! A dry run over a real topic and a real registry: it shows what would be written, and writes nothing anywhere.
use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset};
use serde_json::{Value, json};

use crate::cli::run;
use crate::harness::avro::{PRODUCT_SCHEMA, framed};
use crate::harness::broker::{BROKER_WAIT, Kafka, Registry};
use crate::harness::data::{Change, Stream};
use crate::harness::scene::{DIM, NAME, PARTITIONS, Plot, pipeline};
use crate::harness::unique;

const GOOD: usize = 90;

/// Places of records: partition and offset, as topic and answers have them.
type Place = (String, u64);

/// What a row of a dry run must say.
fn row(change: &Change) -> Value {
    match change {
        Change::Delete(key) => json!([key, true, [], null]),
        Change::Upsert(product) => {
            let payload = json!({ "lang": product.lang, "price": product.price, "n": product.n });
            json!([product.sku, false, product.embedding, payload])
        }
    }
}

fn places(list: &Value) -> Vec<Place> {
    let place =
        |one: &Value| (one["partition"].as_str().unwrap().to_owned(), one["position"].as_u64().unwrap());
    list.as_array().unwrap().iter().map(place).collect()
}

#[test]
fn a_dry_run_shows_a_topics_records_and_writes_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let (topic, letters) = (unique("dry"), unique("dry-letters"));
    kafka.create_topic(&topic, PARTITIONS, &[]);
    kafka.create_topic(&letters, 1, &[]);
    let schema_id = registry.register(&format!("{topic}-value"), PRODUCT_SCHEMA);
    let producer = kafka.producer();
    let (mut expected, mut ends) = (BTreeMap::new(), [0; PARTITIONS as usize]);
    let mut send = |number: usize, key: &str, value: Option<&[u8]>| -> Place {
        let partition = number % ends.len();
        producer.send(&topic, Some(partition as i32), Some(key.as_bytes()), value);
        ends[partition] += 1;
        (format!("{topic}/{partition}"), ends[partition] - 1)
    };
    for (number, change) in Stream::new(9, 1_000, DIM).take(GOOD).enumerate() {
        let value = match &change {
            Change::Upsert(product) => Some(framed(schema_id, &product.encode())),
            Change::Delete(_) => None,
        };
        expected.insert(send(number, change.key(), value.as_deref()), row(&change));
    }
    let bad = [send(1, "bad", Some(b"no frame")), send(3, "bad", Some(&framed(schema_id, b"torn")))];
    producer.flush();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dry.yaml");
    let more =
        format!("errors: {{dead_letter: {{topic: {letters}}}, circuit: {{max_ratio: 1, window: 1000}}}}");
    std::fs::write(&file, pipeline(&kafka, &registry, &topic, Plot { more: &more, ..Plot::default() }))
        .unwrap();
    let validate = |records: &str, more: &[&str]| {
        let arguments = ["pipeline", "validate", file.to_str().unwrap(), "--dry-run", records];
        run("", &[&arguments[..], more].concat(), "")
    };

    let tried = validate("100", &["--json"]).json();
    assert_eq!(tried["pipeline"], json!(NAME));
    let rows = &tried["dry_run"]["rows"];
    let fields = |row: &Value| json!([row["id"], row["delete"], row["vector"], row["payload"]]);
    let found: Vec<Value> = rows.as_array().unwrap().iter().map(fields).collect();
    assert_eq!(found.len(), GOOD, "{tried}");
    assert_eq!(places(rows).into_iter().zip(found).collect::<BTreeMap<_, _>>(), expected);
    let mut rejects = places(&tried["dry_run"]["rejects"]);
    rejects.sort();
    assert_eq!(rejects, bad, "{tried}");

    // No more than was asked for, and the same for people.
    let few = validate("7", &["--json"]).json();
    let count = |list: &str| few["dry_run"][list].as_array().unwrap().len();
    assert_eq!(count("rows") + count("rejects"), 7, "{few}");
    let told = validate("100", &[]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let summary = format!("{NAME}: {GOOD} operations, 2 rejects, 0 skipped; nothing was written");
    assert_eq!(told.stdout.lines().last(), Some(summary.as_str()), "{}", told.stdout);
    assert_eq!(told.stdout.lines().count(), GOOD + 2 + 1, "{}", told.stdout);

    // Nothing anywhere: no file beside the pipeline, no letters, no records in the topic, no offsets of the
    // pipeline's group.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(kafka.ends(&letters), BTreeMap::from([(0, 0)]));
    assert_eq!(kafka.ends(&topic).into_values().collect::<Vec<_>>(), ends.map(|end| end as i64));
    let group: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", format!("proximadb-{NAME}"))
        .create()
        .unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    (0..PARTITIONS).for_each(|number| _ = list.add_partition(&topic, number));
    let committed = group.committed_offsets(list, BROKER_WAIT).unwrap();
    assert!(committed.elements().iter().all(|one| one.offset() == Offset::Invalid), "{committed:?}");
}
