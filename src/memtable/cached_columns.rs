//! Payload fields of a block as columns: made when a filter first asks, let go of when memory is tight.
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::memory::{Charge, MemoryBudget, Purpose};
use crate::types::{Column, columns_of};

/// All fields of one block, or none of them.
#[derive(Debug)]
pub(super) struct CachedColumns {
    /// Locked while they are made, so that searches that come together make them once.
    held: Mutex<Option<BTreeMap<String, Column>>>,
    charge: Charge,
}

impl CachedColumns {
    /// None yet; charged to `budget` once they are made.
    pub(super) fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self { held: Mutex::default(), charge: budget.charge(Purpose::ColumnCaches, 0) }
    }

    /// One field over all rows; `None` where no row has it.
    ///
    /// Kept with all others if there is room: a filter on one field is mostly followed by filters on it and on others.
    pub(super) fn get(&self, field: &str, payloads: &[Bytes]) -> Option<Column> {
        let mut held = self.held.lock();
        if let Some(columns) = &*held {
            return columns.get(field).cloned();
        }
        let payloads: Vec<Option<Map<String, Value>>> =
            payloads.iter().map(|payload| serde_json::from_slice(payload).ok()).collect();
        let mut columns = columns_of(&payloads);
        let bytes = columns.iter().map(|(field, column)| field.len() + column.bytes()).sum();
        if !self.charge.budget().has_room_for_caches(bytes) {
            return columns.remove(field);
        }
        self.charge.set(bytes);
        held.insert(columns).get(field).cloned()
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Lets go of them; the next filter makes them again. Returns the bytes.
    pub(super) fn forget(&self) -> usize {
        let mut held = self.held.lock();
        *held = None;
        self.charge.set(0)
    }
}

impl Default for CachedColumns {
    /// Charged to nobody.
    fn default() -> Self {
        Self::new(&MemoryBudget::unlimited())
    }
}
