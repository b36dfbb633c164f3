//! Bytes held by somebody, and let go of with them.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{MemoryBudget, Purpose};

/// A part of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<MemoryBudget>,
    purpose: Purpose,
    bytes: AtomicUsize,
}

impl Charge {
    pub(super) fn new(budget: Arc<MemoryBudget>, purpose: Purpose, bytes: usize) -> Self {
        budget.add(purpose, bytes);
        Self { budget, purpose, bytes: AtomicUsize::new(bytes) }
    }

    /// Counts for itself: where there is no budget, as in tools and tests.
    pub fn uncounted(purpose: Purpose) -> Self {
        Self::new(MemoryBudget::unlimited(), purpose, 0)
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The budget it is part of.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// Holds so many bytes more.
    pub fn grow(&self, bytes: usize) {
        self.budget.add(self.purpose, bytes);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Holds so many bytes from now on; returns what it held.
    pub fn set(&self, bytes: usize) -> usize {
        self.budget.add(self.purpose, bytes);
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        self.budget.subtract(self.purpose, before);
        before
    }

    /// Becomes a charge for something else: a batch in flight that is now a log entry.
    pub fn turn_into(&mut self, purpose: Purpose, bytes: usize) {
        self.budget.add(purpose, bytes);
        let before = std::mem::replace(self.bytes.get_mut(), bytes);
        self.budget.subtract(self.purpose, before);
        self.purpose = purpose;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.subtract(self.purpose, *self.bytes.get_mut());
    }
}
