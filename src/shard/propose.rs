//! Entries on their way into the log, and their answers on the way back.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::core::{Core, Shard};
use super::error::ProposeError;
use crate::memory::{Charge, Purpose};
use crate::types::{Entry, Outcome};
use crate::wal::{BincodeCodec, WalCodec, WalError};

/// Between looks at a full queue, which drains a group at a time, once per fsync.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// Between looks at a full budget: a flush that makes room takes longer.
const ROOM_PAUSE: Duration = Duration::from_millis(5);

/// What is called with an entry's outcome, on the apply thread; it must not block.
pub(super) type Done = Box<dyn FnOnce(Result<Outcome, ProposeError>) + Send>;

/// An entry in the log's queue.
pub(super) struct Pending {
    /// Kept beside its encoding, so that apply need not decode it.
    pub entry: Entry,
    pub done: Done,
    /// Both of them.
    pub charge: Charge,
}

/// Counts an entry that nobody waits for, until it is applied or lost.
struct Unheard(Arc<Core>);

impl Unheard {
    fn new(core: &Arc<Core>) -> Self {
        core.unheard.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(core))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.0.unheard.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Shard {
    /// Writes an entry; returns when it is durable and applied.
    pub async fn propose(&self, entry: Entry) -> Result<Outcome, ProposeError> {
        let (reply, answer) = oneshot::channel();
        let done: Done = Box::new(move |outcome| {
            let _ = reply.send(outcome);
        });
        self.submit(entry, done).await?;
        answer.await.map_err(|_| ProposeError::Closed)?
    }

    /// Queues an entry; nobody hears of its outcome.
    pub async fn propose_detached(&self, entry: Entry) -> Result<(), ProposeError> {
        let unheard = Unheard::new(&self.core);
        self.submit(entry, Box::new(move |_| drop(unheard))).await
    }

    /// Waits until entries that nobody waits for are applied: what is read next sees them.
    pub async fn settle(&self) -> Result<(), ProposeError> {
        match self.core.unheard.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => self.propose(Entry::default()).await.map(|_| ()),
        }
    }

    /// Writes an entry from a thread that may block; `done` is called on the apply thread, or here if the
    /// entry is not taken. While the queue is full it waits until `give_up` says so: a full disk may keep it
    /// full for as long as the disk is. `charge` is what the entry was let into the process with: it goes on
    /// whatever the budget says. Returns how long it waited.
    pub fn propose_blocking(
        &self,
        entry: Entry,
        mut charge: Charge,
        give_up: impl Fn() -> bool,
        done: impl FnOnce(Result<Outcome, ProposeError>) + Send + 'static,
    ) -> Duration {
        let mut body = match self.encode(&entry) {
            Ok(body) => body,
            Err(error) => {
                done(Err(error));
                return Duration::ZERO;
            }
        };
        let Some(log) = self.core.log.get() else {
            done(Err(ProposeError::Closed));
            return Duration::ZERO;
        };
        charge.turn_into(Purpose::LogQueue, bytes_of(&body, &entry));
        let mut pending = Pending { entry, done: Box::new(done), charge };
        let started = Instant::now();
        loop {
            let rejected = match log.try_propose(body, pending) {
                Ok(()) => return started.elapsed(),
                Err(rejected) => rejected,
            };
            let error = match rejected.error {
                WalError::Busy if !give_up() => {
                    (body, pending) = (rejected.body, rejected.tag);
                    std::thread::sleep(BUSY_PAUSE);
                    continue;
                }
                WalError::Busy | WalError::Closed => ProposeError::Closed,
                error => ProposeError::Log(Arc::new(error)),
            };
            (rejected.tag.done)(Err(error));
            return started.elapsed();
        }
    }

    async fn submit(&self, entry: Entry, done: Done) -> Result<(), ProposeError> {
        let mut body = self.encode(&entry)?;
        let log = self.core.log.get().ok_or(ProposeError::Closed)?;
        let started = Instant::now();
        let charge = self.admit(&body, &entry, started).await?;
        let mut pending = Pending { entry, done, charge };
        loop {
            let rejected = match log.try_propose(body, pending) {
                Ok(()) => return Ok(()),
                Err(rejected) => rejected,
            };
            match rejected.error {
                WalError::Busy if started.elapsed() < self.core.tuning.propose_timeout => {}
                WalError::Busy => return Err(ProposeError::Overloaded { waited: started.elapsed() }),
                WalError::Closed => return Err(ProposeError::Closed),
                error => return Err(ProposeError::Log(Arc::new(error))),
            }
            (body, pending) = (rejected.body, rejected.tag);
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    /// Waits until the budget has room for the entry.
    async fn admit(&self, body: &Bytes, entry: &Entry, since: Instant) -> Result<Charge, ProposeError> {
        let (budget, bytes) = (&self.core.budget, bytes_of(body, entry));
        // One that only asks how far the log is brings nothing that would have to be kept.
        if entry.batch.ops.is_empty() {
            return Ok(budget.charge(Purpose::LogQueue, bytes));
        }
        loop {
            if let Some(charge) = budget.admit(Purpose::LogQueue, bytes) {
                return Ok(charge);
            }
            if since.elapsed() >= self.core.tuning.propose_timeout {
                metrics::counter!("proximadb_memory_refused_total", "what" => "write").increment(1);
                let (limit, held) = (budget.limit(), budget.describe());
                return Err(ProposeError::MemoryFull { waited: since.elapsed(), limit, held });
            }
            tokio::time::sleep(ROOM_PAUSE).await;
        }
    }

    fn encode(&self, entry: &Entry) -> Result<Bytes, ProposeError> {
        if self.core.disk_full.load(Ordering::Acquire) {
            return Err(ProposeError::DiskFull { path: self.core.dir.clone() });
        }
        BincodeCodec.encode(entry).map_err(|error| ProposeError::Log(Arc::new(error)))
    }
}

/// Bytes that an entry holds until it is applied: itself, and as the log takes it.
fn bytes_of(body: &Bytes, entry: &Entry) -> usize {
    body.len() + entry.batch.bytes()
}
