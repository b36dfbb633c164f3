//! The hash memtable: blocks of rows and one map from id to newest row.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use super::{Block, Memtable, Rejected, Tombstone};
use crate::memory::{Charge, Purpose};
use crate::types::{Lsn, PointId};

/// Blocks are merged up to this many rows. Larger blocks scan faster; each doubling copies every row once more.
const MERGED_ROWS_MAX: usize = 4096;

/// See the module.
pub struct HashMemtable {
    rows: RwLock<Rows>,
    newest: RwLock<HashMap<PointId, u32>>,
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
}

impl Rows {
    fn locate(&self, row: u32) -> Option<(Arc<Block>, usize)> {
        let index = self.firsts.partition_point(|first| *first <= row).checked_sub(1)?;
        let block = self.blocks.get(index)?;
        let within = (row - self.firsts.get(index)?) as usize;
        (within < block.len()).then(|| (Arc::clone(block), within))
    }

    /// Keeps blocks growing in halves, so that `n` rows lie in `n / 4096 + log n` blocks.
    fn merge_tail(&mut self) {
        while let [.., first, second] = self.blocks.as_slice() {
            let together = first.len() + second.len();
            if together > MERGED_ROWS_MAX || first.len() >= 2 * second.len() {
                break;
            }
            let merged = Arc::new(Block::concat(first, second));
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(merged);
            self.firsts.pop();
        }
    }
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
            newest: RwLock::default(),
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
        let block = Arc::new(block);
        // Rows before the map: whoever finds a number in the map can locate its row.
        let first = {
            let mut rows = self.rows.write();
            let first = rows.len;
            rows.len += block.len() as u32;
            rows.blocks.push(Arc::clone(&block));
            rows.firsts.push(first);
            rows.merge_tail();
            first
        };
        let mut newest = self.newest.write();
        for row in 0..block.len() {
            newest.insert(block.id(row).clone(), first + row as u32);
        }
        first
    }

    fn latest(&self, id: &str) -> Option<u32> {
        self.newest.read().get(id).copied()
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
        self.rows.read().locate(row)
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
mod tests {
    #[test]
    fn keeps_the_contract() {
        super::super::contract::suite(|| Box::new(super::HashMemtable::new()));
    }
}
