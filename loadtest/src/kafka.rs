//! Topics, records and the bare consumer that the server is compared with.
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use crate::data::Synthetic;
use crate::http::Connection;
use crate::{Trouble, avro, process};

/// How long a broker may be silent.
const BROKER_WAIT: Duration = Duration::from_secs(60);
/// Different vectors in a topic: records repeat them, ids never.
pub const POOL: usize = 4096;
/// The pipeline's name, and its collection's.
pub const NAME: &str = "load";

/// Broker and registry; `tests/services/*.sh start` prints both.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// `host:port` of a broker.
    #[arg(long, env = "KAFKA_BOOTSTRAP")]
    bootstrap: String,
    /// URL of a schema registry.
    #[arg(long, env = "SCHEMA_REGISTRY_URL")]
    registry: String,
    /// Partitions of the topic.
    #[arg(long, default_value_t = 2)]
    partitions: i32,
    /// Further lines of the pipeline's YAML, such as `batch: {linger: 1ms}`.
    #[arg(long, default_value = "")]
    pipeline_yaml: String,
    /// Rows below which a segment gets no graph.
    #[arg(long)]
    full_scan_threshold: Option<u32>,
}

/// A fresh topic, and the schema of its records.
#[derive(Debug, Clone)]
pub struct Topic {
    args: KafkaArgs,
    pub name: String,
    pub schema_id: u32,
    dim: usize,
}

impl Topic {
    /// Creates the topic and registers its schema.
    pub async fn create(args: &KafkaArgs, dim: usize) -> Result<Self, Trouble> {
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let name = format!("load-{dim}-{:x}", clock.as_millis());
        let admin: AdminClient<DefaultClientContext> = client(&args.bootstrap).create()?;
        let topic = NewTopic::new(&name, args.partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(BROKER_WAIT));
        for result in admin.create_topics([&topic], &options).await? {
            result.map_err(|(name, code)| format!("creating topic {name}: {code}"))?;
        }
        let schema_id = register(&args.registry, &format!("{name}-value")).await?;
        Ok(Self { args: args.clone(), name, schema_id, dim })
    }

    /// The pipeline that reads it.
    pub fn pipeline(&self) -> String {
        let KafkaArgs { bootstrap, registry, pipeline_yaml, full_scan_threshold, .. } = &self.args;
        let graph = full_scan_threshold
            .map_or(String::new(), |rows| format!(", hnsw: {{full_scan_threshold: {rows}}}"));
        format!(
            "version: 1
pipeline: {NAME}
source: {{kafka: {{brokers: [\"{bootstrap}\"], topics: [{}]}}}}
decode: {{format: avro, framing: confluent, registry: {{url: \"{registry}\"}}}}
map:
  id: $.id
  vector: {{field: $.embedding, dim: {}}}
  payload: {{include: [lang, price, n]}}
sink: {{collection: {NAME}, create: {{distance: cosine{graph}}}, ack: durable}}
{pipeline_yaml}
",
            self.name, self.dim
        )
    }

    /// Produces this many records; says how many bytes of values they are.
    pub fn fill(&self, records: usize) -> Result<u64, Trouble> {
        let producer: BaseProducer = self.producer("5").create()?;
        let pool = pool(self.dim);
        let mut bytes = 0;
        for n in 0..records {
            let id = format!("row-{n:09}");
            let value = avro::frame(self.schema_id, &id, &pool[n % POOL], n as i64);
            bytes += value.len() as u64;
            let mut record = BaseRecord::to(&self.name).key(&id).payload(&value);
            while let Err((error, back)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            if n % 256 == 0 {
                producer.poll(Duration::ZERO);
            }
        }
        producer.flush(BROKER_WAIT)?;
        Ok(bytes)
    }

    /// Settings of a producer.
    pub fn producer(&self, linger_ms: &str) -> ClientConfig {
        let mut config = client(&self.args.bootstrap);
        config.set("linger.ms", linger_ms).set("batch.size", "1048576").set("acks", "all");
        config.set("queue.buffering.max.kbytes", "262144");
        config
    }

    /// Reads all of it with the client's own defaults, and looks at nothing: what the server can at most do.
    pub fn bare_consumer(&self, records: usize) -> Result<Bare, Trouble> {
        let mut config = client(&self.args.bootstrap);
        config.set("group.id", "load-bare").set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..self.args.partitions {
            list.add_partition_offset(&self.name, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        let (mut seen, mut bytes, mut started, mut cpu) = (0, 0, None, 0.0);
        let own = std::process::id();
        while seen < records {
            let message = match consumer.poll(BROKER_WAIT) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(_))) => continue,
                Some(Err(error)) => return Err(error.into()),
                None => return Err(format!("the topic ended after {seen} of {records} records").into()),
            };
            started.get_or_insert_with(|| {
                cpu = process::cpu_seconds(own).unwrap_or_default();
                Instant::now()
            });
            seen += 1;
            bytes += message.payload_len() as u64;
        }
        let seconds = started.map_or(0.0, |started| started.elapsed().as_secs_f64());
        let cpu = process::cpu_seconds(own).unwrap_or_default() - cpu;
        Ok(Bare {
            per_second: records as f64 / seconds,
            mb_per_second: bytes as f64 / seconds / 1e6,
            cores: cpu / seconds,
        })
    }
}

/// What the bare consumer came to.
#[derive(Debug, Clone, Copy)]
pub struct Bare {
    pub per_second: f64,
    pub mb_per_second: f64,
    /// Processor seconds per second.
    pub cores: f64,
}

/// Vectors to repeat.
pub fn pool(dim: usize) -> Vec<Vec<f32>> {
    let mut vectors = Synthetic::new(dim);
    (0..POOL).map(|_| vectors.next_vector()).collect()
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

async fn register(registry: &str, subject: &str) -> Result<u32, Trouble> {
    let rest = registry.strip_prefix("http://").ok_or("the registry's URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = format!("/{}/subjects/{subject}/versions", path.trim_end_matches('/')).replace("//", "/");
    let body = json!({"schemaType": "AVRO", "schema": avro::SCHEMA});
    let answer = Connection::open(host).await?.json("POST", &path, &body).await?;
    let id = answer["id"].as_u64().ok_or("the registry gave no id")?;
    Ok(u32::try_from(id)?)
}
