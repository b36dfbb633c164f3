//! Graphs from near rows, beside those that rows are inserted into.
#![allow(clippy::unwrap_used)]
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::neighbours::{NO_NEIGHBOUR, Neighbours, NeighboursError, Points};
use super::test_data::{Data, clustered};
use super::*;
use crate::types::{CodedSearch, Distance, GraphParams};

/// Compares everything with everything on the processor; fails or lies where a test wants it.
#[derive(Default)]
struct Exact {
    /// Calls that are answered before one fails.
    fails_after: Option<usize>,
    /// Names a row that isn't there.
    lies: bool,
    /// Claims to have done next to nothing until the end.
    slow: bool,
    calls: AtomicUsize,
    /// Blocks of lists that were given, and those that somebody took.
    given: AtomicUsize,
    taken: AtomicUsize,
}

impl Neighbours for Exact {
    fn name(&self) -> &str {
        "exact"
    }

    fn k_max(&self) -> usize {
        256
    }

    fn nearest(
        &self,
        points: &Points<'_>,
        k: usize,
        go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
        found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), NeighboursError> {
        let fails = self.fails_after == Some(self.calls.fetch_add(1, Ordering::Relaxed));
        let mut rows = vec![0.0; points.count * points.dim];
        for (position, row) in rows.chunks_mut(points.dim).enumerate() {
            (points.copy)(position, row);
        }
        let block = VectorBlock { dim: points.dim, rows: &rows, distance: Distance::L2 };
        for first in (0..points.count).step_by(100) {
            let part = first as f64 / points.count as f64 * if self.slow { 1e-12 } else { 1.0 };
            if go_on(part).is_break() {
                return Err(NeighboursError::Cancelled);
            }
            if fails && first >= 100 {
                return Err(NeighboursError::Failed("the device is lost".into()));
            }
            let mut lists = Vec::new();
            for row in first..points.count.min(first + 100) {
                let hits = exact_scan(block, block.row(row as u32), k, |other| {
                    other != row as u32 && (other as usize) < points.among
                })
                .rows;
                lists.extend(hits.iter().map(|hit| hit.1).chain(std::iter::repeat(NO_NEIGHBOUR)).take(k));
            }
            if self.lies {
                lists[0] = points.count as u32;
            }
            self.given.fetch_add(1, Ordering::Relaxed);
            if found(first, &lists).is_break() {
                return Err(NeighboursError::Cancelled);
            }
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn with_device(processor: GraphBuilder, device: &Arc<Exact>) -> KnnBuilder {
    let neighbours = Arc::clone(device) as Arc<dyn Neighbours>;
    KnnBuilder { processor, neighbours, judged_after: None }
}

fn processor() -> GraphBuilder {
    let params = GraphParams { m: 12, ef_construct: 60, ..GraphParams::default() };
    GraphBuilder { params, threads: 2, seed: 7 }
}

fn built(builder: &dyn IndexBuilder, data: &Data) -> (Graph, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let control = BuildControl::default();
    builder.build(data.block(), &path, &control).unwrap();
    assert_eq!(control.done.load(Ordering::Relaxed), data.block().len() as u64);
    (Graph::open(&path).unwrap(), std::fs::read(&path).unwrap())
}

fn recall(graph: &Graph, data: &Data, queries: &[Vec<f32>], ef_search: usize) -> f64 {
    let (mut found, mut all) = (0, 0);
    for vector in queries {
        let truth = exact_scan(data.block(), vector, 10, |_| true).rows;
        let farthest = truth.last().unwrap().0;
        let query = IndexQuery {
            vector,
            k: 10,
            ef_search,
            matching: None,
            alive: &|_| true,
            alive_rows: data.block().len(),
            codes: CodedSearch::default(),
            deadline: None,
        };
        let hits = graph.search(data.block(), &query).unwrap();
        found += hits.rows.iter().filter(|hit| hit.0 <= farthest).count();
        all += truth.len();
    }
    found as f64 / all as f64
}

/// K1: as good as the processor's graph, and every row can be reached (which opening and searching rely on).
#[test]
fn graphs_from_near_rows_find_what_inserted_ones_find() {
    for kind in [Distance::L2, Distance::Cosine] {
        let mut data = clustered(4_200, 24, kind, 31);
        let queries = data.split_off(200);
        // A stretch of equal rows: twins stay out of lists.
        let row = data.rows[..24].to_vec();
        (0..40).for_each(|at| data.rows[(100 + at) * 24..][..24].copy_from_slice(&row));
        let inserted = built(&processor(), &data).0;
        let knn = with_device(processor(), &Arc::default());
        let from_near = built(&knn, &data).0;
        for ef in [16, 32, 64, 100] {
            let [expected, found] = [&inserted, &from_near].map(|graph| recall(graph, &data, &queries, ef));
            assert!(found >= expected - 0.005, "{kind:?}, ef {ef}: {found} instead of {expected}");
        }
    }
}

#[test]
fn dot_is_left_to_the_processor() {
    let data = clustered(600, 12, Distance::Dot, 6);
    let knn = with_device(processor(), &Arc::default());
    assert!(built(&knn, &data).1 == built(&processor(), &data).1);
}

#[test]
fn few_rows_and_none_are_built_too() {
    for count in [0, 1, 2, 3, 50] {
        let data = clustered(count, 8, Distance::Cosine, 5);
        let knn = with_device(processor(), &Arc::default());
        let graph = built(&knn, &data).0;
        if count > 0 {
            let all = recall(&graph, &data, &[data.rows[..8].to_vec()], 64);
            assert!((all - 1.0).abs() < 1e-9, "{count} rows: {all}");
        }
    }
}

/// K2: whatever the device does, and whenever, the processor's own graph comes out.
#[test]
fn a_failing_or_lying_device_costs_nothing_but_time() {
    let data = clustered(3_000, 16, Distance::L2, 8);
    let expected = built(&processor(), &data).1;
    let faults = [
        Exact { fails_after: Some(0), ..Exact::default() }, // while it looks at the head
        Exact { fails_after: Some(1), ..Exact::default() }, // after some rows were linked
        Exact { lies: true, ..Exact::default() },
    ];
    for device in faults {
        let knn = with_device(processor(), &Arc::new(device));
        assert!(built(&knn, &data).1 == expected);
    }
}

/// K1: links back are made in parts, and threads take what comes next.
#[test]
fn the_number_of_threads_changes_nothing() {
    let data = clustered(2_000, 16, Distance::L2, 9);
    let [one, five] = [1, 5].map(|threads| {
        built(&with_device(GraphBuilder { threads, ..processor() }, &Arc::default()), &data).1
    });
    assert!(one == five);
}

/// It is left when that shows, which is long before it is done; unless somebody wants just this device.
#[test]
fn a_device_slower_than_the_processor_is_given_up_where_it_may_be() {
    let data = clustered(3_000, 16, Distance::L2, 8);
    let expected = built(&processor(), &data).1;
    let build = |slow, judged_after| {
        let device = Arc::new(Exact { slow, ..Exact::default() });
        let found = built(&KnnBuilder { judged_after, ..with_device(processor(), &device) }, &data).1;
        (found == expected, device.given.load(Ordering::Relaxed))
    };
    let (is_the_processors, given) = build(true, Some(Duration::ZERO));
    assert!(is_the_processors && given < 4, "{given} blocks of lists");
    // Each with 4 blocks of the head and 30 of all rows.
    assert_eq!(build(true, None), (false, 34));
    assert_eq!(build(true, Some(Duration::MAX)), (false, 34));
}

/// What nobody takes is not looked for.
#[test]
fn a_device_stops_when_its_answer_is_of_no_use() {
    let data = clustered(3_000, 16, Distance::L2, 8);
    let device = Arc::new(Exact { lies: true, ..Exact::default() });
    built(&with_device(processor(), &device), &data);
    let (given, taken) = (device.given.load(Ordering::Relaxed), device.taken.load(Ordering::Relaxed));
    // One that is looked at, one that waits, one that is refused; the head has four.
    assert!(given <= 3 && taken == given - 1, "{given} blocks of lists, {taken} taken");
}

#[test]
fn a_cancelled_build_leaves_no_file() {
    let data = clustered(500, 8, Distance::L2, 8);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let control = BuildControl { cancelled: AtomicBool::new(true), ..BuildControl::default() };
    let knn = with_device(processor(), &Arc::default());
    assert!(matches!(knn.build(data.block(), &path, &control), Err(IndexError::Cancelled)));
    assert!(!path.exists());
}
