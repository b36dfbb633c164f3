//! Keeps the process within its memory: drops caches and flushes memtables early, the largest first.
//!
//! One thread that looks at the budget, since nobody who charges it may wait or knows of other collections.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use proximadb_kernels::heap;

use super::{Collection, Collections};
use crate::memory::{MemoryBudget, Purpose, anonymous_bytes};
use crate::memtable::Block;
use crate::view::Snapshot;

/// Between looks. While it passes, writers bring at most what is left between the tight mark and the limit.
const TICK: Duration = Duration::from_millis(20);
/// Between updates of the gauges.
const TELL: Duration = Duration::from_secs(1);
/// Between looks at what the allocator keeps: giving it back costs some milliseconds.
const TRIM: Duration = Duration::from_millis(200);
/// Memory that stays full for longer is told in the log: somebody has to raise the limit, or ask for less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Memtables that hold less than one part in so many of the limit are left alone: somebody else holds the memory, and
/// flushing each row as it comes would make thousands of segments and no room.
const MEMTABLES_MIN: usize = 16;

/// The thread; stopped by hand or when dropped.
pub(super) struct MemoryKeeper {
    stopping: Arc<(AtomicBool, Mutex<()>, Condvar)>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MemoryKeeper {
    /// Starts it.
    pub fn start(budget: Arc<MemoryBudget>, collections: Arc<Collections>) -> std::io::Result<Self> {
        let stopping = Arc::new((AtomicBool::new(false), Mutex::new(()), Condvar::new()));
        let stop = Arc::clone(&stopping);
        let body = move || {
            let mut keeping = Keeping { budget, collections, told: None, trimmed: None, full_since: None };
            while !stop.0.load(Ordering::Acquire) {
                keeping.tick();
                let mut sleeping = stop.1.lock();
                let _ = stop.2.wait_for(&mut sleeping, TICK);
            }
        };
        let thread = std::thread::Builder::new().name("memory".to_string()).spawn(body)?;
        Ok(Self { stopping, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it.
    pub fn stop(&self) {
        self.stopping.0.store(true, Ordering::Release);
        self.stopping.2.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for MemoryKeeper {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Keeping {
    budget: Arc<MemoryBudget>,
    collections: Arc<Collections>,
    told: Option<Instant>,
    trimmed: Option<Instant>,
    full_since: Option<Instant>,
}

impl Keeping {
    fn tick(&mut self) {
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            self.budget.publish();
            tell(&self.collections);
        }
        let excess = self.budget.excess();
        if excess > 0 {
            let collections: Vec<Arc<Collection>> = self.collections.read().values().cloned().collect();
            let dropped = drop_caches(&collections, excess);
            if self.budget.held(Purpose::Memtables) >= self.budget.limit() / MEMTABLES_MIN {
                flush_largest(&collections, excess.saturating_sub(dropped));
            }
        }
        self.trim();
        self.complain();
    }

    /// Lets the allocator give back what it keeps, where the process is larger than it should be.
    fn trim(&mut self) {
        if self.trimmed.is_some_and(|trimmed| trimmed.elapsed() < TRIM) {
            return;
        }
        self.trimmed = Some(Instant::now());
        let resident = anonymous_bytes().unwrap_or(0);
        metrics::gauge!("proximadb_memory_resident_bytes").set(resident as f64);
        if resident > self.budget.tight_mark() as u64 {
            heap::trim();
            metrics::counter!("proximadb_memory_relief_total", "action" => "trim").increment(1);
        }
    }

    /// Says so when memory stays tight or full though everything has been let go of.
    fn complain(&mut self) {
        if self.budget.excess() == 0 {
            self.full_since = None;
            return;
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE {
            self.full_since = Some(Instant::now());
            let (limit_mib, held) = (self.budget.limit() >> 20, self.budget.describe());
            if self.budget.total() < self.budget.limit() {
                tracing::warn!(limit_mib, held, "memory stays tight: large writes, merges and graphs wait");
            } else {
                tracing::warn!(limit_mib, held, "memory stays full: sources are held and writes refused");
            }
        }
    }
}

/// How far shards and indexes are: here, since whoever merges and builds has no time to tell.
fn tell(collections: &Collections) {
    for (name, collection) in &*collections.read() {
        collection.shard().tell();
        metrics::gauge!("proximadb_index_pending_rows", "collection" => name.clone())
            .set(collection.index().rows_pending() as f64);
    }
}

/// Lets go of what can be made again: columns of filters first, then codes of scans; returns the bytes.
fn drop_caches(collections: &[Arc<Collection>], excess: usize) -> usize {
    let snapshots: Vec<Snapshot> = collections.iter().map(|one| one.shard().snapshot()).collect();
    let segments: Vec<_> = snapshots.iter().flat_map(|snapshot| &snapshot.view.segments).collect();
    let blocks: Vec<Arc<Block>> = snapshots.iter().flat_map(Snapshot::blocks).collect();
    let of_segments =
        segments.iter().map(|live| Cache::new(live.segment.cached_bytes(), || live.segment.drop_columns()));
    let of_blocks = blocks.iter().map(|block| Cache::new(block.cached_bytes(), || block.drop_columns()));
    let dropped = forget(of_segments.chain(of_blocks), excess, "drop columns");
    let of_segments = segments.iter().map(|live| live.scan_codes());
    let codes = of_segments.chain(blocks.iter().map(|block| block.scan_codes()));
    let codes = codes.map(|codes| Cache::new(codes.bytes(), || codes.forget()));
    dropped + forget(codes, excess.saturating_sub(dropped), "drop scan codes")
}

/// Something that can be let go of; doing so returns the bytes.
struct Cache<'a> {
    bytes: usize,
    forget: Box<dyn FnOnce() -> usize + 'a>,
}

impl<'a> Cache<'a> {
    fn new(bytes: usize, forget: impl FnOnce() -> usize + 'a) -> Self {
        Self { bytes, forget: Box::new(forget) }
    }
}

/// Lets go of the largest until they make up for the excess; returns the bytes.
fn forget<'a>(caches: impl Iterator<Item = Cache<'a>>, excess: usize, action: &'static str) -> usize {
    if excess == 0 {
        return 0;
    }
    let mut caches: Vec<Cache<'_>> = caches.filter(|cache| cache.bytes > 0).collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.bytes));
    let mut dropped = 0;
    for cache in caches {
        if dropped >= excess {
            break;
        }
        dropped += (cache.forget)();
        metrics::counter!("proximadb_memory_relief_total", "action" => action).increment(1);
    }
    dropped
}

/// Asks for flushes, largest memtable first, until what is on its way to the disk covers the excess.
fn flush_largest(collections: &[Arc<Collection>], excess: usize) {
    let mut on_the_way = 0;
    let mut largest: BTreeMap<(std::cmp::Reverse<usize>, usize), &Arc<Collection>> = BTreeMap::new();
    for (number, collection) in collections.iter().enumerate() {
        let (active, frozen) = collection.shard().memtable_bytes();
        on_the_way += frozen;
        if active > 0 {
            largest.insert((std::cmp::Reverse(active), number), collection);
        }
    }
    for ((std::cmp::Reverse(bytes), _), collection) in largest {
        if on_the_way >= excess {
            return;
        }
        collection.shard().request_flush();
        metrics::counter!("proximadb_memory_relief_total", "action" => "flush").increment(1);
        on_the_way += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_largest_caches_go_until_the_excess_is_covered() {
        let gone = RefCell::new(Vec::new());
        let cache = |bytes: usize| {
            let gone = &gone;
            Cache::new(bytes, move || {
                gone.borrow_mut().push(bytes);
                bytes
            })
        };
        let caches = || [3, 0, 9, 5].into_iter().map(cache);
        assert_eq!(forget(caches(), 0, "drop columns"), 0);
        assert_eq!(forget(caches(), 10, "drop columns"), 14);
        assert_eq!(*gone.borrow(), [9, 5]);
        assert_eq!(forget(caches(), 100, "drop columns"), 17);
    }
}
