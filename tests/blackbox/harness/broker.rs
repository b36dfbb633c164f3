//! Kafka and the schema registry, started by `tests/services/*.sh`, and what tests do with them.
//!
//! `shared()` gives the broker of the environment (`KAFKA_BOOTSTRAP`, `SCHEMA_REGISTRY_URL`), or one that is
//! started once for this run on a free port. `private()` gives a test its own, to be killed. What was started
//! here is cleaned up when this process has ended, however it ended.
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use super::data::Random;
use super::http::Client;
use super::{is_required, is_unwanted, repository, skip};

/// How long a broker may take to do what it was asked, on a machine with two busy cores.
pub const BROKER_WAIT: Duration = Duration::from_secs(90);

/// A service under one of our scripts.
#[derive(Clone)]
struct Service {
    script: &'static str,
    environment: Vec<(&'static str, String)>,
}

impl Service {
    fn run(&self, verb: &str) -> Result<String, String> {
        let mut command = Command::new(repository("tests/services").join(self.script));
        command
            .arg(verb)
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null());
        if !is_required("kafka") {
            command.env("PROXIMADB_SERVICES_OFFLINE", "1");
        }
        let output = command.output().map_err(|error| format!("{}: {error}", self.script))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{} {verb}: {}", self.script, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Starts it. Says the value of the variable that it exports.
    fn start(&self) -> Result<String, String> {
        let out = self.run("start")?;
        let value = out.lines().find_map(|line| line.strip_prefix("export ")?.split_once('='));
        value
            .map(|(_, value)| value.to_owned())
            .ok_or_else(|| format!("{} exported nothing: {out:?}", self.script))
    }

    /// Cleans up once this process is gone, even if it was killed.
    fn clean_up_after_us(&self) {
        let script = repository("tests/services").join(self.script);
        Command::new("setsid")
            .args([
                "--fork",
                "sh",
                "-c",
                "while kill -0 \"$0\" 2>/dev/null; do sleep 1; done; exec \"$1\" clean",
            ])
            .arg(std::process::id().to_string())
            .arg(script)
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
    }
}

/// Two free ports, one behind the other; taken again by the service a moment later.
///
/// Below the ephemeral range (32768 and up on Linux): while a broker is down its clients keep connecting, and
/// a connection whose own port happens to be the broker's is then answered by itself, which keeps the port.
fn free_ports() -> (u16, u16) {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut random = Random(u64::from(clock.subsec_nanos()) ^ u64::from(std::process::id()));
    loop {
        let port = 20_000 + 2 * u16::try_from(random.below(6_000)).unwrap();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 1) {
            return (port, port + 1);
        }
    }
}

/// A broker.
#[derive(Clone)]
pub struct Kafka {
    bootstrap: String,
    /// Settings that every client of this broker needs.
    client: Vec<(String, String)>,
    /// `None`: somebody else's.
    service: Option<Service>,
}

impl Kafka {
    /// The broker that tests share. `None` where there is none; the reason is printed.
    pub fn shared() -> Option<Self> {
        static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();
        if is_unwanted("kafka") {
            return skip("kafka", "PROXIMADB_WITHOUT names kafka");
        }
        let shared = SHARED.get_or_init(|| match std::env::var("KAFKA_BOOTSTRAP") {
            Ok(bootstrap) => Ok(Self { bootstrap, client: Vec::new(), service: None }),
            Err(_) => Self::start_one(&[]),
        });
        match shared {
            Ok(kafka) => Some(kafka.clone()),
            Err(why) => skip("kafka", why),
        }
    }

    /// A broker for one test, which may kill it. `properties`: further lines of its configuration, in which
    /// `{port}` and `{controller}` stand for its ports.
    pub fn private(properties: &[(&str, &str)]) -> Option<Self> {
        if is_unwanted("kafka") {
            return skip("kafka", "PROXIMADB_WITHOUT names kafka");
        }
        match Self::start_one(properties) {
            Ok(kafka) => Some(kafka),
            Err(why) => skip("kafka", &why),
        }
    }

    fn start_one(properties: &[(&str, &str)]) -> Result<Self, String> {
        let (port, controller) = free_ports();
        let mut environment =
            vec![("KAFKA_PORT", port.to_string()), ("KAFKA_CONTROLLER_PORT", controller.to_string())];
        if !properties.is_empty() {
            let file = std::env::temp_dir().join(format!("proximadb-kafka-{port}.properties"));
            let lines: String = properties.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
            let lines =
                lines.replace("{port}", &port.to_string()).replace("{controller}", &controller.to_string());
            std::fs::write(&file, lines).map_err(|error| error.to_string())?;
            environment.push(("KAFKA_EXTRA_CONFIG", file.display().to_string()));
        }
        let service = Service { script: "kafka.sh", environment };
        service.clean_up_after_us();
        Ok(Self { bootstrap: service.start()?, client: Vec::new(), service: Some(service) })
    }

    /// The same broker, with settings that every client of it needs.
    pub fn with_client(self, settings: &[(&str, &str)]) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self { client: settings.iter().map(owned).collect(), ..self }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        for (key, value) in &self.client {
            config.set(key, value);
        }
        config
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("only a broker that this test started may be stopped")
    }

    /// Ends it as a power cut would, but for the page cache.
    pub fn kill9(&self) {
        self.service().run("kill").unwrap();
    }

    /// Starts it again on the same port with the same data.
    pub fn restart(&self) {
        self.service().start().unwrap();
    }

    /// Ends it and deletes its data.
    pub fn clean(&self) {
        self.service().run("clean").unwrap();
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Creates a topic and waits until its partitions have leaders.
    pub fn create_topic(&self, topic: &str, partitions: i32, config: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        for (key, value) in config {
            new = new.set(key, value);
        }
        let admin = self.admin();
        let created = block_on(admin.create_topics([&new], &admin_options())).unwrap();
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        self.wait_for_leaders(topic, partitions);
    }

    fn wait_for_leaders(&self, topic: &str, partitions: i32) {
        let client: BaseConsumer = self.config().create().unwrap();
        super::wait_until(&format!("{partitions} leaders of {topic}"), BROKER_WAIT, || {
            let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
            let found = metadata.topics().first()?;
            let led = found.partitions().iter().filter(|partition| partition.leader() >= 0).count();
            (i32::try_from(led).unwrap() == partitions).then_some(())
        });
    }

    /// Deletes a topic and waits until the broker says so.
    pub fn delete_topic(&self, topic: &str) {
        let admin = self.admin();
        let deleted = block_on(admin.delete_topics(&[topic], &admin_options())).unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// Adds partitions to a topic.
    pub fn grow_topic(&self, topic: &str, partitions: usize) {
        let admin = self.admin();
        let grown =
            block_on(admin.create_partitions([&NewPartitions::new(topic, partitions)], &admin_options()))
                .unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
        self.wait_for_leaders(topic, i32::try_from(partitions).unwrap());
    }

    /// Deletes the records before `offset`, as retention does.
    pub fn delete_records_before(&self, topic: &str, partition: i32, offset: i64) {
        let admin = self.admin();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        block_on(admin.delete_records(&list, &admin_options())).unwrap();
    }

    /// A producer that retries for as long as a broker may be away, in order and without doubles.
    pub fn producer(&self) -> Producer {
        Producer(self.producer_with(&[]))
    }

    /// A bare producer with further settings.
    pub fn producer_with(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("enable.idempotence", "true").set("linger.ms", "5").set("message.timeout.ms", "300000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// First unreadable offset of each partition, for readers of committed records.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, i64> {
        let client: BaseConsumer = self.config().set("isolation.level", "read_committed").create().unwrap();
        let metadata = client.fetch_metadata(Some(topic), BROKER_WAIT).unwrap();
        let numbers: Vec<i32> =
            metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        let end = |number| client.fetch_watermarks(topic, number, BROKER_WAIT).unwrap().1;
        numbers.into_iter().map(|number| (number, end(number))).collect()
    }

    /// Everything in a topic: key and value by partition and offset.
    pub fn read_all(&self, topic: &str) -> BTreeMap<(i32, i64), StoredMessage> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "tests-read-all")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        let ends = self.ends(topic);
        let mut list = TopicPartitionList::new();
        let mut missing: i64 = 0;
        for (&number, &end) in &ends {
            list.add_partition_offset(topic, number, Offset::Beginning).unwrap();
            missing += end - consumer.fetch_watermarks(topic, number, BROKER_WAIT).unwrap().0;
        }
        consumer.assign(&list).unwrap();
        let deadline = Instant::now() + BROKER_WAIT;
        let mut all = BTreeMap::new();
        while i64::try_from(all.len()).unwrap() < missing {
            assert!(Instant::now() < deadline, "{} of {missing} records of {topic}", all.len());
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.unwrap().detach();
                all.insert((message.partition(), message.offset()), message);
            }
        }
        all
    }
}

/// A message with its own memory.
pub type StoredMessage = rdkafka::message::OwnedMessage;

/// Publishes records.
pub struct Producer(BaseProducer);

impl Producer {
    /// Queues a record; blocks while the queue is full. Records of one key keep their order.
    pub fn send(&self, topic: &str, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic);
        (record.partition, record.key, record.payload) = (partition, key, value);
        let deadline = Instant::now() + BROKER_WAIT;
        loop {
            match self.0.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    assert!(Instant::now() < deadline, "the producer's queue stays full");
                    self.0.poll(Duration::from_millis(20));
                    record = refused;
                }
                Err((error, _)) => panic!("{topic}: {error}"),
            }
        }
        self.0.poll(Duration::ZERO);
    }

    /// Waits until every record is acknowledged.
    pub fn flush(&self) {
        // The client's own flush looks every 100 ms only.
        super::wait_until("the brokers to take what was sent", BROKER_WAIT * 3, || {
            self.0.poll(Duration::from_millis(1));
            (self.0.in_flight_count() == 0).then_some(())
        });
    }
}

fn admin_options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(BROKER_WAIT)).request_timeout(Some(BROKER_WAIT))
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A schema registry.
#[derive(Clone)]
pub struct Registry {
    url: String,
    service: Option<Service>,
}

impl Registry {
    /// The registry that tests share.
    pub fn shared() -> Option<Self> {
        static SHARED: OnceLock<Result<Registry, String>> = OnceLock::new();
        if is_unwanted("kafka") {
            return skip("kafka", "PROXIMADB_WITHOUT names kafka");
        }
        let shared = SHARED.get_or_init(|| match std::env::var("SCHEMA_REGISTRY_URL") {
            Ok(url) => Ok(Self { url, service: None }),
            Err(_) => Self::start_one(),
        });
        match shared {
            Ok(registry) => Some(registry.clone()),
            Err(why) => skip("kafka", why),
        }
    }

    /// A registry for one test, which may stop it.
    pub fn private() -> Option<Self> {
        if is_unwanted("kafka") {
            return skip("kafka", "PROXIMADB_WITHOUT names kafka");
        }
        match Self::start_one() {
            Ok(registry) => Some(registry),
            Err(why) => skip("kafka", &why),
        }
    }

    fn start_one() -> Result<Self, String> {
        let environment = vec![("SCHEMA_REGISTRY_PORT", free_ports().0.to_string())];
        let service = Service { script: "schema-registry.sh", environment };
        service.clean_up_after_us();
        Ok(Self { url: service.start()?, service: Some(service) })
    }

    /// Its base URL, which has a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it in order: killed, its database may forget what was registered just before.
    pub fn stop(&self) {
        self.service().run("stop").unwrap();
    }

    /// Starts it again on the same port.
    pub fn restart(&self) {
        self.service().start().unwrap();
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("only a registry that this test started may be stopped")
    }

    /// Registers an Avro schema under a subject. Says its id.
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        let client = Client::new(&self.url);
        let answer = client.post(&format!("/subjects/{subject}/versions"), &json!({ "schema": schema }));
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["id"].as_u64().and_then(|id| id.try_into().ok()).expect("a registered schema has an id")
    }
}
