//! `source`: where records come from.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Secret, SecretError};

/// Where records come from: exactly one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceSpec {
    /// Topics of a Kafka-compatible broker.
    Kafka(KafkaSpec),
    /// Files on this machine.
    File(FileSpec),
    /// Records sent to the server's own doors.
    Push(PushSpec),
}

/// `source.kafka`: topics of a Kafka-compatible broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSpec {
    /// Brokers to ask first, as `host:port`; at least one.
    pub brokers: Vec<String>,
    /// Topics to read, by exact name; at least one.
    pub topics: Vec<String>,
    /// Where to begin in partitions of which our log holds nothing yet. Default `earliest`: nothing published
    /// is missed.
    #[serde(default)]
    pub start: KafkaStart,
    /// Who decides which partitions this node reads. Default `pinned`: all of them, without a group's
    /// rebalances.
    #[serde(default)]
    pub assignment: KafkaAssignment,
    /// The consumer group, with `assignment: group`. Default `proximadb-<pipeline>`, which is also the name
    /// under which pinned pipelines commit positions for dashboards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Settings of the client library, passed through; those that decide what is read and when are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client: BTreeMap<String, ClientValue>,
    /// Stop at the ends that the partitions have at start. Default false: read for ever.
    #[serde(default)]
    pub bounded: bool,
}

impl KafkaSpec {
    /// The client settings with secrets resolved, for the running pipeline.
    pub fn client_settings(&self) -> Result<BTreeMap<String, String>, SecretError> {
        self.client.iter().map(|(key, value)| Ok((key.clone(), value.resolve()?))).collect()
    }

    /// The group's name for a pipeline.
    pub fn group_name(&self, pipeline: &str) -> String {
        self.group_id.clone().unwrap_or_else(|| format!("proximadb-{pipeline}"))
    }
}

/// Where to begin in partitions of which our log holds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaStart {
    /// The oldest record that the broker still has.
    #[default]
    Earliest,
    /// Records published from now on.
    Latest,
    /// The first record whose timestamp is not before this.
    Timestamp(Timestamp),
    /// Behind these positions, as if our log held them: the first record read is the one after. Keys are
    /// partition numbers, or
    /// `topic/partition` where there are several topics. Partitions that are not named begin at the earliest.
    Positions(BTreeMap<String, u64>),
}

impl KafkaStart {
    /// The position given for a partition, if positions were given.
    pub fn position_of(&self, topic: &str, partition: i32) -> Option<u64> {
        let Self::Positions(positions) = self else { return None };
        positions
            .get(&format!("{topic}/{partition}"))
            .or_else(|| positions.get(&partition.to_string()))
            .copied()
    }
}

/// Who decides which partitions this node reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KafkaAssignment {
    /// We do: every partition of the topics, also those added later.
    #[default]
    Pinned,
    /// The broker's group protocol does, shared with others of the same `group_id`.
    Group,
}

/// A moment: RFC 3339 text, or milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Milliseconds since the Unix epoch.
    pub ms: i64,
}

/// A setting of the client library: text, number, boolean, or a reference to a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum ClientValue {
    /// As it stands.
    Plain(String),
    /// Resolved when the pipeline starts; prints as `***`.
    Secret(Secret),
}

impl ClientValue {
    /// The value for the client.
    pub fn resolve(&self) -> Result<String, SecretError> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Secret(secret) => secret.resolve().map(|text| text.expose().to_string()),
        }
    }
}

/// `source.file`: files on this machine, one partition each, read in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// A path, a list of paths, or patterns with `*` and `?` in their last part (`data/*.jsonl`). Relative
    /// paths start at the server's working directory. A pattern is expanded when the pipeline starts, in
    /// order of name; with `follow` also files that appear later are read.
    #[serde(deserialize_with = "one_or_many")]
    #[schemars(with = "OneOrMany")]
    pub path: Vec<String>,
    /// The files' format. Default: by extension (`.jsonl`, `.ndjson`, `.json`; `.parquet`; `.avro`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<FileFormat>,
    /// Wait for lines that are appended later. Default false: the pipeline ends with the files. JSON lines
    /// only.
    #[serde(default)]
    pub follow: bool,
}

impl FileSpec {
    /// The format of one of its files: as given, else by extension.
    pub fn format_of(&self, path: &str) -> Option<FileFormat> {
        self.format.or_else(|| FileFormat::by_extension(path))
    }
}

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// One JSON object per line.
    Jsonl,
    /// Parquet.
    Parquet,
    /// An Avro container file, which holds its own schema.
    Avro,
}

impl FileFormat {
    /// How the records of such a file are decoded.
    pub fn records(self) -> super::Format {
        match self {
            Self::Jsonl => super::Format::Json,
            Self::Parquet => super::Format::Columns,
            Self::Avro => super::Format::Avro,
        }
    }

    /// The format that a name's extension tells.
    pub fn by_extension(path: &str) -> Option<Self> {
        match path.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "parquet" => Some(Self::Parquet),
            "avro" => Some(Self::Avro),
            _ => None,
        }
    }
}

/// `source.push`: records sent to the server's own doors. It has no settings: `push: {}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushSpec {}

/// The published form of [`FileSpec::path`].
#[derive(JsonSchema)]
#[schemars(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Paths;
    impl<'de> Visitor<'de> for Paths {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a path or a list of paths")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_string()])
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<String>, A::Error> {
            let mut paths = Vec::new();
            while let Some(path) = items.next_element()? {
                paths.push(path);
            }
            Ok(paths)
        }
    }
    deserializer.deserialize_any(Paths)
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(self.ms)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Moment;
        impl Visitor<'_> for Moment {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "an RFC 3339 time such as 2026-01-31T12:00:00Z, or milliseconds since the Unix epoch",
                )
            }
            fn visit_u64<E: de::Error>(self, ms: u64) -> Result<Timestamp, E> {
                i64::try_from(ms)
                    .map(|ms| Timestamp { ms })
                    .map_err(|_| E::custom(format!("{ms} ms is out of range")))
            }
            fn visit_i64<E: de::Error>(self, ms: i64) -> Result<Timestamp, E> {
                Ok(Timestamp { ms })
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                super::time::parse_rfc3339_ms(text)
                    .map(|ms| Timestamp { ms })
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Moment)
    }
}
impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "RFC 3339 text, or milliseconds since the Unix epoch.",
            "oneOf": [{"type": "string", "format": "date-time"}, {"type": "integer"}],
        })
    }
}

impl fmt::Debug for ClientValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => fmt::Debug::fmt(text, f),
            Self::Secret(_) => f.write_str("***"),
        }
    }
}
impl Serialize for ClientValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Plain(text) => serializer.serialize_str(text),
            Self::Secret(secret) => secret.serialize(serializer),
        }
    }
}
impl<'de> Deserialize<'de> for ClientValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = ClientValue;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number, true, false, ${env:NAME} or file:PATH")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<ClientValue, E> {
                match Secret::is_reference(text) {
                    true => text.parse().map(ClientValue::Secret).map_err(E::custom),
                    false => Ok(ClientValue::Plain(text.to_string())),
                }
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<ClientValue, E> {
                Ok(ClientValue::Plain(value.to_string()))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<ClientValue, E> {
                Ok(ClientValue::Plain(value.to_string()))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<ClientValue, E> {
                Ok(ClientValue::Plain(value.to_string()))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<ClientValue, E> {
                Ok(ClientValue::Plain(value.to_string()))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}
impl JsonSchema for ClientValue {
    fn schema_name() -> Cow<'static, str> {
        "ClientValue".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Text, a number or a boolean; secrets as ${env:NAME} or file:PATH.",
            "type": ["string", "number", "boolean"],
        })
    }
}
