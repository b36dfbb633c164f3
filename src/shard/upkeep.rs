//! The flush thread and the upkeep thread: files, manifests, view swaps, merges, graphs.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::MutexGuard;
use roaring::RoaringBitmap;

use super::core::Core;
use super::making::{Making, count};
use super::merge::merge;
use crate::faults;
use crate::flush::{self, GraphError, Plan, SegmentStats};
use crate::index::{GraphMade, IndexBuilder, IndexError};
use crate::memory::{Charge, Purpose};
use crate::stage::StageMeter;
use crate::store::{
    Deletes, FileMeta, Manifest, Segment, SegmentEntry, SegmentId, SegmentMeta, StoreError, collect_garbage,
};
use crate::types::IndexKind;
use crate::view::{Frozen, LiveSegment, View};

/// Rejected records kept per shard; the oldest files go first. A mapping gone wrong must not fill the disk.
const QUARANTINE_MAX: u64 = 100_000;
/// Between tries of something that failed.
const RETRY: Duration = Duration::from_secs(1);
/// Niceness of upkeep beside the rest. More starves it, and flush behind it, on a busy machine; less takes the
/// processor from writers and searches while segments are merged and graphs built.
const UPKEEP_NICE: u8 = 10;
/// Upkeep looks for work this often when nobody wakes it.
const TICK: Duration = Duration::from_secs(1);

/// Flushes frozen memtables in order until the apply thread lets go of them.
pub(super) fn flush_thread(core: &Arc<Core>, frozen: &Receiver<Arc<Frozen>>, purge: &Sender<()>) {
    for one in frozen {
        if core.is_closing() {
            return; // the log still holds it
        }
        let started = Instant::now();
        if !until_flushed(core, &one) {
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
fn until_flushed(core: &Arc<Core>, frozen: &Arc<Frozen>) -> bool {
    loop {
        let started = Instant::now();
        match flush_one(core, frozen) {
            Ok((rows, bytes)) => {
                core.meters.flush.passed(rows, bytes, started.elapsed());
                return true;
            }
            Err(error) => {
                let full = matches!(error, StoreError::Full { .. });
                core.disk_full.store(full, Ordering::Release);
                core.meters.flush.failed();
                metrics::counter!("proximadb_upkeep_errors_total", "work" => "flush").increment(1);
                tracing::error!(
                    collection = core.config.name, error = %chain(&error), "a flush failed; trying again in 1 s"
                );
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

/// One memtable to a segment in service; returns its rows and the bytes of its files.
fn flush_one(core: &Arc<Core>, frozen: &Arc<Frozen>) -> Result<(u64, u64), StoreError> {
    let _writing = core.writers.read();
    // Whatever the budget says: this is what makes room.
    let (rows, bytes) = (frozen.memtable.rows(), frozen.memtable.bytes());
    let _buffers = core.budget.charge(Purpose::SegmentWrites, write_bytes(rows, bytes));
    let flushed = flush::flush(&core.config, &core.segments_dir, frozen, SegmentId::new())?;
    let live = flushed.segment.as_ref().map(|meta| open(core, meta)).transpose()?;
    let written = flushed.segment.as_ref().map_or((0, 0), |meta| (u64::from(meta.rows), meta.bytes()));
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
    next.segments.extend(flushed.segment.map(|meta| entry_of(meta, None)));
    // Stored before the swap: if it fails, the memtable stays where it is and all of this is done again.
    store_manifest(core, &mut manifest, next, live.as_ref())?;
    let swapped = (Arc::clone(frozen), live, flushed.origins);
    core.between_entries(move |core| {
        let (frozen, live, origins) = swapped;
        if let Some(live) = &live {
            carry_from_memory(&frozen, &origins, live);
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
    Ok(written)
}

/// Rows that died since they were written to the segment are dead in it as well. `origins` are rising.
///
/// Runs between two entries, so everybody waits for it: one pass over the stamps, no look-ups.
fn carry_from_memory(frozen: &Frozen, origins: &[u32], live: &LiveSegment) {
    let blocks = frozen.memtable.blocks();
    let numbered =
        (0u32..).zip(blocks.iter().flat_map(|block| (0..block.len()).map(move |row| (block, row))));
    let mut origins = (0u32..).zip(origins).peekable();
    for (number, (block, within)) in numbered {
        let Some((row, _)) = origins.next_if(|(_, origin)| **origin == number) else { continue };
        if let Some(at) = block.dead(within) {
            live.kill(row, at);
        }
    }
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

pub(super) fn swap(core: &Core, next: impl FnOnce(&View) -> View) {
    let view = core.view.load_full();
    core.view.store(Arc::new(next(&view)));
}

pub(super) fn open(core: &Core, meta: &SegmentMeta) -> Result<Arc<LiveSegment>, StoreError> {
    let segment = Segment::open(&core.segments_dir, meta)?;
    Ok(Arc::new(LiveSegment::new(segment, core.config.distance, &core.budget)?))
}

pub(super) fn entry_of(meta: SegmentMeta, graph: Option<FileMeta>) -> SegmentEntry {
    SegmentEntry { meta, deletes: None, graph, built: None }
}

/// Writes `next` with every segment's dead rows as of its `flushed_lsn`, and makes it the current one.
///
/// `newcomer`: the segment that `next` names and the view does not hold yet.
pub(super) fn store_manifest(
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
        // Of a newcomer, only it knows.
        if let (Some(graph), Some(origin)) = (&entry.graph, live.graph_origin())
            && origin.name == graph.name
        {
            entry.built = Some(origin.built);
        }
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
///
/// It steps back behind everybody who answers or takes in: what it does is never urgent, and it is most of the
/// work. It holds the manifest's lock for a moment now and then, which the flush thread may wait for; a tenth of
/// a busy processor, which this leaves it, keeps that moment short.
pub(super) fn upkeep_thread(core: &Arc<Core>, wakes: &Receiver<()>) {
    if !proximadb_kernels::priority::step_back(UPKEEP_NICE) {
        tracing::debug!(collection = core.config.name, "upkeep runs at the priority of everything else");
    }
    while !core.is_closing() {
        if !upkeep_once(core) {
            let _ = wakes.recv_timeout(TICK);
        }
    }
}

/// What a dashboard shows of the shard.
pub(super) fn tell(core: &Core) {
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
    gauge("proximadb_collection_durable_lsn", core.durable().0);
    gauge("proximadb_collection_applied_lsn", core.marks.applied().0);
    gauge("proximadb_collection_flushed_lsn", core.marks.flushed().0);
    gauge("proximadb_collection_quarantined_records", core.marks.rejected());
}

/// Bytes that writing a segment takes: a row group of its Parquet file, and the table of its ids.
fn write_bytes(rows: usize, bytes: usize) -> usize {
    bytes.min(128 << 20) + rows * 22
}

/// Has the budget room for work that can wait? Else it is done at a later tick.
pub(super) fn reserve(core: &Core, work: &'static str, purpose: Purpose, bytes: usize) -> Option<Charge> {
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
    let (flushed, now) = (core.marks.flushed(), Instant::now());
    core.pauses.keep(|id| view.segments.iter().any(|live| live.id() == id));
    let is_free = |live: &Arc<LiveSegment>| !core.pauses.holds(live.id(), now);
    let stats: Vec<SegmentStats> = view
        .segments
        .iter()
        .filter(|live| is_free(live))
        .map(|live| SegmentStats {
            id: live.id(),
            rows: u64::from(live.rows()),
            dead: live.dead_as_of(flushed).count() as u64,
        })
        .collect();
    if let Some(plan) = flush::plan(&stats)
        && let Some(_buffers) = reserve(core, "merge", Purpose::SegmentWrites, merge_bytes(&view, &plan))
        && report(core, &core.meters.merge, "merge", &plan.inputs, merge(core, &view, &plan))
    {
        // Each time, not when all is done: under a load that never lets it be done the disk would fill.
        collect(core);
        return true;
    }
    // Whatever could not be merged must not keep graphs from being built, nor garbage from being collected.
    let wanted = core.indexing.wanted();
    let mut due: Vec<&Arc<LiveSegment>> =
        view.segments.iter().filter(|live| !core.indexing.is_met(live)).collect();
    if let Some(live) = due.iter().find(|live| wanted.built_for(live.rows()).is_none())
        && report(core, &core.meters.index, "graph drop", &[live.id()], drop_graph(core, live))
    {
        return true;
    }
    // Those that every search scans first, the largest before others; where a graph serves, a better one can wait.
    due.retain(|live| wanted.built_for(live.rows()).is_some() && is_free(live));
    due.sort_by_key(|live| (live.built().is_some(), std::cmp::Reverse(live.rows())));
    for live in due {
        let bytes = build_bytes(core, live);
        if let Some(building) = reserve(core, "graph build", Purpose::IndexBuilds, bytes)
            && report(
                core,
                &core.meters.index,
                "graph build",
                &[live.id()],
                build_graph(core, live, building),
            )
        {
            return true;
        }
    }
    collect(core);
    false
}

/// Bytes that building a segment's index from nothing takes, with a device or without.
fn build_bytes(core: &Core, live: &LiveSegment) -> usize {
    let on_top = core.tuning.accelerator.host_bytes(live.rows() as usize);
    flush::build_bytes(live.rows(), live.segment.dim(), &core.indexing.wanted()) + on_top
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

/// A failure is told each time, and tried again later: what can't be done (a merge that the disk has no room for, a
/// graph of damaged vectors) must not keep others from being done. What was stopped makes place for what is wanted now.
fn report(
    core: &Core,
    meter: &StageMeter,
    work: &'static str,
    segments: &[SegmentId],
    outcome: Result<(), GraphError>,
) -> bool {
    match outcome {
        Ok(()) => {
            core.pauses.worked(segments);
            true
        }
        Err(_) if core.is_closing() => false,
        Err(error) if error.is_stop() => {
            tracing::debug!(collection = core.config.name, work, "stopped: it is wanted no more");
            true
        }
        Err(error) => {
            meter.failed();
            metrics::counter!("proximadb_upkeep_errors_total", "work" => work).increment(1);
            tracing::error!(collection = core.config.name, work, error = %chain(&error), "will be tried again");
            core.pauses.failed(segments, Instant::now());
            false
        }
    }
}

/// Builds the graph that is wanted for a segment beside the one that serves, if any, and puts it in its place.
fn build_graph(core: &Arc<Core>, live: &Arc<LiveSegment>, building: Charge) -> Result<(), GraphError> {
    let _writing = core.writers.read();
    let making = Making::begin(core, live.id(), live.rows())?;
    let builder: Box<dyn IndexBuilder> = match making.kind() {
        IndexKind::Ivf => Box::new(making.cluster_builder()),
        IndexKind::Flat | IndexKind::Hnsw => {
            core.tuning.accelerator.builder(making.graph_builder(), live.rows() as usize)
        }
    };
    let built = flush::build_graph(making.path(), live, builder.as_ref(), making.control());
    let made = built.map(|()| GraphMade::FromNothing { reason: "it had none, or another is wanted" });
    let made = making.end(made)?;
    drop(building);
    let made = made.read(core, live, live.graph_bytes())?;
    let mut manifest = core.manifest.lock();
    // The last look: whatever is wanted later finds this one in service.
    if core.indexing.wanted().built_for(live.rows()) != Some(made.built) {
        return Err(IndexError::Cancelled.into());
    }
    let mut next = manifest.clone();
    let Some(entry) = next.segments.iter_mut().find(|entry| entry.meta.id == live.id()) else {
        return Ok(());
    };
    entry.built = Some(made.built);
    let origin = made.origin();
    entry.graph = Some(made.file);
    // Stored before the swap: if it fails, what serves goes on, and the new file is garbage.
    store_manifest(core, &mut manifest, next, None)?;
    live.set_graph(made.graph, origin);
    drop(manifest);
    count(core, "built");
    core.changed.notify_waiters();
    Ok(())
}

/// Takes a graph out of service that is wanted no more; its file is garbage then.
fn drop_graph(core: &Core, live: &LiveSegment) -> Result<(), GraphError> {
    let mut manifest = core.manifest.lock();
    if core.indexing.wanted().built_for(live.rows()).is_some() {
        // Wanted again by now.
        return Ok(());
    }
    let mut next = manifest.clone();
    if let Some(entry) = next.segments.iter_mut().find(|entry| entry.meta.id == live.id()) {
        (entry.graph, entry.built) = (None, None);
        store_manifest(core, &mut manifest, next, None)?;
    }
    live.drop_graph();
    drop(manifest);
    count(core, "dropped");
    core.changed.notify_waiters();
    Ok(())
}

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
