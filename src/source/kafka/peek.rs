//! A look at the first records of the topics, for `pipeline validate --dry-run`.
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::options::{Assignment, KafkaOptions};
use super::source::KafkaSource;
use crate::source::{Polled, PositionLookup, Source, SourceError};
use crate::types::{PartitionPosition, RawBatch, RawRows};

/// Longest look. Brokers that are not there are given this long to appear.
const PEEK_WAIT: Duration = Duration::from_secs(15);

struct NothingSeen;

impl PositionLookup for NothingSeen {
    fn position(&self, _: &str) -> Option<PartitionPosition> {
        None
    }
}

impl KafkaSource {
    /// Up to `records` records from where `start` says, without joining a group or committing anything.
    ///
    /// Fewer come back where the topics hold fewer. Errors: what stood in the way for 15 seconds.
    pub fn peek(options: KafkaOptions, records: usize) -> Result<Vec<RawBatch>, SourceError> {
        let options = KafkaOptions {
            assignment: Assignment::Pinned,
            bounded: true,
            batch_records_max: options.batch_records_max.clamp(1, records.max(1)),
            ..options
        };
        let mut source = Self::open(options, Arc::new(NothingSeen))?;
        let deadline = Instant::now() + PEEK_WAIT;
        let mut batches = Vec::new();
        let mut missing = records;
        let mut trouble = None;
        while missing > 0 && Instant::now() < deadline {
            match source.next_batch(Duration::from_millis(100)) {
                Ok(Polled::Batch(mut batch)) => {
                    if let RawRows::Records(rows) = &mut batch.rows {
                        rows.truncate(missing);
                        batch.to = rows.last().map_or(batch.to, |last| last.position);
                    }
                    missing -= batch.len().min(missing);
                    if !batch.is_empty() {
                        batches.push(batch);
                    }
                }
                Ok(Polled::Finished) => return Ok(batches),
                Ok(Polled::Idle) => {}
                Err(error @ SourceError::Fatal { .. }) => return Err(error),
                Err(error) => trouble = Some(error),
            }
        }
        match trouble {
            Some(error) if batches.is_empty() && missing > 0 => Err(error),
            _ => Ok(batches),
        }
    }
}
