//! Promises over a real shard.
#![allow(clippy::unwrap_used, clippy::panic)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::random::Random;
use crate::catalog::MemoryCatalog;
use crate::engine::{Collection, CollectionPatch, Engine, EngineOptions, NewCollection, Wait};
use crate::index::Accelerator;
use crate::query::{Nearest, PayloadSelection, ReadOptions, SearchRequest};
use crate::shard::Tuning;
use crate::types::{Distance, GraphParams, IndexKind, PointId, RecallTarget, WriteBatch};
use crate::wal::LogOptions;

const DIM: usize = 24;
const ROWS: usize = 4_000;

fn options(dir: &std::path::Path) -> EngineOptions {
    EngineOptions {
        data_dir: dir.to_path_buf(),
        tuning: Tuning {
            memtable_bytes_max: 64 << 20,
            memtable_rows_max: 1 << 20,
            memtable_age_max: Duration::from_secs(3600),
            frozen_max: 2,
            build_threads: 2,
            accelerator: Accelerator::new(0),
            propose_timeout: Duration::from_secs(10),
            log: LogOptions::default(),
        },
        search_threads: 2,
        // So little that it misses.
        ef_search: 10,
        recall_share: 1.0,
        memory_limit: 1 << 30,
    }
}

/// No clusters that a walk could follow, and few links: hard to search.
fn hard() -> NewCollection {
    NewCollection {
        name: "hard".into(),
        dim: DIM as u32,
        distance: Distance::L2,
        index: IndexKind::Hnsw,
        clusters: None,
        graph: GraphParams { m: 4, ef_construct: 20, full_scan_threshold: 100, ..GraphParams::default() },
        recall_target: None,
    }
}

fn vector(random: &mut Random) -> Vec<f32> {
    (0..DIM).map(|_| random.unit() as f32 - 0.5).collect()
}

async fn filled(engine: &Engine) -> Arc<Collection> {
    let collection = engine.create_collection(hard()).await.unwrap();
    let mut random = Random(11);
    for first in (0..ROWS).step_by(500) {
        let mut batch = WriteBatch::new(DIM as u32);
        for row in first..first + 500 {
            batch.upsert(PointId::integer(row as u64), &vector(&mut random), "{}".into(), 0);
        }
        let wait = if first + 500 == ROWS { Wait::Indexed } else { Wait::Durable };
        collection.write(batch, wait).await.unwrap();
    }
    assert_eq!(collection.info().indexed_points, ROWS as u64);
    collection
}

fn request(vector: Vec<f32>, exact: bool) -> SearchRequest {
    SearchRequest {
        nearest: Nearest::Vector(vector),
        limit: 10,
        offset: 0,
        filter: None,
        with_payload: PayloadSelection::Nothing,
        with_vector: false,
        score_threshold: None,
        exact,
        ef_search: None,
        codes: Default::default(),
        read: ReadOptions::default(),
    }
}

/// Recall of queries that nobody has measured.
async fn recall(collection: &Arc<Collection>, queries: usize, seed: u64) -> f64 {
    let mut random = Random(seed);
    let mut found = 0;
    for _ in 0..queries {
        let query = vector(&mut random);
        let exact = collection.search(request(query.clone(), true)).await.unwrap();
        let walked = collection.search(request(query, false)).await.unwrap();
        let farthest = exact.hits[9].score;
        found += walked.hits.iter().filter(|hit| hit.score <= farthest).count();
    }
    found as f64 / (queries * 10) as f64
}

/// Waits for a report that pleases.
async fn until(
    collection: &Collection,
    what: &str,
    pleases: impl Fn(&super::RecallReport) -> bool,
) -> super::RecallReport {
    let begun = Instant::now();
    loop {
        let report = collection.recall().unwrap();
        if pleases(&report) {
            return report;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {report:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn promise(share: f64) -> CollectionPatch {
    CollectionPatch { recall_target: Some(RecallTarget::new(share).ok()), ..CollectionPatch::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_promised_is_held_where_the_default_misses_it_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(MemoryCatalog::default());
    let engine = Engine::open(options(dir.path()), catalog.clone()).await.unwrap();
    let collection = filled(&engine).await;
    assert_eq!(collection.recall(), None, "nothing is promised");
    let before = recall(&collection, 100, 1).await;
    assert!(before < 0.85, "the default misses: {before}");

    // Nobody has asked anything that may be kept: points made up from rows are measured.
    engine.patch_collection("hard", promise(0.95)).await.unwrap();
    let holds = |report: &super::RecallReport| report.samples >= 200 && report.measured >= Some(0.95);
    until(&collection, "points made up", holds).await;
    // The collection's own queries take their place as they come.
    for round in 0..40 {
        recall(&collection, 20, 100 + round).await;
    }
    let holds = |report: &super::RecallReport| report.samples >= 64 && report.measured >= Some(0.95);
    let report = until(&collection, "queries", holds).await;
    let (low, high) = report.confidence.unwrap();
    assert!(low < high && high >= 0.95 && report.measured_at_ms.is_some(), "{report:?}");
    let held = recall(&collection, 200, 2).await;
    assert!(held >= 0.92, "{held} with {report:?}");
    assert!(report.ef_search > 10 && report.ef_search < 1_000, "{report:?}");

    // The catalog follows the tuner.
    let begun = Instant::now();
    let kept = loop {
        let kept = collection.config().ef_search;
        if kept == collection.recall().map(|report| report.ef_search as u32) {
            break kept;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{kept:?} is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    engine.close();
    let idle = EngineOptions { recall_share: 0.0, ..options(dir.path()) };
    let engine = Engine::open(idle, catalog).await.unwrap();
    let collection = engine.collection("hard").unwrap();
    let report = collection.recall().unwrap();
    assert_eq!(
        (Some(report.ef_search as u32), report.samples),
        (kept, 0),
        "kept, and not measured again yet"
    );
    assert!(recall(&collection, 100, 3).await >= 0.9);

    engine
        .patch_collection("hard", CollectionPatch { recall_target: Some(None), ..CollectionPatch::default() })
        .await
        .unwrap();
    assert_eq!((collection.recall(), collection.config().ef_search), (None, None));
    assert_eq!(recall(&collection, 100, 1).await, before, "as before");
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_raised_when_all_is_measured_is_held_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(options(dir.path()), Arc::new(MemoryCatalog::default())).await.unwrap();
    let collection = filled(&engine).await;
    engine.patch_collection("hard", promise(0.6)).await.unwrap();
    let rests = |report: &super::RecallReport| report.samples >= super::POINTS_ENOUGH as u64;
    let before = until(&collection, "enough is known", rests).await;
    engine.patch_collection("hard", promise(0.95)).await.unwrap();
    let holds = |report: &super::RecallReport| report.samples >= 64 && report.measured >= Some(0.95);
    let after = until(&collection, "the new target", holds).await;
    assert!(after.ef_search > before.ef_search, "{before:?} {after:?}");
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_graphs_the_promise_holds_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(options(dir.path()), Arc::new(MemoryCatalog::default())).await.unwrap();
    let new = NewCollection { recall_target: RecallTarget::new(1.0).ok(), ..hard() };
    let collection = engine.create_collection(new).await.unwrap();
    let mut batch = WriteBatch::new(DIM as u32);
    batch.upsert(PointId::integer(1), &[0.5; DIM], "{}".into(), 0);
    collection.write(batch, Wait::Durable).await.unwrap();
    let report = until(&collection, "exact", |report| report.measured == Some(1.0)).await;
    assert_eq!((report.samples, report.confidence), (0, Some((1.0, 1.0))));
    engine.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_that_name_their_own_number_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let idle = EngineOptions { recall_share: 0.0, ..options(dir.path()) };
    let engine = Engine::open(idle, Arc::new(MemoryCatalog::default())).await.unwrap();
    let new = NewCollection { recall_target: RecallTarget::new(0.9).ok(), ..hard() };
    let collection = engine.create_collection(new).await.unwrap();
    let fresh = || collection.recall_state().queries.lock().fresh();
    for own in [
        SearchRequest { ef_search: Some(64), ..request(vec![0.0; DIM], false) },
        request(vec![0.0; DIM], true),
        SearchRequest { nearest: Nearest::Vector(vec![0.0; DIM]), exact: true, ..request(Vec::new(), true) },
    ] {
        collection.search(own).await.unwrap();
    }
    assert_eq!(fresh(), 0);
    collection.search(request(vec![0.0; DIM], false)).await.unwrap();
    assert_eq!(fresh(), 1);
    engine.close();
}
