//! Indexes of clusters from building to searching, beside the exact scan.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::build::GROUPED_ABOVE;
use super::format::{self, IvfParts};
use super::{Clusters, Ivf, IvfBuilder};
use crate::index::test_data::{ALL_DISTANCES, Data, assert_all_damage_is_noticed, clustered};
use crate::index::{BuildControl, IndexBuilder, IndexError, IndexHits, IndexQuery, VectorIndex, exact_scan};
use crate::types::{CodedSearch, Compression, Distance, Quantization, RabitqBits, RowSet};

/// What a server asks for unless told otherwise.
const EF: usize = 128;

/// A built index, its rows, and the folder it is in.
pub(super) struct Built {
    data: Data,
    index: Ivf,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

fn builder(clusters: Clusters, threads: usize) -> IvfBuilder {
    IvfBuilder { clusters, quantization: None, threads, seed: 7 }
}

fn parts(data: &Data) -> IvfParts {
    builder(Clusters::Auto, 2).parts(data.block(), &BuildControl::default(), GROUPED_ABOVE).unwrap()
}

pub(super) fn build(data: Data) -> Built {
    build_with(data, &builder(Clusters::Auto, 2), GROUPED_ABOVE)
}

fn build_with(data: Data, builder: &IvfBuilder, grouped_above: usize) -> Built {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.ivf");
    let control = BuildControl::default();
    let parts = builder.parts(data.block(), &control, grouped_above).unwrap();
    assert_eq!(control.done.load(Ordering::Relaxed), data.block().len() as u64);
    format::write(&path, &parts).unwrap();
    let index = Ivf::open(&path).unwrap();
    Built { data, index, path, _folder: folder }
}

/// Rows are admitted by a filter.
fn query<'a>(vector: &'a [f32], k: usize, matching: &'a RowSet) -> IndexQuery<'a> {
    let alive_rows = matching.rows();
    let matching = Some(matching);
    let codes = CodedSearch::default();
    IndexQuery { vector, k, ef_search: EF, matching, alive: &|_| true, alive_rows, codes, deadline: None }
}

pub(super) type Admit<'a> = &'a (dyn Fn(u32) -> bool + Sync);

impl Built {
    fn admitted(&self, admit: Admit<'_>) -> RowSet {
        RowSet::from_fn(self.data.block().len(), |row| admit(row as u32))
    }

    pub(super) fn search(&self, vector: &[f32], k: usize, admit: Admit<'_>) -> IndexHits {
        self.run(&query(vector, k, &self.admitted(admit)), admit)
    }

    /// The same, but rows that aren't admitted match and are dead.
    fn search_alive(&self, vector: &[f32], k: usize, admit: Admit<'_>) -> IndexHits {
        let alive_rows = self.admitted(admit).count();
        let (alive, codes) = (admit, CodedSearch::default());
        self.run(
            &IndexQuery {
                vector,
                k,
                ef_search: EF,
                matching: None,
                alive,
                alive_rows,
                codes,
                deadline: None,
            },
            admit,
        )
    }

    fn run(&self, query: &IndexQuery<'_>, admit: Admit<'_>) -> IndexHits {
        let hits = self.index.search(self.data.block(), query).unwrap();
        assert!(hits.rows.is_sorted_by(|a, b| a.0 < b.0 || a.0 == b.0 && a.1 < b.1), "{:?}", hits.rows);
        assert!(hits.rows.iter().all(|hit| admit(hit.1)));
        let there = self.admitted(admit).count();
        assert_eq!(hits.rows.len(), query.k.min(there), "as many as there are");
        hits
    }

    /// Share of the true 10 nearest admitted rows that searches return.
    pub(super) fn recall(&self, queries: &[Vec<f32>], admit: Admit<'_>) -> f64 {
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
}

pub(super) fn scattered(row: u32, percent: u32) -> bool {
    row.wrapping_mul(2_654_435_761) >> 8 & 0xffff < 65_536 * percent / 100
}

#[test]
fn finds_what_a_scan_finds_at_every_distance() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(3_050, 24, kind, 11);
        let queries = data.split_off(50);
        let built = build(data);
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
        for percent in [1, 3, 5, 10, 25, 50, 95, 100] {
            let recall = built.recall(&queries, &move |row| scattered(row, percent));
            assert!(recall >= 0.95, "{kind:?} {percent} %: {recall}");
        }
        assert!(built.search(&queries[0], 10, &|_| false).rows.is_empty());
    }
}

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

/// Neither a filter nor deletes have to leave anything near.
#[test]
fn the_surroundings_of_a_query_may_match_nothing_or_be_dead() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(3_020, 24, kind, 29);
        let queries = data.split_off(20);
        let built = build(data);
        for near in [150, 1_500, 2_500] {
            let (mut found, mut all) = (0.0, 0.0);
            for vector in &queries {
                let near = exact_scan(built.data.block(), vector, near, |_| true).rows;
                let mut is_near = vec![false; 3_000];
                near.iter().for_each(|hit| is_near[hit.1 as usize] = true);
                found += built.recall(std::slice::from_ref(vector), &|row| !is_near[row as usize]);
                all += 1.0;
            }
            assert!(found / all >= 0.9, "{kind:?} {near}: {}", found / all);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// F4 without codes: whoever looks into all clusters finds what a scan finds, whatever matches.
    #[test]
    fn all_probes_without_codes_are_exact(
        kind in 0usize..3, dim in 1usize..=16, rows in 1usize..400, clusters in 1u32..40, k in 1usize..30,
        seed in 0u64..1_000, percent in 1u32..=100, copies in 0usize..20,
    ) {
        let mut data = clustered(rows, dim, ALL_DISTANCES[kind], seed);
        let copy = data.block().row(0).repeat(copies);
        data.rows.extend(copy);
        let vector: Vec<f32> = clustered(1, dim, ALL_DISTANCES[kind], seed + 1).rows;
        let built = build_with(data, &builder(Clusters::Count(clusters), 2), 8);
        let admitted = built.admitted(&|row| scattered(row, percent));
        let query = IndexQuery { k: k.min(built.index.len()), ..query(&vector, k, &admitted) };
        let hits = built.index.probe(built.data.block(), &query, f32::INFINITY).unwrap();
        prop_assert!(hits.scanned);
        let truth = exact_scan(built.data.block(), &vector, query.k, |row| admitted.contains(row));
        prop_assert_eq!(hits.rows, truth.rows);
    }

    /// F4 with codes: what is missed lay beyond three standard deviations.
    #[test]
    fn all_probes_with_codes_miss_next_to_nothing(
        kind in 0usize..3, dim in 33usize..80, rows in 500usize..1_500, seed in 0u64..1_000,
    ) {
        let mut data = clustered(rows + 10, dim, ALL_DISTANCES[kind], seed);
        let queries = data.split_off(10);
        let built = build(data);
        let all = RowSet::all(rows);
        let (mut found, mut wanted) = (0, 0);
        for vector in &queries {
            let query = query(vector, 20, &all);
            let hits = built.index.probe(built.data.block(), &query, f32::INFINITY).unwrap();
            let truth = exact_scan(built.data.block(), vector, 20, |_| true);
            found += hits.rows.iter().filter(|hit| hit.0 <= truth.rows[19].0).count();
            wanted += truth.rows.len();
        }
        prop_assert!(found * 100 >= wanted * 99, "{} of {}", found, wanted);
    }
}

#[test]
fn codes_are_there_where_they_are_worth_it() {
    let coded = |dim| parts(&clustered(600, dim, Distance::L2, 3)).quantizer.map(|q| q.kind().parameter());
    assert_eq!((coded(8), coded(64)), (None, Some(4)));
}

/// Coarser codes leave more in doubt, and what is in doubt is looked at.
#[test]
fn whatever_codes_are_asked_for_recall_holds() {
    let mut data = clustered(2_030, 40, Distance::L2, 33);
    let queries = data.split_off(30);
    let mut built = build(data);
    let asked = [
        Quantization::rabitq(RabitqBits::One),
        Quantization::rabitq(RabitqBits::Two),
        Quantization::rabitq(RabitqBits::Seven),
        Quantization::INT8,
        Quantization::F16 {},
        Quantization::None {},
        Quantization::product(Compression::X8),
    ];
    for asked in asked {
        let builder = IvfBuilder { quantization: Some(asked), ..builder(Clusters::Auto, 2) };
        built = build_with(built.data, &builder, GROUPED_ABOVE);
        let recall = built.recall(&queries, &|_| true);
        assert!(recall >= 0.95, "{asked:?}: {recall}");
    }
}

/// What a search may say of codes: none at all gives what a scan gives, and estimates are near.
#[test]
fn codes_are_believed_or_ignored_as_the_search_says() {
    let built = build(clustered(2_000, 40, Distance::Dot, 34));
    let vector = built.data.block().row(3).to_vec();
    let all = RowSet::all(2_000);
    let truth = exact_scan(built.data.block(), &vector, 10, |_| true).rows;
    let search = |codes: CodedSearch| {
        let query = IndexQuery { codes, ..query(&vector, 10, &all) };
        built.index.probe(built.data.block(), &query, f32::INFINITY).unwrap().rows
    };
    assert_eq!(search(CodedSearch { ignore: true, ..CodedSearch::default() }), truth);
    let believed = search(CodedSearch { rescore: false, oversampling: 2.0, ..CodedSearch::default() });
    assert_ne!(believed, truth, "estimates");
    for (estimate, exact) in believed.iter().zip(&truth) {
        assert!((estimate.0 - exact.0).abs() < 0.1 * exact.0.abs(), "{estimate:?} {exact:?}");
    }
}

/// The radius is that of the codes' rows, and most clusters are skipped where they are far apart.
#[test]
fn clusters_that_are_too_far_are_skipped() {
    let mut data = clustered(2_000, 32, Distance::L2, 31);
    // Ten islands.
    for row in 0..2_000 {
        data.rows[row * 32 + row % 10] += 1_000.0;
    }
    let vector = data.block().row(5).to_vec();
    let built = build(data);
    let all = RowSet::all(2_000);
    let hits = built.index.probe(built.data.block(), &query(&vector, 10, &all), f32::INFINITY).unwrap();
    assert!(hits.visited < 2_000 / 3, "{}", hits.visited);
}

#[test]
fn clusters_in_groups_find_as_much() {
    for kind in ALL_DISTANCES {
        let mut data = clustered(4_030, 24, kind, 30);
        let queries = data.split_off(30);
        let grouped = build_with(data, &builder(Clusters::Count(200), 2), 50);
        assert!((100..400).contains(&grouped.index.clusters()));
        let recall = grouped.recall(&queries, &|_| true);
        assert!(recall >= 0.95, "{kind:?}: {recall}");
        let recall = grouped.recall(&queries, &|row| scattered(row, 10));
        assert!(recall >= 0.95, "{kind:?}: {recall}");
    }
}

#[test]
fn clusters_hold_every_row_once_and_none_is_far_too_large() {
    let mut data = clustered(3_000, 12, Distance::L2, 41);
    // A third of the rows in one place.
    for row in 0..1_000 {
        let place = [row as f32 * 1e-3; 12];
        data.rows[row * 12..][..12].copy_from_slice(&place);
    }
    let built = build(data);
    let clusters: Vec<&[u32]> = built.index.rows_by_cluster().collect();
    assert_eq!(clusters.len(), built.index.clusters());
    let mut rows = clusters.concat();
    rows.sort_unstable();
    assert!(rows.into_iter().eq(0..3_000));
    let largest = clusters.iter().map(|rows| rows.len()).max().unwrap();
    assert!(largest <= 4 * 3_000_usize.div_ceil(110), "{largest}");
}

#[test]
fn rows_stored_in_the_order_of_their_clusters_are_found_as_before() {
    for (kind, dim) in [(Distance::L2, 8), (Distance::Dot, 40), (Distance::Cosine, 40)] {
        let mut data = clustered(2_020, dim, kind, 43);
        let queries = data.split_off(20);
        let before = build(data);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.ivf");
        let control = BuildControl::default();
        let order = builder(Clusters::Auto, 2).build_in_order(before.data.block(), &path, &control).unwrap();
        assert_eq!(order.rows, before.index.rows_by_cluster().collect::<Vec<_>>().concat());
        let index = Ivf::open(&path).unwrap();
        assert!(index.rows_by_cluster().flatten().copied().eq(0..2_000));
        let starts: Vec<u32> = index.rows_by_cluster().map(|rows| rows[0]).collect();
        assert_eq!(starts, order.starts);
        let rows = order.rows.iter().flat_map(|&row| before.data.block().row(row)).copied().collect();
        let stored = Data { rows, dim, distance: kind };
        let all = RowSet::all(2_000);
        for vector in &queries {
            let query = query(vector, 10, &all);
            let now = index.search(stored.block(), &query).unwrap().rows;
            let numbered = now.iter().map(|&(distance, row)| (distance, order.rows[row as usize]));
            let then = before.index.search(before.data.block(), &query).unwrap().rows;
            assert_eq!(numbered.collect::<Vec<_>>(), then);
        }
    }
}

/// What a query looks into lies in fewer stretches than it would by chance.
#[test]
fn clusters_that_are_near_each_other_follow_each_other() {
    for grouped_above in [GROUPED_ABOVE, 50] {
        let data = clustered(6_000, 24, Distance::L2, 44);
        let parts =
            builder(Clusters::Count(200), 2).parts(data.block(), &BuildControl::default(), grouped_above);
        let parts = parts.unwrap();
        let centroids: Vec<&[f32]> =
            parts.centroids.chunks(parts.centroids.len() / (parts.offsets.len() - 1)).collect();
        let distance =
            |a: usize, b: usize| proximadb_kernels::distance::l2_squared(centroids[a], centroids[b]).sqrt();
        let count = centroids.len();
        let steps = (1..count).map(|at| distance(at - 1, at)).sum::<f32>() / (count - 1) as f32;
        let pairs = (0..count).map(|at| distance(at, (at * 7 + 3) % count)).sum::<f32>() / count as f32;
        assert!(steps < 0.75 * pairs, "{steps} instead of {pairs}");
    }
}

#[test]
fn threads_change_nothing_and_the_seed_does() {
    for kind in ALL_DISTANCES {
        let data = clustered(1_500, 40, kind, 14);
        let folder = tempfile::tempdir().unwrap();
        let bytes = |builder: IvfBuilder| {
            let path = folder.path().join("x.ivf");
            builder.build(data.block(), &path, &BuildControl::default()).unwrap();
            fs::read(&path).unwrap()
        };
        let one = bytes(builder(Clusters::Auto, 1));
        assert!(one == bytes(builder(Clusters::Auto, 2)) && one == bytes(builder(Clusters::Auto, 5)));
        assert!(one != bytes(IvfBuilder { seed: 8, ..builder(Clusters::Auto, 1) }));
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
        let recall = built.recall(&queries, &|_| true);
        assert!(recall >= 0.95, "{kind:?}: {recall}");
        let among_unique = built.recall(&queries, &|row| row < 2_000);
        assert!(among_unique >= 0.95, "{kind:?}: {among_unique}");
    }
}

#[test]
fn equal_rows_are_all_found() {
    for kind in ALL_DISTANCES {
        let one = clustered(1, 40, kind, 15);
        let vector = one.rows.clone();
        let built = build(Data { rows: one.rows.repeat(700), ..one });
        for k in [1, 10, 699, 700, 2_000] {
            assert_eq!(built.search(&vector, k, &|_| true).rows.len(), k.min(700));
            assert_eq!(built.search(&vector, k, &|row| row % 2 == 1).rows.len(), k.min(350));
        }
    }
}

#[test]
fn the_smallest_blocks_work_with_more_clusters_than_rows() {
    for kind in ALL_DISTANCES {
        for rows in [0, 1, 2, 3, 9] {
            for dim in [5, 40] {
                let data = clustered(rows, dim, kind, 17);
                let built = build_with(data, &builder(Clusters::Count(64), 2), 4);
                assert_eq!(built.index.len(), rows);
                for k in [0, 1, 2, 10] {
                    built.search(&vec![0.4; dim], k, &|_| true);
                    built.search(&vec![0.4; dim], k, &|row| row == 1);
                    built.search_alive(&vec![0.4; dim], k, &|row| row == 1);
                }
            }
        }
    }
}

#[test]
fn more_can_be_asked_for_than_probes_would_find() {
    let built = build(clustered(2_000, 24, Distance::L2, 18));
    let vector = built.data.block().row(9).to_vec();
    for k in [1_000, 1_999, usize::MAX] {
        built.search(&vector, k, &|_| true);
        built.search(&vector, k, &|row| row % 3 == 0);
        built.search_alive(&vector, k, &|row| row % 3 == 0);
    }
}

#[test]
fn components_that_are_not_numbers_do_no_harm() {
    for dim in [8, 40] {
        let mut data = clustered(1_000, dim, Distance::L2, 19);
        for row in 0..100 {
            data.rows[row * 10 * dim + row % 8] = [f32::NAN, f32::INFINITY, 1e30][row % 3];
        }
        let built = build(data);
        let queries: Vec<Vec<f32>> =
            (0..20).map(|row| built.data.block().row(row * 10 + 5).to_vec()).collect();
        let recall = built.recall(&queries, &|_| true);
        assert!(recall >= 0.95, "{recall}");
    }
    let nothing = Data { dim: 20, rows: vec![f32::NAN; 20 * 50], distance: Distance::L2 };
    let built = build(nothing);
    let hits = built.index.search(built.data.block(), &query(&[0.0; 20], 10, &RowSet::all(50))).unwrap();
    assert_eq!(hits.rows.len(), 10);
}

/// In files so small that no byte has to be left out, with groups, with codes and without.
#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    for asked in [Quantization::None {}, Quantization::rabitq(RabitqBits::Four)] {
        let builder = IvfBuilder { quantization: Some(asked), ..builder(Clusters::Count(6), 2) };
        let data = clustered(60, 6, Distance::Cosine, 20);
        let parts = builder.parts(data.block(), &BuildControl::default(), 4).unwrap();
        let has_codes = parts.quantizer.is_some();
        assert!(parts.group_starts.len() > 2 && has_codes == (asked != Quantization::None {}), "{asked:?}");
        let built = build_with(data, &builder, 4);
        let is_refused = |opened| match opened {
            Ok(_) => false,
            Err(IndexError::Corrupt { .. } | IndexError::Io { .. }) => true,
            Err(other) => panic!("{asked:?}: {other}"),
        };
        assert_all_damage_is_noticed(&built.path, |path| is_refused(Ivf::open(path)));
        // What is mapped is read by the same code.
        if !has_codes {
            assert_all_damage_is_noticed(&built.path, |path| is_refused(Ivf::open_mapped(path)));
        }
        assert!(matches!(Ivf::open(&built.path.with_extension("none")), Err(IndexError::Io { .. })));
    }
}

/// Checksums don't help against a writer that was wrong: row numbers are checked all the same.
#[test]
fn rows_that_do_not_exist_are_refused_in_a_file_with_good_checksums() {
    let data = clustered(50, 6, Distance::L2, 21);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.ivf");
    let refused = |parts: &IvfParts| {
        format::write(&path, parts).unwrap();
        matches!(Ivf::open(&path), Err(IndexError::Corrupt { .. }))
    };
    let mut wrong = parts(&data);
    wrong.records.as_mut_slice()[..4].copy_from_slice(&50u32.to_le_bytes());
    assert!(refused(&wrong), "no such row");
    let mut wrong = parts(&data);
    let second = wrong.records.as_slice()[64..68].to_vec();
    wrong.records.as_mut_slice()[..4].copy_from_slice(&second);
    assert!(refused(&wrong), "a row in two clusters");
    let mut wrong = parts(&data);
    wrong.radii[0] = f32::NAN;
    assert!(refused(&wrong), "a radius that isn't a length");
    let mut wrong = parts(&data);
    wrong.offsets[1] = 0;
    assert!(refused(&wrong), "a cluster without rows");
    let mut wrong = parts(&data);
    wrong.group_starts[1] += 1;
    assert!(refused(&wrong), "a group with clusters that aren't there");
    assert!(!refused(&parts(&data)));
}

#[test]
fn a_mapped_index_answers_as_one_in_memory() {
    let mut data = clustered(3_010, 40, Distance::L2, 28);
    let queries = data.split_off(10);
    let built = build(data);
    let mapped = Ivf::open_mapped(&built.path).unwrap();
    assert!(mapped.is_mapped() && !built.index.is_mapped());
    assert_eq!(mapped.bytes(), built.index.bytes());
    let all = RowSet::all(3_000);
    for vector in &queries {
        let query = query(vector, 10, &all);
        let hits = mapped.search(built.data.block(), &query).unwrap();
        assert_eq!(hits.rows, built.index.search(built.data.block(), &query).unwrap().rows);
    }
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
        let refused = built.index.search(other.block(), &query(&vector, 3, &RowSet::all(100)));
        assert!(matches!(refused, Err(IndexError::Mismatch { .. })));
    }
}

#[test]
fn a_search_gives_up_at_its_deadline() {
    let built = build(clustered(1_000, 24, Distance::L2, 23));
    let vector = [0.0; 24];
    for matching in [RowSet::all(1_000), RowSet::from_fn(1_000, |row| row < 20)] {
        let mut query = query(&vector, 3, &matching);
        query.deadline = Some(Instant::now());
        assert!(matches!(built.index.search(built.data.block(), &query), Err(IndexError::Deadline)));
        query.deadline = Some(Instant::now() + Duration::from_secs(60));
        assert!(built.index.search(built.data.block(), &query).is_ok());
    }
}

#[test]
fn a_cancelled_build_leaves_no_file() {
    let data = clustered(1_000, 6, Distance::L2, 24);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.ivf");
    let control = BuildControl { cancelled: AtomicBool::new(true), ..BuildControl::default() };
    let cancelled = builder(Clusters::Auto, 2).build(data.block(), &path, &control);
    assert!(matches!(cancelled, Err(IndexError::Cancelled)));
    let nowhere = folder.path().join("none").join("0.ivf");
    let failed = builder(Clusters::Auto, 2).build(data.block(), &nowhere, &BuildControl::default());
    assert!(matches!(failed, Err(IndexError::Io { .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn many_threads_search_one_index() {
    let built = build(clustered(2_000, 24, Distance::Cosine, 25));
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
