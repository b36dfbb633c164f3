//! Graphs from building to searching, beside the exact scan.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::links::Lists;
use super::reach::Reach;
use super::test_data::{ALL_DISTANCES, Data, assert_all_damage_is_noticed, clustered};
use super::*;
use crate::types::{GraphParams, Levels, Quantization, RabitqBits, RowSet};

const EF: usize = 64;

/// A built graph, its rows, and the folder it is in.
pub(super) struct Built {
    pub(super) data: Data,
    pub(super) graph: Graph,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn builder(threads: usize) -> GraphBuilder {
    let params = GraphParams { m: 12, ef_construct: 60, ..GraphParams::default() };
    GraphBuilder { params, threads, seed: 7 }
}

pub(super) fn build(data: Data) -> Built {
    build_with(data, builder(2))
}

fn build_with(data: Data, builder: GraphBuilder) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let control = BuildControl::default();
    builder.build(data.block(), &path, &control).unwrap();
    assert_eq!(control.done.load(Ordering::Relaxed), data.block().len() as u64);
    let graph = Graph::open(&path).unwrap();
    Built { data, graph, path, _folder: folder }
}

/// Rows are admitted by a filter.
fn query<'a>(vector: &'a [f32], k: usize, matching: &'a RowSet) -> IndexQuery<'a> {
    let alive_rows = matching.rows();
    IndexQuery {
        vector,
        k,
        ef_search: EF,
        matching: Some(matching),
        alive: &|_| true,
        alive_rows,
        codes: CodedSearch::default(),
        deadline: None,
    }
}

/// All rows match, and those that aren't admitted are dead.
fn query_alive<'a>(
    vector: &'a [f32],
    k: usize,
    admitted: &RowSet,
    alive: &'a (dyn Fn(u32) -> bool + Sync),
) -> IndexQuery<'a> {
    IndexQuery {
        vector,
        k,
        ef_search: EF,
        matching: None,
        alive,
        alive_rows: admitted.count(),
        codes: CodedSearch::default(),
        deadline: None,
    }
}

impl Built {
    fn search(&self, vector: &[f32], k: usize, admit: &(dyn Fn(u32) -> bool + Sync)) -> IndexHits {
        let admitted = RowSet::from_fn(self.data.block().len(), |row| admit(row as u32));
        self.run(&query(vector, k, &admitted), admit)
    }

    /// The same, but rows that aren't admitted match and are dead.
    fn search_alive(&self, vector: &[f32], k: usize, admit: &(dyn Fn(u32) -> bool + Sync)) -> IndexHits {
        let admitted = RowSet::from_fn(self.data.block().len(), |row| admit(row as u32));
        self.run(&query_alive(vector, k, &admitted, admit), admit)
    }

    fn run(&self, query: &IndexQuery<'_>, admit: &(dyn Fn(u32) -> bool + Sync)) -> IndexHits {
        let hits = self.graph.search(self.data.block(), query).unwrap();
        assert!(hits.rows.is_sorted_by(|a, b| a.0 < b.0 || a.0 == b.0 && a.1 < b.1), "{:?}", hits.rows);
        assert!(hits.rows.iter().all(|hit| admit(hit.1)));
        hits
    }

    /// Share of the true 10 nearest admitted rows that searches return.
    fn recall(&self, queries: &[Vec<f32>], admit: &(dyn Fn(u32) -> bool + Sync)) -> f64 {
        let (mut found, mut all) = (0, 0);
        for vector in queries {
            let truth = exact_scan(self.data.block(), vector, 10, admit);
            // By distance, since of rows equally near any will do.
            let farthest = truth.rows.last().map_or(f32::NEG_INFINITY, |hit| hit.0);
            for hits in [self.search(vector, 10, admit), self.search_alive(vector, 10, admit)] {
                found += hits.rows.iter().filter(|hit| hit.0 <= farthest).count();
                all += truth.rows.len();
            }
        }
        found as f64 / all as f64
    }

    fn assert_all_reached(&self) {
        let file = graph_format::open(&self.path).unwrap();
        let reach = Reach::from_entries(file.links::<3>(), &file.entries);
        let twins: Vec<u32> = file.twins.iter().map(|pair| pair.1).collect();
        for row in 0..file.rows as u32 {
            assert_ne!(reach.reaches(row), twins.contains(&row), "row {row}");
        }
        assert!(file.twins.iter().all(|pair| reach.reaches(pair.0)));
        assert_lists_fit(file.links::<3>());
    }
}

fn assert_lists_fit(links: impl Lists) {
    for row in 0..links.len() as u32 {
        let mut list: Vec<u32> = links.neighbours(row).collect();
        let len = list.len();
        assert!(list.len() <= 24 && !list.contains(&row));
        list.sort_unstable();
        list.dedup();
        assert_eq!(list.len(), len, "row {row} links to a row twice");
    }
}

#[test]
fn finds_what_a_scan_finds_at_every_distance() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(3_050, 24, kind, 11);
        let queries = data.split_off(50);
        let built = build(data);
        built.assert_all_reached();
        let recall = built.recall(&queries, &|_| true);
        assert!(recall >= 0.97, "{kind:?}: {recall}");
        assert!(!built.search(&queries[0], 10, &|_| true).scanned);
        assert!(built.search(&queries[0], 10, &|row| row < 30).scanned);
        let visited = built.search(&queries[0], 10, &|_| true).visited;
        assert!((100..1_500).contains(&visited), "{kind:?}: {visited}");
    }
}

#[test]
fn filters_return_admitted_rows_only_and_keep_recall() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(3_030, 24, kind, 12);
        let queries = data.split_off(30);
        let built = build(data);
        for percent in [1, 10, 50, 95, 100] {
            let recall = built.recall(&queries, &move |row| row.wrapping_mul(2_654_435_761) % 100 < percent);
            assert!(recall >= 0.97, "{kind:?} {percent} %: {recall}");
        }
        assert!(built.search(&queries[0], 10, &|_| false).rows.is_empty());
    }
}

/// A filter may share a period with a careless sample of the rows.
#[test]
fn filters_with_a_period_keep_recall() {
    let mut data = clustered(3_020, 24, Distance::L2, 27);
    let queries = data.split_off(20);
    let built = build(data);
    for period in [2, 3, 47, 64] {
        let recall = built.recall(&queries, &move |row| row % period == 0);
        assert!(recall >= 0.97, "every {period}: {recall}");
    }
}

#[test]
fn rows_around_the_query_may_all_be_dead() {
    let mut data = clustered(3_020, 24, Distance::L2, 13);
    let queries = data.split_off(20);
    let built = build(data);
    for vector in &queries {
        let dead: Vec<u32> =
            exact_scan(built.data.block(), vector, 150, |_| true).rows.iter().map(|hit| hit.1).collect();
        let recall = built.recall(std::slice::from_ref(vector), &|row| !dead.contains(&row));
        assert!(recall >= 0.9, "{recall}");
    }
}

#[test]
fn threads_change_nothing_and_the_seed_does() {
    for kind in ALL_DISTANCES {
        let data = clustered(1_500, 16, kind, 14);
        let folder = tempfile::tempdir().unwrap();
        let bytes = |builder: GraphBuilder| {
            let path = folder.path().join("x.graph");
            builder.build(data.block(), &path, &BuildControl::default()).unwrap();
            fs::read(path).unwrap()
        };
        let one = bytes(builder(1));
        assert!(one == bytes(builder(3)) && one == bytes(builder(8)));
        assert!(one != bytes(GraphBuilder { seed: 8, ..builder(1) }));
    }
}

#[test]
fn copies_of_one_vector_are_all_found() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(1, 12, kind, 15);
        data.rows = data.rows.repeat(700);
        let built = build(data);
        built.assert_all_reached();
        let vector = built.data.block().row(0).to_vec();
        for k in [1, 10, 500, 700, 10_000] {
            let hits = built.search(&vector, k, &|_| true);
            assert_eq!(hits.rows.len(), k.min(700));
            let odd = built.search(&vector, k, &|row| row % 2 == 1);
            assert_eq!(odd.rows.len(), k.min(350));
        }
    }
}

#[test]
fn crowds_of_copies_do_not_hide_other_rows() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(2_030, 24, kind, 16);
        let queries = data.split_off(30);
        // 200 copies of each of ten rows, and 500 almost-copies of another.
        for row in 0..10 {
            let copy = data.block().row(row * 100).to_vec();
            data.rows.extend(copy.repeat(200));
        }
        for nudge in 0..500 {
            let mut copy = data.block().row(50).to_vec();
            copy[nudge % 24] *= 1.0 + f32::EPSILON * (1.0 + (nudge / 24) as f32);
            data.rows.extend(copy);
        }
        let built = build(data);
        built.assert_all_reached();
        let recall = built.recall(&queries, &|_| true);
        assert!(recall >= 0.97, "{kind:?}: {recall}");
        let among_unique = built.recall(&queries, &|row| row < 2_000);
        assert!(among_unique >= 0.97, "{kind:?}: {among_unique}");
    }
}

#[test]
fn the_smallest_blocks_work() {
    for kind in ALL_DISTANCES {
        for rows in [0, 1, 2, 3] {
            let built = build(clustered(rows, 5, kind, 17));
            assert_eq!(built.graph.len(), rows);
            built.assert_all_reached();
            for k in [0, 1, 2, 10] {
                let hits = built.search(&[0.4; 5], k, &|_| true);
                assert_eq!(hits.rows.len(), k.min(rows));
            }
        }
    }
}

#[test]
fn more_can_be_asked_for_than_candidates_are_kept() {
    let built = build(clustered(2_000, 16, Distance::L2, 18));
    let vector = built.data.block().row(9).to_vec();
    assert_eq!(built.search(&vector, 1_000, &|_| true).rows.len(), 1_000);
    assert_eq!(built.search(&vector, usize::MAX, &|_| true).rows.len(), 2_000);
    assert_eq!(built.search(&vector, usize::MAX, &|row| row < 30).rows.len(), 30);
}

#[test]
fn components_that_are_not_numbers_do_no_harm() {
    let mut data = clustered(1_000, 8, Distance::L2, 19);
    for row in 0..100 {
        data.rows[row * 80 + row % 8] = [f32::NAN, f32::INFINITY, 1e30][row % 3];
    }
    let built = build(data);
    built.assert_all_reached();
    let queries: Vec<Vec<f32>> = (0..20).map(|row| built.data.block().row(row * 10 + 5).to_vec()).collect();
    let recall = built.recall(&queries, &|_| true);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn a_row_longer_than_floats_can_square_leaves_dot_products_of_the_others_as_they_were() {
    let mut data = clustered(3_000, 64, Distance::Dot, 21);
    let queries = data.split_off(40);
    data.rows[..64].iter_mut().for_each(|x| *x *= 1e20);
    let built = build(data);
    built.assert_all_reached();
    let recall = built.recall(&queries, &|row| row != 0);
    assert!(recall >= 0.95, "{recall}");
}

#[test]
fn rows_that_are_mostly_one_do_not_decide_how_the_others_are_coded() {
    let mut data = clustered(4_000, 64, Distance::L2, 22);
    let queries = data.split_off(40);
    let placeholder = data.rows[..64].to_vec();
    (0..40_000).for_each(|_| data.rows.extend_from_slice(&placeholder));
    let built = build(data);
    let recall = built.recall(&queries, &|_| true);
    assert!(recall >= 0.95, "{recall}");
}

/// In files so small that no byte has to be left out, with every part that there may be but codebooks, which small
/// segments don't get.
#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let small = [
        // So many rows that one level stands above another.
        (520, 2, Levels::On, Quantization::None {}),
        (60, 3, Levels::Off, Quantization::INT8),
        (60, 3, Levels::Off, Quantization::rabitq(RabitqBits::Four)),
    ];
    for (rows, m, levels, asked) in small {
        let mut data = clustered(rows, 6, Distance::Cosine, 20);
        data.rows.extend_from_within(..60);
        let params = GraphParams { m, levels, quantization: Some(asked), ..builder(1).params };
        let built = build_with(data, GraphBuilder { params, ..builder(2) });
        let file = graph_format::open(&built.path).unwrap();
        assert_eq!(file.twins.len(), 10, "{asked:?}");
        let has_codes = file.codes().is_some();
        assert_eq!(has_codes, asked != Quantization::None {}, "{asked:?}");
        assert_eq!(file.levels().map_or(0, |levels| levels.links.len()), usize::from(levels.are_built()));
        let is_refused = |opened| match opened {
            Ok(_) => false,
            Err(IndexError::Corrupt { .. } | IndexError::Io { .. }) => true,
            Err(other) => panic!("{asked:?}: {other}"),
        };
        assert_all_damage_is_noticed(&built.path, |path| is_refused(Graph::open(path)));
        // What is mapped is read by the same code, so the smallest file will do.
        if asked == Quantization::INT8 {
            assert_all_damage_is_noticed(&built.path, |path| is_refused(Graph::open_mapped(path)));
        }
        assert!(matches!(Graph::open(&built.path.with_extension("none")), Err(IndexError::Io { .. })));
    }
}

#[test]
fn a_mapped_graph_answers_as_one_in_memory() {
    let mut data = clustered(3_010, 40, Distance::L2, 28);
    let queries = data.split_off(10);
    let built = build(data);
    let mapped = Graph::open_mapped(&built.path).unwrap();
    assert!(mapped.is_mapped() && !built.graph.is_mapped());
    assert_eq!(mapped.bytes(), built.graph.bytes());
    let all = RowSet::all(3_000);
    for vector in &queries {
        let query = query(vector, 10, &all);
        let hits = mapped.search(built.data.block(), &query).unwrap();
        assert_eq!(hits.rows, built.graph.search(built.data.block(), &query).unwrap().rows);
    }
}

/// Checksums don't help against a writer that was wrong: row numbers are checked all the same.
#[test]
fn rows_that_do_not_exist_are_refused_in_a_file_with_good_checksums() {
    let data = clustered(50, 6, Distance::L2, 21);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let parts = || builder(1).parts(data.block(), &BuildControl::default()).unwrap();
    let refused = |parts: graph_format::GraphParts| {
        graph_format::write(&path, &parts).unwrap();
        matches!(Graph::open(&path), Err(IndexError::Corrupt { .. }))
    };
    let mut wrong = parts();
    wrong.links.set(3, &[50]);
    assert!(refused(wrong));
    let mut wrong = parts();
    wrong.entries[0] = 50;
    assert!(refused(wrong));
    let mut wrong = parts();
    wrong.twins = vec![(1, 50)];
    assert!(refused(wrong));
    // Twins that are nodes, too: their rows would be found twice.
    for twins in [vec![(1, 2)], vec![(1, 1)], vec![(1, 2), (1, 2)]] {
        let mut wrong = parts();
        wrong.twins = twins;
        assert!(refused(wrong));
    }
    assert!(!refused(parts()));
}

#[test]
fn other_vectors_than_it_was_built_for_are_refused() {
    let built = build(clustered(100, 6, Distance::L2, 22));
    for other in [
        clustered(99, 6, Distance::L2, 22),
        clustered(100, 5, Distance::L2, 22),
        clustered(100, 6, Distance::Dot, 22),
    ] {
        let vector = vec![0.0; other.dim];
        let refused = built.graph.search(other.block(), &query(&vector, 3, &RowSet::all(100)));
        assert!(matches!(refused, Err(IndexError::Mismatch { .. })));
    }
    let short = built.graph.search(built.data.block(), &query(&[0.0; 5], 3, &RowSet::all(100)));
    assert!(matches!(short, Err(IndexError::Mismatch { .. })));
}

#[test]
fn a_search_gives_up_at_its_deadline() {
    let built = build(clustered(1_000, 6, Distance::L2, 23));
    let vector = [0.0; 6];
    let all = RowSet::all(1_000);
    let mut query = query(&vector, 3, &all);
    query.deadline = Some(Instant::now());
    assert!(matches!(built.graph.search(built.data.block(), &query), Err(IndexError::Deadline)));
    query.deadline = Some(Instant::now() + Duration::from_secs(60));
    assert!(built.graph.search(built.data.block(), &query).is_ok());
}

#[test]
fn a_cancelled_build_leaves_no_file() {
    let data = clustered(1_000, 6, Distance::L2, 24);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let control = BuildControl { cancelled: AtomicBool::new(true), ..BuildControl::default() };
    assert!(matches!(builder(2).build(data.block(), &path, &control), Err(IndexError::Cancelled)));
    let nowhere = folder.path().join("none").join("0.graph");
    let failed = builder(2).build(data.block(), &nowhere, &BuildControl::default());
    assert!(matches!(failed, Err(IndexError::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn many_threads_search_one_graph() {
    let built = build(clustered(2_000, 16, Distance::Cosine, 25));
    let vector = built.data.block().row(77).to_vec();
    let expected = built.search(&vector, 10, &|_| true).rows;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(built.search(&vector, 10, &|_| true).rows, expected);
                }
            });
        }
    });
}
