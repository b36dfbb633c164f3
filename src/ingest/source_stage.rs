//! The source thread: pulls batches, holds the source while there is no room, carries marks back to it.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{FORMS, Hold, InFlight, PipelineState, Progress, permits};
use crate::memory::{Charge, MemoryBudget, Purpose};
use crate::source::{Polled, Source, SourceError};
use crate::stage::StageMeter;
use crate::types::RawBatch;

/// Longest wait in one call of the source: bounds how late a stop or a rewind is noticed.
const POLL: Duration = Duration::from_millis(50);
/// Lag is asked for this often; it may cost the source a lock or a request.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// Pauses between tries after trouble that may pass.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How a stage ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// A bounded source has been read, and everything of it is settled.
    Finished,
    /// Start again after a pause.
    Retry(String),
    /// Somebody has to change something.
    Failed(String),
}

/// Runs until the source ends, fails or is stopped.
pub(super) struct SourceStage<'a> {
    pub source: &'a mut dyn Source,
    pub outbox: Sender<InFlight>,
    pub progress: &'a Arc<Progress>,
    pub room: Arc<Semaphore>,
    pub room_pages: u32,
    /// The process's memory.
    pub budget: &'a Arc<MemoryBudget>,
    pub meter: StageMeter,
    /// The source itself failed last time; only its own success clears that state.
    pub troubled: bool,
}

impl SourceStage<'_> {
    /// The thread's body.
    pub fn run(mut self) -> Ended {
        let mut waiting: Option<(RawBatch, Instant)> = None;
        let mut lag_at = Instant::now();
        let mut retry = RETRY_MIN;
        while !self.progress.is_stopping() {
            let turn = if waiting.is_some() {
                let before = Instant::now();
                let turn = self.hand_on_or_hold(&mut waiting);
                if waiting.is_some() {
                    self.meter.blocked(before.elapsed());
                }
                turn.map(|()| false)
            } else {
                self.pull().map(|polled| match polled {
                    Polled::Batch(batch) => {
                        waiting = Some((batch, Instant::now()));
                        false
                    }
                    Polled::Idle => false,
                    Polled::Finished => true,
                })
            };
            match turn {
                Ok(false) => retry = RETRY_MIN,
                Ok(true)
                    if self.progress.in_flight.load(Ordering::Acquire) == 0
                        && !self.progress.has_rewinds() =>
                {
                    self.progress.set_lag(self.source.lag());
                    return Ended::Finished;
                }
                Ok(true) => _ = self.progress.pause(Duration::from_millis(5)),
                Err(error @ SourceError::Fatal { .. }) => return Ended::Failed(in_full(&error)),
                Err(error @ SourceError::Transient { .. }) => {
                    self.meter.failed();
                    self.progress.set_state(PipelineState::Retrying, Some(in_full(&error)));
                    self.troubled = true;
                    self.progress.pause(retry);
                    retry = (retry * 2).min(RETRY_MAX);
                }
            }
            if lag_at.elapsed() >= LAG_INTERVAL {
                lag_at = Instant::now();
                self.progress.set_lag(self.source.lag());
            }
        }
        Ended::Stopped
    }

    /// Tells the source what happened downstream, then asks it for more.
    fn pull(&mut self) -> Result<Polled, SourceError> {
        for (partition, position) in self.progress.take_durable() {
            self.source.durable(&partition, position);
        }
        while let Some(partition) = self.progress.next_rewind() {
            tracing::warn!(pipeline = self.progress.name(), %partition, "reading again from what the log holds");
            if let Err(error) = self.source.rewind(&partition) {
                let generation = self.progress.generation(&partition);
                self.progress.unsettle(&partition, generation);
                return Err(error);
            }
            // Whatever lost the batch (a full disk, a stopped log) needs a moment too.
            self.progress.pause(RETRY_MIN);
        }
        let before = Instant::now();
        let polled = self.source.next_batch(POLL)?;
        if let Polled::Batch(batch) = &polled {
            self.meter.passed(batch.len() as u64, batch.bytes() as u64, before.elapsed());
        }
        if std::mem::take(&mut self.troubled) {
            self.progress.set_state(PipelineState::Running, None);
        }
        Ok(polled)
    }

    /// Is there room within the pipeline's limit and the process's memory?
    fn admit(&self, batch: &RawBatch) -> Option<(OwnedSemaphorePermit, Charge)> {
        let wanted = permits(batch.bytes(), self.room_pages);
        let permit = Arc::clone(&self.room).try_acquire_many_owned(wanted).ok()?;
        Some((permit, self.budget.admit(Purpose::InFlight, batch.bytes() * FORMS)?))
    }

    /// Hands the batch on if there is room; else keeps the source alive, and the batch where it is.
    fn hand_on_or_hold(&mut self, waiting: &mut Option<(RawBatch, Instant)>) -> Result<(), SourceError> {
        let Some((batch, since)) = waiting.take() else { return Ok(()) };
        let Some((permit, charge)) = self.admit(&batch) else {
            *waiting = Some((batch, since));
            let before = Instant::now();
            self.source.hold(since.elapsed())?;
            // A source with no session to keep returns at once.
            if before.elapsed() < Duration::from_millis(2) {
                self.progress.pause(Duration::from_millis(2));
            }
            return Ok(());
        };
        let generation = self.progress.generation(&batch.partition);
        self.progress.read.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // The channel holds more batches than the permits allow, so this never waits. It fails when the
        // decode thread has ended, which ends this one too.
        let _ = self.outbox.send(InFlight {
            batch,
            generation,
            read_at: since,
            hold: Hold::new(self.progress, permit),
            charge,
        });
        Ok(())
    }
}

/// An error with its causes in one line.
pub(super) fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
