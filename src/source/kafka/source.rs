//! The source itself: one consumer, polled, assigned, paused and committed from the thread that owns it.
mod assignment;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Notes, PartitionKey, Rebalanced, SourceContext};
use super::errors::{Standing, classify};
use super::metrics::{self, Statistics};
use super::options::KafkaOptions;
use super::owned_consumer::OwnedConsumer;
use super::partition::{Incoming, Partition, key_of, name_of};
use super::partitions::{Limits, Partitions};
use super::placement::offset_of;
use crate::source::{PartitionLag, Polled, PositionLookup, Source, SourceError};
use crate::types::Position;
use assignment::Waiting;

/// How soon partitions added to a topic are found, unless the client setting
/// `topic.metadata.refresh.interval.ms` says otherwise.
const METADATA_INTERVAL: Duration = Duration::from_secs(30);
/// Offsets are committed for dashboards only.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// A hold shorter than this leaves the partitions alone: pausing throws away what was prefetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How long one `hold` keeps the thread: polling while paused, or just waiting before that.
const HOLD_POLL: Duration = Duration::from_millis(50);
const HOLD_WAIT: Duration = Duration::from_millis(5);
/// Notes and timers are looked at this often while messages keep coming.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(50);

/// While records wait for a batch ahead of them, the caller gets a turn this often to tell that it is durable.
const NEWS_INTERVAL: Duration = Duration::from_millis(1);
/// Records taken between two looks at the clock: at full speed it costs as much as taking one.
const POLLED_AT_ONCE: usize = 64;

/// Events looked through for the cause of a failure; the next call looks at the rest.
const EXPLAINING_EVENTS: usize = 32;

/// Reads Kafka topics. See the module for what it promises.
///
/// [`Self::open`] talks to nobody: an outage at start is a `Transient` of the first `next_batch`. After a
/// `Transient` the source is still good; call `next_batch` again.
pub struct KafkaSource {
    options: KafkaOptions,
    positions: Arc<dyn PositionLookup>,
    consumer: OwnedConsumer,
    partitions: Partitions,
    /// Ours, not read yet.
    waiting: Vec<Waiting>,
    /// The group waits for `incremental_assign`, even of nothing.
    owes_assign: bool,
    /// What this source has paused; `None` while it is not holding.
    paused: Option<HashSet<PartitionKey>>,
    has_connected: bool,
    /// Topics whose partitions are known.
    discovered: HashSet<String>,
    is_subscribed: bool,
    metadata_interval: Duration,
    metadata_due: Instant,
    commit_due: Instant,
    upkeep_due: Instant,
    commits_fail: bool,
}

impl KafkaSource {
    /// Checks the options and builds the client.
    ///
    /// Errors: `Fatal` for options and client settings that can never work.
    pub fn open(options: KafkaOptions, positions: Arc<dyn PositionLookup>) -> Result<Self, SourceError> {
        options.validate()?;
        let standing = Standing { is_group: options.is_group(), has_connected: false };
        let consumer = options
            .consumer_config()
            .create_with_context(SourceContext::default())
            .map_err(|error| classify("building the kafka client", error, None, standing))?;
        let limits = Limits {
            bytes: options.batch_bytes_max,
            records: options.batch_records_max,
            linger: options.linger,
        };
        let refresh =
            options.client.get("topic.metadata.refresh.interval.ms").and_then(|text| text.parse().ok());
        let metadata_interval = refresh.map_or(METADATA_INTERVAL, Duration::from_millis);
        let now = Instant::now();
        Ok(Self {
            positions,
            consumer: OwnedConsumer::new(consumer),
            partitions: Partitions::new(limits),
            waiting: Vec::new(),
            owes_assign: false,
            paused: None,
            has_connected: false,
            discovered: HashSet::new(),
            is_subscribed: false,
            metadata_interval,
            metadata_due: now,
            commit_due: now + COMMIT_INTERVAL,
            upkeep_due: now,
            commits_fail: false,
            options,
        })
    }

    /// Everything that is not reading: rebalances, new partitions, places to start, commits.
    fn upkeep(&mut self, now: Instant) -> Result<(), SourceError> {
        self.upkeep_due = now + UPKEEP_INTERVAL;
        if let Some(notes) = self.consumer.context().take_notes() {
            self.read_notes(notes, now);
        }
        if let Err(error) = self.take_partitions(now) {
            return Err(self.explain(error));
        }
        if now >= self.commit_due {
            self.commit_due = now + COMMIT_INTERVAL;
            self.commit();
        }
        Ok(())
    }

    fn take_partitions(&mut self, now: Instant) -> Result<(), SourceError> {
        if self.options.is_group() {
            self.subscribe()?;
        } else if now >= self.metadata_due {
            self.discover(now)?;
        }
        self.place_waiting(now)
    }

    /// A question that was not answered says little; the client's events may say why: a refused password.
    fn explain(&mut self, error: SourceError) -> SourceError {
        for _ in 0..EXPLAINING_EVENTS {
            match self.poll(Duration::ZERO) {
                Ok(true) | Err(SourceError::Transient { .. }) => {}
                Ok(false) => break,
                Err(cause @ SourceError::Fatal { .. }) => return cause,
            }
        }
        error
    }

    fn read_notes(&mut self, notes: Notes, now: Instant) {
        for rebalanced in notes.rebalances {
            match rebalanced {
                Rebalanced::Assigned(keys) => {
                    self.owes_assign = true;
                    self.count_rebalanced("assigned", &keys);
                    self.wait_for_place(keys, now);
                }
                Rebalanced::Revoked(keys) => {
                    self.count_rebalanced("revoked", &keys);
                    for key in &keys {
                        self.partitions.remove(key);
                        // Whoever has it now reports its lag.
                        self.report_lag(&name_of(key), 0);
                    }
                    self.waiting.retain(|waiting| !keys.contains(&waiting.key));
                    if let Some(paused) = &mut self.paused {
                        paused.retain(|key| !keys.contains(key));
                    }
                }
            }
        }
        if let Some(statistics) = notes.statistics {
            self.read_statistics(&statistics);
        }
        match notes.commit_failure {
            Some(error) if !self.commits_fail => {
                self.commits_fail = true;
                tracing::warn!(source = %self.options.source_name, group = %self.options.group_id(), %error,
                    "offsets cannot be committed to the brokers; lag dashboards stand still, positions are safe in our log");
            }
            Some(error) => tracing::debug!(%error, "commit failed again"),
            None => {}
        }
    }

    fn read_statistics(&mut self, statistics: &Statistics) {
        let source = &self.options.source_name;
        let mut queued = 0;
        statistics.each_partition(|topic, number, partition| {
            queued += partition.fetchq_size;
            let end = if partition.ls_offset >= 0 { partition.ls_offset } else { partition.hi_offset };
            self.partitions.note_end(topic, number, end);
        });
        for partition in self.partitions.all() {
            self.report_lag(partition.name(), partition.behind());
        }
        #[allow(clippy::cast_precision_loss)] // a gauge
        ::metrics::gauge!(metrics::FETCH_QUEUE_BYTES, "source" => source.clone()).set(queued as f64);
        ::metrics::counter!(metrics::RECEIVED_BYTES, "source" => source.clone())
            .absolute(statistics.rx_bytes);
    }

    fn report_lag(&self, partition: &str, behind: u64) {
        let labels = [("source", self.options.source_name.clone()), ("partition", partition.to_owned())];
        #[allow(clippy::cast_precision_loss)] // a gauge
        ::metrics::gauge!(metrics::LAG, &labels).set(behind as f64);
    }

    fn count_rebalanced(&self, change: &'static str, keys: &[PartitionKey]) {
        tracing::info!(source = %self.options.source_name, change, partitions = ?keys, "consumer group rebalanced");
        ::metrics::counter!(metrics::REBALANCED, "source" => self.options.source_name.clone(), "change" => change)
            .increment(keys.len() as u64);
    }

    /// The client has passed everything of some partition numbered `number` up to its end.
    fn at_end(&mut self, number: i32, reason: Option<&str>, now: Instant) {
        // Positions of the client move over transaction markers in the order of the records.
        if let Ok(list) = self.consumer.position() {
            for element in list.elements() {
                let key = (element.topic().to_owned(), element.partition());
                // Right after an assignment the client may still tell the position of the one before; a record
                // of the new one proves that it does not.
                if let Offset::Offset(next) = element.offset()
                    && self.partitions.get(&key).is_some_and(Partition::has_come)
                {
                    self.partitions.pass(&key, next - 1, now);
                }
            }
        }
        // The event also tells the offset, which covers a compacted tail; its topic it does not tell.
        if let (Some(end), Some(key)) =
            (reason.and_then(end_offset), self.partitions.only_one_numbered(number))
        {
            self.partitions.pass(&key, end - 1, now);
        }
    }

    fn handle(&mut self, error: KafkaError, now: Instant) -> Result<(), SourceError> {
        let reason = self.consumer.context().take_reason();
        if let KafkaError::PartitionEOF(number) = error {
            self.at_end(number, reason.as_deref(), now);
            return Ok(());
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                self.place_all_again(now)
            }
            // One broker of several, or one try of many: the client tells when none is left.
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::Resolve
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::TimedOutQueue,
            ) => Ok(()),
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) if !self.options.is_group() => {
                tracing::debug!(%error, "no right to commit offsets; they are for dashboards only");
                Ok(())
            }
            _ => {
                let action = format!("reading {}", self.options.topics.join(", "));
                Err(classify(&action, error, reason, self.standing()))
            }
        }
    }

    fn standing(&self) -> Standing {
        Standing { is_group: self.options.is_group(), has_connected: self.has_connected }
    }

    /// The error for a call that failed, with the text of the newest error event where there is one.
    fn trouble(&self, action: &str, error: KafkaError) -> SourceError {
        classify(action, error, self.consumer.context().take_reason(), self.standing())
    }

    fn commit(&mut self) {
        let moved = self.partitions.take_uncommitted();
        if moved.is_empty() {
            return;
        }
        let list: TopicPartitionList =
            moved.into_iter().map(|(key, next)| (key, Offset::Offset(next))).collect();
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "commit not sent");
        }
    }

    fn pause(&mut self, keys: Vec<PartitionKey>) -> Result<(), SourceError> {
        if !keys.is_empty() {
            let paused = self.consumer.pause(&list_of(&keys));
            paused.map_err(|error| self.trouble("pausing partitions", error))?;
        }
        self.paused.get_or_insert_default().extend(keys);
        Ok(())
    }

    /// Ends a hold: resumes what it paused, and nothing else.
    fn resume(&mut self) -> Result<(), SourceError> {
        let Some(paused) = self.paused.take() else { return Ok(()) };
        let keys: Vec<PartitionKey> =
            paused.into_iter().filter(|key| self.partitions.contains(key)).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let resumed = self.consumer.resume(&list_of(&keys));
        resumed.map_err(|error| self.trouble("resuming partitions", error))
    }

    fn forget_paused(&mut self, key: &PartitionKey) {
        if let Some(paused) = &mut self.paused {
            paused.remove(key);
        }
    }

    fn is_finished(&self) -> bool {
        self.options.bounded
            && self.waiting.is_empty()
            && self.discovered.len() == self.options.topics.len()
            && self.partitions.are_done()
    }

    /// Takes what has come by `now`, until a batch is complete. Says whether more may be there: `false` also where
    /// a rebalance came in between, which is handled before anything is handed out.
    fn poll_several(&mut self, now: Instant) -> Result<bool, SourceError> {
        for _ in 0..POLLED_AT_ONCE {
            match self.consumer.poll(Duration::ZERO) {
                None => return Ok(false),
                Some(Ok(message)) => take(&mut self.partitions, &message, now),
                Some(Err(error)) => {
                    self.handle(error, now)?;
                    return Ok(true);
                }
            }
            if self.partitions.is_any_complete() {
                break;
            }
        }
        Ok(true)
    }

    /// Polls once and sorts what came. Says whether anything did.
    fn poll(&mut self, wait: Duration) -> Result<bool, SourceError> {
        let now;
        let error = match self.consumer.poll(wait) {
            None => return Ok(false),
            Some(Ok(message)) => {
                now = Instant::now();
                take(&mut self.partitions, &message, now);
                return Ok(true);
            }
            Some(Err(error)) => error,
        };
        now = Instant::now();
        self.handle(error, now)?;
        Ok(true)
    }
}

impl Source for KafkaSource {
    fn next_batch(&mut self, max_wait: Duration) -> Result<Polled, SourceError> {
        self.resume()?;
        let begun = Instant::now();
        let deadline = begun + max_wait;
        loop {
            let now = Instant::now();
            if now >= self.upkeep_due {
                self.upkeep(now)?;
            }
            if let Some(batch) = self.partitions.next(now) {
                return Ok(Polled::Batch(batch));
            }
            if self.is_finished() {
                return Ok(Polled::Finished);
            }
            let until =
                self.partitions.next_due().map_or(deadline, |due| due.min(deadline)).min(self.upkeep_due);
            let mut wait = whole_millis(until.saturating_duration_since(now));
            if self.partitions.are_gathering() {
                // However fast records come: what is gathered waits for news, which only the caller can bring.
                if now.saturating_duration_since(begun) >= NEWS_INTERVAL {
                    return Ok(Polled::Idle);
                }
                if self.poll_several(now)? {
                    continue;
                }
                // Revoked partitions must be dropped before anything of theirs is handed out.
                self.upkeep(Instant::now())?;
                if let Some(batch) = self.partitions.next_settled() {
                    return Ok(Polled::Batch(batch));
                }
                wait = wait.min(NEWS_INTERVAL);
            }
            let came = self.poll(wait)?;
            if !came {
                self.upkeep_due = self.upkeep_due.min(Instant::now());
                if self.partitions.are_gathering() || Instant::now() >= deadline {
                    self.upkeep(Instant::now())?;
                    return Ok(self.partitions.next(Instant::now()).map_or(Polled::Idle, Polled::Batch));
                }
            }
        }
    }

    /// For the first second nothing is polled: the client's own threads keep the session, and its queue is
    /// bounded. After that the partitions are paused once and polling goes on for rebalances and errors.
    fn hold(&mut self, held_for: Duration) -> Result<(), SourceError> {
        if held_for < PAUSE_AFTER {
            std::thread::sleep(HOLD_WAIT);
            return Ok(());
        }
        if self.paused.is_none() {
            self.pause(self.partitions.keys())?;
            ::metrics::counter!(metrics::PAUSES, "source" => self.options.source_name.clone()).increment(1);
        }
        self.poll(HOLD_POLL)?;
        self.upkeep(Instant::now())
    }

    fn durable(&mut self, partition: &str, upto: Position) {
        if let Some(key) = key_of(partition) {
            self.partitions.note_durable(&key, offset_of(upto));
        }
    }

    fn rewind(&mut self, partition: &str) -> Result<(), SourceError> {
        let Some(key) = key_of(partition).filter(|key| self.partitions.contains(key)) else {
            return Ok(());
        };
        self.unassign(std::slice::from_ref(&key))?;
        self.partitions.remove(&key);
        self.forget_paused(&key);
        self.wait_for_place(vec![key], Instant::now());
        self.upkeep_due = Instant::now();
        Ok(())
    }

    fn lag(&self) -> Vec<PartitionLag> {
        self.partitions.lag()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.commit();
        self.consumer.close();
    }
}

/// Copies a message out at once: it pins the whole response it came in.
fn take(partitions: &mut Partitions, message: &BorrowedMessage<'_>, now: Instant) {
    let incoming = Incoming {
        offset: message.offset(),
        key: message.key(),
        value: message.payload(),
        timestamp_ms: message.timestamp().to_millis(),
    };
    partitions.take(message.topic(), message.partition(), incoming, now);
}

fn list_of(keys: &[PartitionKey]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(keys.len());
    for (topic, number) in keys {
        list.add_partition(topic, *number);
    }
    list
}

/// The offset in "… reached end of partition at offset 42 (HighwaterMark 42)".
fn end_offset(reason: &str) -> Option<i64> {
    let (_, after) = reason.split_once("reached end of partition at offset ")?;
    after.split(' ').next()?.parse().ok()
}

/// Rounded up: the client counts in milliseconds, and 0 would make the last one a busy loop.
fn whole_millis(wait: Duration) -> Duration {
    Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_offset_is_read_from_the_clients_text() {
        let text = "Fetch from broker 1 reached end of partition at offset 4200 (HighwaterMark 4201)";
        assert_eq!(end_offset(text), Some(4200));
        assert_eq!(end_offset("Local: Broker: No more messages"), None);
    }

    #[test]
    fn waits_are_rounded_up_to_the_clients_unit() {
        assert_eq!(whole_millis(Duration::from_micros(1)), Duration::from_millis(1));
        assert_eq!(whole_millis(Duration::from_millis(3)), Duration::from_millis(3));
        assert_eq!(whole_millis(Duration::ZERO), Duration::ZERO);
    }
}
