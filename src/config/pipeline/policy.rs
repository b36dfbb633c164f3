//! `errors`: what happens to records that fail.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to records that fail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorsSpec {
    /// Records whose bytes cannot be read. Default `quarantine`: kept with the reason and the record.
    pub decode: OnFailure,
    /// Records whose schema id the registry does not know. Default `retry`: a schema may arrive after its
    /// first record.
    pub schema_unknown: OnUnknownSchema,
    /// Records that were read but make no valid point (dimension, NaN, id, size). Default `quarantine`.
    pub validate: OnFailure,
    /// When so many fail that the pipeline stops.
    pub circuit: CircuitSpec,
    /// Where failed records are published besides quarantine. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterSpec>,
}

/// What happens to a record that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Kept with its reason, in the log entry of its batch.
    #[default]
    Quarantine,
    /// Counted and dropped.
    Skip,
    /// The pipeline stops before it.
    Stop,
}

/// What happens to a record whose schema the registry does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknownSchema {
    /// The batch waits until the registry knows it.
    #[default]
    Retry,
    /// Kept with its reason. A registry that does not answer is waited for all the same.
    Quarantine,
}

/// `errors.circuit`: when so many records fail that the pipeline stops, rather than drain a topic into
/// quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitSpec {
    /// Highest share of failed records among the last `window`. Default 0.05: one producer's bug passes, a
    /// wrong mapping does not. 1 never stops.
    pub max_ratio: f64,
    /// Records looked back on. Default 10000: a wrong mapping stops after 500 records.
    pub window: u32,
}

impl Default for CircuitSpec {
    fn default() -> Self {
        Self { max_ratio: 0.05, window: 10_000 }
    }
}

/// `errors.dead_letter`: where failed records are published besides quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSpec {
    /// A topic on the source's brokers.
    pub topic: String,
}
