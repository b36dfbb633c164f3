//! Bytes to rows: decode by schema, map to points, validate; what fails goes to quarantine with its reason.
//!
//! ```text
//!   RawBatch ──▶ Decoder ──▶ Decoded { rows, rejects }  ──▶ one log entry with the batch's positions
//! ```
//! I1 every record of a batch is either an operation or a reject: none is dropped. I2 a record's failure
//! never touches its neighbours. I3 trouble that may pass (a registry that is down) is an error for the
//! whole batch, which is tried again; it never rejects records.
mod avro;
mod avro_codec;
pub(crate) mod avro_container;
mod avro_cursor;
mod avro_plan;
mod avro_schema;
mod avro_text;
mod base64;
mod build;
mod circuit;
mod columns;
mod columns_rare;
mod columns_text;
mod dead_letter;
mod json;
mod json_text;
mod mapping;
mod records;
mod registry;
mod row;
mod tally;
mod validate;

#[cfg(test)]
mod test_support;

pub use build::{BuildError, Target, build};
pub use registry::{
    NoSchemas, RegistryClient, RegistryError, SchemaCache, SchemaFailure, SchemaSource, SchemaText,
};
pub use validate::{Fault, FaultCode, PAYLOAD_BYTES_MAX};

use crate::types::{ErrorKind, Position, RawBatch, Reject, WriteBatch};

/// What became of a batch's records.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Operations in order, each with its position.
    pub batch: WriteBatch,
    /// Records that failed, in order.
    pub rejects: Vec<Reject>,
    /// Records that the pipeline's rules filtered out or skipped.
    pub skipped: u64,
}

/// Turns raw records into operations. Lives on a decode thread; keeps its plans and caches between calls.
pub trait Decoder: Send {
    /// Decodes a whole batch.
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, DecodeError>;
}

/// Trouble that concerns the whole batch.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The schema registry did not answer, or does not know a schema yet and the pipeline says to wait.
    #[error("schema {schema_id} cannot be had from {registry}: {reason}; retrying")]
    SchemaUnavailable {
        /// The id in the record's frame.
        schema_id: u32,
        /// The registry's base URL.
        registry: String,
        /// What it said.
        reason: String,
    },
    /// Too many of the last records were rejected: the pipeline stops rather than drain a topic into
    /// quarantine.
    #[error(
        "{rejected} of the last {window} records were rejected (limit {limit}); the last one: {last}. Fix the pipeline or the producer, then resume"
    )]
    CircuitOpen {
        /// Rejected records in the window.
        rejected: u64,
        /// Records in the window.
        window: u64,
        /// Highest share allowed.
        limit: f64,
        /// The latest reason.
        last: String,
    },
    /// A record failed and the pipeline says to stop there.
    #[error(
        "{code} at {partition}/{position}: {reason}. The pipeline is set to stop at such records; fix it or the producer, then resume"
    )]
    Stopped {
        /// `topic/partition` or a file's name.
        partition: String,
        /// The record's place.
        position: Position,
        /// The fault's code.
        code: &'static str,
        /// What was wrong, and with what.
        reason: String,
    },
    /// The source hands out rows of a kind that the pipeline's format does not read.
    #[error("{partition} does not hold {expected}; mend `decode.format` or the source")]
    WrongRows {
        /// `topic/partition` or a file's name.
        partition: String,
        /// What the decoder reads.
        expected: &'static str,
    },
}

impl DecodeError {
    /// May the batch be tried again?
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::SchemaUnavailable { .. })
    }

    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::SchemaUnavailable { .. } => ErrorKind::Unavailable,
            Self::CircuitOpen { .. } | Self::Stopped { .. } | Self::WrongRows { .. } => ErrorKind::Invalid,
        }
    }
}
