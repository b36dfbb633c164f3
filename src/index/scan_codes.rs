//! The codes of rows that are in no graph: made by scans, for scans, and let go of when memory is tight.
//!
//! Nothing is coded on the way in: whoever scans a chunk of rows in floats has just read it, and codes it if its
//! allowance permits (see `scanner`). Rows that nobody searches are never coded.
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::VectorBlock;
use super::code_chunk::{CHUNK_ROWS, CodeChunk, can_code};
use crate::memory::{Charge, MemoryBudget, Purpose};

/// Components below which codes with their factors take more than half of what they save.
const DIM_MIN: usize = 24;

/// Runs of fewer rows get no codes: they are merged into longer ones, and scanned in no time.
const RUN_ROWS_MIN: usize = CHUNK_ROWS;

/// Last chunks of fewer rows get no codes.
const CHUNK_ROWS_MIN: usize = 64;

/// The codes of one run of rows, which never change: a block of a memtable, a segment.
#[derive(Debug)]
pub struct ScanCodes {
    budget: Arc<MemoryBudget>,
    held: ArcSwapOption<Held>,
    /// Held by the search that codes: others go on without.
    coding: Mutex<()>,
}

/// What is let go of as a whole, once no search reads it any more.
#[derive(Debug)]
pub(super) struct Held {
    chunks: Box<[OnceLock<CodeChunk>]>,
    charge: Charge,
}

impl Held {
    /// A chunk's codes, if it has any.
    #[inline]
    pub(super) fn chunk(&self, number: usize) -> Option<&CodeChunk> {
        self.chunks.get(number)?.get()
    }
}

impl ScanCodes {
    /// None yet; charged to `budget` as they come.
    pub fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self { budget: Arc::clone(budget), held: ArcSwapOption::empty(), coding: Mutex::new(()) }
    }

    /// The budget that is charged.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.held.load().as_ref().map_or(0, |held| held.charge.bytes())
    }

    /// Lets go of them; they come again with the next scans, while there is room. Returns the bytes.
    pub fn forget(&self) -> usize {
        self.held.swap(None).map_or(0, |held| held.charge.bytes())
    }

    pub(super) fn held(&self) -> Option<Arc<Held>> {
        self.held.load_full()
    }

    /// Codes one chunk of a run of `rows`. Says whether it did: not if somebody else is at it or there is no room.
    pub(super) fn code(&self, rows: usize, number: usize, chunk: VectorBlock<'_>) -> bool {
        let bytes = CodeChunk::bytes(chunk.len(), chunk.dim);
        let is_worth_it = can_code(chunk.dim)
            && chunk.dim >= DIM_MIN
            && rows >= RUN_ROWS_MIN
            && chunk.len() >= CHUNK_ROWS_MIN;
        is_worth_it && self.has_room(bytes) && self.code_anyway(rows, number, chunk)
    }

    /// The same, whatever the size and the room.
    pub(super) fn code_anyway(&self, rows: usize, number: usize, chunk: VectorBlock<'_>) -> bool {
        let Some(_coding) = self.coding.try_lock() else { return false };
        let held = self.held.load_full().unwrap_or_else(|| {
            let chunks = (0..rows.div_ceil(CHUNK_ROWS)).map(|_| OnceLock::new()).collect();
            let held = Arc::new(Held { chunks, charge: self.budget.charge(Purpose::ScanCodes, 0) });
            self.held.store(Some(Arc::clone(&held)));
            held
        });
        let Some(slot) = held.chunks.get(number).filter(|slot| slot.get().is_none()) else { return false };
        if slot.set(CodeChunk::new(chunk)).is_ok() {
            held.charge.grow(CodeChunk::bytes(chunk.len(), chunk.dim));
        }
        true
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.budget.has_room_for_caches(bytes) && self.budget.has_lasting_room(Purpose::ScanCodes, bytes, 0)
    }
}

impl Default for ScanCodes {
    /// Charged to nobody.
    fn default() -> Self {
        Self::new(&MemoryBudget::unlimited())
    }
}
