//! What a segment is written from: rows that are read where they lie.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Segment, StoreError};
use crate::types::{Lsn, PointId};

/// One live row, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowRef<'a> {
    /// The id's text.
    pub id: &'a str,
    /// Did the id come as an integer? See [`PointId`].
    pub id_is_integer: bool,
    /// The entry that wrote this version.
    pub lsn: Lsn,
    /// When the event happened, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    /// `dim` components, normalised for cosine.
    pub vector: &'a [f32],
    /// A JSON object as text; empty means `{}`.
    pub payload: &'a [u8],
}

/// A delete, kept in the Parquet file so that its readers can compute the live state.
#[derive(Debug, Clone, PartialEq)]
pub struct Tombstone {
    /// The point.
    pub id: PointId,
    /// The entry that deleted it.
    pub lsn: Lsn,
    /// Milliseconds since the Unix epoch.
    pub event_time_ms: i64,
}

/// Rows in the order in which a segment will hold them.
///
/// Contract
/// * `row(i)` answers for every `i < len()`, and the same each time: writing goes over the rows several times.
/// * No two rows have the same id.
/// * It is cheap; nothing is copied.
pub trait RowSource: Send + Sync {
    /// Number of rows.
    fn len(&self) -> usize;

    /// One row. Panics if there is no such row; fails if it lies in a damaged file.
    fn row(&self, row: usize) -> Result<RowRef<'_>, StoreError>;

    /// No rows?
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RowSource for [RowRef<'_>] {
    fn len(&self) -> usize {
        <[_]>::len(self)
    }

    #[allow(clippy::indexing_slicing)]
    fn row(&self, row: usize) -> Result<RowRef<'_>, StoreError> {
        Ok(self[row])
    }
}

/// A slice by another type: a `dyn RowSource` is made from sized types only.
impl RowSource for Vec<RowRef<'_>> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn row(&self, row: usize) -> Result<RowRef<'_>, StoreError> {
        self.as_slice().row(row)
    }
}

/// Chosen rows of several segments: what compaction writes.
pub struct PickedRows<'a> {
    segments: Vec<Arc<Segment>>,
    picks: Vec<(u32, u32)>,
    stop: &'a AtomicBool,
}

impl<'a> PickedRows<'a> {
    /// `picks`: (place in `segments`, row), in the order in which they will be written. Once `stop` is set every
    /// row fails, and with it the write.
    pub fn new(segments: Vec<Arc<Segment>>, picks: Vec<(u32, u32)>, stop: &'a AtomicBool) -> Self {
        Self { segments, picks, stop }
    }
}

impl RowSource for PickedRows<'_> {
    fn len(&self) -> usize {
        self.picks.len()
    }

    #[allow(clippy::indexing_slicing)]
    fn row(&self, row: usize) -> Result<RowRef<'_>, StoreError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(StoreError::Stopped);
        }
        let (segment, row) = self.picks[row];
        self.segments[segment as usize].row(row)
    }
}
