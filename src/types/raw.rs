//! What a source hands to a decoder.
use std::sync::Arc;

use arrow_array::RecordBatch;
use bytes::Bytes;

use super::Position;

/// One record as it came from a source, undecoded.
#[derive(Debug, Clone)]
pub struct RawRecord {
    /// Its place in the partition.
    pub position: Position,
    /// The record's key, where the source has keys.
    pub key: Option<Bytes>,
    /// The record's value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The record's own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl RawRecord {
    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The records of a [`RawBatch`].
#[derive(Debug, Clone)]
pub enum RawRows {
    /// Encoded records, in order of position.
    Records(Vec<RawRecord>),
    /// Rows of a columnar file; row `i` has position `first + i`.
    Columns {
        /// The rows.
        rows: RecordBatch,
        /// Position of the first row.
        first: Position,
    },
}

/// Consecutive records of one partition, accounting for `(from, to]`. May be empty: a position can move
/// without records (transaction markers, compaction, blank lines).
#[derive(Debug, Clone)]
pub struct RawBatch {
    /// `topic/partition` or a file's name.
    pub partition: Arc<str>,
    /// See [`super::PartitionPosition::epoch`].
    pub epoch: u64,
    /// The position seen before this batch; exclusive.
    pub from: Option<Position>,
    /// The last position this batch accounts for; inclusive.
    pub to: Position,
    /// The records.
    pub rows: RawRows,
}

impl RawBatch {
    /// Bytes held by the batch, for channel bounds.
    pub fn bytes(&self) -> usize {
        128 + match &self.rows {
            RawRows::Records(records) => records.iter().map(|record| record.bytes() + 64).sum::<usize>(),
            RawRows::Columns { rows, .. } => rows.get_array_memory_size(),
        }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        match &self.rows {
            RawRows::Records(records) => records.len(),
            RawRows::Columns { rows, .. } => rows.num_rows(),
        }
    }

    /// Does it only move the position?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
