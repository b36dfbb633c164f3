//! The thread that measures: one query after the other, of one collection after the other.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Step;
use super::random::Random;
use crate::catalog::CatalogStore;
use crate::engine::{Collection, Collections, now_ms};
use crate::memory::MemoryBudget;

/// Niceness beside the rest: measuring is less urgent than merges and graphs, whose rows are scanned meanwhile.
const NICE: u8 = 15;
/// Between looks where there was nothing to learn.
const IDLE: Duration = Duration::from_millis(500);
/// Between measurements at least, so that stopping is heard and a busy share of 1 starves nobody.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// And at most: with a share of 5 % the longest measurement that is not given up is followed by less.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// The thread; stopped by hand or when dropped.
pub struct Sampler {
    stopping: Arc<Stopping>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Stopping {
    is_due: AtomicBool,
    lock: Mutex<()>,
    rings: Condvar,
}

/// What it works with.
pub struct Sampling {
    /// Share of one core that it takes at most, above 0 and at most 1.
    pub share: f64,
    /// Nothing is measured while it is tight.
    pub budget: Arc<MemoryBudget>,
    /// Whose promises are kept.
    pub collections: Arc<Collections>,
    /// Keeps what was chosen.
    pub catalog: Arc<dyn CatalogStore>,
    /// Where the catalog is asked.
    pub runtime: tokio::runtime::Handle,
}

impl Sampler {
    /// Starts it.
    pub fn start(sampling: Sampling) -> std::io::Result<Self> {
        let stopping = Arc::new(Stopping::default());
        let stop = Arc::clone(&stopping);
        let body = move || {
            if !proximadb_kernels::priority::step_back(NICE) {
                tracing::debug!("recall is measured at the priority of everything else");
            }
            let mut turn = Turn { sampling, last: String::new(), random: Random(now_ms().unsigned_abs()) };
            while !stop.is_due.load(Ordering::Acquire) {
                let pause = turn.take();
                let mut sleeping = stop.lock.lock();
                if !stop.is_due.load(Ordering::Acquire) {
                    let _ = stop.rings.wait_for(&mut sleeping, pause);
                }
            }
        };
        let thread = std::thread::Builder::new().name("recall".to_string()).spawn(body)?;
        Ok(Self { stopping, thread: Mutex::new(Some(thread)) })
    }

    /// Ends it; a measurement under way is waited for.
    pub fn stop(&self) {
        {
            let _sleeping = self.stopping.lock.lock();
            self.stopping.is_due.store(true, Ordering::Release);
            self.stopping.rings.notify_all();
        }
        if let Some(thread) = self.thread.lock().take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Turn {
    sampling: Sampling,
    /// The collection that was measured last.
    last: String,
    random: Random,
}

impl Turn {
    /// Measures one query of the next collection that has something to learn; returns how long to rest.
    fn take(&mut self) -> Duration {
        if self.sampling.budget.excess() > 0 {
            return IDLE;
        }
        for collection in self.promising() {
            let begun = Instant::now();
            let name = collection.name();
            let step = collection.recall_state().step(collection.shard(), &mut self.random, now_ms());
            self.last.clone_from(&name);
            self.keep(&collection);
            tell(&name, &collection, begun.elapsed(), matches!(step, Ok(Step::Measured)));
            match step {
                Ok(Step::Rest) => {}
                Ok(Step::Measured) => {
                    let rest = begun.elapsed().mul_f64(1.0 / self.sampling.share - 1.0);
                    return rest.clamp(PAUSE_MIN, PAUSE_MAX);
                }
                Err(error) => {
                    tracing::warn!(collection = name, %error, "recall could not be measured");
                    return PAUSE_MAX.min(begun.elapsed().mul_f64(1.0 / self.sampling.share).max(IDLE));
                }
            }
        }
        IDLE
    }

    /// Collections with a promise, the one after the last first.
    fn promising(&self) -> Vec<Arc<Collection>> {
        let collections = self.sampling.collections.read();
        let after = collections
            .range::<String, _>((std::ops::Bound::Excluded(self.last.clone()), std::ops::Bound::Unbounded));
        let until = collections.range::<String, _>(..=self.last.clone());
        let in_turn = after.chain(until).map(|(_, collection)| collection);
        in_turn.filter(|collection| collection.recall_state().chosen().is_some()).cloned().collect()
    }

    /// Has the catalog keep what was chosen, if that is news.
    fn keep(&self, collection: &Arc<Collection>) {
        let kept = collection.config().ef_search.map(|ef| ef as usize);
        if collection.recall_state().chosen() == kept {
            return;
        }
        let (catalog, collection) = (Arc::clone(&self.sampling.catalog), Arc::clone(collection));
        // Not waited for: this thread may have to end while the catalog takes its time.
        self.sampling.runtime.spawn(async move {
            if let Err(error) = collection.keep_ef_search(&*catalog).await {
                tracing::warn!(collection = collection.name(), %error, "the tuned ef_search is not kept");
            }
        });
    }
}

fn tell(name: &str, collection: &Collection, took: Duration, is_measured: bool) {
    let label = || name.to_string();
    metrics::counter!("proximadb_recall_busy_microseconds_total", "collection" => label())
        .increment(took.as_micros() as u64);
    if is_measured {
        metrics::counter!("proximadb_recall_samples_total", "collection" => label()).increment(1);
    }
    let Some(report) = collection.recall() else { return };
    metrics::gauge!("proximadb_recall_target", "collection" => label()).set(report.target.share());
    metrics::gauge!("proximadb_ef_search_tuned", "collection" => label()).set(report.ef_search as f64);
    if let Some(measured) = report.measured {
        metrics::gauge!("proximadb_recall_measured", "collection" => label()).set(measured);
    }
}
