//! Entries on their way into the log, and their answers on the way back.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::core::{Core, Shard};
use super::error::ProposeError;
use crate::types::{Entry, Outcome};
use crate::wal::{BincodeCodec, WalCodec, WalError};

/// Between looks at a full queue, which drains a group at a time, once per fsync.
const BUSY_PAUSE: std::time::Duration = std::time::Duration::from_millis(1);

/// What is called with an entry's outcome, on the apply thread; it must not block.
pub(super) type Done = Box<dyn FnOnce(Result<Outcome, ProposeError>) + Send>;

/// An entry in the log's queue.
pub(super) struct Pending {
    /// Kept beside its encoding, so that apply need not decode it.
    pub entry: Entry,
    pub done: Done,
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
    /// full for as long as the disk is.
    pub fn propose_blocking(
        &self,
        entry: Entry,
        give_up: impl Fn() -> bool,
        done: impl FnOnce(Result<Outcome, ProposeError>) + Send + 'static,
    ) {
        let (mut body, mut pending) = match self.encode(entry, Box::new(done)) {
            Ok(encoded) => encoded,
            Err((done, error)) => return done(Err(error)),
        };
        let Some(log) = self.core.log.get() else { return (pending.done)(Err(ProposeError::Closed)) };
        loop {
            let rejected = match log.try_propose(body, pending) {
                Ok(()) => return,
                Err(rejected) => rejected,
            };
            match rejected.error {
                WalError::Busy if !give_up() => {}
                WalError::Busy | WalError::Closed => return (rejected.tag.done)(Err(ProposeError::Closed)),
                error => return (rejected.tag.done)(Err(ProposeError::Log(Arc::new(error)))),
            }
            (body, pending) = (rejected.body, rejected.tag);
            std::thread::sleep(BUSY_PAUSE);
        }
    }

    async fn submit(&self, entry: Entry, done: Done) -> Result<(), ProposeError> {
        let (mut body, mut pending) = self.encode(entry, done).map_err(|(_, error)| error)?;
        let log = self.core.log.get().ok_or(ProposeError::Closed)?;
        let started = Instant::now();
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

    fn encode(&self, entry: Entry, done: Done) -> Result<(Bytes, Pending), (Done, ProposeError)> {
        if self.core.disk_full.load(Ordering::Acquire) {
            return Err((done, ProposeError::DiskFull { path: self.core.dir.clone() }));
        }
        match BincodeCodec.encode(&entry) {
            Ok(body) => Ok((body, Pending { entry, done })),
            Err(error) => Err((done, ProposeError::Log(Arc::new(error)))),
        }
    }
}
