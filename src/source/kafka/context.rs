//! What librdkafka tells us besides messages. Callbacks only take notes, which the polling thread reads.
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;

use super::metrics::Statistics;

/// One partition of one topic.
pub(super) type PartitionKey = (String, i32);

/// What happened to the group's assignment, in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rebalanced {
    /// Ours from now on; the client waits for `incremental_assign`.
    Assigned(Vec<PartitionKey>),
    /// No longer ours; already given back.
    Revoked(Vec<PartitionKey>),
}

/// Notes of one consumer.
#[derive(Default)]
pub(super) struct SourceContext {
    /// Set once something below was noted, so that the polling thread looks only then.
    noted: AtomicBool,
    notes: Mutex<Notes>,
    /// The source is going away: answer rebalances without waiting for the polling thread.
    closing: AtomicBool,
}

#[derive(Default)]
pub(super) struct Notes {
    /// Not handled yet.
    pub rebalances: Vec<Rebalanced>,
    /// The newest.
    pub statistics: Option<Statistics>,
    /// The text of the newest error event.
    pub reason: Option<String>,
    /// Did the newest commit fail?
    pub commit_failure: Option<KafkaError>,
}

impl SourceContext {
    /// Takes rebalances, statistics and failed commits; the reason stays for [`Self::take_reason`].
    pub(super) fn take_notes(&self) -> Option<Notes> {
        if !self.noted.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut notes = self.notes.lock();
        let reason = notes.reason.take();
        Some(std::mem::replace(&mut *notes, Notes { reason, ..Notes::default() }))
    }

    /// The text of the error that `poll` has just returned: the event passes here first, on the same thread.
    pub(super) fn take_reason(&self) -> Option<String> {
        self.notes.lock().reason.take()
    }

    /// From now on nobody polls to handle a rebalance.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn note(&self, with: impl FnOnce(&mut Notes)) {
        with(&mut self.notes.lock());
        self.noted.store(true, Ordering::Release);
    }
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, json: &[u8]) {
        let statistics = Statistics::parse(json);
        self.note(|notes| notes.statistics = statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client error");
        self.notes.lock().reason = Some(reason.to_owned());
    }
}

impl ConsumerContext for SourceContext {
    /// Revoked partitions are given back here and now: their buffered records are dropped when the polling
    /// thread reads the note, before it hands anything out. Assigned ones wait for that thread, which looks
    /// up where to start; that may ask the brokers, and a callback must not.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let named = keys(list);
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if self.closing.load(Ordering::Acquire) {
                report(
                    "answering a rebalance while closing",
                    consumer.incremental_assign(&TopicPartitionList::new()),
                );
                return;
            }
            self.note(|notes| notes.rebalances.push(Rebalanced::Assigned(named)));
            return;
        }
        // Only what was placed is assigned as far as the client knows; it refuses to give back more.
        let mut held = TopicPartitionList::new();
        match consumer.assignment() {
            Ok(assigned) => {
                for (topic, number) in
                    named.iter().filter(|(topic, number)| assigned.find_partition(topic, *number).is_some())
                {
                    held.add_partition(topic, *number);
                }
            }
            Err(error) => report("reading the assignment", Err(error)),
        }
        report("giving partitions back", consumer.incremental_unassign(&held));
        self.note(|notes| notes.rebalances.push(Rebalanced::Revoked(named)));
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            self.note(|notes| notes.commit_failure = Some(error));
        }
    }
}

/// Topics and numbers of a list.
pub(super) fn keys(list: &TopicPartitionList) -> Vec<PartitionKey> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// librdkafka's log into ours. Its "error" is mostly a connection that it is about to try again.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{text}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{text}")
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", facility, "{text}")
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}

fn report(action: &str, result: KafkaResult<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, action, "rebalance step refused by the kafka client");
    }
}
