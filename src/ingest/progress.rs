//! What a pipeline has done and what it must do again; shared by its threads, the apply thread and the doors.
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::source::PartitionLag;
use crate::types::Position;

/// What a pipeline is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineState {
    /// Connecting.
    Starting,
    /// Records flow, or would if there were any.
    Running,
    /// Something failed that will probably pass.
    Retrying,
    /// Somebody paused it.
    Paused,
    /// A bounded source has been read to its end, and all of it is durable.
    Finished,
    /// Somebody has to change something.
    Failed,
}

impl PipelineState {
    /// The word in answers and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// See the module.
pub struct Progress {
    name: String,
    state: Mutex<(PipelineState, Option<String>)>,
    partitions: Mutex<HashMap<Arc<str>, Partition>>,
    lag: Mutex<Vec<PartitionLag>>,
    /// The log did not take the last entry.
    shut_out: AtomicBool,
    /// This run is over.
    stopping: AtomicBool,
    /// Somebody asked the pipeline to end.
    closing: AtomicBool,
    woken: Condvar,
    sleeping: Mutex<()>,
    /// Records read from the source.
    pub read: AtomicU64,
    /// Operations applied.
    pub applied: AtomicU64,
    /// Records in quarantine.
    pub rejected: AtomicU64,
    /// Records skipped by rule.
    pub skipped: AtomicU64,
    /// Batches read and not yet settled.
    pub in_flight: AtomicU64,
}

#[derive(Default)]
struct Partition {
    generation: u64,
    rewind: bool,
    durable: Option<Position>,
}

impl Progress {
    /// Nothing done yet.
    pub fn new(name: String) -> Self {
        Self {
            name,
            state: Mutex::new((PipelineState::Starting, None)),
            partitions: Mutex::default(),
            lag: Mutex::default(),
            shut_out: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            woken: Condvar::new(),
            sleeping: Mutex::new(()),
            read: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
        }
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state and the reason for it.
    pub fn state(&self) -> (PipelineState, Option<String>) {
        self.state.lock().clone()
    }

    pub(super) fn set_state(&self, state: PipelineState, reason: Option<String>) {
        let mut current = self.state.lock();
        if *current == (state, reason.clone()) {
            return;
        }
        let (pipeline, why) = (self.name.as_str(), reason.as_deref().unwrap_or(""));
        match state {
            PipelineState::Failed => tracing::error!(pipeline, why, "pipeline failed"),
            PipelineState::Retrying => tracing::warn!(pipeline, why, "pipeline is retrying"),
            _ => tracing::info!(pipeline, state = state.word(), why, "pipeline changed state"),
        }
        *current = (state, reason);
        let running = matches!(state, PipelineState::Running | PipelineState::Finished);
        metrics::gauge!("proximadb_pipeline_running", "pipeline" => self.name.clone())
            .set(f64::from(u8::from(running)));
    }

    /// An entry is in the log again: whatever kept entries out has passed.
    pub(super) fn recovered(&self) {
        if self.shut_out.swap(false, Ordering::AcqRel) {
            self.set_state(PipelineState::Running, None);
        }
    }

    /// The log did not take an entry.
    pub(super) fn shut_out(&self, reason: String) {
        self.shut_out.store(true, Ordering::Release);
        self.set_state(PipelineState::Retrying, Some(reason));
    }

    /// The latest lag the source reported.
    pub fn lag(&self) -> Vec<PartitionLag> {
        self.lag.lock().clone()
    }

    pub(super) fn set_lag(&self, lag: Vec<PartitionLag>) {
        for one in &lag {
            let behind = one.behind.unwrap_or(0) as f64;
            metrics::gauge!("proximadb_pipeline_lag", "pipeline" => self.name.clone(), "partition" => one.partition.clone())
                .set(behind);
        }
        *self.lag.lock() = lag;
    }

    /// Ends the threads of this run.
    pub(super) fn end_run(&self) {
        self.stopping.store(true, Ordering::Release);
        let _guard = self.sleeping.lock();
        self.woken.notify_all();
    }

    /// Ends the pipeline.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.end_run();
    }

    /// Before the first run after a start.
    pub(super) fn open(&self) {
        self.closing.store(false, Ordering::Release);
        self.next_run();
    }

    /// Before another run: everything that was read and not settled is read again.
    pub(super) fn next_run(&self) {
        self.stopping.store(false, Ordering::Release);
        for known in self.partitions.lock().values_mut() {
            // Outcomes of the last run that are still to come must not rewind the next.
            *known = Partition { generation: known.generation + 1, ..Partition::default() };
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire) || self.closing.load(Ordering::Acquire)
    }

    /// Sleeps, but not past a stop. Returns whether to go on.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut guard = self.sleeping.lock();
        if !self.is_stopping() {
            self.woken.wait_for(&mut guard, time);
        }
        !self.is_stopping()
    }

    /// The partition's generation, for a batch about to be handed on.
    pub(super) fn generation(&self, partition: &Arc<str>) -> u64 {
        self.partitions.lock().entry(Arc::clone(partition)).or_default().generation
    }

    /// Everything of `partition` up to `position` is in the log.
    pub(super) fn settle(&self, partition: &Arc<str>, position: Position) {
        let mut partitions = self.partitions.lock();
        let known = partitions.entry(Arc::clone(partition)).or_default();
        known.durable = known.durable.max(Some(position));
    }

    /// A batch was refused or lost: read again from what the log holds. Batches read before an earlier
    /// rewind don't ask for another one.
    pub(super) fn unsettle(&self, partition: &Arc<str>, generation: u64) {
        let mut partitions = self.partitions.lock();
        let known = partitions.entry(Arc::clone(partition)).or_default();
        known.rewind |= known.generation == generation;
    }

    /// A partition to rewind now; batches of it that are read from here on carry a new generation.
    pub(super) fn next_rewind(&self) -> Option<Arc<str>> {
        let mut partitions = self.partitions.lock();
        let (partition, known) = partitions.iter_mut().find(|(_, known)| known.rewind)?;
        known.rewind = false;
        known.generation += 1;
        Some(Arc::clone(partition))
    }

    /// Is a rewind due?
    pub(super) fn has_rewinds(&self) -> bool {
        self.partitions.lock().values().any(|known| known.rewind)
    }

    /// Marks that moved since the last call.
    pub(super) fn take_durable(&self) -> Vec<(Arc<str>, Position)> {
        let mut partitions = self.partitions.lock();
        partitions
            .iter_mut()
            .filter_map(|(partition, known)| Some((Arc::clone(partition), known.durable.take()?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gap_makes_one_rewind_however_many_batches_it_spoils() {
        let progress = Progress::new("p".into());
        let partition: Arc<str> = "t/0".into();
        let old = progress.generation(&partition);
        progress.unsettle(&partition, old);
        progress.unsettle(&partition, old);
        assert_eq!(progress.next_rewind(), Some(Arc::clone(&partition)));
        assert_eq!(progress.next_rewind(), None);
        progress.unsettle(&partition, old);
        assert!(!progress.has_rewinds(), "a batch read before the rewind asks for no other");
        progress.unsettle(&partition, progress.generation(&partition));
        assert!(progress.has_rewinds());
    }

    #[test]
    fn durable_marks_only_rise_and_are_handed_out_once() {
        let progress = Progress::new("p".into());
        let partition: Arc<str> = "t/0".into();
        progress.settle(&partition, 9.into());
        progress.settle(&partition, 4.into());
        assert_eq!(progress.take_durable(), [(Arc::clone(&partition), 9.into())]);
        assert!(progress.take_durable().is_empty());
    }
}
