//! The hash memtable: blocks of rows and one table from id to newest row.
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::{Block, Memtable, Rejected, Tombstone};
use crate::memory::{Charge, Purpose};
use crate::types::{IdHash, IdTable, Lsn};

/// Blocks are merged up to this many rows. Larger blocks scan faster; each step towards them copies every row.
const MERGED_ROWS_MAX: usize = 4096;
/// Blocks of about a size that become one. Fewer means more copying: of entries of 256 rows each row is copied
/// once, with pairs it would be four times. More means more small blocks for a search to look at.
const MERGE_COUNT: usize = 8;

/// See the module.
pub struct HashMemtable {
    rows: RwLock<Rows>,
    tombstones: Mutex<Vec<Tombstone>>,
    rejected: Mutex<Vec<Rejected>>,
    charge: Charge,
    since: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Rows {
    blocks: Vec<Arc<Block>>,
    /// Number of each block's first row.
    firsts: Vec<u32>,
    len: u32,
    newest: IdTable,
}

impl Rows {
    fn locate(&self, row: u32) -> Option<(&Arc<Block>, usize)> {
        let index = self.firsts.partition_point(|first| *first <= row).checked_sub(1)?;
        let block = self.blocks.get(index)?;
        let within = (row - self.firsts.get(index)?) as usize;
        (within < block.len()).then_some((block, within))
    }

    fn has_id(&self, row: u32, id: &str) -> bool {
        self.locate(row).is_some_and(|(block, within)| block.id(within).as_str() == id)
    }

    /// Merges the last blocks once there are [`MERGE_COUNT`] of about a size, smaller ones between them included.
    fn merge_tail(&mut self) {
        while let Some(last) = self.blocks.last() {
            let class = size_class(last.len());
            let mut together = 0;
            let tail = self.blocks.iter().rev().take_while(|block| {
                together += block.len();
                size_class(block.len()) <= class && together <= MERGED_ROWS_MAX
            });
            let count = tail.count();
            if count < MERGE_COUNT {
                return;
            }
            let parts = self.blocks.split_off(self.blocks.len() - count);
            self.firsts.truncate(self.firsts.len() + 1 - count);
            self.blocks.push(Arc::new(Block::concat(&parts)));
        }
    }
}

/// One more for each factor of eight.
fn size_class(rows: usize) -> u32 {
    rows.max(1).ilog2() / MERGE_COUNT.ilog2()
}

impl HashMemtable {
    /// An empty one that is charged to nobody.
    pub fn new() -> Self {
        Self::charged(Charge::uncounted(Purpose::Memtables))
    }

    /// An empty one; what it comes to hold is charged.
    pub fn charged(charge: Charge) -> Self {
        Self {
            rows: RwLock::default(),
            tombstones: Mutex::default(),
            rejected: Mutex::default(),
            charge,
            since: Mutex::default(),
        }
    }

    fn grow(&self, bytes: usize) {
        self.charge.grow(bytes);
        self.since.lock().get_or_insert_with(Instant::now);
    }
}

impl Default for HashMemtable {
    fn default() -> Self {
        Self::new()
    }
}

impl Memtable for HashMemtable {
    fn append(&self, block: Block) -> u32 {
        self.grow(block.bytes());
        let mut block = block;
        block.charge_to(self.charge.budget());
        let block = Arc::new(block);
        let mut rows = self.rows.write();
        let first = rows.len;
        rows.len += block.len() as u32;
        rows.blocks.push(Arc::clone(&block));
        rows.firsts.push(first);
        let mut newest = std::mem::take(&mut rows.newest);
        for row in 0..block.len() {
            let id = block.id(row).as_str();
            newest.put(IdHash::of(id), first + row as u32, |other| rows.has_id(other, id));
        }
        rows.newest = newest;
        rows.merge_tail();
        first
    }

    fn latest(&self, id: &str, hash: IdHash) -> Option<u32> {
        let rows = self.rows.read();
        rows.newest.find(hash, |row| rows.has_id(row, id))
    }

    fn kill(&self, row: u32, at: Lsn) {
        if let Some((block, within)) = self.locate(row) {
            block.kill(within, at);
        }
    }

    fn touch(&self) {
        self.grow(0);
    }

    fn bury(&self, tombstone: Tombstone) {
        self.grow(tombstone.id.as_str().len() + 64);
        self.tombstones.lock().push(tombstone);
    }

    fn reject(&self, rejected: Vec<Rejected>) {
        let bytes = rejected.iter().map(|one| one.reject.value.as_ref().map_or(0, String::len) + 256).sum();
        self.grow(bytes);
        self.rejected.lock().extend(rejected);
    }

    fn blocks(&self) -> Vec<Arc<Block>> {
        self.rows.read().blocks.clone()
    }

    fn locate(&self, row: u32) -> Option<(Arc<Block>, usize)> {
        self.rows.read().locate(row).map(|(block, within)| (Arc::clone(block), within))
    }

    fn tombstones(&self) -> Vec<Tombstone> {
        self.tombstones.lock().clone()
    }

    fn rejected(&self) -> Vec<Rejected> {
        self.rejected.lock().clone()
    }

    fn rows(&self) -> usize {
        self.rows.read().len as usize
    }

    fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    fn since(&self) -> Option<Instant> {
        *self.since.lock()
    }
}

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
