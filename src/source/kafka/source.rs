//! The source itself: one consumer, polled, assigned, paused and committed from the thread that owns it.
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::batching::{Incoming, Limits, Partition, Partitions, key_of, name_of};
use super::context::{Notes, PartitionKey, Rebalanced, SourceContext};
use super::errors::{Standing, Trouble, classify, transient};
use super::metrics::{self, Statistics};
use super::offsets;
use super::options::{KafkaOptions, Start};
use super::placement::{Finding, Placement, Watermarks, offset_of, place};
use crate::source::{PartitionLag, Polled, PositionLookup, Source, SourceError};
use crate::types::{PartitionPosition, Position};

/// How long one question to the brokers may take. The polling thread waits for the answer, so a longer wait
/// delays shutdown; a shorter one fails on slow TLS handshakes (the next try finds the connection made).
const ASK_WAIT: Duration = Duration::from_secs(2);
/// How soon partitions added to a topic are found, unless the client setting
/// `topic.metadata.refresh.interval.ms` says otherwise.
const METADATA_INTERVAL: Duration = Duration::from_secs(30);
/// Pause before a topic that could not be found is asked about again.
const METADATA_AGAIN: Duration = Duration::from_secs(2);
/// Pause before the same partition is placed again.
const PLACE_AGAIN: Duration = Duration::from_secs(1);
/// How often a partition must look shorter than our position before it is taken for a new topic. Once is not
/// enough: a leader that has just been elected may not know its own high watermark yet.
const NEW_TOPIC_LOOKS: u8 = 3;
/// Offsets are committed for dashboards only.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// A hold shorter than this leaves the partitions alone: pausing throws away what was prefetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// How long one `hold` keeps the thread: polling while paused, or just waiting before that.
const HOLD_POLL: Duration = Duration::from_millis(50);
const HOLD_WAIT: Duration = Duration::from_millis(5);
/// Notes and timers are looked at this often while messages keep coming.
const UPKEEP_INTERVAL: Duration = Duration::from_millis(50);
/// Leaving the group and closing connections; a broker that does not answer must not hold up a shutdown.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

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

/// A partition that is ours and has no place to start yet.
struct Waiting {
    key: PartitionKey,
    /// How far this source had come, where it was reading the partition before.
    reached: Option<PartitionPosition>,
    /// Does the pipeline's `start` decide where our log holds nothing? Else its beginning.
    heeds_start: bool,
    not_before: Instant,
    /// How often it looked like a new topic.
    looks: u8,
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
            consumer: OwnedConsumer(Some(consumer)),
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
        if self.options.is_group() {
            self.subscribe()?;
        } else if now >= self.metadata_due {
            self.discover(now)?;
        }
        self.place_waiting(now)?;
        if now >= self.commit_due {
            self.commit_due = now + COMMIT_INTERVAL;
            self.commit();
        }
        Ok(())
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
            let labels = [("source", source.clone()), ("partition", partition.name().to_string())];
            #[allow(clippy::cast_precision_loss)] // a gauge
            ::metrics::gauge!(metrics::LAG, &labels).set(partition.behind() as f64);
        }
        #[allow(clippy::cast_precision_loss)] // a gauge
        ::metrics::gauge!(metrics::FETCH_QUEUE_BYTES, "source" => source.clone()).set(queued as f64);
        ::metrics::counter!(metrics::RECEIVED_BYTES, "source" => source.clone())
            .absolute(statistics.rx_bytes);
    }

    fn count_rebalanced(&self, change: &'static str, keys: &[PartitionKey]) {
        tracing::info!(source = %self.options.source_name, change, partitions = ?keys, "consumer group rebalanced");
        ::metrics::counter!(metrics::REBALANCED, "source" => self.options.source_name.clone(), "change" => change)
            .increment(keys.len() as u64);
    }

    fn subscribe(&mut self) -> Result<(), SourceError> {
        if self.is_subscribed {
            return Ok(());
        }
        let topics: Vec<&str> = self.options.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| self.trouble("subscribing to the topics", error))?;
        self.is_subscribed = true;
        Ok(())
    }

    /// Finds the topics' partitions, at start and as they are added.
    fn discover(&mut self, now: Instant) -> Result<(), SourceError> {
        let mut failure = None;
        for topic in self.options.topics.clone() {
            match self.partition_count(&topic) {
                Ok(partitions) => {
                    self.has_connected = true;
                    let keys = partitions.into_iter().map(|number| (topic.clone(), number)).collect();
                    self.wait_for_place(keys, now);
                    self.discovered.insert(topic);
                }
                // What is known is read on; the failure is told, and asked about again soon.
                Err(error) => failure = Some(error),
            }
        }
        if let Some(error) = failure {
            self.metadata_due = now + METADATA_AGAIN;
            return Err(error);
        }
        self.metadata_due = if self.options.bounded {
            // A bounded read keeps to what was there when it began.
            now + Duration::from_secs(u64::from(u32::MAX))
        } else {
            now + self.metadata_interval
        };
        Ok(())
    }

    fn partition_count(&self, topic: &str) -> Result<Vec<i32>, SourceError> {
        let action =
            || format!("reading the partitions of topic {topic:?} from {}", self.options.brokers.join(","));
        let metadata = self
            .consumer
            .fetch_metadata(Some(topic), ASK_WAIT)
            .map_err(|error| self.trouble(&action(), error))?;
        let unknown = || transient(action(), Trouble::UnknownTopic(topic.to_owned()));
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Err(unknown());
        };
        match found.error() {
            Some(code) => {
                let error = KafkaError::MetadataFetch(code.into());
                if offsets::is_unknown_topic(&error) {
                    Err(unknown())
                } else {
                    Err(self.trouble(&action(), error))
                }
            }
            None if found.partitions().is_empty() => Err(unknown()),
            None => Ok(found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()),
        }
    }

    fn is_ours(&self, key: &PartitionKey) -> bool {
        self.partitions.contains(key) || self.waiting.iter().any(|waiting| waiting.key == *key)
    }

    /// Queues the partitions that are new to this source.
    fn wait_for_place(&mut self, keys: Vec<PartitionKey>, now: Instant) {
        let new: Vec<PartitionKey> = keys.into_iter().filter(|key| !self.is_ours(key)).collect();
        // Where our log knows the topic, an unseen partition was added to it: nothing in it was skipped on
        // purpose, so it is read from its beginning whatever `start` says.
        let known: HashSet<String> =
            self.options.topics.iter().filter(|topic| self.is_topic_known(topic)).cloned().collect();
        for key in new {
            let heeds_start = !known.contains(&key.0);
            self.waiting.push(Waiting { key, reached: None, heeds_start, not_before: now, looks: 0 });
        }
    }

    /// Finds places for waiting partitions and starts reading them.
    fn place_waiting(&mut self, now: Instant) -> Result<(), SourceError> {
        let due: Vec<PartitionKey> = self
            .waiting
            .iter()
            .filter(|waiting| waiting.not_before <= now)
            .map(|waiting| waiting.key.clone())
            .collect();
        if due.is_empty() && !self.owes_assign {
            return Ok(());
        }
        for waiting in &mut self.waiting {
            if waiting.not_before <= now {
                waiting.not_before = now + PLACE_AGAIN;
            }
        }
        let (marks, wanted) = match self.ask_for_marks(&due) {
            Ok(answers) => answers,
            Err(error) => {
                // The group must not wait for brokers that do not answer.
                self.assign(&[])?;
                return Err(error);
            }
        };
        let mut placed = Vec::new();
        let mut failure = None;
        for key in due {
            let Some(&marks) = marks.get(&key) else { continue };
            self.has_connected = true;
            let wanted = wanted.get(&key).copied().unwrap_or(marks.low);
            match self.place_one(&key, wanted, marks) {
                Ok(next) => placed.extend(next.map(|next| (key, next))),
                Err(error) => failure = Some(error),
            }
        }
        self.assign(&placed)?;
        failure.map_or(Ok(()), Err)
    }

    /// Watermarks of `due`, and the offset `start` stands for where our log holds nothing.
    fn ask_for_marks(
        &self,
        due: &[PartitionKey],
    ) -> Result<(offsets::Answers<Watermarks>, offsets::Answers<i64>), SourceError> {
        if due.is_empty() {
            return Ok(Default::default());
        }
        let action = format!("reading the offsets of {} partitions", due.len());
        let marks = offsets::watermarks(&self.consumer, due, ASK_WAIT)
            .map_err(|error| self.trouble(&action, error))?;
        let heeding = self.waiting.iter().filter(|waiting| waiting.heeds_start && due.contains(&waiting.key));
        let unseen: Vec<PartitionKey> =
            heeding.map(|waiting| waiting.key.clone()).filter(|key| self.is_unseen(key)).collect();
        let mut wanted = offsets::Answers::new();
        let young = match &self.options.start {
            Start::Timestamp(timestamp_ms) if !unseen.is_empty() => {
                offsets::at_timestamp(&self.consumer, &unseen, *timestamp_ms, ASK_WAIT)
                    .map_err(|error| self.trouble(&action, error))?
            }
            _ => offsets::Answers::new(),
        };
        for key in unseen {
            let Some(&Watermarks { low, high }) = marks.get(&key) else { continue };
            let offset = match &self.options.start {
                Start::Earliest => low,
                Start::Latest => high,
                Start::Timestamp(_) => match young.get(&key) {
                    Some(&offset) if offset >= 0 => offset,
                    Some(_) => high,
                    None => continue,
                },
                Start::Positions(positions) => {
                    positions.get(&key.1).map_or(low, |&offset| i64::try_from(offset).unwrap_or(i64::MAX))
                }
            };
            wanted.insert(key, offset);
        }
        Ok((marks, wanted))
    }

    fn is_unseen(&self, key: &PartitionKey) -> bool {
        self.positions.position(&name_of(key)).is_none()
    }

    /// Does our log hold anything of the topic, or has this source found its partitions before?
    fn is_topic_known(&self, topic: &str) -> bool {
        self.discovered.contains(topic)
            || (0..KNOWN_PARTITIONS).any(|number| !self.is_unseen(&(topic.to_owned(), number)))
    }

    /// Takes a waiting partition in. Says where to read it; `None` where it is not waiting.
    fn place_one(
        &mut self,
        key: &PartitionKey,
        wanted: i64,
        marks: Watermarks,
    ) -> Result<Option<i64>, SourceError> {
        let name = name_of(key);
        let Some(index) = self.waiting.iter().position(|waiting| waiting.key == *key) else {
            return Ok(None);
        };
        // What this source handed out may still be on its way into our log.
        let held = further(self.positions.position(&name), self.waiting[index].reached);
        let placement = place(held, wanted, marks);
        if placement.finding == Finding::NewTopic {
            self.waiting[index].looks += 1;
            if self.waiting[index].looks < NEW_TOPIC_LOOKS {
                let position = held.and_then(|held| held.position).map_or(-1, offset_of);
                let trouble = Trouble::ShorterThanOurPosition { partition: name.to_string(), position };
                return Err(transient(format!("placing {name}"), trouble));
            }
        }
        self.waiting.swap_remove(index);
        self.tell(&name, placement, held, marks);
        let stop = self.options.bounded.then_some(marks.high);
        self.partitions.insert(key.clone(), Partition::new(name, placement, marks.high, stop));
        Ok(Some(placement.next))
    }

    /// Logs and counts what an operator should know about a placement.
    fn tell(
        &self,
        partition: &str,
        placement: Placement,
        held: Option<PartitionPosition>,
        marks: Watermarks,
    ) {
        let source = &self.options.source_name;
        let held = held.and_then(|held| held.position).map(offset_of);
        let Placement { epoch, next, .. } = placement;
        match placement.finding {
            Finding::Usual => tracing::info!(%source, partition, ?held, next, epoch, "reading a partition"),
            Finding::Clamped => tracing::warn!(%source, partition, next, low = marks.low, high = marks.high,
                "the partition does not have the offset that `start` asks for; starting at the nearest"),
            Finding::Lost(records) => {
                let labels = [("source", source.clone()), ("partition", partition.to_owned())];
                ::metrics::counter!(metrics::LOST_RECORDS, &labels).increment(records);
                tracing::error!(%source, partition, ?held, next, records,
                    "records were deleted by the brokers before they were read: raise the topic's retention, \
                     and publish what is missing again");
            }
            Finding::NewTopic => {
                let labels = [("source", source.clone()), ("partition", partition.to_owned())];
                ::metrics::counter!(metrics::NEW_EPOCHS, &labels).increment(1);
                tracing::warn!(%source, partition, ?held, high = marks.high, epoch,
                    "the partition ends before our position: it was created anew or truncated; reading it from \
                     its beginning under a new epoch");
            }
        }
    }

    /// Adds partitions to the client's assignment; while holding, paused.
    fn assign(&mut self, placed: &[(PartitionKey, i64)]) -> Result<(), SourceError> {
        if placed.is_empty() && !self.owes_assign {
            return Ok(());
        }
        let mut list = TopicPartitionList::with_capacity(placed.len());
        for ((topic, number), next) in placed {
            list.add_partition_offset(topic, *number, Offset::Offset(*next))
                .map_err(|error| self.trouble("naming an offset", error))?;
        }
        let assigned = self.consumer.incremental_assign(&list);
        if let Err(error) = assigned {
            // Back to the queue, so that they are tried again instead of forgotten.
            for (key, _) in placed {
                let reached = self.partitions.finish(key);
                let not_before = Instant::now() + PLACE_AGAIN;
                self.waiting.push(Waiting {
                    key: key.clone(),
                    reached,
                    heeds_start: false,
                    not_before,
                    looks: 0,
                });
            }
            return Err(self.trouble("assigning partitions", error));
        }
        self.owes_assign = false;
        if self.paused.is_some() {
            self.pause(placed.iter().map(|(key, _)| key.clone()).collect())?;
        }
        Ok(())
    }

    /// Takes partitions out of the client's assignment.
    fn unassign(&self, keys: &[PartitionKey]) -> Result<(), SourceError> {
        let list = list_of(keys);
        self.consumer
            .incremental_unassign(&list)
            .map_err(|error| self.trouble("unassigning partitions", error))
    }

    /// The client has stopped reading some partition, which it does not name, because its offset is out of
    /// range: places all of them anew behind what was handed out.
    fn place_all_again(&mut self, now: Instant) -> Result<(), SourceError> {
        let keys = self.partitions.keys();
        self.unassign(&keys)?;
        for key in keys {
            let reached = self.partitions.finish(&key);
            self.forget_paused(&key);
            self.waiting.push(Waiting { key, reached, heeds_start: false, not_before: now, looks: 0 });
        }
        Ok(())
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
        let deadline = Instant::now() + max_wait;
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
            let came = self.poll(whole_millis(until.saturating_duration_since(now)))?;
            // Revoked partitions must be dropped before anything of theirs is handed out.
            if !came {
                self.upkeep_due = self.upkeep_due.min(Instant::now());
                if Instant::now() >= deadline && self.partitions.next_due().is_none_or(|due| due > deadline) {
                    self.upkeep(Instant::now())?;
                    return Ok(self.partitions.next(Instant::now()).map_or(Polled::Idle, Polled::Batch));
                }
            }
        }
    }

    /// Before [`PAUSE_AFTER`] nothing is polled: the client's own threads keep the session, and its queue is
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

/// How many partition numbers are looked up to learn whether our log knows a topic at all.
const KNOWN_PARTITIONS: i32 = 64;

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

/// The later of two positions: a higher epoch first, then the offset.
fn further(held: Option<PartitionPosition>, reached: Option<PartitionPosition>) -> Option<PartitionPosition> {
    match (held, reached) {
        (Some(held), Some(reached)) if (reached.epoch, reached.position) > (held.epoch, held.position) => {
            Some(reached)
        }
        (None, Some(reached)) if reached.position.is_some() => Some(reached),
        (held, _) => held,
    }
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

/// The consumer, dropped on a thread of its own since that may hang.
struct OwnedConsumer(Option<BaseConsumer<SourceContext>>);

impl OwnedConsumer {
    fn close(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        consumer.context().close();
        let (done, closed) = crossbeam_channel::bounded::<()>(1);
        let spawned = std::thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(consumer);
            drop(done);
        });
        match spawned {
            Err(error) => tracing::warn!(%error, "no thread to close the kafka client on"),
            Ok(_) => {
                if closed.recv_timeout(CLOSE_WAIT) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                    tracing::warn!(?CLOSE_WAIT, "the kafka client does not close; leaving it behind");
                }
            }
        }
    }
}

impl Deref for OwnedConsumer {
    type Target = BaseConsumer<SourceContext>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("the consumer is taken only when the source is dropped")
    }
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

    #[test]
    fn what_was_handed_out_counts_until_our_log_has_it() {
        let at = |epoch, position: u64| Some(PartitionPosition { epoch, position: Some(position.into()) });
        assert_eq!(further(at(0, 5), at(0, 9)), at(0, 9));
        assert_eq!(further(at(0, 5), at(1, 2)), at(1, 2));
        assert_eq!(further(at(1, 5), at(0, 9)), at(1, 5));
        assert_eq!(further(None, at(0, 9)), at(0, 9));
        assert_eq!(further(None, None), None);
        assert_eq!(further(None, Some(PartitionPosition { epoch: 0, position: None })), None);
    }
}
