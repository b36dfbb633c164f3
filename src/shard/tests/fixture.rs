//! What the tests of shards share.
use std::path::Path;
use std::time::{Duration, Instant};

use crate::flush::{SegmentStats, plan};
use crate::index::Accelerator;
use crate::memory::MemoryBudget;
use crate::shard::{Shard, Tuning};
use crate::types::{
    CollectionConfig, CollectionId, Distance, Entry, GraphParams, IndexKind, Outcome, PointId, WriteBatch,
};
use crate::wal::LogOptions;

/// Bounds so tight that a hundred rows see flushes, merges and graphs.
pub fn tuning() -> Tuning {
    Tuning {
        memtable_bytes_max: 1 << 20,
        memtable_rows_max: 20,
        memtable_age_max: Duration::from_secs(3600),
        frozen_max: 1,
        build_threads: 1,
        accelerator: Accelerator::new(0),
        propose_timeout: Duration::from_secs(10),
        log: LogOptions { file_bytes_max: 4096, ..LogOptions::default() },
    }
}

pub fn config() -> CollectionConfig {
    CollectionConfig {
        id: CollectionId(uuid::Uuid::nil()),
        name: "model".into(),
        dim: 2,
        distance: Distance::L2,
        graph: GraphParams { m: 4, ef_construct: 16, full_scan_threshold: 30, ..GraphParams::default() },
        index: IndexKind::Hnsw,
        clusters: None,
        recall_target: None,
        ef_search: None,
        created_ms: 0,
    }
}

pub fn open(dir: &Path) -> Shard {
    open_as(dir, IndexKind::Hnsw)
}

pub fn open_as(dir: &Path, index: IndexKind) -> Shard {
    let config = CollectionConfig { index, ..config() };
    Shard::open(dir, config, tuning(), &MemoryBudget::unlimited()).unwrap()
}

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn id(text: impl std::fmt::Display) -> PointId {
    PointId::text(text.to_string()).unwrap()
}

/// An entry of upserts: id and payload.
pub fn upserts<'a>(points: impl IntoIterator<Item = (&'a str, String)>) -> Entry {
    let mut batch = WriteBatch::new(2);
    for (at, (point, payload)) in points.into_iter().enumerate() {
        batch.upsert(id(point), &[at as f32, 1.0], payload.into(), 0);
    }
    Entry { batch, ..Entry::default() }
}

/// Writes and waits; the write must be applied.
pub fn write(shard: &Shard, entry: Entry) -> u64 {
    match runtime().block_on(shard.propose(entry)).unwrap() {
        Outcome::Applied { lsn } => lsn.0,
        outcome => panic!("{outcome:?}"),
    }
}

/// Flushes, and fails the test if that takes forever.
pub fn flush(shard: &Shard) {
    let within = tokio::time::Duration::from_secs(20);
    let flushed = runtime().block_on(async { tokio::time::timeout(within, shard.flush()).await });
    assert!(flushed.is_ok(), "flush does not end: {:?}", shard.info());
}

/// Waits until there is nothing to flush, merge or build.
pub fn settle(shard: &Shard) {
    flush(shard);
    let begun = Instant::now();
    loop {
        let view = shard.snapshot().view;
        let stats: Vec<_> = view
            .segments
            .iter()
            .map(|live| SegmentStats {
                id: live.id(),
                rows: live.rows().into(),
                dead: u64::from(live.rows()) - live.alive(),
            })
            .collect();
        if plan(&stats).is_none() && view.segments.iter().all(|live| shard.core.indexing.is_met(live)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "upkeep does not end: {stats:?}");
        let _ = shard.core.upkeep.try_send(());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Copies the directory while the shard runs: what `kill -9` would leave now.
///
/// The lock keeps a manifest from being replaced between two files; logs and segments go on being written.
pub fn copy(shard: &Shard, to: &Path) {
    let _manifest = shard.core.manifest.lock();
    copy_folder(&shard.core.dir, to);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), target) {
            // A writer that fails or is done takes its drafts away.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
    }
}
