//! A topic of products, its schema, a pipeline and a server that makes them searchable.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::avro::{PRODUCT_SCHEMA, Product, framed};
use super::broker::{Kafka, Producer, Registry};
use super::data::{Change, Model};
use super::server::Server;
use super::{unique, wait_until};

/// Components of the vectors.
pub const DIM: usize = 8;
/// Partitions of the topic.
pub const PARTITIONS: i32 = 4;
/// Name of the collection and of the pipeline.
pub const NAME: &str = "products";

/// Everything on one stage.
pub struct Scene {
    pub kafka: Kafka,
    pub registry: Registry,
    pub topic: String,
    pub schema_id: u32,
    pub server: Server,
    folder: tempfile::TempDir,
    data: PathBuf,
}

/// What differs between tests, as lines of the pipeline's YAML.
#[derive(Debug, Clone, Copy)]
pub struct Plot<'a> {
    /// Lines below `source.kafka`.
    pub source: &'a str,
    /// Top-level lines: `errors`, `batch`, `limits`.
    pub more: &'a str,
    /// What `sink.create` says.
    pub create: &'a str,
    /// The server's settings file.
    pub settings: &'a str,
    /// Variables of the server's environment.
    pub environment: &'a [(&'a str, &'a str)],
}

/// Settings of a server that flushes, merges and cuts its log after some hundred records, as others do after a
/// million: what is killed must have been doing all of it.
pub const SMALL: &str = "[memtable]\nrows_max = 500\n[log]\nfile_bytes_max = \"1MiB\"\n";
/// The collection's part of it: graphs from some hundred rows on.
pub const SMALL_GRAPHS: &str = "distance: l2, hnsw: {full_scan_threshold: 100}";

impl Default for Plot<'_> {
    fn default() -> Self {
        let source = "assignment: pinned";
        Self { source, more: "", create: "distance: l2", settings: "", environment: &[] }
    }
}

impl Scene {
    /// Creates topic, schema and pipeline, and starts the server.
    pub fn open(kafka: Kafka, registry: Registry, plot: Plot<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::open_at(kafka, registry, plot, folder, data)
    }

    /// The same with a data directory that the test has made.
    pub fn open_at(
        kafka: Kafka,
        registry: Registry,
        plot: Plot<'_>,
        folder: tempfile::TempDir,
        data: PathBuf,
    ) -> Self {
        let topic = unique(NAME);
        kafka.create_topic(&topic, PARTITIONS, &[]);
        let schema_id = registry.register(&format!("{topic}-value"), PRODUCT_SCHEMA);
        let pipelines = folder.path().join("pipelines");
        std::fs::create_dir(&pipelines).unwrap();
        let yaml = pipeline(&kafka, &registry, &topic, plot);
        std::fs::write(pipelines.join(format!("{NAME}.yaml")), yaml).unwrap();
        let settings = folder.path().join("settings.toml");
        std::fs::write(&settings, plot.settings).unwrap();
        let environment =
            [&[("PROXIMADB_CONFIG", settings.to_str().unwrap())][..], plot.environment].concat();
        let server = Server::start_with(&data, Some(&pipelines), &environment);
        Self { kafka, registry, topic, schema_id, server, folder, data }
    }

    /// The server's data directory.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// A folder beside it.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A product as the topic carries it.
    pub fn frame(&self, product: &Product) -> Vec<u8> {
        framed(self.schema_id, &product.encode())
    }

    /// Publishes to the topic, also while the server is being killed.
    pub fn publisher(&self) -> Publisher {
        Publisher { producer: self.kafka.producer(), topic: self.topic.clone(), schema_id: self.schema_id }
    }

    /// How far the collection is, by partition number.
    pub fn positions(&self) -> BTreeMap<i32, u64> {
        let of = |number| {
            let position = self.server.client().position(NAME, &format!("{}/{number}", self.topic))?;
            Some((number, position))
        };
        (0..PARTITIONS).filter_map(of).collect()
    }

    /// Waits until everything that the topic holds now is applied.
    pub fn wait_caught_up(&self, within: Duration) {
        let ends = self.kafka.ends(&self.topic);
        let wanted: BTreeMap<i32, u64> = ends
            .into_iter()
            .filter(|(_, end)| *end > 0)
            .map(|(number, end)| (number, end as u64 - 1))
            .collect();
        let mut last = BTreeMap::new();
        let caught_up = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until("all positions to be applied", within, || {
                last = self.positions();
                wanted.iter().all(|(number, end)| last.get(number) >= Some(end)).then_some(())
            });
        }));
        assert!(
            caught_up.is_ok(),
            "positions {last:?} instead of {wanted:?}; pipelines {}",
            self.pipelines()
        );
    }

    /// Compares everything with the model: ids, vectors, payloads, the count, and that searches find some, those that
    /// scan and those that walk graphs.
    pub fn assert_equals(&self, model: &Model) {
        let client = self.server.client();
        model.assert_equals(&client.scroll_all(NAME));
        assert_eq!(client.count(NAME), model.len() as u64);
        let every = (model.len() / 20).max(1);
        for (id, product) in model.products().step_by(every) {
            for exact in [true, false] {
                let request = json!({ "query": product.embedding, "limit": 1, "params": { "exact": exact } });
                let hits = client.post(&format!("/collections/{NAME}/points/query"), &request).result();
                let found = hits["points"][0]["id"].as_str();
                // Another point may have the very same vector.
                let is_same = found == Some(id) || hits["points"][0]["score"].as_f64() == Some(0.0);
                assert!(is_same, "{id} is not found by its own vector, exact: {exact}: {hits}");
            }
        }
    }

    /// That what was killed was more than a memtable and one file of the log: there are segments, some of them made
    /// of others, and, where so much was written (`is_cut`), the log has lost its first file.
    pub fn assert_segments_were_made(&self, is_cut: bool) {
        let facts = self.server.client().get(&format!("/collections/{NAME}")).result();
        assert!(facts["segments_count"].as_u64() >= Some(1), "{facts}");
        assert!(self.server.log().contains("merged segments"), "no segments were merged");
        let shards = self.data.join("collections");
        let logs = walk(&shards).into_iter().filter(|file| file.extension().is_some_and(|end| end == "wal"));
        let first = logs.filter_map(|file| file.file_stem()?.to_str()?.parse::<u64>().ok()).min();
        assert!(!is_cut || first > Some(1), "the log was never cut: it begins with {first:?}");
    }

    /// What the server says of its pipelines.
    pub fn pipelines(&self) -> Value {
        let answer = self.server.client().try_send(reqwest::Method::GET, "/pipelines", None);
        answer.map_or_else(Value::String, |answer| answer.body)
    }

    /// Rejected records: partition, position, code and reason.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        let answer = self.server.client().get(&format!("/collections/{NAME}/quarantine?limit=1000")).result();
        let list = answer.as_array().or_else(|| answer.as_object()?.values().find_map(Value::as_array));
        let list = list.unwrap_or_else(|| panic!("a quarantine listing has a list: {answer}"));
        let entry = |entry: &Value| Quarantined {
            partition: entry["partition"].as_str().expect("an entry has a partition").to_owned(),
            position: entry["position"].as_u64().expect("an entry has a position"),
            code: entry["code"].as_str().expect("an entry has a code").to_owned(),
            reason: entry["reason"].as_str().expect("an entry has a reason").to_owned(),
        };
        list.iter().map(entry).collect()
    }
}

/// Publishes changes of products.
pub struct Publisher {
    producer: Producer,
    topic: String,
    schema_id: u32,
}

impl Publisher {
    /// Publishes changes and keeps the model up to date. Returns once the brokers have them.
    pub fn publish(&self, model: &mut Model, changes: impl IntoIterator<Item = Change>) {
        for (sent, change) in changes.into_iter().enumerate() {
            let value = match &change {
                Change::Upsert(product) => Some(framed(self.schema_id, &product.encode())),
                Change::Delete(_) => None,
            };
            self.producer.send(&self.topic, None, Some(change.key().as_bytes()), value.as_deref());
            model.apply(&change);
            // Now and then, so that records come as a stream and not as one lump.
            if sent % 50 == 49 {
                self.producer.flush();
            }
        }
        self.producer.flush();
    }
}

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quarantined {
    pub partition: String,
    pub position: u64,
    pub code: String,
    pub reason: String,
}

/// Every file below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// The pipeline's file.
pub fn pipeline(kafka: &Kafka, registry: &Registry, topic: &str, plot: Plot<'_>) -> String {
    let (brokers, url, Plot { source, more, create, .. }) = (kafka.bootstrap(), registry.url(), plot);
    let source = source.replace('\n', "\n    ");
    format!(
        "version: 1
pipeline: {NAME}
source:
  kafka:
    brokers: [\"{brokers}\"]
    topics: [{topic}]
    {source}
decode: {{format: avro, framing: confluent, registry: {{url: \"{url}\"}}}}
map:
  id: $.sku
  vector: {{field: $.embedding, dim: {DIM}}}
  payload: {{include: [lang, price, n]}}
  delete_when: tombstone
sink: {{collection: {NAME}, create: {{{create}}}, ack: durable}}
{more}
"
    )
}
