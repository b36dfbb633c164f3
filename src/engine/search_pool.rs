//! Threads that search. Long CPU work stays off the threads that serve sockets.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use super::pace::Pace;

/// Searches waiting per thread before the next is refused: at a millisecond each, a quarter of a second's queue.
const QUEUE_PER_THREAD: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of search threads with one bounded queue.
pub struct SearchPool {
    queue: parking_lot::RwLock<Option<Sender<Job>>>,
    threads: parking_lot::Mutex<Vec<JoinHandle<()>>>,
}

/// Why a job was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolError {
    /// The queue is full.
    Full,
    /// The pool has closed, or the job panicked.
    Closed,
}

impl SearchPool {
    /// Starts `threads` threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let (queue, jobs) = bounded::<Job>(threads.max(1) * QUEUE_PER_THREAD);
        let threads = (0..threads.max(1))
            .map(|number| {
                let jobs = jobs.clone();
                std::thread::Builder::new().name(format!("search-{number}")).spawn(move || {
                    for job in jobs {
                        // A job that panics drops its reply, which the caller sees; the thread lives on.
                        let _ = caught(job);
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { queue: parking_lot::RwLock::new(Some(queue)), threads: parking_lot::Mutex::new(threads) })
    }

    /// Runs a job on one of the threads.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            // The caller may have gone; then nobody wants the answer.
            if !reply.is_closed() {
                let _ = reply.send(work());
            }
        });
        match self.queue.read().as_ref().ok_or(PoolError::Closed)?.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(PoolError::Full),
            Err(TrySendError::Disconnected(_)) => return Err(PoolError::Closed),
        }
        answer.await.map_err(|_| PoolError::Closed)
    }

    /// Runs a job on this thread if such jobs have been short lately, else on one of the pool's.
    pub(super) async fn run_here_if_short<T: Send + 'static>(
        &self,
        pace: &Arc<Pace>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let own = Arc::clone(pace);
        let timed = move || {
            let started = Instant::now();
            let done = work();
            own.note(started.elapsed());
            done
        };
        if !pace.is_short() {
            return self.run(timed).await;
        }
        let is_open = self.queue.read().is_some();
        match is_open {
            true => caught(timed).ok_or(PoolError::Closed),
            false => Err(PoolError::Closed),
        }
    }

    /// Finishes what is queued and stops.
    pub fn close(&self) {
        self.queue.write().take();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a job returns; `None` if it panicked.
fn caught<T>(job: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(job)).ok();
    if done.is_none() {
        metrics::counter!("proximadb_search_panics_total").increment(1);
        tracing::error!("a search panicked; its caller got an error");
    }
    done
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_panicking_search_fails_its_caller_only() {
        let pool = SearchPool::start(1).unwrap();
        assert_eq!(pool.run(|| -> u32 { panic!("on purpose") }).await, Err(PoolError::Closed));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        pool.close();
        assert_eq!(pool.run(|| 7).await, Err(PoolError::Closed));
    }

    #[tokio::test]
    async fn short_searches_run_on_their_callers_thread_and_long_ones_do_not() {
        let (pool, pace) = (SearchPool::start(1).unwrap(), Arc::new(Pace::new()));
        let here = thread::current().id();
        let ran_here = async |work: fn()| {
            let thread = pool.run_here_if_short(&pace, move || (work(), thread::current().id()).1).await;
            thread.unwrap() == here
        };
        assert!(!ran_here(|| ()).await);
        while !pace.is_short() {
            ran_here(|| ()).await;
        }
        assert!(ran_here(|| thread::sleep(Duration::from_millis(50))).await);
        assert!(!ran_here(|| ()).await);
        while !pace.is_short() {
            ran_here(|| ()).await;
        }
        assert_eq!(
            pool.run_here_if_short(&pace, || -> u32 { panic!("on purpose") }).await,
            Err(PoolError::Closed)
        );
        pool.close();
        assert_eq!(pool.run_here_if_short(&pace, || 7).await, Err(PoolError::Closed));
    }
}
