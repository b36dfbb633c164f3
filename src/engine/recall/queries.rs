//! Recent queries of a collection, as many as are needed to measure by.
use std::sync::Arc;

use super::random::Random;
use crate::memory::{Charge, MemoryBudget, Purpose};
use crate::query::Filter;

/// Queries kept.
const KEPT_MAX: usize = 64;
/// Bytes kept: 64 queries of 16,384 components.
const BYTES_MAX: usize = 4 << 20;
/// A longer one, by its vector or its filter's lists, is not kept: a few would fill the room.
const QUERY_BYTES_MAX: usize = BYTES_MAX / 8;
/// Once the room is full, one query in so many takes the place of another: those kept span the last 500 or so.
const STRIDE: u64 = 8;

/// A search as it was asked.
#[derive(Debug, Clone)]
pub struct Query {
    /// As prepared for the collection's distance.
    pub vector: Arc<[f32]>,
    /// Its filter.
    pub filter: Option<Arc<Filter>>,
}

impl Query {
    fn bytes(vector: &[f32], filter: Option<&Filter>) -> usize {
        size_of::<Kept>() + size_of_val(vector) + filter.map_or(0, Filter::bytes)
    }
}

struct Kept {
    query: Query,
    bytes: usize,
    is_measured: bool,
}

/// A reservoir biased to the recent: *On biased reservoir sampling in the presence of stream evolution*, C. Aggarwal
/// (VLDB 2006).
pub struct Queries {
    kept: Vec<Kept>,
    offered: u64,
    random: Random,
    charge: Charge,
}

impl Queries {
    /// None yet; what will be kept is charged.
    pub fn new(budget: &Arc<MemoryBudget>) -> Self {
        Self {
            kept: Vec::new(),
            offered: 0,
            random: Random(0x7072_6F78),
            charge: budget.charge(Purpose::Queries, 0),
        }
    }

    /// A search was asked. Copies it if it is to be kept.
    pub fn offer(&mut self, vector: &[f32], filter: Option<&Filter>) {
        self.offered += 1;
        let is_full = self.kept.len() >= KEPT_MAX;
        if is_full && !self.offered.is_multiple_of(STRIDE) || self.charge.budget().excess() > 0 {
            return;
        }
        let bytes = Query::bytes(vector, filter);
        if bytes > QUERY_BYTES_MAX {
            return;
        }
        while self.kept.len() >= KEPT_MAX || !self.kept.is_empty() && self.bytes() + bytes > BYTES_MAX {
            let place = self.random.below(self.kept.len() as u64) as usize;
            self.kept.swap_remove(place);
        }
        let query = Query { vector: vector.into(), filter: filter.cloned().map(Arc::new) };
        self.kept.push(Kept { query, bytes, is_measured: false });
        self.charge.set(self.bytes());
    }

    /// One that was not measured yet, which it is from now on.
    pub fn take(&mut self) -> Option<Query> {
        let kept = self.kept.iter_mut().find(|kept| !kept.is_measured)?;
        kept.is_measured = true;
        Some(kept.query.clone())
    }

    /// How many were not measured yet.
    pub fn fresh(&self) -> usize {
        self.kept.iter().filter(|kept| !kept.is_measured).count()
    }

    /// What was measured is worth measuring again.
    pub fn refresh(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.is_measured = false);
    }

    /// Lets go of everything.
    pub fn clear(&mut self) {
        self.kept = Vec::new();
        self.charge.set(0);
    }

    fn bytes(&self) -> usize {
        self.kept.iter().map(|kept| kept.bytes).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn recent_ones_are_kept_and_each_is_measured_once() {
        let mut queries = Queries::new(&MemoryBudget::unlimited());
        (0..10_000).for_each(|n| queries.offer(&[n as f32], None));
        assert_eq!(queries.fresh(), KEPT_MAX);
        let mut seen: Vec<f32> = std::iter::from_fn(|| queries.take()).map(|query| query.vector[0]).collect();
        assert_eq!((seen.len(), queries.fresh()), (KEPT_MAX, 0));
        seen.sort_by(f32::total_cmp);
        seen.dedup();
        assert_eq!(seen.len(), KEPT_MAX, "no query twice");
        assert!(seen[KEPT_MAX / 2] > 9_000.0, "half of them are of the last thousand: {seen:?}");
        queries.offer(&[0.0], None);
        queries.refresh();
        assert_eq!(queries.fresh(), KEPT_MAX);
    }

    #[test]
    fn bytes_are_bounded_and_charged() {
        let budget = MemoryBudget::unlimited();
        let mut queries = Queries::new(&budget);
        for _ in 0..500 {
            queries.offer(&[0.5; 65_536], None);
        }
        assert!((BYTES_MAX / 2..=BYTES_MAX).contains(&queries.bytes()), "{}", queries.bytes());
        assert_eq!(budget.held(Purpose::Queries), queries.bytes());
        queries.clear();
        assert_eq!(budget.held(Purpose::Queries), 0);
        let ids: Vec<String> = (0..50_000).map(|n| n.to_string()).collect();
        let filter = Filter::parse(&json!({"must": [{"has_id": ids}]}), "").unwrap();
        queries.offer(&[0.5], Some(&filter));
        assert_eq!(queries.fresh(), 0, "a filter of megabytes");
    }

    #[test]
    fn nothing_is_kept_while_memory_is_tight() {
        let budget = MemoryBudget::new(1_000);
        let memtable = budget.charge(Purpose::Memtables, 900);
        let mut queries = Queries::new(&budget);
        queries.offer(&[1.0], None);
        assert_eq!(queries.fresh(), 0);
        drop(memtable);
        queries.offer(&[1.0], None);
        assert_eq!(queries.fresh(), 1);
    }
}
