//! Threads that search. CPU work stays off the threads that serve sockets.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, TrySendError, bounded};
use tokio::sync::oneshot;

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
                        if catch_unwind(AssertUnwindSafe(job)).is_err() {
                            metrics::counter!("proximadb_search_panics_total").increment(1);
                            tracing::error!("a search panicked; its caller got an error");
                        }
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

    /// Finishes what is queued and stops.
    pub fn close(&self) {
        self.queue.write().take();
        for thread in self.threads.lock().drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_search_fails_its_caller_only() {
        let pool = SearchPool::start(1).unwrap();
        assert_eq!(pool.run(|| -> u32 { panic!("on purpose") }).await, Err(PoolError::Closed));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        pool.close();
        assert_eq!(pool.run(|| 7).await, Err(PoolError::Closed));
    }
}
