//! openraft's log storage on top of the shard's log thread.
use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;
use std::ops::{Bound, Range, RangeBounds};

use bytes::Bytes;
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{
    AnyError, CommittedLeaderId, Entry, EntryPayload, LogId, Membership, OptionalSend, RaftLogReader,
    RaftTypeConfig, StorageError, StorageIOError,
};

use crate::types::Lsn;
use crate::wal::{Frame, FrameKind, LogHandle, LogMark, Vote, WalError};

/// Bytes of entries that replication reads and sends at once: some entries of 512 KiB, many small ones.
const READ_BYTES_MAX: u64 = 4 << 20;

/// The log of one shard, as openraft sees it. `C::D` is an encoded [`Entry`](crate::types::Entry).
///
/// Everything runs on the log thread in the order of the calls, so a read after an append finds it, and a
/// vote is durable before an append that follows it. Appends report through their callback once they are
/// synced; all else is durable when it returns. The committed index is not saved: after a restart the
/// leader tells it again.
#[derive(Debug)]
pub struct RaftLog<C, T> {
    log: LogHandle<T>,
    types: PhantomData<fn() -> C>,
}

impl<C, T> RaftLog<C, T> {
    /// Wraps the handle of a log thread that is used for nothing but Raft.
    pub fn new(log: LogHandle<T>) -> Self {
        Self { log, types: PhantomData }
    }
}

impl<C, T> Clone for RaftLog<C, T> {
    fn clone(&self) -> Self {
        Self::new(self.log.clone())
    }
}

impl<C, T> RaftLog<C, T>
where
    C: RaftTypeConfig<D = Bytes, NodeId = u64, Entry = Entry<C>>,
    T: Send + 'static,
{
    async fn entries(&self, range: Range<Lsn>, bytes_max: u64) -> Result<Vec<Entry<C>>, StorageError<u64>> {
        let read = self.log.run_async(move |store| store.read_some(range, bytes_max)).await;
        let frames = read.and_then(|frames| frames).map_err(read_failed)?;
        frames.into_iter().map(entry_of).collect()
    }
}

impl<C, T> RaftLogReader<C> for RaftLog<C, T>
where
    C: RaftTypeConfig<D = Bytes, NodeId = u64, Entry = Entry<C>>,
    T: Send + 'static,
{
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<C>>, StorageError<u64>> {
        let start = match range.start_bound() {
            Bound::Included(index) => lsn_of(*index),
            Bound::Excluded(index) => lsn_of(index.saturating_add(1)),
            Bound::Unbounded => Lsn(0),
        };
        let end = match range.end_bound() {
            Bound::Included(index) => lsn_of(index.saturating_add(1)),
            Bound::Excluded(index) => lsn_of(*index),
            Bound::Unbounded => Lsn(u64::MAX),
        };
        self.entries(start..end, u64::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<C>>, StorageError<u64>> {
        self.entries(lsn_of(start)..lsn_of(end), READ_BYTES_MAX).await
    }
}

impl<C, T> RaftLogStorage<C> for RaftLog<C, T>
where
    C: RaftTypeConfig<D = Bytes, NodeId = u64, Entry = Entry<C>>,
    T: Send + 'static,
{
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<C>, StorageError<u64>> {
        let state = self.log.run_async(|store| (store.purged(), store.last())).await;
        let (purged, last) = state.map_err(read_failed)?;
        Ok(LogState { last_purged_log_id: purged.map(log_id_of), last_log_id: last.map(log_id_of) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &openraft::Vote<u64>) -> Result<(), StorageError<u64>> {
        let vote =
            Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed };
        let saved = self.log.run_async(move |store| store.save_vote(vote)).await;
        saved
            .and_then(|saved| saved)
            .map_err(|error| StorageIOError::write_vote(AnyError::error(error.in_full())).into())
    }

    async fn read_vote(&mut self) -> Result<Option<openraft::Vote<u64>>, StorageError<u64>> {
        let vote = self.log.run_async(|store| store.vote()).await;
        let vote = vote.map_err(|error| StorageIOError::read_vote(AnyError::error(error.in_full())))?;
        Ok(vote.map(|Vote { term, node, committed }| match committed {
            true => openraft::Vote::new_committed(term, node),
            false => openraft::Vote::new(term, node),
        }))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<C>) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<C>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let frames = entries.into_iter().map(frame_of).collect::<Result<Vec<Frame>, _>>()?;
        let done = |result: Result<(), _>| callback.log_io_completed(result.map_err(io::Error::other));
        self.log.append_async(frames, done).await.map_err(write_failed)
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let from = lsn_of(log_id.index);
        let truncated = self.log.run_async(move |store| store.truncate_suffix(from)).await;
        truncated.and_then(|truncated| truncated).map_err(write_failed)
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let mark = mark_of(log_id);
        let purged = self.log.run_async(move |store| store.purge_to(mark)).await;
        purged.and_then(|purged| purged).map_err(write_failed)
    }
}

fn lsn_of(index: u64) -> Lsn {
    Lsn(index.saturating_add(1))
}

fn mark_of(log_id: LogId<u64>) -> LogMark {
    LogMark { term: log_id.leader_id.term, leader: log_id.leader_id.node_id, lsn: lsn_of(log_id.index) }
}

fn log_id_of(mark: LogMark) -> LogId<u64> {
    // No entry has LSN 0.
    LogId::new(CommittedLeaderId::new(mark.term, mark.leader), mark.lsn.0.saturating_sub(1))
}

#[allow(clippy::result_large_err)] // openraft's error, openraft's choice.
fn frame_of<C>(entry: Entry<C>) -> Result<Frame, StorageError<u64>>
where
    C: RaftTypeConfig<D = Bytes, NodeId = u64, Entry = Entry<C>>,
{
    let LogMark { term, leader, lsn } = mark_of(entry.log_id);
    let (kind, body) = match entry.payload {
        EntryPayload::Blank => (FrameKind::Blank, Bytes::new()),
        EntryPayload::Normal(body) => (FrameKind::Entry, body),
        EntryPayload::Membership(membership) => {
            let json = serde_json::to_vec(&membership)
                .map_err(|error| StorageIOError::write_log_entry(entry.log_id, AnyError::new(&error)))?;
            (FrameKind::Membership, json.into())
        }
    };
    Ok(Frame { lsn, term, leader, kind, body })
}

#[allow(clippy::result_large_err)] // openraft's error, openraft's choice.
fn entry_of<C>(frame: Frame) -> Result<Entry<C>, StorageError<u64>>
where
    C: RaftTypeConfig<D = Bytes, NodeId = u64, Entry = Entry<C>>,
{
    let Frame { lsn, term, leader, kind, body } = frame;
    let log_id = log_id_of(LogMark { term, leader, lsn });
    let payload = match kind {
        FrameKind::Blank => EntryPayload::Blank,
        FrameKind::Entry => EntryPayload::Normal(body),
        FrameKind::Membership => {
            let membership: Membership<u64, C::Node> = serde_json::from_slice(&body)
                .map_err(|error| StorageIOError::read_log_entry(log_id, AnyError::new(&error)))?;
            EntryPayload::Membership(membership)
        }
    };
    Ok(Entry { log_id, payload })
}

fn read_failed(error: WalError) -> StorageError<u64> {
    StorageIOError::read_logs(AnyError::error(error.in_full())).into()
}

fn write_failed(error: WalError) -> StorageError<u64> {
    StorageIOError::write_logs(AnyError::error(error.in_full())).into()
}

#[cfg(test)]
mod tests;
