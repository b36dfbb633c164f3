//! All partitions that are being read, and the order in which their batches go out.
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::context::PartitionKey;
use super::partition::{Incoming, Partition};
use crate::source::PartitionLag;
use crate::types::{PartitionPosition, RawBatch};

/// When a batch is handed out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub bytes: usize,
    pub records: usize,
    pub linger: Duration,
}

/// All partitions that are being read.
///
/// Gathered bytes are bounded: at most [`GATHERED_BATCHES`] batches over all partitions, since records of a
/// topic with many partitions may come interleaved.
pub(super) struct Partitions {
    limits: Limits,
    by_topic: ByTopic,
    /// Partitions with something gathered, oldest first. An entry whose time is not the partition's `since`
    /// is left over from a batch that has gone out.
    open: VecDeque<(Instant, PartitionKey)>,
    gathered_bytes: usize,
    /// Batches complete before their turn.
    out: VecDeque<RawBatch>,
}

type ByTopic = HashMap<String, BTreeMap<i32, Partition>>;

/// More lets the batches of many slow partitions fill up; fewer holds less memory.
const GATHERED_BATCHES: usize = 16;

impl Partitions {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            by_topic: HashMap::new(),
            open: VecDeque::new(),
            gathered_bytes: 0,
            out: VecDeque::new(),
        }
    }

    pub(super) fn contains(&self, key: &PartitionKey) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn get(&self, (topic, number): &PartitionKey) -> Option<&Partition> {
        self.by_topic.get(topic)?.get(number)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Partition> {
        self.by_topic.values().flat_map(BTreeMap::values)
    }

    pub(super) fn keys(&self) -> Vec<PartitionKey> {
        let of_topic = |(topic, numbers): (&String, &BTreeMap<i32, Partition>)| {
            numbers.keys().map(|&number| (topic.clone(), number)).collect::<Vec<_>>()
        };
        self.by_topic.iter().flat_map(of_topic).collect()
    }

    /// The only partition of that number, over all topics.
    pub(super) fn only_one_numbered(&self, number: i32) -> Option<PartitionKey> {
        let mut with = self.by_topic.iter().filter(|(_, numbers)| numbers.contains_key(&number));
        let (topic, _) = with.next()?;
        with.next().is_none().then(|| (topic.clone(), number))
    }

    /// Starts a partition. What passes before its first record goes out at once.
    pub(super) fn insert(&mut self, (topic, number): PartitionKey, mut partition: Partition) {
        self.out.extend(partition.emit());
        self.by_topic.entry(topic).or_default().insert(number, partition);
    }

    /// Ends a partition and drops what it has gathered and not handed out.
    pub(super) fn remove(&mut self, (topic, number): &PartitionKey) {
        let Some(partition) = self.by_topic.get_mut(topic).and_then(|numbers| numbers.remove(number)) else {
            return;
        };
        self.gathered_bytes -= partition.gathered_bytes();
        self.out.retain(|batch| batch.partition != *partition.name());
    }

    /// Ends a partition and hands out what it has gathered. Says how far that reaches.
    pub(super) fn finish(&mut self, key: &PartitionKey) -> Option<PartitionPosition> {
        self.emit(key);
        let (topic, number) = key;
        Some(self.by_topic.get_mut(topic)?.remove(number)?.reached())
    }

    /// Gathers a message; of a partition that is no longer ours it is dropped.
    pub(super) fn take(&mut self, topic: &str, number: i32, incoming: Incoming<'_>, now: Instant) {
        let Some(partition) = find(&mut self.by_topic, topic, number) else {
            return;
        };
        // Behind what was seen: the client went back further than it was asked to.
        if partition.has_seen(incoming.offset) {
            return;
        }
        // Past the bound: everything before it has passed.
        if let Some(stop) = partition.stop_before(incoming.offset) {
            return self.pass(&(topic.to_owned(), number), stop - 1, now);
        }
        let adding = incoming.bytes();
        if partition.gathered_records() > 0 && partition.gathered_bytes() + adding > self.limits.bytes {
            self.gathered_bytes -= partition.gathered_bytes();
            self.out.extend(partition.emit());
        }
        if partition.since().is_none() {
            self.open.push_back((now, (topic.to_owned(), number)));
        }
        partition.add(incoming, now);
        self.gathered_bytes += adding;
        if partition.gathered_bytes() >= self.limits.bytes
            || partition.gathered_records() >= self.limits.records
        {
            self.gathered_bytes -= partition.gathered_bytes();
            self.out.extend(partition.emit());
        }
    }

    /// Moves a position over records that nobody will see. With nothing gathered the move goes out at once:
    /// it ends a stretch, so nothing is gained by waiting.
    pub(super) fn pass(&mut self, key: &PartitionKey, last: i64, now: Instant) {
        let (topic, number) = key;
        let Some(partition) = find(&mut self.by_topic, topic, *number) else {
            return;
        };
        if partition.pass(last, now) && partition.gathered_records() == 0 {
            self.out.extend(partition.emit());
        }
    }

    /// The next batch to hand out: one that is complete, one that has waited long enough, or the oldest where
    /// too much is gathered.
    pub(super) fn next(&mut self, now: Instant) -> Option<RawBatch> {
        if let Some(batch) = self.out.pop_front() {
            return Some(batch);
        }
        while let Some((since, key)) = self.open.front() {
            let is_left_over = self.get(key).is_none_or(|partition| partition.since() != Some(*since));
            let is_ripe = now.saturating_duration_since(*since) >= self.limits.linger
                || self.gathered_bytes >= GATHERED_BATCHES * self.limits.bytes;
            if !is_left_over && !is_ripe {
                return None;
            }
            let (_, key) = self.open.pop_front()?;
            if !is_left_over {
                self.emit(&key);
                return self.out.pop_front();
            }
        }
        None
    }

    /// The oldest batch of a partition of which nothing is on its way to our log: with nothing to read either,
    /// waiting would fill no batch. While one is on its way the next one gathers, so batches grow with load.
    pub(super) fn next_settled(&mut self) -> Option<RawBatch> {
        let key = self.open.iter().find(|(since, key)| {
            self.get(key).is_some_and(|partition| partition.since() == Some(*since) && partition.is_settled())
        });
        let key = key?.1.clone();
        self.emit(&key);
        self.out.pop_front()
    }

    /// Is there a batch to hand out without waiting?
    pub(super) fn is_any_complete(&self) -> bool {
        !self.out.is_empty()
    }

    /// Is anything gathered that has not gone out?
    pub(super) fn are_gathering(&self) -> bool {
        !self.open.is_empty()
    }

    /// When the oldest gathered batch will have waited long enough.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.front().map(|(since, _)| *since + self.limits.linger)
    }

    /// Is everything handed out that a bounded read wants?
    pub(super) fn are_done(&self) -> bool {
        self.out.is_empty() && self.all().all(Partition::is_done)
    }

    pub(super) fn lag(&self) -> Vec<PartitionLag> {
        let mut lag: Vec<_> = self.all().map(Partition::lag).collect();
        lag.sort_by(|a, b| a.partition.cmp(&b.partition));
        lag
    }

    /// A newer end, as far as it is known.
    pub(super) fn note_end(&mut self, topic: &str, number: i32, end: i64) {
        if let Some(partition) = find(&mut self.by_topic, topic, number) {
            partition.note_end(end);
        }
    }

    pub(super) fn note_durable(&mut self, (topic, number): &PartitionKey, offset: i64) {
        if let Some(partition) = find(&mut self.by_topic, topic, *number) {
            partition.note_durable(offset);
        }
    }

    /// Offsets to tell the broker, first unread ones, since this was last asked.
    pub(super) fn take_uncommitted(&mut self) -> Vec<(PartitionKey, i64)> {
        let mut moved = Vec::new();
        for (topic, numbers) in &mut self.by_topic {
            for (&number, partition) in numbers {
                if let Some(next) = partition.take_uncommitted() {
                    moved.push(((topic.clone(), number), next));
                }
            }
        }
        moved
    }

    fn emit(&mut self, (topic, number): &PartitionKey) {
        let Some(partition) = find(&mut self.by_topic, topic, *number) else {
            return;
        };
        self.gathered_bytes -= partition.gathered_bytes();
        self.out.extend(partition.emit());
    }
}

fn find<'a>(by_topic: &'a mut ByTopic, topic: &str, number: i32) -> Option<&'a mut Partition> {
    by_topic.get_mut(topic)?.get_mut(&number)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::partition::{key_of, name_of};
    use super::super::placement::{Watermarks, place};
    use super::*;
    use crate::types::RawRows;

    fn limits() -> Limits {
        Limits { bytes: 100, records: 3, linger: Duration::from_millis(10) }
    }

    fn reading(held: Option<u64>, low: i64, stop: Option<i64>) -> (Partitions, PartitionKey) {
        let key = ("t".to_owned(), 0);
        let held = held.map(|position| PartitionPosition { epoch: 0, position: Some(position.into()) });
        let placement = place(held, low, Watermarks { low, high: 1000 });
        let mut partitions = Partitions::new(limits());
        partitions.insert(key.clone(), Partition::new(name_of(&key), placement, 1000, stop));
        (partitions, key)
    }

    fn at(offset: i64, value: &[u8]) -> Incoming<'_> {
        Incoming { offset, key: Some(b"k"), value: Some(value), timestamp_ms: None }
    }

    fn bounds(batch: &RawBatch) -> (Option<u64>, u64, usize) {
        (batch.from.map(|from| from.as_u64()), batch.to.as_u64(), batch.len())
    }

    #[test]
    fn batches_close_by_records_bytes_and_time_and_chain_without_holes() {
        let (mut partitions, _) = reading(Some(9), 0, None);
        let now = Instant::now();
        for offset in [10, 11, 15] {
            partitions.take("t", 0, at(offset, b"v"), now);
        }
        assert_eq!(bounds(&partitions.next(now).unwrap()), (Some(9), 15, 3));
        partitions.take("t", 0, at(16, &[7; 60]), now);
        partitions.take("t", 0, at(17, &[8; 60]), now);
        assert_eq!(bounds(&partitions.next(now).unwrap()), (Some(15), 16, 1));
        assert!(partitions.next(now).is_none());
        let later = now + Duration::from_millis(10);
        let batch = partitions.next(later).unwrap();
        assert_eq!(bounds(&batch), (Some(16), 17, 1));
        let RawRows::Records(records) = batch.rows else { unreachable!() };
        assert_eq!(records[0].value.as_deref(), Some(&[8; 60][..]));
        assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
        assert_eq!(partitions.gathered_bytes, 0);
        // Going back is ignored.
        partitions.take("t", 0, at(12, b"v"), later);
        assert!(partitions.next(later + Duration::from_secs(1)).is_none());
    }

    #[test]
    fn a_batch_goes_out_early_when_nothing_of_its_partition_is_on_its_way() {
        let (mut partitions, key) = reading(Some(9), 0, None);
        let now = Instant::now();
        assert!(partitions.next_settled().is_none());
        partitions.take("t", 0, at(10, b"v"), now);
        assert!(partitions.next(now).is_none());
        assert_eq!(bounds(&partitions.next_settled().unwrap()), (Some(9), 10, 1));
        // The first is on its way: the next ones gather.
        partitions.take("t", 0, at(11, b"v"), now);
        partitions.take("t", 0, at(12, b"v"), now);
        assert!(partitions.next_settled().is_none());
        partitions.note_durable(&key, 10);
        assert_eq!(bounds(&partitions.next_settled().unwrap()), (Some(10), 12, 2));
        // What is left over in the order of ages does no harm.
        assert!(partitions.next_settled().is_none());
        assert!(partitions.next(now + Duration::from_secs(1)).is_none());
        assert_eq!(partitions.gathered_bytes, 0);
    }

    #[test]
    fn a_record_larger_than_a_batch_is_a_batch_of_its_own() {
        let (mut partitions, _) = reading(None, 0, None);
        let now = Instant::now();
        partitions.take("t", 0, at(0, b"small"), now);
        partitions.take("t", 0, at(1, &[0; 500]), now);
        assert_eq!(bounds(&partitions.next(now).unwrap()), (None, 0, 1));
        assert_eq!(bounds(&partitions.next(now).unwrap()), (Some(0), 1, 1));
    }

    #[test]
    fn what_passes_unseen_moves_the_position() {
        let (mut partitions, key) = reading(Some(9), 0, None);
        let now = Instant::now();
        partitions.pass(&key, 20, now);
        assert_eq!(bounds(&partitions.next(now).unwrap()), (Some(9), 20, 0));
        // Behind gathered records the move waits with them.
        partitions.take("t", 0, at(21, b"v"), now);
        partitions.pass(&key, 22, now);
        assert!(partitions.next(now).is_none());
        assert_eq!(bounds(&partitions.next(now + Duration::from_millis(10)).unwrap()), (Some(20), 22, 1));
    }

    #[test]
    fn expired_records_and_a_late_start_are_accounted_for_before_the_first_record() {
        let (mut lost, _) = reading(Some(4), 10, None);
        assert_eq!(bounds(&lost.next(Instant::now()).unwrap()), (Some(4), 9, 0));
        let (mut late, _) = reading(None, 50, None);
        assert_eq!(bounds(&late.next(Instant::now()).unwrap()), (None, 49, 0));
        let (mut fresh, _) = reading(None, 0, None);
        assert!(fresh.next(Instant::now()).is_none());
    }

    #[test]
    fn a_bounded_read_ends_at_its_bound() {
        let (mut partitions, _) = reading(None, 0, Some(3));
        let now = Instant::now();
        for offset in [0, 1] {
            partitions.take("t", 0, at(offset, b"v"), now);
        }
        assert!(!partitions.are_done());
        // Offset 2 was compacted away: a record past the bound proves that.
        partitions.take("t", 0, at(3, b"v"), now);
        let batch = partitions.next(now + Duration::from_millis(10)).unwrap();
        assert_eq!(bounds(&batch), (None, 2, 2));
        assert!(partitions.are_done());
    }

    #[test]
    fn a_removed_partition_hands_out_nothing_more_and_a_finished_one_all_it_has() {
        let (mut partitions, key) = reading(Some(9), 0, None);
        let now = Instant::now();
        partitions.take("t", 0, at(10, b"v"), now);
        partitions.remove(&key);
        assert!(partitions.next(now + Duration::from_secs(1)).is_none());
        assert_eq!(partitions.gathered_bytes, 0);

        let (mut partitions, key) = reading(Some(9), 0, None);
        partitions.take("t", 0, at(10, b"v"), now);
        assert_eq!(partitions.finish(&key).unwrap().position, Some(10.into()));
        assert_eq!(bounds(&partitions.next(now).unwrap()), (Some(9), 10, 1));
    }

    #[test]
    fn names_and_keys_are_each_others_reverse() {
        let key = ("products.v1".to_owned(), 12);
        assert_eq!(key_of(&name_of(&key)), Some(key));
        assert_eq!(key_of("file.parquet"), None);
    }

    #[test]
    fn offsets_to_commit_are_told_once() {
        let (mut partitions, key) = reading(Some(9), 0, None);
        partitions.note_durable(&key, 41);
        assert_eq!(partitions.take_uncommitted(), vec![(key, 42)]);
        assert!(partitions.take_uncommitted().is_empty());
    }
}
