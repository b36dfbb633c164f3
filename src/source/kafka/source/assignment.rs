//! Which partitions are ours, and where reading them starts.
use std::collections::HashSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::super::context::PartitionKey;
use super::super::errors::{Trouble, transient};
use super::super::metrics;
use super::super::offsets;
use super::super::options::Start;
use super::super::partition::{Partition, name_of};
use super::super::placement::{Finding, Placement, Watermarks, offset_of, place};
use super::{KafkaSource, list_of};
use crate::source::SourceError;
use crate::types::PartitionPosition;

/// How long one question to the brokers may take. The polling thread waits for the answer, so a longer wait
/// delays shutdown; a shorter one fails on slow TLS handshakes (the next try finds the connection made).
const ASK_WAIT: Duration = Duration::from_secs(2);
/// Pause before a topic that could not be found is asked about again.
const METADATA_AGAIN: Duration = Duration::from_secs(2);
/// Pause before the same partition is placed again.
const PLACE_AGAIN: Duration = Duration::from_secs(1);
/// How often a partition must look shorter than our position before it is taken for a new topic. Once is not
/// enough: a leader that has just been elected may not know its own high watermark yet.
const NEW_TOPIC_LOOKS: u8 = 3;
/// How many partition numbers are looked up to learn whether our log knows a topic at all.
const KNOWN_PARTITIONS: i32 = 64;

/// A partition that is ours and has no place to start yet.
pub(super) struct Waiting {
    pub(super) key: PartitionKey,
    /// How far this source had come, where it was reading the partition before.
    reached: Option<PartitionPosition>,
    /// Does the pipeline's `start` decide where our log holds nothing? Else its beginning.
    heeds_start: bool,
    not_before: Instant,
    /// How often it looked like a new topic.
    looks: u8,
}

impl KafkaSource {
    pub(super) fn subscribe(&mut self) -> Result<(), SourceError> {
        if self.is_subscribed {
            return Ok(());
        }
        let topics: Vec<&str> = self.options.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(|error| self.trouble("subscribing to the topics", error))?;
        self.is_subscribed = true;
        Ok(())
    }

    /// Finds the topics' partitions, at start and as they are added.
    pub(super) fn discover(&mut self, now: Instant) -> Result<(), SourceError> {
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
            // From here, not from `now`: asking may have taken as long.
            self.metadata_due = Instant::now() + METADATA_AGAIN;
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
    pub(super) fn wait_for_place(&mut self, keys: Vec<PartitionKey>, now: Instant) {
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
    pub(super) fn place_waiting(&mut self, now: Instant) -> Result<(), SourceError> {
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
                for waiting in self.waiting.iter_mut().filter(|waiting| due.contains(&waiting.key)) {
                    waiting.not_before = Instant::now() + PLACE_AGAIN;
                }
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
                    let given = positions.get(&*name_of(&key)).or_else(|| positions.get(&key.1.to_string()));
                    given.map_or(low, |&offset| i64::try_from(offset).unwrap_or(i64::MAX))
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
    pub(super) fn unassign(&self, keys: &[PartitionKey]) -> Result<(), SourceError> {
        let list = list_of(keys);
        self.consumer
            .incremental_unassign(&list)
            .map_err(|error| self.trouble("unassigning partitions", error))
    }

    /// The client has stopped reading some partition, which it does not name, because its offset is out of
    /// range: places all of them anew behind what was handed out.
    pub(super) fn place_all_again(&mut self, now: Instant) -> Result<(), SourceError> {
        let keys = self.partitions.keys();
        self.unassign(&keys)?;
        for key in keys {
            let reached = self.partitions.finish(&key);
            self.forget_paused(&key);
            self.waiting.push(Waiting { key, reached, heeds_start: false, not_before: now, looks: 0 });
        }
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
