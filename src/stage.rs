//! What every stage reports, in one form: what went through it, what failed, and where its time went.
//!
//! The log has figures of its own beside `proximadb_wal_…`, which also tell how long writing and syncing take.
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Label, counter};

/// One stage's counters.
pub struct StageMeter {
    records: Counter,
    bytes: Counter,
    errors: Counter,
    busy: Counter,
    /// Of stages that ever wait.
    blocked: OnceLock<Counter>,
    labels: Vec<Label>,
}

impl StageMeter {
    /// A stage that each pipeline has.
    pub fn of_pipeline(pipeline: &str, stage: &'static str) -> Self {
        Self::labelled([Label::new("pipeline", pipeline.to_string()), Label::new("stage", stage)])
    }

    /// A stage that each collection has.
    pub fn of_collection(collection: &str, stage: &'static str) -> Self {
        Self::labelled([Label::new("collection", collection.to_string()), Label::new("stage", stage)])
    }

    fn labelled(labels: [Label; 2]) -> Self {
        let labels = Vec::from(labels);
        Self {
            records: counter!("proximadb_stage_records_total", labels.clone()),
            bytes: counter!("proximadb_stage_bytes_total", labels.clone()),
            errors: counter!("proximadb_stage_errors_total", labels.clone()),
            busy: counter!("proximadb_stage_busy_microseconds_total", labels.clone()),
            blocked: OnceLock::new(),
            labels,
        }
    }

    /// Records of so many bytes are through, after so long.
    pub fn passed(&self, records: u64, bytes: u64, busy: Duration) {
        self.records.increment(records);
        self.bytes.increment(bytes);
        self.busy.increment(micros(busy));
    }

    /// Something failed that may be tried again.
    pub fn failed(&self) {
        self.errors.increment(1);
    }

    /// Waited for the stage behind it.
    pub fn blocked(&self, time: Duration) {
        let blocked = || counter!("proximadb_stage_blocked_microseconds_total", self.labels.clone());
        self.blocked.get_or_init(blocked).increment(micros(time));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
