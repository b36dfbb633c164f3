//! Opening a shard: manifest, segments, then the log behind them.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};

use super::apply::Apply;
use super::apply_loop::ApplyLoop;
use super::core::{Core, Meters, Shard, Tuning};
use super::error::{ProposeError, ShardError};
use super::indexing::Indexing;
use super::marks::Marks;
use super::pauses::Pauses;
use super::propose::Pending;
use super::upkeep::{flush_thread, purge_thread, upkeep_thread};
use crate::flush::read_graph;
use crate::index::BuildControl;
use crate::memory::{MemoryBudget, Purpose};
use crate::memtable::HashMemtable;
use crate::store::{Deletes, Manifest, Segment, SegmentEntry, StoreError};
use crate::types::{Built, CollectionConfig, GraphParams, IndexKind, Lsn};
use crate::view::{Frozen, GraphOrigin, LiveSegment, View};
use crate::wal::{
    BincodeCodec, Durable, FrameKind, GroupCommit, GroupHooks, GroupOptions, LogStore, WalCodec, WalError,
};

/// Groups between the log thread and the apply thread. One is applied while the next is synced; more would
/// only hold memory.
const APPLY_GROUPS: usize = 4;
/// Requests to the apply thread: one of each other thread's at a time, and freezes that repeat themselves.
const CONTROLS_MAX: usize = 64;
/// Names between the data directory and a shard's files: `collections/<id>/shard-0/log`.
const LEVELS: usize = 4;
/// Dead rows recorded in the manifest died at some entry before it; which one, no reader can ask any more.
const LONG_DEAD: Lsn = Lsn(1);

impl Shard {
    /// Opens the shard in `dir`, or makes a new one there, and starts its threads.
    /// What it holds in memory is charged to `budget`.
    pub fn open(
        dir: &Path,
        config: CollectionConfig,
        tuning: Tuning,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Self, ShardError> {
        let started = Instant::now();
        let segments_dir = dir.join("segments");
        make_dir(&dir.join("log"))?;
        make_dir(&segments_dir)?;
        let mut manifest = Manifest::load(dir)?.unwrap_or_default();
        say_built(dir, &mut manifest, config.graph)?;
        let segments = open_segments(&segments_dir, &config, &manifest, budget)?;
        let marks = Marks::new(manifest.flushed_lsn, manifest.positions.clone(), manifest.watermark_ms);
        marks.set_live_points(segments.iter().map(|segment| segment.alive()).sum());
        marks.count_rejected(manifest.quarantine.iter().map(|file| file.count).sum());
        let active = Arc::new(HashMemtable::charged(budget.charge(Purpose::Memtables, 0)));
        let view = View { active, frozen: Vec::new(), segments };

        let log = open_log(dir, &tuning, &manifest)?;
        let term = log.last().map_or(manifest.log_term, |mark| mark.term);
        let replayed = replay(&log, &marks, &view, manifest.flushed_lsn)?;
        tracing::info!(
            collection = config.name,
            segments = view.segments.len(),
            points = marks.live_points(),
            replayed,
            applied_lsn = marks.applied().0,
            elapsed_ms = started.elapsed().as_millis() as u64,
            "shard is open"
        );

        let indexing = Indexing::new(config.index_spec());
        let meters = Meters::of(&config.name);
        let (control, controls) = bounded(CONTROLS_MAX);
        let (upkeep, upkeep_wakes) = bounded(1);
        let core = Arc::new(Core {
            dir: dir.to_path_buf(),
            segments_dir,
            config,
            tuning,
            budget: Arc::clone(budget),
            view: ArcSwap::from_pointee(view),
            marks,
            manifest: Mutex::new(manifest),
            writers: RwLock::new(()),
            disk_full: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            unheard: AtomicU64::new(0),
            build: BuildControl::default(),
            indexing,
            meters,
            pauses: Pauses::default(),
            upkeep,
            changed: tokio::sync::Notify::new(),
            control,
            log: std::sync::OnceLock::new(),
            retired: Mutex::default(),
        });
        start(core, log, term, controls, upkeep_wakes)
    }
}

fn start(
    core: Arc<Core>,
    log: LogStore,
    term: u64,
    control: Receiver<super::apply_loop::Control>,
    upkeep_wakes: Receiver<()>,
) -> Result<Shard, ShardError> {
    let name = core.config.name.clone();
    let (groups, entries) = bounded::<Vec<Durable<Pending>>>(APPLY_GROUPS);
    let (flush, frozen) = bounded::<Arc<Frozen>>(core.tuning.frozen_max + 1);
    let hooks = GroupHooks {
        on_durable: Box::new(move |group| {
            // The apply thread outlives the log.
            let _ = groups.send(group);
        }),
        on_failed: Box::new(|pending: Pending, error| (pending.done)(Err(ProposeError::Log(error)))),
        on_written: None,
    };
    let options = GroupOptions { name: name.clone(), term: term.max(1), ..GroupOptions::default() };
    let log = GroupCommit::start(log, options, hooks)?;
    let _ = core.log.set(log.handle());
    let apply = ApplyLoop { core: Arc::clone(&core), entries, control, flush: Some(flush), term };
    let apply_thread = spawn(&core, format!("apply-{name}"), move || apply.run())?;
    let (purge, purge_due) = bounded(1);
    let (flusher, purger, upkeeper) = (Arc::clone(&core), Arc::clone(&core), Arc::clone(&core));
    let threads = vec![
        spawn(&core, format!("flush-{name}"), move || flush_thread(&flusher, &frozen, &purge))?,
        spawn(&core, format!("purge-{name}"), move || purge_thread(&purger, &purge_due))?,
        spawn(&core, format!("upkeep-{name}"), move || upkeep_thread(&upkeeper, &upkeep_wakes))?,
    ];
    Ok(Shard {
        core,
        log: Mutex::new(Some(log)),
        threads: Mutex::new(threads),
        apply_thread: Mutex::new(Some(apply_thread)),
    })
}

fn spawn(
    core: &Core,
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, ShardError> {
    let thread = std::thread::Builder::new().name(name).spawn(body);
    thread.map_err(|source| ShardError::Io { doing: "start a thread for", path: core.dir.clone(), source })
}

/// Makes a directory so that a power failure does not unmake it: every new name up to the data directory is
/// synced. All levels each time, since an earlier start may have ended between making and syncing.
fn make_dir(dir: &Path) -> Result<(), ShardError> {
    let io = |doing, path: &Path, source| ShardError::Io { doing, path: path.to_path_buf(), source };
    std::fs::create_dir_all(dir).map_err(|source| io("create", dir, source))?;
    for parent in dir.ancestors().skip(1).take(LEVELS).filter(|parent| !parent.as_os_str().is_empty()) {
        let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|source| io("sync", parent, source))?;
    }
    Ok(())
}

fn open_segments(
    dir: &Path,
    config: &CollectionConfig,
    manifest: &Manifest,
    budget: &Arc<MemoryBudget>,
) -> Result<Vec<Arc<LiveSegment>>, StoreError> {
    let open = |entry: &SegmentEntry| {
        let live = LiveSegment::new(Segment::open(dir, &entry.meta)?, config.distance, budget)?;
        if let Some(deletes) = &entry.deletes {
            for row in Deletes::read(dir, &entry.meta, deletes)?.rows {
                live.kill(row, LONG_DEAD);
            }
        }
        if let (Some(file), Some(built)) = (&entry.graph, entry.built) {
            // A graph can be built again; a damaged one must not keep the rows from being served.
            match read_graph(&dir.join(&file.name), &live, 0) {
                Ok(graph) => live.set_graph(graph, GraphOrigin { name: file.name.clone(), built }),
                Err(error) => {
                    tracing::warn!(segment = %entry.meta.id, %error, "graph cannot be used and will be built again");
                }
            }
        }
        Ok(Arc::new(live))
    };
    manifest.segments.iter().map(open).collect()
}

/// Manifests of before parameters could change don't say what graphs were built with: the catalog does, which still
/// holds what it held then. Written down, since from now on that may change.
fn say_built(dir: &Path, manifest: &mut Manifest, graph: GraphParams) -> Result<(), StoreError> {
    let GraphParams { m, ef_construct, levels, quantization, .. } = graph;
    let silent = |entry: &&mut SegmentEntry| entry.graph.is_some() && entry.built.is_none();
    let mut is_changed = false;
    for entry in manifest.segments.iter_mut().filter(silent) {
        entry.built =
            Some(Built { kind: IndexKind::Hnsw, m, ef_construct, levels, quantization, clusters: None });
        is_changed = true;
    }
    if is_changed {
        manifest.version += 1;
        manifest.store(dir)?;
    }
    Ok(())
}

fn open_log(dir: &Path, tuning: &Tuning, manifest: &Manifest) -> Result<LogStore, ShardError> {
    let (mut log, recovered) = LogStore::open(&dir.join("log"), &tuning.log)?;
    if let Some(cut) = &recovered.cut {
        tracing::warn!(path = ?cut.path, at = cut.at, bytes = cut.bytes, "cut a torn tail that was never acknowledged");
    }
    if log.next() <= manifest.flushed_lsn {
        log.start_at(manifest.flushed_lsn.next())?;
    }
    if log.first() > manifest.flushed_lsn.next() {
        return Err(ShardError::LogBeginsLate {
            dir: dir.into(),
            flushed: manifest.flushed_lsn,
            first: log.first(),
        });
    }
    Ok(log)
}

/// Applies what the log holds past the manifest; returns the number of entries.
fn replay(log: &LogStore, marks: &Marks, view: &View, flushed: Lsn) -> Result<u64, WalError> {
    let mut count = 0;
    log.replay(flushed.next(), |frame| {
        match frame.kind {
            FrameKind::Entry => {
                let entry = BincodeCodec.decode(&frame.body)?;
                Apply { marks, view }.entry(frame.lsn, entry);
            }
            FrameKind::Blank | FrameKind::Membership => marks.publish(frame.lsn, None, None),
        }
        count += 1;
        Ok(())
    })
    .map(|()| count)
}
