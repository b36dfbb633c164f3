//! Which index each segment is to have, which it has, and the build under way.
//!
//! ```text
//!   patch ──▶ wanted ──▶ upkeep: a segment whose index is another ──▶ built beside it ──▶ manifest ──▶ swapped in
//!                └── stops a build that is wanted no more
//! ```
//! I1 what serves goes on until the manifest names what takes its place. I2 what is wanted is kept by the catalog, what
//! is there by the manifest: after a crash the difference is what is left to do. I3 of two changes the later one holds,
//! however far the first has come.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::index::BuildControl;
use crate::store::SegmentId;
use crate::types::{Built, IndexSpec};
use crate::view::{LiveSegment, View};

/// What is wanted, and what is being done about it.
#[derive(Default)]
pub struct Indexing(Mutex<State>);

#[derive(Default)]
struct State {
    wanted: IndexSpec,
    building: Option<Building>,
    is_closed: bool,
}

struct Building {
    segment: SegmentId,
    rows: u32,
    built: Built,
    control: Arc<BuildControl>,
}

/// A build under way; it is over when this is dropped.
pub struct Build<'a> {
    indexing: &'a Indexing,
    /// What it builds with.
    pub built: Built,
    /// Watches and stops it.
    pub control: Arc<BuildControl>,
}

impl Drop for Build<'_> {
    fn drop(&mut self) {
        self.indexing.0.lock().building = None;
    }
}

impl Indexing {
    /// Wants this from the beginning.
    pub fn new(wanted: IndexSpec) -> Self {
        Self(Mutex::new(State { wanted, ..State::default() }))
    }

    /// What is wanted.
    pub fn wanted(&self) -> IndexSpec {
        self.0.lock().wanted
    }

    /// Wants this from now on; a build under way that it has no use for is stopped.
    pub fn want(&self, wanted: IndexSpec) {
        let mut state = self.0.lock();
        state.wanted = wanted;
        if let Some(building) = &state.building
            && wanted.built_for(building.rows) != Some(building.built)
        {
            building.control.cancelled.store(true, Ordering::Release);
        }
    }

    /// Stops the build under way and those to come.
    pub fn close(&self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        if let Some(building) = &state.building {
            building.control.cancelled.store(true, Ordering::Release);
        }
    }

    /// Begins to build what is wanted for a segment, one at a time; `None` where that is nothing.
    pub fn begin(&self, segment: SegmentId, rows: u32) -> Option<Build<'_>> {
        let mut state = self.0.lock();
        let built = state.wanted.built_for(rows)?;
        let control = Arc::new(BuildControl::default());
        control.cancelled.store(state.is_closed, Ordering::Release);
        state.building = Some(Building { segment, rows, built, control: Arc::clone(&control) });
        Some(Build { indexing: self, built, control })
    }

    /// Has the segment the index that is wanted for it?
    pub fn is_met(&self, live: &LiveSegment) -> bool {
        self.wanted().built_for(live.rows()) == live.built()
    }

    /// Is the segment to have an index, and has none?
    pub fn lacks_any(&self, live: &LiveSegment) -> bool {
        self.wanted().built_for(live.rows()).is_some() && live.built().is_none()
    }

    /// Where each segment stands.
    pub fn report(&self, view: &View) -> IndexReport {
        let state = self.0.lock();
        let segments = view.segments.iter().map(|live| {
            let building = state.building.as_ref().filter(|building| building.segment == live.id());
            let done = building.map(|building| building.control.done.load(Ordering::Relaxed));
            SegmentIndex {
                id: live.id(),
                rows: live.rows(),
                serves: live.built(),
                wanted: state.wanted.built_for(live.rows()),
                done: done.map(|done| done.min(u64::from(live.rows()))),
            }
        });
        IndexReport { wanted: state.wanted, segments: segments.collect() }
    }
}

/// Where a collection's index stands.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexReport {
    /// What is wanted.
    pub wanted: IndexSpec,
    /// The segments in service, oldest first.
    pub segments: Vec<SegmentIndex>,
}

/// Where a segment's index stands.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentIndex {
    /// The segment.
    pub id: SegmentId,
    /// Its rows.
    pub rows: u32,
    /// What searches use; `None`: they scan.
    pub serves: Option<Built>,
    /// What is to take its place, if that is another.
    pub wanted: Option<Built>,
    /// Rows that the build under way has done.
    pub done: Option<u64>,
}

impl SegmentIndex {
    /// Is there nothing to do?
    pub fn is_ready(&self) -> bool {
        self.serves == self.wanted
    }

    /// Rows still to be done.
    pub fn rows_pending(&self) -> u64 {
        if self.is_ready() { 0 } else { u64::from(self.rows) - self.done.unwrap_or(0) }
    }
}

impl IndexReport {
    /// Is there nothing to do?
    pub fn is_ready(&self) -> bool {
        self.segments.iter().all(SegmentIndex::is_ready)
    }

    /// Rows still to be done.
    pub fn rows_pending(&self) -> u64 {
        self.segments.iter().map(SegmentIndex::rows_pending).sum()
    }

    /// Share of the rows that are done, 0 to 1.
    pub fn progress(&self) -> f64 {
        let rows: u64 = self.segments.iter().map(|segment| u64::from(segment.rows)).sum();
        if rows == 0 { 1.0 } else { 1.0 - self.rows_pending() as f64 / rows as f64 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::{GraphParams, IndexKind};

    fn spec(m: u32, threshold: u32) -> IndexSpec {
        let graph =
            GraphParams { m, ef_construct: 50, full_scan_threshold: threshold, ..GraphParams::default() };
        IndexSpec { kind: IndexKind::Hnsw, graph, clusters: None }
    }

    fn is_stopped(build: &Build<'_>) -> bool {
        build.control.cancelled.load(Ordering::Acquire)
    }

    #[test]
    fn a_build_goes_on_as_long_as_it_is_wanted() {
        let indexing = Indexing::new(spec(8, 10));
        let build = indexing.begin(SegmentId::new(), 100).unwrap();
        indexing.want(spec(8, 100));
        assert!(!is_stopped(&build), "of a hundred rows the same");
        indexing.want(spec(9, 100));
        assert!(is_stopped(&build));
        indexing.want(spec(8, 100));
        assert!(is_stopped(&build), "the next one begins anew");
        drop(build);
        let build = indexing.begin(SegmentId::new(), 100).unwrap();
        assert!(!is_stopped(&build));
        indexing.want(IndexSpec { kind: IndexKind::Flat, ..spec(8, 100) });
        assert!(is_stopped(&build));
        drop(build);
        assert!(indexing.begin(SegmentId::new(), 100).is_none());
    }

    #[test]
    fn closing_stops_what_is_and_what_comes() {
        let indexing = Indexing::new(spec(8, 10));
        let build = indexing.begin(SegmentId::new(), 100).unwrap();
        indexing.close();
        assert!(is_stopped(&build));
        drop(build);
        assert!(is_stopped(&indexing.begin(SegmentId::new(), 100).unwrap()));
    }

    #[test]
    fn progress_counts_rows() {
        let (old, new) = (spec(4, 10).built_for(100), spec(8, 10).built_for(100));
        let segment =
            |rows, serves, done| SegmentIndex { id: SegmentId::new(), rows, serves, wanted: new, done };
        let segments = vec![segment(300, new, None), segment(500, old, Some(100)), segment(200, None, None)];
        let report = IndexReport { wanted: spec(8, 10), segments };
        assert!(!report.is_ready());
        assert_eq!((report.rows_pending(), report.progress()), (600, 0.4));
        let empty = IndexReport { wanted: spec(8, 10), segments: Vec::new() };
        assert!(empty.is_ready() && empty.progress() == 1.0);
    }
}
