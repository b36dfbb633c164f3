//! Graphs made of others, beside graphs made from nothing of the same rows.
#![allow(clippy::unwrap_used)]
use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::links::Lists;
use super::random::Random;
use super::reach::Reach;
use super::test_data::{ALL_DISTANCES, Data, clustered};
use super::*;
use crate::types::GraphParams;

const SEED: u64 = 7;

fn builder(threads: usize) -> GraphBuilder {
    let params = GraphParams { m: 8, ef_construct: 40, ..GraphParams::default() };
    GraphBuilder { params, threads, seed: SEED }
}

/// A segment: rows of the data it is made of, and their graph.
struct Segment {
    data: Data,
    graph: Graph,
}

/// What merging segments gives.
struct Outcome {
    merged: Segment,
    made: GraphMade,
    /// The row of `data` that each merged row is.
    origins: Vec<(u32, u32)>,
}

fn rows_of(data: &Data, rows: &[u32]) -> Data {
    let rows = rows.iter().flat_map(|&row| data.block().row(row)).copied().collect();
    Data { dim: data.dim, rows, distance: data.distance }
}

fn in_file<T>(write: impl FnOnce(&Path) -> T) -> (Graph, T) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let value = write(&path);
    (Graph::open(&path).unwrap(), value)
}

fn fresh(data: Data) -> Segment {
    let build = |path: &Path| builder(2).build(data.block(), path, &BuildControl::default()).unwrap();
    let (graph, ()) = in_file(build);
    Segment { data, graph }
}

/// Merges segments without the rows that `dies` names by place and row.
fn merge(segments: &[Segment], dies: impl Fn(u32, u32) -> bool) -> Outcome {
    merge_by(&builder(2), &segments.iter().map(|segment| (segment, true)).collect::<Vec<_>>(), dies)
}

/// The second of each pair: has the segment its graph?
fn merge_by(
    builder: &GraphBuilder,
    segments: &[(&Segment, bool)],
    dies: impl Fn(u32, u32) -> bool,
) -> Outcome {
    let mut origins = Vec::new();
    let mut data = rows_of(&segments[0].0.data, &[]);
    for (place, (segment, _)) in (0u32..).zip(segments) {
        for row in (0..segment.data.block().len() as u32).filter(|&row| !dies(place, row)) {
            origins.push((place, row));
            data.rows.extend(segment.data.block().row(row));
        }
    }
    let graphs: Vec<Option<&Graph>> =
        segments.iter().map(|(segment, has)| has.then_some(&segment.graph)).collect();
    let control = BuildControl::default();
    let inputs = MergeInputs { graphs: &graphs, origins: &origins };
    let (graph, made) = in_file(|path| builder.merge(data.block(), &inputs, path, &control).unwrap());
    assert_eq!(control.done.load(Ordering::Relaxed), data.block().len() as u64);
    Outcome { merged: Segment { data, graph }, made, origins }
}

impl Segment {
    fn nearest(&self, vector: &[f32], k: usize, ef_search: usize) -> Vec<(f32, u32)> {
        let alive_rows = self.graph.len();
        let query = IndexQuery {
            vector,
            k,
            ef_search,
            matching: None,
            alive: &|_| true,
            alive_rows,
            codes: Default::default(),
            deadline: None,
        };
        self.graph.search(self.data.block(), &query).unwrap().rows
    }

    /// The same rows with a graph from nothing.
    fn rebuilt(&self) -> Segment {
        fresh(Data { rows: self.data.rows.clone(), ..self.data })
    }

    /// Share of the ten nearest found with few candidates, so that a worse graph shows.
    fn recall(&self, queries: &[Vec<f32>]) -> f64 {
        let (mut found, mut all) = (0, 0);
        for vector in queries {
            let truth = exact_scan(self.data.block(), vector, 10, |_| true).rows;
            let farthest = truth.last().map_or(f32::NEG_INFINITY, |hit| hit.0);
            let hits = self.nearest(vector, 10, 16);
            found += hits.iter().filter(|hit| hit.0 <= farthest).count();
            all += truth.len();
        }
        found as f64 / f64::from(all.max(1) as u32)
    }

    /// Lists are short, without doubles, of nodes; each node is reached and no twin is; twins are all there are.
    fn check(&self) {
        let (file, twins) = self.graph.file_and_twins();
        assert_eq!(file.rows, self.data.block().len());
        assert_eq!(twins.pairs(), super::twins::find_twins(self.data.block()));
        let twins: HashSet<u32> = twins.pairs().iter().map(|pair| pair.1).collect();
        let reach = Reach::from_entries(file.links::<3>(), &file.entries);
        for row in 0..file.rows as u32 {
            assert_ne!(reach.reaches(row), twins.contains(&row), "row {row}");
            let mut list: Vec<u32> = file.links::<3>().neighbours(row).collect();
            let len = list.len();
            assert!(len <= 16 && !list.contains(&row) && !list.iter().any(|row| twins.contains(row)));
            list.sort_unstable();
            list.dedup();
            assert_eq!(list.len(), len, "row {row} links to a row twice");
        }
    }
}

/// A number below 100 that seems random.
fn percent(row: u32, salt: u32) -> u32 {
    (Random::new(u64::from(row) << 32 | u64::from(salt)).next() % 100) as u32
}

/// Segments of so many rows each, and queries.
fn segments(sizes: &[usize], dim: usize, kind: Distance, seed: u64) -> (Vec<Segment>, Vec<Vec<f32>>) {
    let rows: usize = sizes.iter().sum();
    let mut all = clustered(rows + 60, dim, kind, seed);
    let queries = all.split_off(60);
    let mut next = 0;
    let segments = sizes.iter().map(|&size| {
        let rows: Vec<u32> = (next..next + size as u32).collect();
        next += size as u32;
        fresh(rows_of(&all, &rows))
    });
    (segments.collect(), queries)
}

#[test]
fn merged_graphs_find_what_fresh_ones_find() {
    for (seed, kind) in [(40, Distance::L2), (41, Distance::Cosine)] {
        let (segments, queries) = segments(&[400, 1500, 300], 40, kind, seed);
        let outcome = merge(&segments, |place, row| percent(row, place) < 15);
        outcome.merged.check();
        let GraphMade::Merged { kept, healed, inserted } = outcome.made else {
            panic!("{kind:?}: {:?}", outcome.made)
        };
        assert_eq!(kept + inserted, outcome.origins.len());
        assert!(kept > 1200 && healed > 600 && inserted > 500, "{:?}", outcome.made);
        let (recall, of_fresh) = (outcome.merged.recall(&queries), outcome.merged.rebuilt().recall(&queries));
        assert!(recall >= of_fresh - 0.01, "{kind:?}: {recall}, from nothing {of_fresh}");
    }
}

#[test]
fn a_segment_rewritten_without_its_dead_keeps_its_graph() {
    for (seed, kind) in (50..).zip(ALL_DISTANCES) {
        let (segments, queries) = segments(&[2000], 40, kind, seed);
        let outcome = merge(&segments, |place, row| percent(row, place) < 30);
        outcome.merged.check();
        assert!(matches!(outcome.made, GraphMade::Merged { inserted: 0, .. }), "{:?}", outcome.made);
        let (recall, of_fresh) = (outcome.merged.recall(&queries), outcome.merged.rebuilt().recall(&queries));
        assert!(recall >= of_fresh - 0.01, "{kind:?}: {recall}, from nothing {of_fresh}");
    }
}

#[test]
fn threads_change_nothing() {
    let (segments, _) = segments(&[200, 900, 150], 24, Distance::L2, 43);
    let graphs: Vec<Option<&Graph>> = segments.iter().map(|segment| Some(&segment.graph)).collect();
    let outcome = merge(&segments, |place, row| percent(row, place) < 10);
    let inputs = MergeInputs { graphs: &graphs, origins: &outcome.origins };
    let bytes = |threads: usize| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.graph");
        let block = outcome.merged.data.block();
        builder(threads).merge(block, &inputs, &path, &BuildControl::default()).unwrap();
        fs::read(path).unwrap()
    };
    let one = bytes(1);
    assert!(one == bytes(2) && one == bytes(4));
}

#[test]
fn codes_are_those_that_their_quantizer_makes() {
    let (segments, _) = segments(&[900, 300], 40, Distance::Cosine, 44);
    let outcome = merge(&segments, |place, row| percent(row, place) < 10);
    let (file, _) = outcome.merged.graph.file_and_twins();
    let (base, _) = segments[0].graph.file_and_twins();
    let (codes, of_base) = (file.codes().unwrap(), base.codes().unwrap());
    assert_eq!(codes.quantizer.centre, of_base.quantizer.centre);
    let mut space = super::space::Space::new(outcome.merged.data.block());
    let again = super::codes::still_fits(codes.quantizer, &space, SEED).unwrap();
    assert_eq!(again.error, codes.quantizer.error, "measured on the merged rows");
    space.encode(again, 2).unwrap();
    let encoded = space.coded().unwrap();
    for row in 0..file.rows as u32 {
        assert!(codes.stored(row) == encoded.codes().stored(row), "row {row}");
    }
}

#[test]
fn codes_that_no_longer_fit_are_not_kept() {
    // The other rows lie in one far place: a few bits of the way there tell nothing apart.
    let (mut segments, queries) = segments(&[800, 700], 40, Distance::L2, 45);
    for x in segments[1].data.rows.iter_mut() {
        *x = *x * 0.01 + 300.0;
    }
    segments[1] = segments[1].rebuilt();
    let outcome = merge(&segments, |_, _| false);
    outcome.merged.check();
    let centre = |segment: &Segment| {
        segment.graph.file_and_twins().0.codes().map(|codes| codes.quantizer.centre.clone())
    };
    assert_ne!(centre(&outcome.merged), centre(&segments[0]));
    assert!(outcome.merged.recall(&queries) >= outcome.merged.rebuilt().recall(&queries) - 0.02);
}

/// Rows around those that live are all dead.
#[test]
fn a_region_that_died_leaves_its_border_linked() {
    let (segments, queries) = segments(&[2000, 100], 24, Distance::L2, 46);
    let block = segments[0].data.block();
    let near = |vector: &[f32], k: usize| exact_scan(block, vector, k, |_| true).rows.into_iter();
    let region: HashSet<u32> = near(block.row(7), 700).map(|hit| hit.1).collect();
    let border: HashSet<u32> =
        near(block.row(7), 720).map(|hit| hit.1).filter(|row| !region.contains(row)).collect();
    let outcome = merge(&segments, |place, row| place == 0 && region.contains(&row));
    assert!(matches!(outcome.made, GraphMade::Merged { .. }));
    outcome.merged.check();
    let (file, _) = outcome.merged.graph.file_and_twins();
    let rows =
        (0u32..).zip(&outcome.origins).filter(|(_, origin)| border.contains(&origin.1) && origin.0 == 0);
    for (row, _) in rows {
        assert!(file.links::<3>().neighbours(row).count() >= 4, "row {row}");
    }
    assert!(outcome.merged.recall(&queries) >= outcome.merged.rebuilt().recall(&queries) - 0.02);
}

#[test]
fn twins_across_inputs_hang_on_one_row() {
    let (mut parts, _) = segments(&[300, 900], 24, Distance::L2, 47);
    let copy =
        |from: &[f32], to: &mut Segment, row: usize| to.data.rows[row * 24..][..24].copy_from_slice(from);
    let of = |segment: &Segment, row: u32| segment.data.block().row(row).to_vec();
    // 1: equal rows in both. 2: three in the largest, of which the first dies. 3: one in each, of which that
    // in the largest dies. 4: two in the largest, both of which die, and one in the other.
    let vectors = [of(&parts[1], 10), of(&parts[1], 20), of(&parts[1], 30), of(&parts[1], 40)];
    for (vector, place, row) in [(0, 0, 5), (1, 1, 21), (1, 1, 22), (2, 0, 6), (3, 1, 41), (3, 0, 7)] {
        copy(&vectors[vector], &mut parts[place], row);
    }
    let parts: Vec<Segment> = parts.iter().map(Segment::rebuilt).collect();
    let dead = [(1, 20), (1, 30), (1, 40), (1, 41)];
    let outcome = merge(&parts, |place, row| dead.contains(&(place, row)));
    assert!(matches!(outcome.made, GraphMade::Merged { .. }));
    outcome.merged.check();
    for (vector, rows) in
        [(0, vec![(0, 5), (1, 10)]), (1, vec![(1, 21), (1, 22)]), (2, vec![(0, 6)]), (3, vec![(0, 7)])]
    {
        let mut found: Vec<(u32, u32)> = Vec::new();
        let hits = outcome.merged.nearest(&vectors[vector], 5, 32);
        found.extend(hits.iter().filter(|hit| hit.0 == 0.0).map(|hit| outcome.origins[hit.1 as usize]));
        found.sort_unstable();
        assert_eq!(found, rows, "vector {vector}");
    }
}

#[test]
fn the_smallest_inputs_work() {
    for kind in ALL_DISTANCES {
        for sizes in [[0, 0], [1, 0], [1, 1], [2, 1], [3, 40], [40, 1]] {
            let (parts, _) = segments(&sizes, 24, kind, 48);
            for dead in [0, 100] {
                let outcome = merge(&parts, |_, _| dead > 0);
                outcome.merged.check();
                let rows = if dead > 0 { 0 } else { sizes.iter().sum() };
                assert_eq!(outcome.merged.nearest(&[0.4; 24], 100, 100).len(), rows);
            }
            // One alone is left.
            if sizes[0] > 0 {
                let outcome = merge(&parts, |place, row| (place, row) != (0, 0));
                outcome.merged.check();
                assert_eq!(outcome.merged.nearest(&[0.4; 24], 100, 100).len(), 1);
            }
        }
    }
}

#[test]
fn what_is_of_little_use_is_not_merged() {
    let reason = |outcome: &Outcome| match outcome.made {
        GraphMade::FromNothing { reason } => reason,
        made => panic!("{made:?}"),
    };
    let (parts, _) = segments(&[600, 100], 24, Distance::L2, 49);
    let outcome = merge(&parts, |_, row| percent(row, 0) < 60);
    outcome.merged.check();
    assert!(reason(&outcome).contains("has died"));
    let none = [(&parts[0], false), (&parts[1], false)];
    assert!(reason(&merge_by(&builder(1), &none, |_, _| false)).contains("no input"));
    let other = GraphBuilder { params: GraphParams { m: 9, ..builder(1).params }, ..builder(1) };
    let both = [(&parts[0], true), (&parts[1], true)];
    assert!(reason(&merge_by(&other, &both, |_, _| false)).contains("parameters"));
    let small_known = [(&parts[0], false), (&parts[1], true)];
    assert!(reason(&merge_by(&builder(1), &small_known, |_, _| false)).contains("few"));
    // Of inputs without a graph rows are inserted like any.
    let large_known = [(&parts[0], true), (&parts[1], false)];
    let outcome = merge_by(&builder(1), &large_known, |_, _| false);
    assert_eq!(outcome.made, GraphMade::Merged { kept: 600, healed: 0, inserted: 100 });
    outcome.merged.check();
    // By dot long rows go in first, which those of other inputs can't.
    let (parts, _) = segments(&[600, 100], 24, Distance::Dot, 50);
    let outcome = merge(&parts, |_, _| false);
    assert!(reason(&outcome).contains("dot"));
    outcome.merged.check();
}

#[test]
fn a_cancelled_merge_leaves_no_file() {
    let (parts, _) = segments(&[300, 100], 24, Distance::L2, 51);
    let outcome = merge(&parts, |_, _| false);
    let graphs: Vec<Option<&Graph>> = parts.iter().map(|part| Some(&part.graph)).collect();
    let inputs = MergeInputs { graphs: &graphs, origins: &outcome.origins };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let control = BuildControl { cancelled: AtomicBool::new(true), ..BuildControl::default() };
    let cancelled = builder(2).merge(outcome.merged.data.block(), &inputs, &path, &control);
    assert!(matches!(cancelled, Err(IndexError::Cancelled)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Ten times all rows are replaced, a fifth at a time, and the graph is merged each time.
#[test]
fn recall_survives_ten_turnovers() {
    const ROWS: u32 = 2000;
    const REPLACED: u32 = 400;
    let mut all = clustered(6000 + 200, 40, Distance::L2, 52);
    let queries = all.split_off(200);
    let mut random = Random::new(SEED);
    let mut pool: Vec<u32> = (0..6000).collect();
    random.shuffle(&mut pool);
    let mut rows = pool.split_off(pool.len() - ROWS as usize);
    let mut segment = fresh(rows_of(&all, &rows));
    for round in 0..10 * ROWS / REPLACED {
        let mut order: Vec<u32> = (0..ROWS).collect();
        random.shuffle(&mut order);
        let doomed: HashSet<u32> = order[..REPLACED as usize].iter().copied().collect();
        let new_rows: Vec<u32> = pool.drain(..REPLACED as usize).collect();
        let newcomers = fresh(rows_of(&all, &new_rows));
        let both = [segment, newcomers];
        let outcome = merge(&both, |place, row| place == 0 && doomed.contains(&row));
        assert!(matches!(outcome.made, GraphMade::Merged { .. }), "{:?}", outcome.made);
        pool.extend(order[..REPLACED as usize].iter().map(|&row| rows[row as usize]));
        let before = [&rows, &new_rows];
        rows = outcome.origins.iter().map(|&(place, row)| before[place as usize][row as usize]).collect();
        segment = outcome.merged;
        if round % 10 == 9 {
            segment.check();
        }
    }
    let (recall, of_fresh) = (segment.recall(&queries), segment.rebuilt().recall(&queries));
    assert!(recall >= of_fresh - 0.005, "{recall}, from nothing {of_fresh}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Few places, so that many rows are twins; any may die, and any input may lack its graph.
    #[test]
    fn any_merge_is_a_graph_of_its_rows(
        kind in prop::sample::select(ALL_DISTANCES.to_vec()),
        dim in prop::sample::select(vec![3usize, 24]),
        sizes in prop::collection::vec((0usize..150, any::<bool>()), 1..5),
        places in 1usize..300,
        dead in 0u32..70,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let pool = clustered(places, dim, kind, seed);
        let parts: Vec<(Segment, bool)> = sizes
            .iter()
            .map(|&(size, has)| {
                let rows: Vec<u32> = (0..size).map(|_| random.below(places) as u32).collect();
                (fresh(rows_of(&pool, &rows)), has)
            })
            .collect();
        let parts: Vec<(&Segment, bool)> = parts.iter().map(|(part, has)| (part, *has)).collect();
        let salt = seed as u32;
        let outcome = merge_by(&builder(2), &parts, |place, row| percent(row, place ^ salt) < dead);
        outcome.merged.check();
        let (merged, rebuilt) = (&outcome.merged, outcome.merged.rebuilt());
        let rows = outcome.origins.len();
        let queries: Vec<Vec<f32>> = pool.rows.chunks(dim).take(20).map(<[f32]>::to_vec).collect();
        for query in &queries {
            prop_assert_eq!(merged.nearest(query, rows, rows).len(), rows, "all can be reached");
        }
        let (recall, of_fresh) = (merged.recall(&queries), rebuilt.recall(&queries));
        prop_assert!(recall >= of_fresh - 0.05, "{} {}", recall, of_fresh);
    }
}
