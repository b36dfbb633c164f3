//! The decode thread: bytes to rows, rows to log entries.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::source_stage::{Ended, in_full};
use super::{InFlight, PipelineState, Progress};
use crate::decode::{Decoded, Decoder};
use crate::shard::{ProposeError, Shard};
use crate::stage::StageMeter;
use crate::types::{Entry, Outcome, RawBatch, Reject, SourceRange};

/// Sends rejected records to a place of their own before the log passes them.
pub trait DeadLetters: Send {
    /// Returns once all are there for good.
    fn send(
        &mut self,
        batch: &RawBatch,
        rejects: &[Reject],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Runs until its inbox closes, decoding fails for good, or it is stopped.
pub(super) struct DecodeStage<'a> {
    pub decoder: &'a mut dyn Decoder,
    pub dead_letters: Option<&'a mut dyn DeadLetters>,
    pub inbox: Receiver<InFlight>,
    pub shard: Arc<Shard>,
    pub progress: Arc<Progress>,
    /// Batches that take longer from source to search are counted as late.
    pub freshness_objective: Duration,
    pub meter: StageMeter,
    /// `proximadb_pipeline_freshness_seconds`
    pub fresh: metrics::Histogram,
    /// `proximadb_pipeline_late_batches_total`
    pub late: metrics::Counter,
}

impl DecodeStage<'_> {
    /// The thread's body.
    pub fn run(mut self) -> Ended {
        loop {
            let item = match self.inbox.recv_timeout(Duration::from_millis(50)) {
                Ok(item) => item,
                Err(RecvTimeoutError::Timeout) if self.progress.is_stopping() => return Ended::Stopped,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ended::Stopped,
            };
            let started = Instant::now();
            let decoded = match self.decode(&item.batch) {
                Ok(decoded) => decoded,
                Err(ended) => return ended,
            };
            self.meter.passed(item.batch.len() as u64, item.batch.bytes() as u64, started.elapsed());
            self.meter.blocked(self.propose(item, decoded));
        }
    }

    /// Decodes and, where asked for, delivers the rejects; tries again while trouble may pass.
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, Ended> {
        let mut pause = Duration::from_millis(200);
        let mut troubled = false;
        loop {
            let trouble = match self.decoder.decode(batch) {
                Ok(decoded) => match self.deliver(batch, &decoded.rejects) {
                    Ok(()) => {
                        if troubled {
                            self.progress.set_state(PipelineState::Running, None);
                        }
                        return Ok(decoded);
                    }
                    Err(reason) => reason,
                },
                Err(error) if !error.is_transient() => return Err(Ended::Failed(in_full(&error))),
                Err(error) => in_full(&error),
            };
            self.meter.failed();
            self.progress.set_state(PipelineState::Retrying, Some(trouble));
            troubled = true;
            if !self.progress.pause(pause) {
                return Err(Ended::Stopped);
            }
            pause = (pause * 2).min(Duration::from_secs(10));
        }
    }

    fn deliver(&mut self, batch: &RawBatch, rejects: &[Reject]) -> Result<(), String> {
        match &mut self.dead_letters {
            Some(letters) if !rejects.is_empty() => letters
                .send(batch, rejects)
                .map_err(|error| format!("dead letters cannot be delivered: {error}")),
            _ => Ok(()),
        }
    }

    /// Returns how long the log's queue was full.
    fn propose(&self, item: InFlight, decoded: Decoded) -> Duration {
        let InFlight { batch, generation, read_at, hold, charge } = item;
        let (operations, rejects) = (decoded.batch.ops.len() as u64, decoded.rejects.len() as u64);
        for (code, count) in count_by_code(&decoded.rejects) {
            metrics::counter!("proximadb_rejected_records_total",
                "pipeline" => self.progress.name().to_string(), "code" => code.to_string())
            .increment(count);
        }
        self.progress.skipped.fetch_add(decoded.skipped, Ordering::Relaxed);
        let source = SourceRange {
            source: self.progress.name().to_string(),
            partition: batch.partition.to_string(),
            epoch: batch.epoch,
            from: batch.from,
            to: batch.to,
        };
        let entry = Entry { batch: decoded.batch, source: Some(source), rejects: decoded.rejects };
        let progress = Arc::clone(&self.progress);
        let (partition, to) = (batch.partition, batch.to);
        let (fresh, late) = (self.fresh.clone(), self.late.clone());
        let objective = self.freshness_objective;
        let give_up = || self.progress.is_stopping();
        self.shard.propose_blocking(entry, charge, give_up, move |outcome| {
            match outcome {
                Ok(Outcome::Applied { .. }) => {
                    progress.applied.fetch_add(operations, Ordering::Relaxed);
                    progress.rejected.fetch_add(rejects, Ordering::Relaxed);
                    progress.settle(&partition, to);
                    progress.recovered();
                    fresh.record(read_at.elapsed().as_secs_f64());
                    late.increment(u64::from(read_at.elapsed() > objective));
                }
                Ok(Outcome::Duplicate { .. } | Outcome::Conflict { .. }) => progress.settle(&partition, to),
                Ok(Outcome::Refused { reason, .. }) => {
                    tracing::warn!(pipeline = progress.name(), reason, "the log refused a batch");
                    progress.unsettle(&partition, generation);
                }
                Err(error) => trouble(&progress, &partition, generation, &error),
            }
            drop(hold);
        })
    }
}

/// The batch is not in the log: say so, and read it again.
fn trouble(progress: &Progress, partition: &Arc<str>, generation: u64, error: &ProposeError) {
    progress.shut_out(in_full(error));
    progress.unsettle(partition, generation);
}

/// Counts of rejected records by code, for metrics.
fn count_by_code(rejects: &[Reject]) -> BTreeMap<&str, u64> {
    let mut counts = BTreeMap::new();
    for reject in rejects {
        *counts.entry(reject.code.as_str()).or_insert(0) += 1;
    }
    counts
}
