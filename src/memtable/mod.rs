//! The newest rows, searchable at once.
//!
//! ```text
//!   apply ──Block──▶ active memtable ──freeze──▶ frozen ──▶ flush
//!                        ▲ search: exact scan over blocks, by codes that searches make of them
//! ```
//! I1 only the apply thread writes; readers see whole blocks. I2 a row is never changed, only stamped dead
//! with the LSN that replaced or deleted it. I3 row numbers are stable for a memtable's life, though blocks
//! are merged as they grow.
mod block;
mod cached_columns;
mod hash;
#[cfg(test)]
mod contract;

use std::sync::Arc;
use std::time::Instant;

use crate::types::{IdHash, Lsn, PointId, Reject};

pub use block::{Block, BlockBuilder};
pub use hash::HashMemtable;

/// A deletion remembered for the segment file, so that a reader of plain Parquet can tell what is live.
#[derive(Debug, Clone, PartialEq)]
pub struct Tombstone {
    /// The deleted point.
    pub id: PointId,
    /// The entry that deleted it.
    pub lsn: Lsn,
    /// When, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
}

/// A rejected record, with the entry that holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// The pipeline it came from.
    pub source: String,
    /// The entry.
    pub lsn: Lsn,
    /// The record.
    pub reject: Reject,
}

/// Rows since the last freeze, by id.
///
/// Contract
/// * One writer (the apply thread), any number of readers.
/// * `append` makes all rows of the block findable before it returns.
/// * `latest` gives the newest row of an id in *this* memtable, dead or alive.
/// * `blocks` taken after an LSN was published holds every row born up to it.
pub trait Memtable: Send + Sync {
    /// Adds rows; returns the number of the first.
    fn append(&self, block: Block) -> u32;
    /// The newest row of an id, whose hash the caller has.
    fn latest(&self, id: &str, hash: IdHash) -> Option<u32>;
    /// Stamps a row dead.
    fn kill(&self, row: u32, at: Lsn);
    /// Notes that something happened that a manifest must come to hold, if only a position that moved.
    fn touch(&self);
    /// Remembers a deletion.
    fn bury(&self, tombstone: Tombstone);
    /// Remembers rejected records.
    fn reject(&self, rejected: Vec<Rejected>);
    /// All blocks, oldest first; row numbers run through them.
    fn blocks(&self) -> Vec<Arc<Block>>;
    /// The block that holds a row, and the row's index in it.
    fn locate(&self, row: u32) -> Option<(Arc<Block>, usize)>;
    /// Deletions so far.
    fn tombstones(&self) -> Vec<Tombstone>;
    /// Rejected records so far.
    fn rejected(&self) -> Vec<Rejected>;
    /// Rows, dead ones included.
    fn rows(&self) -> usize;
    /// Bytes of memory held.
    fn bytes(&self) -> usize;
    /// When the first row came; `None` while empty.
    fn since(&self) -> Option<Instant>;
}

/// Where a stretch of the log ends, for the segment that a frozen memtable becomes.
#[derive(Debug, Clone, Default)]
pub struct FrozenMarks {
    /// The last entry the memtable holds.
    pub lsn: Lsn,
    /// Its term.
    pub term: u64,
    /// Source positions as of that entry.
    pub positions: crate::types::Positions,
    /// Latest event time as of that entry.
    pub watermark_ms: Option<i64>,
}
