//! Keeps account of a batch's records: each one becomes an operation, a reject or a skip.
use super::circuit::Circuit;
use super::dead_letter::reject;
use super::validate::{Fault, FaultCode};
use super::{DecodeError, Decoded};
use crate::config::pipeline::{ErrorsSpec, OnFailure};
use crate::types::{Position, RawBatch, WriteBatch};

/// A record's failure, or trouble that concerns the whole batch.
#[derive(Debug)]
pub(super) enum Trouble {
    Record(Fault),
    Batch(DecodeError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Record(fault)
    }
}
impl From<DecodeError> for Trouble {
    fn from(error: DecodeError) -> Self {
        Self::Batch(error)
    }
}

/// One batch on its way through a decoder.
pub(super) struct Tally<'a> {
    errors: &'a ErrorsSpec,
    partition: &'a str,
    pub decoded: Decoded,
    outcomes: Vec<bool>,
    last_reason: String,
}

/// A failed record's own parts, kept for its reject.
#[derive(Debug, Clone, Copy)]
pub(super) struct Failed<'a> {
    pub position: Position,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp_ms: Option<i64>,
}

impl<'a> Tally<'a> {
    pub fn new(errors: &'a ErrorsSpec, batch: &'a RawBatch, dim: usize) -> Self {
        let records = batch.len();
        let mut rows = WriteBatch::new(u32::try_from(dim).unwrap_or(u32::MAX));
        rows.ops.reserve(records);
        let decoded = Decoded { batch: rows, ..Decoded::default() };
        let outcomes = Vec::with_capacity(records);
        Self { errors, partition: &batch.partition, decoded, outcomes, last_reason: String::new() }
    }

    /// The record became an operation.
    pub fn succeed(&mut self) {
        self.outcomes.push(false);
    }

    /// The record failed: keeps it, drops it or stops, as the pipeline says.
    pub fn fail(&mut self, record: Failed<'_>, fault: Fault) -> Result<(), DecodeError> {
        // A schema that the registry does not know is kept whatever the rule for unreadable bytes, unless
        // that says to stop: its records are good once the schema is there.
        let policy = match fault.code {
            FaultCode::UnknownSchema if self.errors.decode == OnFailure::Skip => OnFailure::Quarantine,
            code if code.is_unreadable() => self.errors.decode,
            _ => self.errors.validate,
        };
        self.outcomes.push(true);
        self.last_reason =
            format!("{} at {}/{}: {}", fault.code.as_str(), self.partition, record.position, fault.reason);
        match policy {
            OnFailure::Skip => self.decoded.skipped += 1,
            OnFailure::Quarantine => {
                let Failed { position, key, value, timestamp_ms } = record;
                self.decoded.rejects.push(reject(self.partition, position, key, value, timestamp_ms, fault));
            }
            OnFailure::Stop => {
                return Err(DecodeError::Stopped {
                    partition: self.partition.to_string(),
                    position: record.position,
                    code: fault.code.as_str(),
                    reason: fault.reason,
                });
            }
        }
        Ok(())
    }

    /// The batch's rows and rejects, unless too many of the last records failed.
    pub fn finish(self, circuit: &mut Circuit) -> Result<Decoded, DecodeError> {
        circuit.observe(self.outcomes, &self.last_reason)?;
        Ok(self.decoded)
    }
}
