//! Decodes record by record: what is the same for every format of single records.
use super::circuit::Circuit;
use super::mapping::{DeleteRule, Mapping};
use super::row::{Place, Row, Scalar, push_delete};
use super::tally::{Failed, Tally, Trouble};
use super::validate::{Fault, FaultCode};
use super::{DecodeError, Decoded, Decoder};
use crate::config::pipeline::{ErrorsSpec, IdSpec};
use crate::types::{RawBatch, RawRecord, RawRows, WriteBatch};

/// Reads single records of one format.
///
/// `read` fills `row` and appends the vector to `vectors`; after an error the caller cuts both back.
pub(super) trait RecordFormat: Send {
    /// Reads one value, from the partition it came from.
    fn read(
        &mut self,
        value: &[u8],
        partition: &str,
        mapping: &Mapping,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Trouble>;

    /// The id that a key holds.
    fn key(&mut self, key: &[u8], mapping: &Mapping) -> Result<Scalar, Trouble>;
}

/// A [`Decoder`] for batches of single records.
pub(super) struct RecordDecoder {
    mapping: Mapping,
    errors: ErrorsSpec,
    format: Box<dyn RecordFormat>,
    circuit: Circuit,
    row: Row,
}

impl RecordDecoder {
    pub fn new(mapping: Mapping, errors: ErrorsSpec, format: Box<dyn RecordFormat>) -> Self {
        let circuit = Circuit::new(errors.circuit);
        Self { mapping, errors, format, circuit, row: Row::default() }
    }

    fn record(&mut self, record: &RawRecord, batch: &RawBatch, rows: &mut WriteBatch) -> Result<(), Trouble> {
        let place = Place {
            partition: &batch.partition,
            epoch: batch.epoch,
            position: record.position,
            timestamp_ms: record.timestamp_ms,
        };
        let Some(value) = &record.value else {
            return self.tombstone(record, rows);
        };
        self.row.clear();
        let start = rows.vectors.len();
        self.format.read(value, &batch.partition, &self.mapping, &mut self.row, &mut rows.vectors)?;
        if self.mapping.id == IdSpec::Key {
            self.row.id = record.key.as_ref().map(|key| self.format.key(key, &self.mapping)).transpose()?;
        }
        Ok(self.row.finish(&self.mapping, place, start, rows)?)
    }

    fn tombstone(&mut self, record: &RawRecord, rows: &mut WriteBatch) -> Result<(), Trouble> {
        if matches!(self.mapping.delete, DeleteRule::Never) {
            let reason = "the value is null; if that deletes the point named by the key, say map.delete_when: tombstone";
            return Err(Fault::new(FaultCode::UnexpectedNull, reason).into());
        }
        let key = record.key.as_ref().map(|key| self.format.key(key, &self.mapping)).transpose()?;
        Ok(push_delete(rows, key.unwrap_or(Scalar::Null), record.position)?)
    }
}

impl Decoder for RecordDecoder {
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, DecodeError> {
        let RawRows::Records(records) = &batch.rows else {
            return Err(DecodeError::WrongRows {
                partition: batch.partition.to_string(),
                expected: "records",
            });
        };
        let errors = self.errors.clone();
        let mut tally = Tally::new(&errors, batch, self.mapping.dim);
        tally.decoded.batch.vectors.reserve(records.len().saturating_mul(self.mapping.dim));
        for record in records {
            let rows = &mut tally.decoded.batch;
            let start = rows.vectors.len();
            match self.record(record, batch, rows) {
                Ok(()) => tally.succeed(),
                Err(Trouble::Batch(error)) => return Err(error),
                Err(Trouble::Record(fault)) => {
                    rows.vectors.truncate(start);
                    let failed = Failed {
                        position: record.position,
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        timestamp_ms: record.timestamp_ms,
                    };
                    tally.fail(failed, fault)?;
                }
            }
        }
        tally.finish(&mut self.circuit)
    }
}

/// The id in a key of plain text.
pub(super) fn text_key(key: &[u8]) -> Result<Scalar, Fault> {
    match std::str::from_utf8(key) {
        Ok(text) => Ok(Scalar::Text(text.to_string())),
        Err(_) => Err(Fault::new(FaultCode::BadId, "the record's key is not UTF-8 text")),
    }
}
