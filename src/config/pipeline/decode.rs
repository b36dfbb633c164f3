//! `decode`: how a record's bytes are read.
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Secret, Span};

/// How a record's bytes are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecodeSpec {
    /// The records' format.
    pub format: Format,
    /// What stands before each record. Default `none`.
    #[serde(default)]
    pub framing: Framing,
    /// Where schemas come from; needed with `framing: confluent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistrySpec>,
    /// The file (`.avsc`) of the schema with which unframed Avro records were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<PathBuf>,
}

/// The records' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Avro's binary encoding.
    Avro,
    /// One JSON object per record.
    Json,
    /// Columns of a Parquet file.
    Columns,
}

/// What stands before each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// Nothing.
    #[default]
    None,
    /// A zero byte and the schema's id in the registry, four bytes, big-endian.
    Confluent,
}

/// `decode.registry`: a schema registry with Confluent's API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistrySpec {
    /// Its base URL, which may have a path: `http://127.0.0.1:18081/apis/ccompat/v7`.
    pub url: String,
    /// Credentials. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuth>,
    /// Longest wait for one answer. Default 2s: schemas are small and asked for once, so slower means
    /// trouble, and decoding waits meanwhile.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
}

fn default_timeout() -> Span {
    Span(Duration::from_secs(2))
}

/// Credentials for a schema registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum RegistryAuth {
    /// A user and a password.
    Basic {
        /// The user, as text.
        username: String,
        /// The password, as a reference.
        password: Secret,
    },
    /// A token in the `Authorization` header, as a reference.
    Bearer(Secret),
}
