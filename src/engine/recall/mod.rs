//! Recall as a promise: measured on the collection's own queries, held by choosing `ef_search`.
//!
//! ```text
//!   searches ──▶ queries   a few dozen recent ones, each with its filter
//!                   │      (until there are enough: points made up from stored rows)
//!                   ▼
//!   sampler thread: one query, one snapshot ─┬─ exact answer
//!                                            └─ the same search at some values of ef_search
//!                   │ shares found
//!                   ▼
//!   tuner ──▶ ef_search of the searches that name none, kept in the catalog
//! ```
//! I1 a search that names its own `hnsw_ef` gets that, and is not sampled. I2 what is measured is the search as users
//! get it: memtables, graphs, scans and filters of one snapshot. I3 measuring never takes more than its share of one
//! core, nor runs while memory is tight. I4 a tie counts as found: a hit no farther than the exact k-th is as good.
mod estimate;
mod queries;
mod random;
mod sample;
mod sampler;
mod tuner;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::memory::MemoryBudget;
use crate::query::{Filter, QueryError};
use crate::shard::Shard;
use crate::store::SegmentId;
use crate::types::{CollectionConfig, RecallTarget};
use crate::view::Snapshot;

use queries::{Queries, Query};
use random::Random;
pub(super) use sampler::{Sampler, Sampling};
use tuner::{Probes, Tuner};

/// Queries not measured yet that make the collection's own ones the measure, instead of points made up.
const QUERIES_MIN: usize = 16;
/// Points made up from rows that are measured until nothing changes any more.
const POINTS_ENOUGH: f64 = 1_024.0;
/// Queries measured below which such points help out.
const QUERIES_FEW: f64 = 64.0;
/// Share of the rows that must be searched otherwise for queries to be worth a second measurement.
const CHANGED_SHARE: f64 = 0.1;
/// A measurement that takes longer is given up.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a collection keeps its promise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RecallReport {
    /// Promised.
    pub target: RecallTarget,
    /// Mean over the queries measured at `ef_search`; `None` before the first.
    pub measured: Option<f64>,
    /// Between these it is with 95 % confidence.
    pub confidence: Option<(f64, f64)>,
    /// Queries that it rests on; 0 with a measure of 1 where every search is exact.
    pub samples: u64,
    /// Candidates kept while walking graphs where a request names no number.
    pub ef_search: usize,
    /// Time of the latest measurement, milliseconds since the Unix epoch.
    pub measured_at_ms: Option<i64>,
}

/// One collection's promise, if it makes one.
pub(super) struct Recall {
    /// 0 without a promise.
    ef: AtomicUsize,
    /// Of searches that name no `hnsw_ef`, where nothing is promised.
    ef_default: usize,
    queries: Mutex<Queries>,
    promise: Mutex<Option<Promise>>,
}

struct Promise {
    target: RecallTarget,
    tuner: Tuner,
    /// The graphs that were measured: segment, graph, rows.
    graphs: Vec<(SegmentId, usize, u32)>,
    /// Share of the rows that is searched otherwise than when queries were last asked for again.
    unrefreshed: f64,
    /// There is no graph: every search is exact.
    is_exact: bool,
    /// Measured by queries, rather than by points made up alone.
    by_queries: bool,
    measured_at_ms: Option<i64>,
}

/// What a step of measuring did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is nothing to learn now.
    Rest,
    /// One query was measured.
    Measured,
}

impl Recall {
    /// The promise of a collection as the catalog has it.
    pub fn new(config: &CollectionConfig, ef_default: usize, budget: &Arc<MemoryBudget>) -> Self {
        let recall = Self {
            ef: AtomicUsize::new(0),
            ef_default,
            queries: Mutex::new(Queries::new(budget)),
            promise: Mutex::new(None),
        };
        recall.follow(config);
        recall
    }

    /// Promises what the catalog says from now on.
    pub fn follow(&self, config: &CollectionConfig) {
        let mut promise = self.promise.lock();
        match (config.recall_target, &mut *promise) {
            (None, _) => {
                *promise = None;
                self.ef.store(0, Ordering::Relaxed);
                self.queries.lock().clear();
            }
            (Some(target), Some(promise)) => {
                promise.target = target;
                promise.tuner.set_target(target);
            }
            (Some(target), none) => {
                let ef = config.ef_search.map_or(self.ef_default, |ef| ef as usize);
                let tuner = Tuner::new(target, ef);
                self.ef.store(tuner.ef(), Ordering::Relaxed);
                *none = Some(Promise {
                    target,
                    tuner,
                    graphs: Vec::new(),
                    unrefreshed: 0.0,
                    is_exact: false,
                    by_queries: false,
                    measured_at_ms: None,
                });
            }
        }
    }

    /// Candidates for a search of `k` hits that names no number.
    pub fn ef_search(&self, k: usize) -> usize {
        match self.ef.load(Ordering::Relaxed) {
            0 => self.ef_default,
            ef if k <= RecallTarget::K => ef,
            // Nothing is promised of so many: no less than without a promise.
            ef => ef.max(self.ef_default),
        }
    }

    /// What was chosen; `None` without a promise.
    pub fn chosen(&self) -> Option<usize> {
        Some(self.ef.load(Ordering::Relaxed)).filter(|ef| *ef > 0)
    }

    /// A search was asked that leaves `ef_search` to us.
    pub fn offer(&self, vector: &[f32], filter: Option<&Filter>) {
        if self.ef.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Another search is being kept: one sample less, rather than a search that waits.
        if let Some(mut queries) = self.queries.try_lock() {
            queries.offer(vector, filter);
        }
    }

    /// How the promise is kept; `None` where nothing is promised.
    pub fn report(&self) -> Option<RecallReport> {
        let promise = self.promise.lock();
        let promise = promise.as_ref()?;
        let tally = promise.tuner.tally();
        let (measured, confidence) = match promise.is_exact {
            true => (Some(1.0), Some((1.0, 1.0))),
            false => (tally.mean(), tally.mean().map(|_| tally.interval())),
        };
        Some(RecallReport {
            target: promise.target,
            measured,
            confidence,
            samples: if promise.is_exact { 0 } else { tally.queries().round() as u64 },
            ef_search: promise.tuner.ef(),
            measured_at_ms: promise.measured_at_ms,
        })
    }

    /// Measures one query, if there is something to learn from it.
    pub fn step(&self, shard: &Shard, random: &mut Random, now_ms: i64) -> Result<Step, QueryError> {
        let snapshot = shard.snapshot();
        let distance = shard.config().distance;
        let deadline = Instant::now() + SAMPLE_TIMEOUT;
        let Some((probes, query)) = self.next(&snapshot) else { return Ok(Step::Rest) };
        let ef_most = probes.last().map_or(self.ef_default, |(_, ef)| *ef);
        let query = match query {
            Some(query) => Some(query),
            None => sample::mirrored_row(&snapshot, distance, random, ef_most, deadline)?,
        };
        let Some(query) = query else { return Ok(Step::Rest) };
        let efs: Vec<usize> = probes.iter().map(|(_, ef)| *ef).collect();
        let shares = sample::measure(&snapshot, distance, &query, &efs, deadline)?;
        let mut promise = self.promise.lock();
        let Some(promise) = promise.as_mut() else { return Ok(Step::Rest) };
        // Nothing matches its filter: nothing can be missed.
        for ((rung, _), share) in probes.iter().zip(shares.into_iter().flatten()) {
            promise.tuner.record(*rung, share);
        }
        promise.measured_at_ms = Some(now_ms);
        if promise.tuner.decide() {
            self.ef.store(promise.tuner.ef(), Ordering::Relaxed);
        }
        Ok(Step::Measured)
    }

    /// Where to ask next, and what: a query, or a point to be made up. `None`: there is nothing to learn.
    fn next(&self, snapshot: &Snapshot) -> Option<(Probes, Option<Query>)> {
        let graphs = graphs(snapshot);
        let mut promise = self.promise.lock();
        let promise = promise.as_mut()?;
        promise.is_exact = graphs.is_empty();
        let mut queries = self.queries.lock();
        let changed = changed_share(&promise.graphs, &graphs);
        promise.graphs = graphs;
        promise.tuner.forget(changed);
        // Small changes add up: a collection that grows bit by bit is another one in the end.
        promise.unrefreshed += changed;
        if promise.unrefreshed >= CHANGED_SHARE {
            promise.unrefreshed = 0.0;
            queries.refresh();
        }
        if promise.is_exact {
            return None;
        }
        if !promise.by_queries && queries.fresh() >= QUERIES_MIN {
            // What was made up only stood in for them.
            promise.by_queries = true;
            promise.tuner.forget(1.0);
        }
        // Another target, or the last query measured, may speak for another choice although nothing new is asked.
        if promise.tuner.decide() {
            self.ef.store(promise.tuner.ef(), Ordering::Relaxed);
        }
        let enough = if promise.by_queries { QUERIES_FEW } else { POINTS_ENOUGH };
        let query = promise.by_queries.then(|| queries.take()).flatten();
        if query.is_none() && promise.tuner.tally().queries() >= enough {
            return None;
        }
        Some((promise.tuner.probes(), query))
    }
}

/// The graphs of a snapshot; one that is built anew is another one.
fn graphs(snapshot: &Snapshot) -> Vec<(SegmentId, usize, u32)> {
    let graph_of = |live: &Arc<crate::view::LiveSegment>| {
        let graph = live.graph.load_full()?;
        Some((live.id(), Arc::as_ptr(&graph).addr(), live.rows()))
    };
    snapshot.view.segments.iter().filter_map(graph_of).collect()
}

/// Share of the rows in graphs that weren't there before.
fn changed_share(before: &[(SegmentId, usize, u32)], now: &[(SegmentId, usize, u32)]) -> f64 {
    let all = rows(now.iter());
    if all == 0.0 { 0.0 } else { rows(now.iter().filter(|graph| !before.contains(graph))) / all }
}

fn rows<'a>(graphs: impl Iterator<Item = &'a (SegmentId, usize, u32)>) -> f64 {
    graphs.map(|(_, _, rows)| f64::from(*rows)).sum()
}
