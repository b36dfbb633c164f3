//! A run of rows that came together: columns in memory, immutable but for their dead stamps.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::cached_columns::CachedColumns;
use crate::index::ScanCodes;
use crate::memory::MemoryBudget;
use crate::types::{Column, Lsn, PointId};

/// Rows in the order in which they were applied.
#[derive(Debug, Default)]
pub struct Block {
    dim: usize,
    ids: Vec<PointId>,
    born: Vec<Lsn>,
    event_times: Vec<i64>,
    payloads: Vec<Bytes>,
    vectors: Vec<f32>,
    /// 0 = alive, else the LSN that replaced or deleted the row.
    dead: Vec<AtomicU64>,
    /// Made by filters.
    columns: CachedColumns,
    /// Made by searches.
    scan_codes: ScanCodes,
}

impl Block {
    /// Rows.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Row-major `len × dim`.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// The vectors' codes, as far as searches have made them.
    pub fn scan_codes(&self) -> &ScanCodes {
        &self.scan_codes
    }

    /// Whom columns and codes are charged to.
    pub(super) fn charge_to(&mut self, budget: &Arc<MemoryBudget>) {
        self.columns = CachedColumns::new(budget);
        self.scan_codes = ScanCodes::new(budget);
    }

    /// One row's vector. Panics if there is no such row, as the others below do.
    pub fn vector(&self, row: usize) -> &[f32] {
        &self.vectors[row * self.dim..(row + 1) * self.dim]
    }

    /// One row's id.
    pub fn id(&self, row: usize) -> &PointId {
        &self.ids[row]
    }

    /// The entry that wrote a row.
    pub fn born(&self, row: usize) -> Lsn {
        self.born[row]
    }

    /// One row's event time, milliseconds since the Unix epoch.
    pub fn event_time_ms(&self, row: usize) -> i64 {
        self.event_times[row]
    }

    /// One row's payload: a JSON object as text, or nothing.
    pub fn payload(&self, row: usize) -> &Bytes {
        &self.payloads[row]
    }

    /// The LSN that ended a row.
    pub fn dead(&self, row: usize) -> Option<Lsn> {
        match self.dead[row].load(Ordering::Acquire) {
            0 => None,
            lsn => Some(Lsn(lsn)),
        }
    }

    /// Does a search at `at` see the row?
    pub fn is_visible(&self, row: usize, at: Lsn) -> bool {
        self.born[row] <= at && self.dead(row).is_none_or(|dead| dead > at)
    }

    /// Stamps a row dead; for the apply thread.
    pub(crate) fn kill(&self, row: usize, at: Lsn) {
        self.dead[row].store(at.0, Ordering::Release);
    }

    /// A payload field over all rows; `None` where no row has it.
    ///
    /// All fields are kept in memory after the first call, see [`Block::cached_bytes`].
    pub fn column(&self, field: &str) -> Option<Column> {
        self.columns.get(field, &self.payloads)
    }

    /// Bytes of columns in memory.
    pub fn cached_bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Forgets the columns in memory and returns their bytes: for when memory is short.
    pub fn drop_columns(&self) -> usize {
        self.columns.forget()
    }

    /// Bytes of memory, without columns built for filters and codes made by scans.
    pub fn bytes(&self) -> usize {
        let text: usize =
            self.ids.iter().zip(&self.payloads).map(|(id, payload)| id.as_str().len() + payload.len()).sum();
        // Per row: id and payload handles, LSN, time, stamp, and the id's entry in the memtable's map.
        text + self.vectors.len() * size_of::<f32>() + self.len() * 144
    }

    /// Neighbours as one.
    pub(super) fn concat(parts: &[Arc<Self>]) -> Self {
        fn join<T: Clone>(parts: &[Arc<Block>], column: impl Fn(&Block) -> &[T]) -> Vec<T> {
            parts.iter().map(|part| column(part)).collect::<Vec<_>>().concat()
        }
        let stamps = parts.iter().flat_map(|part| &part.dead);
        let mut joined = Self {
            dim: parts.first().map_or(0, |part| part.dim),
            ids: join(parts, |part| &part.ids),
            born: join(parts, |part| &part.born),
            event_times: join(parts, |part| &part.event_times),
            payloads: join(parts, |part| &part.payloads),
            vectors: join(parts, |part| &part.vectors),
            dead: stamps.map(|stamp| AtomicU64::new(stamp.load(Ordering::Acquire))).collect(),
            ..Self::default()
        };
        if let Some(part) = parts.first() {
            joined.charge_to(part.scan_codes.budget());
        }
        joined
    }
}

/// Collects the upserts of one entry.
pub struct BlockBuilder {
    block: Block,
}

impl BlockBuilder {
    /// For `rows` rows.
    pub fn new(dim: usize, rows: usize) -> Self {
        let block = Block {
            dim,
            ids: Vec::with_capacity(rows),
            born: Vec::with_capacity(rows),
            event_times: Vec::with_capacity(rows),
            payloads: Vec::with_capacity(rows),
            dead: Vec::with_capacity(rows),
            ..Block::default()
        };
        Self { block }
    }

    /// Adds a row's fields; its vector comes with [`BlockBuilder::finish`]. Returns its index.
    pub fn push(&mut self, id: PointId, born: Lsn, event_time_ms: i64, payload: Bytes) -> usize {
        self.block.ids.push(id);
        self.block.born.push(born);
        self.block.event_times.push(event_time_ms);
        self.block.payloads.push(payload);
        self.block.dead.push(AtomicU64::new(0));
        self.block.len() - 1
    }

    /// Stamps a row of this very entry: an id written twice in one batch.
    pub fn kill(&mut self, row: usize, at: Lsn) {
        self.block.kill(row, at);
    }

    /// The id of a row added before.
    pub fn id(&self, row: usize) -> &PointId {
        self.block.id(row)
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.block.len()
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The block, with all vectors at once: an entry's vectors are moved, not copied.
    pub fn finish(mut self, vectors: Vec<f32>) -> Block {
        assert_eq!(vectors.len(), self.block.len() * self.block.dim, "one vector a row");
        self.block.vectors = vectors;
        self.block
    }
}
