//! The flush thread and the upkeep thread: files, manifests, view swaps, merges, graphs.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::MutexGuard;
use roaring::RoaringBitmap;

use super::core::Core;
use crate::faults;
use crate::flush::{self, Plan, SegmentStats};
use crate::index::{BuildControl, GraphBuilder};
use crate::memory::{Charge, Purpose};
use crate::store::{
    Deletes, FileMeta, Manifest, Segment, SegmentEntry, SegmentId, SegmentMeta, StoreError, collect_garbage,
};
use crate::view::{Frozen, LiveSegment, View};

/// Rejected records kept per shard; the oldest files go first. A mapping gone wrong must not fill the disk.
const QUARANTINE_MAX: u64 = 100_000;
/// Between tries of something that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Upkeep looks for work this often when nobody wakes it.
const TICK: Duration = Duration::from_secs(1);

/// Flushes frozen memtables in order until the apply thread lets go of them.
pub(super) fn flush_thread(core: &Arc<Core>, frozen: &Receiver<Arc<Frozen>>, purge: &Sender<()>) {
    for one in frozen {
        if core.is_closing() {
            return; // the log still holds it
        }
        let started = Instant::now();
        if !until_done(core, "flush", || flush_one(core, &one)) {
            return;
        }
        core.disk_full.store(false, Ordering::Release);
        metrics::histogram!("proximadb_flush_seconds", "collection" => core.config.name.clone())
            .record(started.elapsed().as_secs_f64());
        // One that is under way or waiting reads the mark that has just moved.
        let _ = purge.try_send(());
        let _ = core.upkeep.try_send(());
    }
}

/// Tries again until it works or the shard closes; says whether it worked.
fn until_done(core: &Core, what: &str, mut work: impl FnMut() -> Result<(), StoreError>) -> bool {
    loop {
        match work() {
            Ok(()) => return true,
            Err(error) => {
                let full = matches!(error, StoreError::Full { .. });
                core.disk_full.store(full, Ordering::Release);
                metrics::counter!("proximadb_upkeep_errors_total", "work" => what.to_string()).increment(1);
                tracing::error!(collection = core.config.name, what, error = %chain(&error), "trying again in 1 s");
            }
        }
        let since = Instant::now();
        while since.elapsed() < RETRY {
            if core.is_closing() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

fn flush_one(core: &Arc<Core>, frozen: &Arc<Frozen>) -> Result<(), StoreError> {
    let _writing = core.writers.read();
    // Whatever the budget says: this is what makes room.
    let (rows, bytes) = (frozen.memtable.rows(), frozen.memtable.bytes());
    let _buffers = core.budget.charge(Purpose::SegmentWrites, write_bytes(rows, bytes));
    let flushed = flush::flush(&core.config, &core.segments_dir, frozen, SegmentId::new())?;
    let live = flushed.segment.as_ref().map(|meta| open(core, meta)).transpose()?;
    let mut manifest = core.manifest.lock();
    let mut next = manifest.clone();
    next.flushed_lsn = frozen.marks.lsn;
    next.log_term = frozen.marks.term;
    next.positions = frozen.marks.positions.clone();
    next.watermark_ms = frozen.marks.watermark_ms;
    next.quarantine.extend(flushed.quarantine);
    while next.quarantine.len() > 1
        && next.quarantine.iter().map(|file| file.count).sum::<u64>() > QUARANTINE_MAX
    {
        next.quarantine.remove(0);
    }
    next.segments.extend(flushed.segment.map(entry_of));
    // Stored before the swap: if it fails, the memtable stays where it is and all of this is done again.
    store_manifest(core, &mut manifest, next, live.as_ref())?;
    let swapped = (Arc::clone(frozen), live, flushed.origins);
    core.between_entries(move |core| {
        let (frozen, live, origins) = swapped;
        if let Some(live) = &live {
            for (row, origin) in origins.into_iter().enumerate() {
                let dead = frozen.memtable.locate(origin).and_then(|(block, within)| block.dead(within));
                dead.into_iter().for_each(|at| live.kill(row as u32, at));
            }
        }
        swap(core, |view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.iter().filter(|one| !Arc::ptr_eq(one, &frozen)).cloned().collect(),
            segments: view.segments.iter().cloned().chain(live).collect(),
        });
    });
    let _ = faults::pass("shard::flush_published"); // past it, nothing can fail any more
    core.marks.set_flushed(frozen.marks.lsn);
    drop(manifest);
    core.changed.notify_waiters();
    Ok(())
}

/// Cuts the log behind what is flushed, until the flush thread ends.
///
/// Not on the flush thread: the log thread answers when it is not waiting for apply, and apply may be waiting
/// for the flush thread.
pub(super) fn purge_thread(core: &Core, due: &Receiver<()>) {
    for () in due {
        let flushed = core.marks.flushed();
        let purged = core.log.get().map(|log| log.purge(flushed));
        if let Some(Err(error)) = purged
            && !core.is_closing()
        {
            tracing::warn!(collection = core.config.name, %error, "the log could not be cut behind what is flushed");
        }
    }
}

fn swap(core: &Core, next: impl FnOnce(&View) -> View) {
    let view = core.view.load_full();
    core.view.store(Arc::new(next(&view)));
}

fn open(core: &Core, meta: &SegmentMeta) -> Result<Arc<LiveSegment>, StoreError> {
    let segment = Segment::open(&core.segments_dir, meta)?;
    Ok(Arc::new(LiveSegment::new(segment, core.config.distance, &core.budget)?))
}

fn entry_of(meta: SegmentMeta) -> SegmentEntry {
    SegmentEntry { meta, deletes: None, graph: None }
}

/// Writes `next` with every segment's dead rows as of its `flushed_lsn`, and makes it the current one.
///
/// `newcomer`: the segment that `next` names and the view does not hold yet.
fn store_manifest(
    core: &Core,
    manifest: &mut MutexGuard<'_, Manifest>,
    mut next: Manifest,
    newcomer: Option<&Arc<LiveSegment>>,
) -> Result<(), StoreError> {
    next.version = manifest.version + 1;
    // A failed try leaves files of this version behind; the next try takes a new one.
    manifest.version += 1;
    let view = core.view.load_full();
    for entry in &mut next.segments {
        let mut known = view.segments.iter().chain(newcomer);
        let Some(live) = known.find(|live| live.id() == entry.meta.id) else {
            // Its dead rows are unknown: recording it without them would bring them back to life.
            let what = format!("segment {} is not in service", entry.meta.id);
            return Err(StoreError::invalid(&core.dir, what));
        };
        let rows: RoaringBitmap = live.dead_as_of(next.flushed_lsn).collect();
        if rows.len() != entry.deletes.as_ref().map_or(0, |deletes| deletes.count) {
            let deletes = Deletes { rows, as_of: next.flushed_lsn };
            entry.deletes = Some(deletes.write(&core.segments_dir, &entry.meta, next.version)?);
        }
    }
    next.store(&core.dir)?;
    **manifest = next;
    Ok(())
}

/// Merges, graphs and garbage, one at a time, until the shard closes.
pub(super) fn upkeep_thread(core: &Arc<Core>, wakes: &Receiver<()>) {
    while !core.is_closing() {
        tell(core);
        if !upkeep_once(core) {
            let _ = wakes.recv_timeout(TICK);
        }
    }
}

/// What a dashboard shows of the shard.
fn tell(core: &Core) {
    let view = core.view.load();
    let gauge = |name: &'static str, value: u64| {
        metrics::gauge!(name, "collection" => core.config.name.clone()).set(value as f64);
    };
    gauge("proximadb_collection_points", core.marks.live_points());
    gauge("proximadb_collection_segments", view.segments.len() as u64);
    gauge(
        "proximadb_collection_memtable_bytes",
        view.memtables().map(|memtable| memtable.bytes() as u64).sum(),
    );
    gauge("proximadb_collection_applied_lsn", core.marks.applied().0);
    gauge("proximadb_collection_flushed_lsn", core.marks.flushed().0);
    gauge("proximadb_collection_quarantined_records", core.marks.rejected());
}

/// Bytes that writing a segment takes: a row group of its Parquet file, and the table of its ids.
fn write_bytes(rows: usize, bytes: usize) -> usize {
    bytes.min(128 << 20) + rows * 22
}

/// Has the budget room for work that can wait? Else it is done at a later tick.
fn reserve(core: &Core, work: &'static str, purpose: Purpose, bytes: usize) -> Option<Charge> {
    let reserved = core.budget.reserve(purpose, bytes);
    if reserved.is_none() {
        metrics::counter!("proximadb_memory_deferred_total", "work" => work).increment(1);
        tracing::debug!(collection = core.config.name, work, bytes, "deferred: memory is tight");
    }
    reserved
}

/// Does the most urgent thing; says whether there was any.
fn upkeep_once(core: &Arc<Core>) -> bool {
    let view = core.view.load_full();
    let flushed = core.marks.flushed();
    let stats: Vec<SegmentStats> = view
        .segments
        .iter()
        .map(|live| SegmentStats {
            id: live.id(),
            rows: u64::from(live.rows()),
            dead: live.dead_as_of(flushed).count() as u64,
        })
        .collect();
    if let Some(plan) = flush::plan(&stats)
        && let Some(_buffers) = reserve(core, "merge", Purpose::SegmentWrites, merge_bytes(&view, &plan))
        && report(core, "merge", merge(core, &view, &plan))
    {
        return true;
    }
    // Whatever could not be merged must not keep graphs from being built, nor garbage from being collected.
    let lacking = view.segments.iter().find(|live| flush::lacks_graph(live, &core.config.graph));
    if let Some(live) = lacking
        && let bytes = flush::build_bytes(live, &core.config.graph)
        && let Some(_building) = reserve(core, "graph build", Purpose::IndexBuilds, bytes)
        && report(core, "graph build", build_graph(core, live))
    {
        return true;
    }
    collect(core);
    false
}

fn merge_bytes(view: &View, plan: &Plan) -> usize {
    let inputs = view.segments.iter().filter(|live| plan.inputs.contains(&live.id()));
    let (mut rows, mut bytes) = (0, 0);
    for live in inputs {
        rows += live.rows() as usize;
        bytes += live.segment.meta().parquet.bytes as usize;
    }
    write_bytes(rows, bytes)
}

/// A failure is told once and tried again at the next tick.
fn report<E: std::error::Error>(core: &Core, work: &str, outcome: Result<(), E>) -> bool {
    match outcome {
        Ok(()) => true,
        Err(_) if core.is_closing() => false,
        Err(error) => {
            metrics::counter!("proximadb_upkeep_errors_total", "work" => work.to_string()).increment(1);
            tracing::error!(collection = core.config.name, work, error = %chain_of(&error), "will be tried again");
            false
        }
    }
}

fn chain_of<E: std::error::Error>(error: &E) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}

fn merge(core: &Arc<Core>, view: &View, plan: &Plan) -> Result<(), StoreError> {
    let started = Instant::now();
    let _writing = core.writers.read();
    let inputs: Vec<Arc<LiveSegment>> =
        view.segments.iter().filter(|live| plan.inputs.contains(&live.id())).cloned().collect();
    let others_remain = inputs.len() < view.segments.len();
    let flushed = core.marks.flushed();
    let merged =
        flush::compact(&core.config, &core.segments_dir, &inputs, flushed, others_remain, SegmentId::new())?;
    let live = merged.segment.as_ref().map(|meta| open(core, meta)).transpose()?;

    let mut manifest = core.manifest.lock();
    // Whatever died up to `flushed_lsn` has its stamp by now, and belongs into this manifest.
    if let Some(newer) = &live {
        carry_stamps(&inputs, &merged.origins, newer);
    }
    let mut next = manifest.clone();
    let newest = merged.segment.map(entry_of);
    next.segments = replace(&next.segments, |entry| plan.inputs.contains(&entry.meta.id), newest);
    // Stored before the swap: if it fails, nothing has changed, and the new files are garbage.
    store_manifest(core, &mut manifest, next, live.as_ref())?;
    let _ = faults::pass("shard::merge_published"); // past it, nothing can fail any more
    let (ids, sources, newer, origins) = (plan.inputs.clone(), inputs.clone(), live.clone(), merged.origins);
    core.between_entries(move |core| {
        if let Some(newer) = &newer {
            carry_stamps(&sources, &origins, newer);
        }
        swap(core, |view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.clone(),
            segments: replace(&view.segments, |live| ids.contains(&live.id()), newer),
        });
    });
    core.retired.lock().extend(inputs.iter().map(Arc::downgrade));
    drop(manifest);
    core.changed.notify_waiters();
    let rows: u64 = inputs.iter().map(|live| u64::from(live.rows())).sum();
    tracing::info!(
        collection = core.config.name,
        inputs = inputs.len(),
        rows,
        kept = live.map_or(0, |live| live.rows()),
        elapsed_ms = started.elapsed().as_millis() as u64,
        "merged segments"
    );
    Ok(())
}

/// Rows that died while they were copied are dead in the copy as well.
fn carry_stamps(sources: &[Arc<LiveSegment>], origins: &[(u32, u32)], newer: &LiveSegment) {
    for (row, (place, origin)) in origins.iter().enumerate() {
        let dead = sources.get(*place as usize).and_then(|source| source.dead(*origin));
        dead.into_iter().for_each(|at| newer.kill(row as u32, at));
    }
}

/// Puts `new` where the first of those that go stood, so that order stays oldest first.
fn replace<T: Clone>(all: &[T], goes: impl Fn(&T) -> bool, new: Option<T>) -> Vec<T> {
    let mut new = new;
    let mut kept = Vec::with_capacity(all.len());
    for one in all {
        if goes(one) {
            kept.extend(new.take());
        } else {
            kept.push(one.clone());
        }
    }
    kept
}

fn build_graph(core: &Arc<Core>, live: &Arc<LiveSegment>) -> Result<(), flush::GraphError> {
    let started = Instant::now();
    let _writing = core.writers.read();
    let builder = GraphBuilder { params: core.config.graph, threads: core.tuning.build_threads, seed: SEED };
    let control: &BuildControl = &core.build;
    control.done.store(0, Ordering::Relaxed);
    let path = flush::build_graph(&core.segments_dir, live, &builder, control)?;
    let _ = faults::pass("shard::graph_written");
    let bytes = std::fs::read(&path).map_err(|source| StoreError::Io { path, doing: "read", source })?;
    let graph = FileMeta {
        name: live.id().file_name("graph"),
        bytes: bytes.len() as u64,
        crc32c: crc32c::crc32c(&bytes),
    };
    let mut manifest = core.manifest.lock();
    let mut next = manifest.clone();
    if let Some(entry) = next.segments.iter_mut().find(|entry| entry.meta.id == live.id()) {
        entry.graph = Some(graph);
        store_manifest(core, &mut manifest, next, None)?;
    }
    drop(manifest);
    core.changed.notify_waiters();
    tracing::info!(
        collection = core.config.name,
        segment = %live.id(),
        rows = live.rows(),
        elapsed_ms = started.elapsed().as_millis() as u64,
        "built a graph"
    );
    Ok(())
}

/// The same rows give the same graph on every node.
const SEED: u64 = 0x7072_6F78_696D_6131;

/// Deletes files that no kept manifest names, unless somebody is writing.
pub(super) fn collect(core: &Core) {
    let Some(_alone) = core.writers.try_write() else { return };
    let _manifest = core.manifest.lock();
    let read: Vec<String> = {
        let mut retired = core.retired.lock();
        retired.retain(|segment| segment.strong_count() > 0);
        retired.iter().filter_map(|segment| Some(segment.upgrade()?.id().to_string())).collect()
    };
    let is_read = |name: &str| read.iter().any(|id| name.starts_with(id));
    match collect_garbage(&core.dir, &core.segments_dir, is_read) {
        Ok(report) if report.deleted.is_empty() => {}
        Ok(report) => {
            tracing::debug!(files = report.deleted.len(), bytes = report.bytes, "collected garbage")
        }
        Err(error) => {
            tracing::warn!(collection = core.config.name, error = %chain(&error), "cannot collect garbage")
        }
    }
}
