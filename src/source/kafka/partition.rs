//! One partition that is being read, and the batch that is being gathered for it.
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;

use super::context::PartitionKey;
use super::placement::{Placement, position_of};
use crate::source::PartitionLag;
use crate::types::{PartitionPosition, RawBatch, RawRecord, RawRows};

/// A message of the client, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp_ms: Option<i64>,
}

impl Incoming<'_> {
    pub(super) fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

/// A partition that is being read.
#[derive(Debug)]
pub(super) struct Partition {
    name: Arc<str>,
    epoch: u64,
    /// The last offset that was handed out: `from` of the next batch.
    handed: Option<i64>,
    /// The last offset handed out since reading started.
    awaited: Option<i64>,
    /// The last offset accounted for, handed out or gathered.
    seen: Option<i64>,
    gathered: Gathered,
    /// Has a record come since reading started?
    has_come: bool,
    /// First offset past the last one known to exist.
    end: i64,
    /// Bounded reads: first offset that is not wanted.
    stop: Option<i64>,
    /// How far our log holds the partition.
    durable: Option<i64>,
    /// How far that was told to the broker.
    committed: Option<i64>,
}

/// Keys and values of one batch lie in one block: one allocation instead of two per record.
#[derive(Debug, Default)]
struct Gathered {
    since: Option<Instant>,
    block: BytesMut,
    records: Vec<Slot>,
    /// Size of the batch before: the next one will be about as large. Room is taken only when a record comes,
    /// so that a thousand idle partitions hold nothing.
    expected: (usize, usize),
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    timestamp_ms: Option<i64>,
}

impl Partition {
    /// Starts reading at `placement`; `stop` bounds it.
    pub(super) fn new(name: Arc<str>, placement: Placement, end: i64, stop: Option<i64>) -> Self {
        Self {
            name,
            epoch: placement.epoch,
            handed: placement.from,
            awaited: None,
            seen: placement.seen().max(placement.from),
            gathered: Gathered::default(),
            has_come: false,
            end,
            stop,
            durable: None,
            committed: None,
        }
    }

    /// How far this source has come, whether or not our log has caught up with it.
    pub(super) fn reached(&self) -> PartitionPosition {
        PartitionPosition { epoch: self.epoch, position: self.handed.map(position_of) }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Has a record come since reading started?
    pub(super) fn has_come(&self) -> bool {
        self.has_come
    }

    /// Has a bounded read handed out all it wants?
    pub(super) fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.handed.map_or(0, |handed| handed + 1) >= stop)
    }

    pub(super) fn gathered_bytes(&self) -> usize {
        self.gathered.block.len()
    }

    pub(super) fn gathered_records(&self) -> usize {
        self.gathered.records.len()
    }

    /// When the batch that is being gathered was begun.
    pub(super) fn since(&self) -> Option<Instant> {
        self.gathered.since
    }

    /// Was this offset accounted for before?
    pub(super) fn has_seen(&self, offset: i64) -> bool {
        self.seen.is_some_and(|seen| seen >= offset)
    }

    /// The bound, where `offset` is past it.
    pub(super) fn stop_before(&self, offset: i64) -> Option<i64> {
        self.stop.filter(|&stop| offset >= stop)
    }

    pub(super) fn note_end(&mut self, end: i64) {
        self.end = self.end.max(end);
    }

    /// Is everything in our log that was handed out?
    pub(super) fn is_settled(&self) -> bool {
        self.awaited.is_none_or(|awaited| self.durable.is_some_and(|durable| durable >= awaited))
    }

    pub(super) fn note_durable(&mut self, offset: i64) {
        self.durable = self.durable.max(Some(offset));
    }

    /// The first offset that our log does not hold, where the broker has not been told yet.
    pub(super) fn take_uncommitted(&mut self) -> Option<i64> {
        let durable = self.durable.filter(|_| self.durable > self.committed)?;
        self.committed = self.durable;
        Some(durable + 1)
    }

    /// Gathers a record; `incoming` is newer than everything seen.
    pub(super) fn add(&mut self, incoming: Incoming<'_>, now: Instant) {
        self.gathered.since.get_or_insert(now);
        if self.gathered.records.is_empty() {
            let (bytes, records) = self.gathered.expected;
            self.gathered.block.reserve(bytes);
            self.gathered.records.reserve(records);
        }
        let key = incoming.key.map(|bytes| self.gathered.keep(bytes));
        let value = incoming.value.map(|bytes| self.gathered.keep(bytes));
        let Incoming { offset, timestamp_ms, .. } = incoming;
        self.gathered.records.push(Slot { offset, key, value, timestamp_ms });
        self.seen = Some(offset);
        self.has_come = true;
        self.end = self.end.max(offset + 1);
    }

    /// Everything up to `last` has passed, whatever of it was visible. Says whether that was news.
    pub(super) fn pass(&mut self, last: i64, now: Instant) -> bool {
        let last = self.stop.map_or(last, |stop| last.min(stop - 1));
        if last < 0 || self.seen.is_some_and(|seen| seen >= last) {
            return false;
        }
        self.seen = Some(last);
        self.end = self.end.max(last + 1);
        self.gathered.since.get_or_insert(now);
        true
    }

    /// What is gathered, with the position moved as far as is known; `None` where there is no news.
    pub(super) fn emit(&mut self) -> Option<RawBatch> {
        let to = self.seen.filter(|_| self.seen > self.handed)?;
        let Gathered { block, records, .. } = std::mem::take(&mut self.gathered);
        self.gathered.expected = (block.len(), records.len());
        let block = block.freeze();
        let slice = |range: Option<Range<usize>>| range.map(|range| block.slice(range));
        let rows = records
            .into_iter()
            .map(|slot| RawRecord {
                position: position_of(slot.offset),
                key: slice(slot.key),
                value: slice(slot.value),
                timestamp_ms: slot.timestamp_ms,
            })
            .collect();
        let from = self.handed.replace(to);
        self.awaited = Some(to);
        Some(RawBatch {
            partition: Arc::clone(&self.name),
            epoch: self.epoch,
            from: from.map(position_of),
            to: position_of(to),
            rows: RawRows::Records(rows),
        })
    }

    pub(super) fn lag(&self) -> PartitionLag {
        PartitionLag {
            partition: self.name.to_string(),
            position: self.handed.map(position_of),
            end: (self.end > 0).then(|| position_of(self.end - 1)),
            behind: Some(self.behind()),
        }
    }

    /// Offsets between what was handed out and the end.
    pub(super) fn behind(&self) -> u64 {
        self.end.saturating_sub(self.handed.map_or(0, |handed| handed + 1)).try_into().unwrap_or(0)
    }
}

impl Gathered {
    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.block.len();
        self.block.extend_from_slice(bytes);
        start..self.block.len()
    }
}

/// `topic/partition`.
pub(super) fn name_of((topic, number): &PartitionKey) -> Arc<str> {
    format!("{topic}/{number}").into()
}

/// The reverse of [`name_of`]; topic names have no slash.
pub(super) fn key_of(name: &str) -> Option<PartitionKey> {
    let (topic, number) = name.split_once('/')?;
    Some((topic.to_owned(), number.parse().ok()?))
}
