//! What the threads of a shard share, and what readers ask of it.
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use parking_lot::{Mutex, RwLock};

use super::apply_loop::Control;
use super::indexing::{IndexReport, Indexing};
use super::marks::Marks;
use super::pauses::Pauses;
use super::propose::Pending;
use crate::index::{Accelerator, BuildControl};
use crate::memory::MemoryBudget;
use crate::memtable::Rejected;
use crate::stage::StageMeter;
use crate::store::{Manifest, StoreError};
use crate::types::{CollectionConfig, IndexSpec, Lsn};
use crate::view::{LiveSegment, Snapshot, View};
use crate::wal::{GroupCommit, LogHandle, LogOptions};

/// Bounds of a shard. See `config` for what each is worth to a user.
#[derive(Debug, Clone)]
pub struct Tuning {
    /// A memtable of this many bytes is flushed.
    pub memtable_bytes_max: usize,
    /// A memtable of this many rows is flushed: fresh rows are scanned, and this bounds the scan.
    pub memtable_rows_max: usize,
    /// A memtable with rows this old is flushed.
    pub memtable_age_max: Duration,
    /// Frozen memtables that may wait for flush before apply waits.
    pub frozen_max: usize,
    /// Threads per graph build.
    pub build_threads: usize,
    /// What helps with large ones.
    pub accelerator: Accelerator,
    /// How long a request waits for room in the log's queue before it is told to come back.
    pub propose_timeout: Duration,
    /// The log's own settings.
    pub log: LogOptions,
}

/// Facts about a shard.
#[derive(Debug, Clone)]
pub struct ShardInfo {
    /// Live points.
    pub points: u64,
    /// Segments.
    pub segments: u64,
    /// Live points that a graph finds.
    pub indexed_points: u64,
    /// `green`, or `yellow` while background work is pending.
    pub status: &'static str,
    /// Memory held: memtables, column caches, indexes.
    pub memory_bytes: u64,
    /// Bytes of the live segments, without graphs and the log.
    pub disk_bytes: u64,
    /// Log marks.
    pub durable_lsn: Lsn,
    /// Searchable up to here.
    pub applied_lsn: Lsn,
    /// In segments up to here.
    pub flushed_lsn: Lsn,
    /// Records in quarantine.
    pub quarantined: u64,
}

/// What its stages report.
pub(super) struct Meters {
    pub apply: StageMeter,
    pub flush: StageMeter,
    pub merge: StageMeter,
    pub index: StageMeter,
}

impl Meters {
    pub fn of(collection: &str) -> Self {
        let meter = |stage| StageMeter::of_collection(collection, stage);
        Self { apply: meter("apply"), flush: meter("flush"), merge: meter("merge"), index: meter("index") }
    }
}

/// Shared by the shard's threads.
pub(super) struct Core {
    pub dir: PathBuf,
    pub segments_dir: PathBuf,
    pub config: CollectionConfig,
    pub tuning: Tuning,
    /// The process's memory: what the shard holds is charged to it.
    pub budget: Arc<MemoryBudget>,
    pub view: ArcSwap<View>,
    pub marks: Marks,
    /// What is on disk. Held while the view's segments change, so that both always name the same ones.
    pub manifest: Mutex<Manifest>,
    /// Read-locked while files are written that no manifest names yet; garbage is collected under the other lock.
    pub writers: RwLock<()>,
    /// A flush has failed for want of room.
    pub disk_full: AtomicBool,
    pub closing: AtomicBool,
    /// Entries in the queue that nobody waits for.
    pub unheard: AtomicU64,
    /// Stops merges.
    pub build: BuildControl,
    /// Which index is wanted, and the build under way.
    pub indexing: Indexing,
    pub meters: Meters,
    /// What upkeep has failed at.
    pub pauses: Pauses,
    /// Wakes the upkeep thread.
    pub upkeep: Sender<()>,
    /// Rings after each manifest.
    pub changed: tokio::sync::Notify,
    pub control: Sender<Control>,
    pub log: std::sync::OnceLock<LogHandle<Pending>>,
    /// Merged away, but perhaps still read: their Parquet files are opened when a filter first asks.
    pub retired: Mutex<Vec<Weak<LiveSegment>>>,
}

impl Core {
    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// The last entry that is durable: applied, or about to be.
    pub fn durable(&self) -> Lsn {
        let durable = self.log.get().map_or(Lsn(0), LogHandle::durable_lsn);
        durable.max(self.marks.applied())
    }

    /// Runs `work` on the apply thread, between entries; `None` if that thread has ended.
    pub fn between_entries<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let run = Box::new(move |core: &Core| {
            let _ = reply.send(work(core));
        });
        self.control.send(Control::Run(run)).ok()?;
        answer.recv().ok()
    }
}

/// One shard, open.
pub struct Shard {
    pub(super) core: Arc<Core>,
    pub(super) log: Mutex<Option<GroupCommit<Pending>>>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
    pub(super) apply_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Shard {
    /// How far it is.
    pub fn marks(&self) -> &Marks {
        &self.core.marks
    }

    /// Its configuration.
    pub fn config(&self) -> &CollectionConfig {
        &self.core.config
    }

    /// The process's memory.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.core.budget
    }

    /// Bytes of the memtable that takes rows now, and of those that are being flushed.
    pub fn memtable_bytes(&self) -> (usize, usize) {
        let view = self.core.view.load();
        (view.active.bytes(), view.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum())
    }

    /// Asks for a flush of what is in memory now; one that is due already may come first.
    pub fn request_flush(&self) {
        // A full queue holds such requests already.
        let _ = self.core.control.try_send(Control::Freeze);
    }

    /// The segments in service.
    pub fn segments(&self) -> Vec<Arc<LiveSegment>> {
        self.core.view.load().segments.clone()
    }

    /// What a search reads: all rows applied by now.
    ///
    /// The LSN belongs to the view only if the view did not change while the LSN was read: a flush drops
    /// rows that were dead at its own LSN, and an earlier reader would miss them.
    pub fn snapshot(&self) -> Snapshot {
        let mut view = self.core.view.load_full();
        loop {
            let lsn = self.core.marks.applied();
            let now = self.core.view.load_full();
            if Arc::ptr_eq(&view, &now) {
                return Snapshot { view, lsn };
            }
            view = now;
        }
    }

    /// Counts, sizes and marks.
    pub fn info(&self) -> ShardInfo {
        let core = &self.core;
        let view = core.view.load();
        let indexed = view.segments.iter().filter(|segment| segment.graph.load().is_some());
        let pending =
            !view.frozen.is_empty() || view.segments.iter().any(|segment| !core.indexing.is_met(segment));
        let blocks = view.memtables().flat_map(|memtable| memtable.blocks());
        let made: usize = blocks.map(|block| block.cached_bytes() + block.scan_codes().bytes()).sum();
        let memtables: usize = view.memtables().map(|memtable| memtable.bytes()).sum();
        let segments: usize = view
            .segments
            .iter()
            .map(|segment| {
                let graph = segment.graph.load().as_ref().map_or(0, |graph| graph.bytes());
                segment.segment.cached_bytes() + graph + segment.own_bytes()
            })
            .sum();
        ShardInfo {
            points: core.marks.live_points(),
            segments: view.segments.len() as u64,
            indexed_points: indexed.map(|segment| segment.alive()).sum(),
            status: if pending { "yellow" } else { "green" },
            memory_bytes: (memtables + made + segments) as u64,
            disk_bytes: view.segments.iter().map(|segment| segment.segment.meta().bytes()).sum::<u64>(),
            durable_lsn: core.durable(),
            applied_lsn: core.marks.applied(),
            flushed_lsn: core.marks.flushed(),
            quarantined: core.marks.rejected(),
        }
    }

    /// Shows on dashboards how far it is.
    pub fn tell(&self) {
        super::upkeep::tell(&self.core);
    }

    /// Where its index stands.
    pub fn index(&self) -> IndexReport {
        self.core.indexing.report(&self.core.view.load())
    }

    /// Wants another index from now on: it is built in the background, and what is there serves meanwhile.
    pub fn want_index(&self, wanted: IndexSpec) {
        self.core.indexing.want(wanted);
        let _ = self.core.upkeep.try_send(());
    }

    /// The latest rejected records, newest first.
    pub fn quarantine(&self, limit: usize) -> Result<Vec<Rejected>, StoreError> {
        let mut newest = Vec::new();
        // Under one lock: in between, a flush would move records from the one to the other.
        let (view, files) = {
            let manifest = self.core.manifest.lock();
            (self.core.view.load_full(), manifest.quarantine.clone())
        };
        for memtable in view.memtables() {
            newest.extend(memtable.rejected().into_iter().rev());
        }
        for file in files.iter().rev() {
            if newest.len() >= limit {
                break;
            }
            let rejects = match file.read(&self.core.segments_dir) {
                // Only so many are kept: a flush has let go of it meanwhile.
                Err(_) if !self.core.manifest.lock().quarantine.contains(file) => continue,
                read => read?,
            };
            newest.extend(rejects.into_iter().rev().map(|one| Rejected {
                source: one.source.unwrap_or_default(),
                lsn: one.lsn,
                reject: one.reject,
            }));
        }
        newest.truncate(limit);
        Ok(newest)
    }

    /// Waits until everything up to `lsn` is in segments, and every segment that deserves a graph has it.
    pub async fn wait_indexed(&self, lsn: Lsn) {
        loop {
            let changed = self.core.changed.notified();
            let flushed = self.core.marks.flushed() >= lsn;
            let view = self.core.view.load_full();
            let lacks = view.segments.iter().any(|segment| self.core.indexing.lacks_any(segment));
            if self.core.is_closing() || flushed && !lacks {
                return;
            }
            if !flushed {
                let _ = self.core.control.try_send(Control::Freeze);
            }
            // The ring may have come between the look and the wait.
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    /// Flushes what is in memory now; returns when a manifest names it.
    pub async fn flush(&self) {
        let lsn = self.core.marks.applied();
        while self.core.marks.flushed() < lsn && !self.core.is_closing() {
            let changed = self.core.changed.notified();
            let _ = self.core.control.try_send(Control::Freeze);
            let _ = tokio::time::timeout(Duration::from_millis(100), changed).await;
        }
    }

    /// Ends all threads; everything that was answered is in the log. Further proposals fail.
    pub fn close(&self) {
        if self.core.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        self.core.build.cancelled.store(true, Ordering::Release);
        self.core.indexing.close();
        let _ = self.core.upkeep.try_send(());
        if let Some(log) = self.log.lock().take()
            && let Err(error) = log.shutdown()
        {
            tracing::warn!(collection = self.core.config.name, %error, "the log did not close cleanly");
        }
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
        let _ = self.core.control.send(Control::Stop);
        if let Some(thread) = self.apply_thread.lock().take() {
            let _ = thread.join();
        }
        self.core.changed.notify_waiters();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.close();
    }
}
