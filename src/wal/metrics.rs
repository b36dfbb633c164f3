//! The log's metrics: their names, and the handles that the log thread keeps.
use std::time::Duration;

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

const RECORDS: &str = "proximadb_wal_appended_records_total";
const BYTES: &str = "proximadb_wal_appended_bytes_total";
const GROUPS: &str = "proximadb_wal_groups_total";
const FAILED: &str = "proximadb_wal_failed_records_total";
const GROUP_RECORDS: &str = "proximadb_wal_group_records";
const WRITE_SECONDS: &str = "proximadb_wal_write_seconds";
const SYNC_SECONDS: &str = "proximadb_wal_sync_seconds";
const BLOCKED_SECONDS: &str = "proximadb_wal_outbox_blocked_seconds";

pub(super) struct LogMetrics {
    records: Counter,
    bytes: Counter,
    groups: Counter,
    failed: Counter,
    group_records: Histogram,
    write_seconds: Histogram,
    sync_seconds: Histogram,
    blocked_seconds: Histogram,
}

impl LogMetrics {
    /// `log` tells logs apart: the collection's name.
    pub fn new(log: &str) -> Self {
        describe_counter!(RECORDS, Unit::Count, "entries made durable");
        describe_counter!(BYTES, Unit::Bytes, "bytes of bodies made durable");
        describe_counter!(GROUPS, Unit::Count, "groups written, each with one sync");
        describe_counter!(FAILED, Unit::Count, "entries that could not be made durable");
        describe_histogram!(GROUP_RECORDS, Unit::Count, "entries per group");
        describe_histogram!(WRITE_SECONDS, Unit::Seconds, "framing and writing a group");
        describe_histogram!(SYNC_SECONDS, Unit::Seconds, "one fdatasync");
        describe_histogram!(BLOCKED_SECONDS, Unit::Seconds, "handing a durable group on to apply");
        Self {
            records: counter!(RECORDS, "collection" => log.to_string()),
            bytes: counter!(BYTES, "collection" => log.to_string()),
            groups: counter!(GROUPS, "collection" => log.to_string()),
            failed: counter!(FAILED, "collection" => log.to_string()),
            group_records: histogram!(GROUP_RECORDS, "collection" => log.to_string()),
            write_seconds: histogram!(WRITE_SECONDS, "collection" => log.to_string()),
            sync_seconds: histogram!(SYNC_SECONDS, "collection" => log.to_string()),
            blocked_seconds: histogram!(BLOCKED_SECONDS, "collection" => log.to_string()),
        }
    }

    pub fn group(&self, records: usize, bytes: u64, write: Duration, sync: Duration) {
        self.records.increment(records as u64);
        self.bytes.increment(bytes);
        self.groups.increment(1);
        self.group_records.record(records as f64);
        self.write_seconds.record(write);
        self.sync_seconds.record(sync);
    }

    pub fn failed(&self, records: usize) {
        self.failed.increment(records as u64);
    }

    pub fn handed_on(&self, blocked: Duration) {
        self.blocked_seconds.record(blocked);
    }
}
