//! A bad record stops nobody, and is told with its place and its reason.
use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::message::{Headers, Message};
use serde_json::json;

use crate::harness::avro::{Product, framed};
use crate::harness::broker::{Kafka, Registry};
use crate::harness::data::{Model, Stream};
use crate::harness::scene::{DIM, NAME, Plot, Scene};
use crate::harness::{unique, wait_until};

const WAIT: Duration = Duration::from_secs(60);

/// Quarantine everything, however much it is.
const TOLERANT: &str = "errors: {decode: quarantine, schema_unknown: quarantine, validate: quarantine, circuit: {max_ratio: 0.99, window: 10000}";

fn product(sku: Option<&str>, embedding: Vec<f32>) -> Product {
    Product { sku: sku.map(str::to_owned), embedding, lang: "en".into(), price: 1.5, n: 7 }
}

/// Bad values, each with the code it is to be rejected with.
fn bad_values(scene: &Scene) -> Vec<(&'static str, Vec<u8>)> {
    let good = |bend: fn(&mut Vec<f32>)| {
        let mut embedding = vec![0.5; DIM];
        bend(&mut embedding);
        scene.frame(&product(Some("bad"), embedding))
    };
    let whole = good(|_| {});
    let unknown = framed(999_999, &product(Some("bad"), vec![0.5; DIM]).encode());
    vec![
        ("dimension_mismatch", good(|embedding| embedding.truncate(DIM - 1))),
        ("dimension_mismatch", good(Vec::clear)),
        ("not_finite", good(|embedding| embedding[3] = f32::NAN)),
        ("not_finite", good(|embedding| embedding[0] = f32::INFINITY)),
        ("not_finite", good(|embedding| embedding[DIM - 1] = f32::NEG_INFINITY)),
        ("missing_id", scene.frame(&product(None, vec![0.5; DIM]))),
        ("unknown_schema", unknown),
        ("decode", whole[..whole.len() - 3].to_vec()),
        ("decode", whole[..9].to_vec()),
        ("bad_framing", whole[..4].to_vec()),
        ("bad_framing", Vec::new()),
        ("bad_framing", b"not avro at all".to_vec()),
        ("decode", [whole.clone(), vec![1, 2, 3]].concat()),
    ]
}

#[test]
fn bad_records_are_set_aside_with_place_and_reason_and_the_rest_flows() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let more = format!("{TOLERANT}}}");
    let mut scene = Scene::open(kafka, registry, Plot { more: &more, ..Plot::default() });
    let producer = scene.kafka.producer();
    let mut model = Model::default();
    let mut stream = Stream::new(11, 50, DIM);
    let mut expected = BTreeMap::new();
    // One partition, so that each bad record stands between good ones at a known place.
    let mut position = 0;
    for (code, value) in bad_values(&scene) {
        for change in stream.by_ref().take(3) {
            let value = match &change {
                crate::harness::data::Change::Upsert(product) => Some(scene.frame(product)),
                crate::harness::data::Change::Delete(_) => None,
            };
            producer.send(&scene.topic, Some(2), Some(change.key().as_bytes()), value.as_deref());
            model.apply(&change);
            position += 1;
        }
        producer.send(&scene.topic, Some(2), Some(b"bad"), Some(&value));
        expected.insert(position, code);
        position += 1;
    }
    producer.flush();
    scene.wait_caught_up(WAIT);
    let check = |scene: &Scene| {
        scene.assert_equals(&model);
        let found = scene.quarantine();
        let codes: BTreeMap<u64, &str> =
            found.iter().map(|entry| (entry.position, entry.code.as_str())).collect();
        assert_eq!(codes, expected, "{found:#?}");
        assert_eq!(found.len(), expected.len(), "one of them is there twice: {found:#?}");
        for entry in &found {
            assert_eq!(entry.partition, format!("{}/2", scene.topic));
            assert!(entry.reason.len() > 10, "{entry:?}");
        }
    };
    check(&scene);
    // Rejects are in the log with the positions: once, whatever is killed.
    scene.server.kill9();
    scene.server.restart();
    check(&scene);
}

#[test]
fn dead_letters_go_to_their_topic_as_they_came() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::shared()) else { return };
    let letters = unique("letters");
    kafka.create_topic(&letters, 1, &[]);
    let more = format!("{TOLERANT}, dead_letter: {{topic: {letters}}}}}");
    let scene = Scene::open(kafka, registry, Plot { more: &more, ..Plot::default() });
    let producer = scene.kafka.producer();
    let bad = bad_values(&scene);
    for (_, value) in &bad {
        producer.send(&scene.topic, Some(0), Some(b"key"), Some(value));
    }
    producer.flush();
    scene.wait_caught_up(WAIT);
    // A letter is acknowledged before its record's position passes, so all of them are there by now.
    let sent = scene.kafka.read_all(&letters);
    assert_eq!(sent.len(), bad.len());
    for (letter, (position, (code, value))) in sent.values().zip(bad.iter().enumerate()) {
        assert_eq!(letter.key(), Some(&b"key"[..]));
        assert_eq!(letter.payload().unwrap_or_default(), value);
        let header = |name: &str| {
            let headers = letter.headers().expect("a letter has headers");
            let found = headers.iter().find(|header| header.key == format!("proximadb.error.{name}"));
            String::from_utf8(found?.value?.to_vec()).ok()
        };
        assert_eq!(header("code").as_deref(), Some(*code));
        assert_eq!(header("topic").as_deref(), Some(scene.topic.as_str()));
        assert_eq!(header("offset"), Some(position.to_string()));
        assert_eq!(header("pipeline").as_deref(), Some(NAME));
    }
}

#[test]
fn a_registry_that_is_down_holds_up_its_own_pipeline_only_and_loses_nothing() {
    let (Some(kafka), Some(registry)) = (Kafka::shared(), Registry::private()) else { return };
    let mut scene = Scene::open(kafka, registry, Plot::default());
    // Down before the first record of the schema is read, and over a restart, so that nothing is cached.
    scene.registry.stop();
    scene.server.kill9();
    scene.server.restart();
    let mut model = Model::default();
    scene.publisher().publish(&mut model, Stream::new(5, 100, DIM).take(500));
    wait_until("the pipeline to say that it is retrying", WAIT, || {
        let said = scene.pipelines().to_string();
        (said.contains("retrying") && said.contains("schema")).then_some(())
    });
    // The rest of the server is at work.
    let client = scene.server.client();
    assert_eq!(client.get("/readyz").status, 200);
    let other = json!({ "vectors": { "size": 2, "distance": "Dot" } });
    client.put("/collections/other", &other).result();
    let points = json!({ "points": [{ "id": "a", "vector": [1.0, 0.0] }] });
    client.put("/collections/other/points?wait=true", &points).result();
    assert_eq!(client.count("other"), 1);

    scene.registry.restart();
    scene.wait_caught_up(WAIT);
    assert!(scene.quarantine().is_empty());
    scene.assert_equals(&model);
}
