//! Group commit: one thread owns the log, takes what has queued up, writes it at once and syncs it once.
//!
//! ```text
//! propose ─┐                            ┌─▶ on_durable(entries in LSN order), may block
//! append  ─┼─▶ queue ─▶ [group] write ─▶ fdatasync
//! run     ─┘  count, bytes              └─▶ on_failed(tag, error), for each
//! ```
//!
//! While a sync runs the next group gathers, so throughput rises with load and an idle log adds no wait.
//! `on_durable` may block: the queue then fills up, and proposers wait or are told that the log is busy.
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::metrics::LogMetrics;
use super::queue::{Queue, Refused};
use super::{Frame, FrameKind, FrameRef, LogStore, WalError};
use crate::types::Lsn;

/// How entries are gathered.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// Whose log it is: the label of its metrics, and part of the thread's name.
    pub name: String,
    /// The term of proposals; raised to that of the last entry if that is higher.
    pub term: u64,
    /// This node, written beside the term.
    pub leader: u64,
    /// Bytes of bodies per write. Default 4 MiB: beyond it a sync costs in proportion, so nothing is gained.
    pub group_bytes_max: usize,
    /// Entries per write. Default 4096, which bounds the time that `on_durable` is handed at once.
    pub group_count_max: usize,
    /// Bytes of bodies that may queue. Default 16 MiB: four groups, so that the disk never waits.
    pub queue_bytes_max: usize,
    /// Requests that may queue. Default 16,384.
    pub queue_count_max: usize,
}

impl Default for GroupOptions {
    fn default() -> Self {
        Self {
            name: String::new(),
            term: 1,
            leader: 0,
            group_bytes_max: 4 << 20,
            group_count_max: 4096,
            queue_bytes_max: 16 << 20,
            queue_count_max: 16_384,
        }
    }
}

/// A proposal that is in the log.
#[derive(Debug)]
pub struct Durable<T> {
    /// Its place.
    pub lsn: Lsn,
    /// Its term.
    pub term: u64,
    /// The body as it was proposed.
    pub body: Bytes,
    /// What the proposer gave along.
    pub tag: T,
}

/// What the log thread calls. None of these may use the log's handle: they run on the thread that serves it.
pub struct GroupHooks<T> {
    /// Proposals are durable, in LSN order. Blocking here is backpressure.
    pub on_durable: Box<dyn FnMut(Vec<Durable<T>>) + Send>,
    /// A proposal failed: it is not in the log, or after [`WalError::SyncFailed`] its outcome is unknown.
    pub on_failed: Box<dyn FnMut(T, Arc<WalError>) + Send>,
    /// Proposals are written and not yet synced; whether they become durable is told later.
    pub on_written: Option<OnWritten<T>>,
}

/// A proposal that was not queued; everything comes back.
#[derive(Debug)]
pub struct Rejected<T> {
    /// The body.
    pub body: Bytes,
    /// The tag.
    pub tag: T,
    /// [`WalError::Busy`], [`WalError::Closed`] or [`WalError::EntryTooLarge`].
    pub error: WalError,
}

/// Lets proposers take something out of the tags, e.g. to answer those who wait for less than durability.
type OnWritten<T> = Box<dyn FnMut(&mut [Durable<T>]) + Send>;
type AppendDone = Box<dyn FnOnce(Result<(), Arc<WalError>>) + Send>;

enum Request<T> {
    Propose { body: Bytes, body_crc: u32, tag: T },
    Append { frames: Vec<(Frame, u32)>, done: AppendDone },
    Run(Box<dyn FnOnce(&mut LogStore) + Send>),
}

#[derive(Debug)]
struct Shared<T> {
    queue: Queue<Request<T>>,
    durable: AtomicU64,
    term: AtomicU64,
    entry_bytes_max: usize,
    poisoned: OnceLock<String>,
}

impl<T> std::fmt::Debug for Request<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Propose { .. } => "Propose",
            Self::Append { .. } => "Append",
            Self::Run(_) => "Run",
        })
    }
}

/// The log thread. Dropping it closes the queue, writes what is queued and waits for the thread.
#[derive(Debug)]
pub struct GroupCommit<T: Send + 'static> {
    handle: LogHandle<T>,
    thread: Option<JoinHandle<LogStore>>,
}

impl<T: Send + 'static> GroupCommit<T> {
    /// Starts the thread that owns `store` from now on.
    pub fn start(store: LogStore, options: GroupOptions, hooks: GroupHooks<T>) -> Result<Self, WalError> {
        let term = options.term.max(store.last().map_or(0, |mark| mark.term));
        let shared = Arc::new(Shared {
            queue: Queue::new(options.queue_count_max, options.queue_bytes_max),
            durable: store.synced().0.into(),
            term: term.into(),
            entry_bytes_max: store.entry_bytes_max(),
            poisoned: OnceLock::new(),
        });
        let handle = LogHandle { shared: Arc::clone(&shared) };
        // Linux shows 15 bytes of it.
        let name = format!("log-{}", options.name);
        let next = store.next();
        let metrics = LogMetrics::new(&options.name);
        let worker = Worker { store, next, pending: Vec::new(), shared, options, hooks, metrics };
        let thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || worker.run())
            .map_err(|source| WalError::Io { doing: "start thread", path: name.into(), source })?;
        Ok(Self { handle, thread: Some(thread) })
    }

    /// A handle for proposers; cheap to clone.
    pub fn handle(&self) -> LogHandle<T> {
        self.handle.clone()
    }

    /// Refuses new requests, handles what is queued, and gives the log back.
    pub fn shutdown(mut self) -> Result<LogStore, WalError> {
        self.handle.shared.queue.close();
        self.thread.take().and_then(|thread| thread.join().ok()).ok_or(WalError::Closed)
    }
}

impl<T: Send + 'static> Drop for GroupCommit<T> {
    fn drop(&mut self) {
        self.handle.shared.queue.close();
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the panic hook; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// The way to the log thread.
#[derive(Debug)]
pub struct LogHandle<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for LogHandle<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + 'static> LogHandle<T> {
    /// Queues an entry's body, waiting for room; `on_durable` or `on_failed` gets the tag.
    ///
    /// Call it where blocking is allowed; the checksum is computed here, in the caller's thread.
    pub fn propose(&self, body: Bytes, tag: T) -> Result<(), Rejected<T>> {
        let (bytes, request) = self.request(body, tag)?;
        self.shared.queue.push(bytes, request).map_err(|request| rejected(request, WalError::Closed))
    }

    /// Queues an entry's body if there is room now, else gives it back with [`WalError::Busy`].
    pub fn try_propose(&self, body: Bytes, tag: T) -> Result<(), Rejected<T>> {
        let (bytes, request) = self.request(body, tag)?;
        self.shared.queue.try_push(bytes, request).map_err(|refused| match refused {
            Refused::Full(request) => rejected(request, WalError::Busy),
            Refused::Closed(request) => rejected(request, WalError::Closed),
        })
    }

    /// Everything up to here is durable.
    pub fn durable_lsn(&self) -> Lsn {
        Lsn(self.shared.durable.load(Ordering::Acquire))
    }

    /// The term of proposals from now on.
    pub fn set_term(&self, term: u64) {
        self.shared.term.store(term, Ordering::Release);
    }

    /// Why the log accepts nothing any more, if that is so.
    pub fn poisoned(&self) -> Option<&str> {
        self.shared.poisoned.get().map(String::as_str)
    }

    /// Runs `work` on the log thread, after everything queued before it is durable, and waits for it.
    pub fn run<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LogStore) -> R + Send + 'static,
    ) -> Result<R, WalError> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        let work = Box::new(move |store: &mut LogStore| {
            // Whoever asked may have given up.
            let _ = reply.send(work(store));
        });
        self.shared.queue.push(0, Request::Run(work)).map_err(|_| WalError::Closed)?;
        answer.recv().map_err(|_| WalError::Closed)
    }

    /// [`LogHandle::run`] for async callers.
    pub async fn run_async<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut LogStore) -> R + Send + 'static,
    ) -> Result<R, WalError> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move |store: &mut LogStore| {
            // Whoever asked may have given up.
            let _ = reply.send(work(store));
        });
        self.push_async(0, Request::Run(work)).await?;
        answer.await.map_err(|_| WalError::Closed)
    }

    /// Queues frames that carry their own term and LSN; `done` is called on the log thread once they are
    /// durable or have failed. What the log has purged already counts as durable.
    pub async fn append_async(
        &self,
        frames: Vec<Frame>,
        done: impl FnOnce(Result<(), Arc<WalError>>) + Send + 'static,
    ) -> Result<(), WalError> {
        let bytes = frames.iter().map(|frame| frame.body.len()).sum();
        let frames = frames
            .into_iter()
            .map(|frame| {
                let crc = crc32c::crc32c(&frame.body);
                (frame, crc)
            })
            .collect();
        self.push_async(bytes, Request::Append { frames, done: Box::new(done) }).await
    }

    /// Reads entries, verified, up to about `bytes_max`; see [`LogStore::read_some`].
    pub fn read(&self, range: Range<Lsn>, bytes_max: u64) -> Result<Vec<Frame>, WalError> {
        self.run(move |store| store.read_some(range, bytes_max))?
    }

    /// Forgets everything up to `upto`; see [`LogStore::purge_prefix`].
    pub fn purge(&self, upto: Lsn) -> Result<(), WalError> {
        self.run(move |store| store.purge_prefix(upto))?
    }

    fn request(&self, body: Bytes, tag: T) -> Result<(usize, Request<T>), Rejected<T>> {
        let (bytes, bytes_max) = (body.len(), self.shared.entry_bytes_max);
        if bytes > bytes_max {
            return Err(Rejected { body, tag, error: WalError::EntryTooLarge { bytes, bytes_max } });
        }
        let body_crc = crc32c::crc32c(&body);
        Ok((bytes, Request::Propose { body, body_crc, tag }))
    }

    async fn push_async(&self, bytes: usize, request: Request<T>) -> Result<(), WalError> {
        match self.shared.queue.try_push(bytes, request) {
            Ok(()) => Ok(()),
            Err(Refused::Closed(_)) => Err(WalError::Closed),
            Err(Refused::Full(request)) => {
                let shared = Arc::clone(&self.shared);
                let pushed = tokio::task::spawn_blocking(move || shared.queue.push(bytes, request).is_ok());
                if pushed.await.unwrap_or(false) { Ok(()) } else { Err(WalError::Closed) }
            }
        }
    }
}

fn rejected<T>(request: Request<T>, error: WalError) -> Rejected<T> {
    match request {
        Request::Propose { body, tag, .. } => Rejected { body, tag, error },
        Request::Append { .. } | Request::Run(_) => unreachable!("only proposals are given back"),
    }
}

/// What waits for the next write.
enum Pending<T> {
    Proposal { lsn: Lsn, term: u64, body: Bytes, body_crc: u32, tag: T },
    Append { frames: Vec<(Frame, u32)>, done: AppendDone },
}

struct Worker<T> {
    store: LogStore,
    /// The LSN after those in `pending`.
    next: Lsn,
    pending: Vec<Pending<T>>,
    shared: Arc<Shared<T>>,
    options: GroupOptions,
    hooks: GroupHooks<T>,
    metrics: LogMetrics,
}

/// Lets nobody wait for a thread that is gone, however it went.
struct AbandonOnDrop<T>(Arc<Shared<T>>);
impl<T> Drop for AbandonOnDrop<T> {
    fn drop(&mut self) {
        self.0.queue.abandon();
    }
}

impl<T> Worker<T> {
    fn run(mut self) -> LogStore {
        let shared = Arc::clone(&self.shared);
        let _abandon = AbandonOnDrop(Arc::clone(&shared));
        let (count_max, bytes_max) = (self.options.group_count_max, self.options.group_bytes_max);
        while let Some(requests) = shared.queue.pop_group(count_max, bytes_max) {
            for request in requests {
                self.take(request);
            }
            self.commit();
        }
        self.store
    }

    fn take(&mut self, request: Request<T>) {
        match request {
            Request::Propose { body, body_crc, tag } => {
                let (lsn, term) = (self.next, self.shared.term.load(Ordering::Acquire));
                self.pending.push(Pending::Proposal { lsn, term, body, body_crc, tag });
                self.next = lsn.next();
            }
            Request::Append { mut frames, done } => match self.place(&mut frames) {
                Ok(()) => {
                    self.next = Lsn(self.next.0 + frames.len() as u64);
                    self.pending.push(Pending::Append { frames, done });
                }
                Err(error) => done(Err(Arc::new(error))),
            },
            Request::Run(work) => {
                self.commit();
                work(&mut self.store);
                self.next = self.store.next();
                self.publish();
            }
        }
    }

    /// Checks that frames continue the log; on their own, so that one bad append fails nobody else's.
    fn place(&mut self, frames: &mut Vec<(Frame, u32)>) -> Result<(), WalError> {
        let first_kept = self.store.first();
        frames.retain(|(frame, _)| frame.lsn >= first_kept);
        let Some((first, _)) = frames.first() else { return Ok(()) };
        if first.lsn != self.next && self.pending.is_empty() && self.store.last().is_none() {
            self.store.start_at(first.lsn)?;
            self.next = first.lsn;
        }
        for ((frame, _), expected) in frames.iter().zip(self.next.0..) {
            if frame.lsn != Lsn(expected) {
                return Err(WalError::OutOfOrder { expected: Lsn(expected), found: frame.lsn });
            }
            let (bytes, bytes_max) = (frame.body.len(), self.shared.entry_bytes_max);
            if bytes > bytes_max {
                return Err(WalError::EntryTooLarge { bytes, bytes_max });
            }
        }
        Ok(())
    }

    /// Writes and syncs what is pending, then tells everybody.
    fn commit(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = std::mem::take(&mut self.pending);
        let mut frames = Vec::with_capacity(pending.len());
        for item in &pending {
            self.frame(item, &mut frames);
        }
        let (records, bytes) = (frames.len(), frames.iter().map(|frame| frame.body.len() as u64).sum());
        let begun = Instant::now();
        let written = self.store.append(&frames);
        drop(frames);
        let write_time = begun.elapsed();

        let mut durable = Vec::with_capacity(pending.len());
        let mut appends = Vec::new();
        for item in pending {
            match item {
                Pending::Proposal { lsn, term, body, tag, .. } => {
                    durable.push(Durable { lsn, term, body, tag })
                }
                Pending::Append { done, .. } => appends.push(done),
            }
        }
        if let (Ok(()), Some(on_written)) = (&written, &mut self.hooks.on_written) {
            on_written(&mut durable);
        }
        let begun = Instant::now();
        let synced = written.and_then(|()| self.store.sync());
        let sync_time = begun.elapsed();
        self.next = self.store.next();
        self.publish();
        match synced {
            Ok(()) => {
                self.metrics.group(records, bytes, write_time, sync_time);
                let begun = Instant::now();
                if !durable.is_empty() {
                    (self.hooks.on_durable)(durable);
                }
                appends.into_iter().for_each(|done| done(Ok(())));
                self.metrics.handed_on(begun.elapsed());
            }
            Err(error) => {
                tracing::warn!(error = error.in_full(), records, "entries could not be made durable");
                self.metrics.failed(records);
                let error = Arc::new(error);
                for Durable { tag, .. } in durable {
                    (self.hooks.on_failed)(tag, Arc::clone(&error));
                }
                appends.into_iter().for_each(|done| done(Err(Arc::clone(&error))));
            }
        }
    }

    fn frame<'a>(&self, item: &'a Pending<T>, out: &mut Vec<FrameRef<'a>>) {
        match item {
            Pending::Proposal { lsn, term, body, body_crc, .. } => out.push(FrameRef {
                lsn: *lsn,
                term: *term,
                leader: self.options.leader,
                kind: FrameKind::Entry,
                body,
                body_crc: *body_crc,
            }),
            Pending::Append { frames, .. } => out.extend(frames.iter().map(|(frame, body_crc)| {
                let Frame { lsn, term, leader, kind, body } = frame;
                FrameRef { lsn: *lsn, term: *term, leader: *leader, kind: *kind, body, body_crc: *body_crc }
            })),
        }
    }

    fn publish(&self) {
        self.shared.durable.store(self.store.synced().0, Ordering::Release);
        if let Some(cause) = self.store.poisoned() {
            self.shared.poisoned.get_or_init(|| cause.to_string());
        }
    }
}
