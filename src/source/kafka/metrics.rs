//! Names of what a Kafka source reports, and the few numbers that we take from librdkafka's statistics.
use std::collections::BTreeMap;

use serde::Deserialize;

/// Counter: records that the brokers deleted before we read them. Anything above 0 needs somebody.
pub(super) const LOST_RECORDS: &str = "proximadb_source_lost_records_total";
/// Counter: topics found shorter than our position, and read again under a new epoch.
pub(super) const NEW_EPOCHS: &str = "proximadb_source_new_epochs_total";
/// Counter: partitions given to or taken from this source by a consumer group.
pub(super) const REBALANCED: &str = "proximadb_source_rebalanced_partitions_total";
/// Counter: times that partitions were paused because downstream had no room for a second.
pub(super) const PAUSES: &str = "proximadb_source_pauses_total";
/// Gauge: records between what was handed out and the end of the partition.
pub(super) const LAG: &str = "proximadb_source_lag_records";
/// Gauge: bytes that the client has fetched and we have not taken yet.
pub(super) const FETCH_QUEUE_BYTES: &str = "proximadb_source_fetch_queue_bytes";
/// Counter: bytes received from the brokers, as they were on the wire.
pub(super) const RECEIVED_BYTES: &str = "proximadb_source_received_bytes_total";

/// What we read of the client's statistics; everything else in that document is skipped.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Statistics {
    /// Bytes received since the client began.
    pub rx_bytes: u64,
    /// By topic name.
    pub topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TopicStatistics {
    /// By partition number, as text; `-1` is the client's own.
    pub partitions: BTreeMap<String, PartitionStatistics>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PartitionStatistics {
    /// Bytes fetched and not yet taken.
    pub fetchq_size: u64,
    /// First offset past the last that a reader of committed records may see; negative where unknown.
    pub ls_offset: i64,
    /// First offset past the last.
    pub hi_offset: i64,
}

impl Statistics {
    /// `None` where the client's format has changed: metrics go stale, reading goes on.
    pub(super) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// Calls back with each real partition.
    pub(super) fn each_partition(&self, mut each: impl FnMut(&str, i32, &PartitionStatistics)) {
        for (topic, statistics) in &self.topics {
            for (number, partition) in &statistics.partitions {
                if let Some(number) = number.parse().ok().filter(|&number: &i32| number >= 0) {
                    each(topic, number, partition);
                }
            }
        }
    }
}
