//! What a Kafka source needs to know, and the client settings that follow from it.
use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

use crate::source::SourceError;

/// Where to start a partition that our log has never seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the first record whose timestamp is at least this, in milliseconds since the Unix epoch; behind
    /// the newest record where there is none.
    Timestamp(i64),
    /// At these offsets (the first to read) by partition number, or by `topic/partition` where there are
    /// several topics; other partitions at the oldest.
    Positions(BTreeMap<String, u64>),
}

/// How partitions come to this source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Assignment {
    /// All partitions of the topics, those added later included. No consumer group is joined.
    Pinned,
    /// Shared with the other members of a consumer group (cooperative-sticky, or KIP-848 with the client
    /// setting `group.protocol: consumer`).
    Group {
        /// The group's id.
        group_id: String,
    },
}

/// Settings of a [`super::KafkaSource`].
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The source's name: the pipeline's. Labels metrics and names the group that offsets are committed to.
    pub source_name: String,
    /// `host:port` of some brokers.
    pub brokers: Vec<String>,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Where to start a partition that our log has never seen.
    pub start: Start,
    /// How partitions come to this source.
    pub assignment: Assignment,
    /// librdkafka settings passed through (`security.protocol`, `fetch.min.bytes`, …). Keys that the source
    /// depends on are refused.
    pub client: BTreeMap<String, String>,
    /// Bytes of keys and values after which a batch is handed out. One larger record is a batch of its own.
    pub batch_bytes_max: usize,
    /// Records after which a batch is handed out.
    pub batch_records_max: usize,
    /// Longest wait for more records of a batch: the latency bought for larger log entries.
    pub linger: Duration,
    /// Stop at the end that the topics have when they are first looked at.
    pub bounded: bool,
}

impl KafkaOptions {
    /// Options with the defaults of pipelines: earliest, pinned, 512 KiB, 256 records, 2 ms.
    pub fn new(source_name: &str, brokers: &[&str], topics: &[&str]) -> Self {
        Self {
            source_name: source_name.to_owned(),
            brokers: brokers.iter().map(|&broker| broker.to_owned()).collect(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            start: Start::Earliest,
            assignment: Assignment::Pinned,
            client: BTreeMap::new(),
            batch_bytes_max: 512 << 10,
            batch_records_max: 256,
            linger: Duration::from_millis(2),
            bounded: false,
        }
    }

    /// The group that offsets are committed to, so that lag dashboards work.
    pub(super) fn group_id(&self) -> String {
        match &self.assignment {
            Assignment::Group { group_id } => group_id.clone(),
            Assignment::Pinned => format!("proximadb-{}", self.source_name),
        }
    }

    pub(super) fn is_group(&self) -> bool {
        matches!(self.assignment, Assignment::Group { .. })
    }

    /// Refuses what could never work.
    pub(super) fn validate(&self) -> Result<(), SourceError> {
        let refuse = |problem: String, remedy: &str| {
            Err(SourceError::Fatal {
                problem: format!("source {}: {problem}", self.source_name),
                remedy: remedy.into(),
            })
        };
        if self.brokers.is_empty() || self.brokers.iter().any(|broker| broker.trim().is_empty()) {
            return refuse("`brokers` is empty or has an empty entry".into(), "name at least one host:port");
        }
        if self.topics.is_empty() {
            return refuse("`topics` is empty".into(), "name at least one topic");
        }
        // Names only: a pattern could match the pipeline's own dead-letter topic and feed it to itself.
        if let Some(topic) = self.topics.iter().find(|topic| !is_topic_name(topic)) {
            return refuse(
                format!("{topic:?} is not a topic name"),
                "use 1 to 249 letters, digits, dots, underscores and dashes; patterns are not supported",
            );
        }
        if matches!(&self.assignment, Assignment::Group { group_id } if group_id.is_empty()) {
            return refuse("the consumer group has an empty id".into(), "give `group_id`");
        }
        if self.bounded && self.is_group() {
            return refuse(
                "a bounded read shares its partitions with a consumer group".into(),
                "use `assignment: pinned` for bounded reads",
            );
        }
        if self.batch_bytes_max == 0 || self.batch_records_max == 0 {
            return refuse(
                "a batch of nothing was asked for".into(),
                "raise the batch's bytes and records above 0",
            );
        }
        refuse_owned(&self.client, OWNED)
    }

    /// librdkafka's settings for the consumer.
    pub(super) fn consumer_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value) in OVERRIDABLE {
            config.set(*key, *value);
        }
        for (key, value) in &self.client {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("group.id", self.group_id())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
        // KIP-848 assigns on the broker and refuses a strategy chosen by the client.
        if self.client.get("group.protocol").is_none_or(|protocol| protocol != "consumer") {
            config.set("partition.assignment.strategy", "cooperative-sticky");
        }
        config
    }
}

/// Shorter intervals cost throughput (librdkafka formats every partition each time); longer ones leave lag stale.
const STATISTICS_INTERVAL_MS: &str = "10000";

/// Defaults of ours that a pipeline may change.
///
/// The queue bounds: librdkafka would prefetch 64 MiB, and 100,000 messages of each partition. 8 MiB are some 15
/// batches and stay in the processor's cache; 16 MiB were no faster. The bytes are what should bind: a partition with
/// more messages queued than the least number is not fetched from until the back-off is over, and at 1,000 two
/// partitions of 128 components gave no more than their 2 MiB per 20 ms. The back-off of a full queue is a second by
/// default, which stalls reading for that second whenever the queue was full.
const OVERRIDABLE: &[(&str, &str)] = &[
    ("client.id", "proximadb"),
    ("isolation.level", "read_committed"),
    ("queued.min.messages", "20000"),
    ("queued.max.messages.kbytes", "8192"),
    ("fetch.queue.backoff.ms", "20"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.wait.max.ms", "100"),
    ("fetch.error.backoff.ms", "200"),
    ("check.crcs", "true"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// What positions and progress depend on.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("metadata.broker.list", "use `brokers`"),
    ("group.id", "use `assignment`"),
    ("enable.auto.commit", "positions live in our log"),
    ("auto.commit.interval.ms", "positions live in our log"),
    ("enable.auto.offset.store", "positions live in our log"),
    ("offset.store.method", "positions live in our log"),
    ("enable.partition.eof", "lag and bounded reads depend on it"),
    ("auto.offset.reset", "use `start`"),
    ("allow.auto.create.topics", "a reader must not create what it reads"),
    ("partition.assignment.strategy", "rebalances are handled incrementally"),
    ("statistics.interval.ms", "lag depends on it"),
    ("enable.idempotence", "it is a setting of producers"),
    ("transactional.id", "it is a setting of producers"),
];

/// Refuses keys that belong to us.
pub(super) fn refuse_owned(
    client: &BTreeMap<String, String>,
    owned: &[(&str, &str)],
) -> Result<(), SourceError> {
    for (key, why) in owned {
        if client.contains_key(*key) {
            return Err(SourceError::Fatal {
                problem: format!("the client setting `{key}` cannot be changed: {why}"),
                remedy: "remove it from `client`".into(),
            });
        }
    }
    Ok(())
}

fn is_topic_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn owned_keys_patterns_and_empty_lists_are_refused() {
        let good = KafkaOptions::new("p", &["b:1"], &["products.v1"]);
        good.validate().unwrap();
        for key in ["group.id", "auto.offset.reset", "enable.auto.commit"] {
            let mut bad = good.clone();
            bad.client.insert(key.into(), "x".into());
            let text = bad.validate().unwrap_err().to_string();
            assert!(text.contains(key), "{text}");
        }
        for topics in [&[][..], &["^products.*"], &["a b"], &[".."]] {
            let text = KafkaOptions::new("p", &["b:1"], topics).validate().unwrap_err().to_string();
            assert!(text.contains("topic"), "{text}");
        }
        assert!(KafkaOptions::new("p", &[], &["t"]).validate().is_err());
    }

    #[test]
    fn defaults_may_be_overridden_and_kip_848_drops_the_strategy() {
        let mut options = KafkaOptions::new("p", &["a:1", "b:2"], &["t"]);
        options.client.insert("isolation.level".into(), "read_uncommitted".into());
        let config = options.consumer_config();
        assert_eq!(config.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(config.get("bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(config.get("group.id"), Some("proximadb-p"));
        assert_eq!(config.get("partition.assignment.strategy"), Some("cooperative-sticky"));
        options.client.insert("group.protocol".into(), "consumer".into());
        assert_eq!(options.consumer_config().get("partition.assignment.strategy"), None);
    }
}
