//! Index parameters changed live: answers stay right, what is wanted is reached, whatever stops in between.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::fixture::{config, copy, flush, id, runtime, settle, tuning};
use crate::memory::MemoryBudget;
use crate::query::{Nearest, PayloadSelection, ReadOptions, Search, SearchRequest};
use crate::shard::{Shard, Tuning};
use crate::store::Manifest;
use crate::types::{
    CollectionConfig, Distance, Entry, GraphParams, IndexKind, IndexSpec, Outcome, WriteBatch,
};

fn spec(kind: IndexKind, m: u32, ef_construct: u32) -> IndexSpec {
    IndexSpec {
        kind,
        graph: GraphParams { m, ef_construct, full_scan_threshold: 30, ..GraphParams::default() },
        // A number that changes with what makes no difference to clusters.
        clusters: (kind == IndexKind::Ivf && m > 4).then_some(m),
    }
}

fn hnsw(m: u32, ef_construct: u32) -> IndexSpec {
    spec(IndexKind::Hnsw, m, ef_construct)
}

fn open(dir: &Path, wanted: IndexSpec, rows_max: usize) -> Shard {
    let config =
        CollectionConfig { graph: wanted.graph, index: wanted.kind, clusters: wanted.clusters, ..config() };
    let tuning = Tuning { memtable_rows_max: rows_max, ..tuning() };
    Shard::open(dir, config, tuning, &MemoryBudget::unlimited()).unwrap()
}

fn place(row: u32, write: u32) -> [f32; 2] {
    [((row * 37 + write * 11) % 101) as f32, ((row * 53) % 97) as f32]
}

/// What is there, by id.
type Model = BTreeMap<String, [f32; 2]>;

fn write(shard: &Shard, model: &mut Model, rows: std::ops::Range<u32>, write: u32) {
    let mut batch = WriteBatch::new(2);
    for row in rows {
        let (name, vector) = (format!("r{row}"), place(row, write));
        batch.upsert(id(&name), &vector, "{}".into(), 0);
        model.insert(name, vector);
    }
    let outcome = runtime().block_on(shard.propose(Entry { batch, ..Entry::default() })).unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
}

/// As many hits as there can be, each once, at its true distance.
fn check(shard: &Shard, model: &Model, vector: [f32; 2]) {
    let request = SearchRequest {
        nearest: Nearest::Vector(vector.to_vec()),
        limit: 5,
        offset: 0,
        filter: None,
        with_payload: PayloadSelection::Nothing,
        with_vector: false,
        score_threshold: None,
        exact: false,
        ef_search: Some(64),
        codes: Default::default(),
        read: ReadOptions::default(),
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let search = Search {
        request: &request,
        vector: &vector,
        distance: Distance::L2,
        except: None,
        deadline,
        ef_search_default: 64,
    };
    let hits = search.run(&shard.snapshot()).unwrap().hits;
    assert_eq!(hits.len(), model.len().min(5), "as many as there are");
    let mut seen = std::collections::BTreeSet::new();
    for hit in hits {
        let name = hit.record.id.to_string();
        let at = model.get(&name).unwrap_or_else(|| panic!("{name} is not there"));
        let truth = ((at[0] - vector[0]).powi(2) + (at[1] - vector[1]).powi(2)).sqrt();
        assert!((hit.score - truth).abs() < 1e-3, "{name}: {} instead of {truth}", hit.score);
        assert!(seen.insert(name.clone()), "{name} comes twice");
    }
}

/// Everything is as wanted: in service, in the manifest, and on the disk.
fn assert_reached(shard: &Shard, dir: &Path, wanted: IndexSpec) {
    settle(shard);
    let report = shard.index();
    assert!(report.is_ready() && report.wanted == wanted, "{report:?}");
    assert_eq!((report.progress(), report.rows_pending()), (1.0, 0));
    assert_eq!(shard.info().status, "green");
    // None as long as nothing was flushed.
    let manifest = Manifest::load(dir).unwrap().unwrap_or_default();
    for entry in &manifest.segments {
        let expected = wanted.built_for(entry.meta.rows);
        assert_eq!((entry.built, entry.graph.is_some()), (expected, expected.is_some()));
    }
    let kept = Manifest::load_all(dir).unwrap();
    let named =
        kept.iter().flat_map(|manifest| manifest.segments.iter().filter_map(|entry| entry.graph.as_ref()));
    for file in named {
        let bytes = std::fs::metadata(dir.join("segments").join(&file.name)).unwrap().len();
        assert_eq!(bytes, file.bytes, "{}", file.name);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(u32, u32),
    Flush,
    Want(IndexKind, u32, u32),
    Search(u8, u8),
    Settle,
    Reopen,
}

fn kind() -> impl Strategy<Value = IndexKind> {
    prop_oneof![4 => Just(IndexKind::Hnsw), 2 => Just(IndexKind::Ivf), 1 => Just(IndexKind::Flat)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u32..200, 1_u32..60).prop_map(|(first, count)| Step::Write(first, count)),
        2 => Just(Step::Flush),
        4 => (kind(), 2_u32..9, 4_u32..30).prop_map(|(kind, m, ef)| Step::Want(kind, m, ef)),
        3 => (0_u8..100, 0_u8..100).prop_map(|(x, y)| Step::Search(x, y)),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn whatever_is_wanted_last_is_reached_and_answers_are_right_meanwhile(
        steps in prop::collection::vec(step(), 1..16),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = hnsw(4, 16);
        let mut shard = open(dir.path(), wanted, 20);
        let mut model = Model::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(first, count) => write(&shard, &mut model, first..first + count, number as u32),
                Step::Flush => flush(&shard),
                Step::Want(kind, m, ef) => {
                    wanted = spec(kind, m, ef);
                    shard.want_index(wanted);
                }
                Step::Search(x, y) => check(&shard, &model, [f32::from(x), f32::from(y)]),
                Step::Settle => assert_reached(&shard, dir.path(), wanted),
                Step::Reopen => {
                    drop(shard);
                    // The catalog knows what was wanted.
                    shard = open(dir.path(), wanted, 20);
                }
            }
        }
        check(&shard, &model, [50.0, 50.0]);
        assert_reached(&shard, dir.path(), wanted);
        check(&shard, &model, [50.0, 50.0]);
        drop(shard);
        let shard = open(dir.path(), wanted, 20);
        check(&shard, &model, [10.0, 90.0]);
        assert_reached(&shard, dir.path(), wanted);
    }
}

const ROWS: u32 = 4_000;
/// So thorough that a test has all the time to change its mind.
const SLOW: (u32, u32) = (64, 4_096);

/// One segment with a graph.
fn large(dir: &Path) -> (Shard, Model) {
    let shard = open(dir, hnsw(4, 16), 1 << 20);
    let mut model = Model::new();
    let mut batch = WriteBatch::new(2);
    for row in 0..ROWS {
        let (name, vector) = (format!("r{row}"), [row as f32, (row % 97) as f32]);
        batch.upsert(id(&name), &vector, "{}".into(), 0);
        model.insert(name, vector);
    }
    runtime().block_on(shard.propose(Entry { batch, ..Entry::default() })).unwrap();
    assert_reached(&shard, dir, hnsw(4, 16));
    (shard, model)
}

/// Waits until the slow build has begun.
fn begin_slow(shard: &Shard) {
    shard.want_index(hnsw(SLOW.0, SLOW.1));
    let begun = Instant::now();
    while shard.index().segments.iter().all(|segment| segment.done.unwrap_or(0) == 0) {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", shard.index());
        std::thread::sleep(Duration::from_millis(1));
    }
    let report = shard.index();
    assert!(!report.is_ready() && report.progress() < 1.0 && report.rows_pending() > 0, "{report:?}");
    assert_eq!(shard.info().status, "yellow");
}

#[test]
fn a_change_of_mind_stops_the_build_and_keeps_what_serves() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, model) = large(dir.path());
    let graph = || shard.segments()[0].graph.load_full().unwrap();
    let before = graph();
    begin_slow(&shard);
    check(&shard, &model, [700.0, 20.0]);
    assert_eq!(shard.info().indexed_points, u64::from(ROWS), "the old graph serves");
    let begun = Instant::now();
    shard.want_index(hnsw(4, 16));
    assert_reached(&shard, dir.path(), hnsw(4, 16));
    while shard.index().segments[0].done.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the build goes on: {:?}", shard.index());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Arc::ptr_eq(&before, &graph()), "nothing was built");
    shard.want_index(spec(IndexKind::Ivf, 4, 16));
    assert_reached(&shard, dir.path(), spec(IndexKind::Ivf, 4, 16));
    assert_eq!(shard.info().indexed_points, u64::from(ROWS), "clusters serve");
    check(&shard, &model, [700.0, 20.0]);
    // Another number of clusters is another index; what is the same in clusters is not.
    let clusters = graph();
    shard.want_index(spec(IndexKind::Ivf, 3, 99));
    assert_reached(&shard, dir.path(), spec(IndexKind::Ivf, 3, 99));
    assert!(Arc::ptr_eq(&clusters, &graph()), "nothing was built");
    shard.want_index(spec(IndexKind::Ivf, 40, 16));
    assert_reached(&shard, dir.path(), spec(IndexKind::Ivf, 40, 16));
    assert_eq!(shard.segments()[0].built().unwrap().clusters, Some(40));
    check(&shard, &model, [700.0, 20.0]);
    shard.want_index(spec(IndexKind::Flat, 4, 16));
    assert_reached(&shard, dir.path(), spec(IndexKind::Flat, 4, 16));
    assert_eq!((shard.info().indexed_points, shard.segments()[0].graph_bytes()), (0, 0));
    check(&shard, &model, [700.0, 20.0]);
}

#[test]
fn closing_does_not_wait_for_a_build_and_a_crash_in_it_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, model) = large(dir.path());
    begin_slow(&shard);
    let crashed = tempfile::tempdir().unwrap();
    copy(&shard, crashed.path());
    let begun = Instant::now();
    shard.close();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());

    // The catalog was told before the build began.
    let shard = open(crashed.path(), hnsw(8, 32), 1 << 20);
    check(&shard, &model, [1234.0, 5.0]);
    assert_reached(&shard, crashed.path(), hnsw(8, 32));
    check(&shard, &model, [1234.0, 5.0]);
}

#[test]
fn manifests_that_do_not_say_what_was_built_are_taken_at_the_catalogs_word() {
    let dir = tempfile::tempdir().unwrap();
    let (shard, _) = large(dir.path());
    shard.close();
    drop(shard);
    let mut manifest = Manifest::load(dir.path()).unwrap().unwrap();
    manifest.version += 1;
    manifest.segments.iter_mut().for_each(|entry| entry.built = None);
    manifest.store(dir.path()).unwrap();
    let text =
        std::fs::read_to_string(dir.path().join(format!("manifest-{:020}.json", manifest.version))).unwrap();
    assert!(!text.contains("\"built\""), "as it was written before there was such a thing");
    let shard = open(dir.path(), hnsw(4, 16), 1 << 20);
    let built = IndexSpec {
        kind: IndexKind::Hnsw,
        graph: GraphParams { m: 4, ef_construct: 16, ..GraphParams::default() },
        clusters: None,
    }
    .built_for(1 << 20);
    assert_eq!(shard.segments()[0].built(), built);
    let manifest = Manifest::load(dir.path()).unwrap().unwrap();
    assert_eq!(manifest.segments[0].built, built, "and said from now on: the catalog's word may change");
}
