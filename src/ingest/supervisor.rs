//! Starts a pipeline's threads, ends them together, and starts them again where that may help.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::bounded;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::decode_stage::{DeadLetters, DecodeStage};
use super::source_stage::{Ended, SourceStage};
use super::{PERMIT_BYTES, PipelineState, Progress};
use crate::decode::Decoder;
use crate::shard::Shard;
use crate::source::Source;
use crate::stage::StageMeter;

/// Batches between source and decode. The byte permits bind first; this only sizes the channel.
const CHANNEL_BATCHES: usize = 16 * 1024;
/// Pauses before a pipeline that fell over is started again.
const RESTART_MIN: Duration = Duration::from_millis(500);
const RESTART_MAX: Duration = Duration::from_secs(60);

/// The concrete stages of one run of a pipeline.
pub struct Parts {
    /// Where records come from.
    pub source: Box<dyn Source>,
    /// What makes rows of them.
    pub decoder: Box<dyn Decoder>,
    /// Where rejected records go besides the collection's quarantine.
    pub dead_letters: Option<Box<dyn DeadLetters>>,
}

/// Why a pipeline's parts cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PartsError {
    /// What is wrong, where, and what to do.
    pub reason: String,
    /// Will it probably pass?
    pub transient: bool,
}

/// Makes the parts of a run; asked again at each restart.
pub type PartsFactory = dyn Fn() -> Result<Parts, PartsError> + Send + Sync;

/// What a pipeline may take, and what it is held to.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes read and not yet applied.
    pub in_flight_bytes_max: usize,
    /// Longest time from source to search before a batch counts as late.
    pub freshness_objective: Duration,
}

/// A pipeline under supervision.
pub struct Ingest {
    progress: Arc<Progress>,
    collection: String,
    shard: Arc<Shard>,
    bounds: Bounds,
    factory: Arc<PartsFactory>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

impl Ingest {
    /// A pipeline that writes `collection`'s shard; not started yet.
    pub fn new(
        name: String,
        collection: String,
        shard: Arc<Shard>,
        bounds: Bounds,
        factory: Arc<PartsFactory>,
    ) -> Self {
        Self {
            progress: Arc::new(Progress::new(name)),
            collection,
            shard,
            bounds,
            factory,
            supervisor: Mutex::new(None),
        }
    }

    /// What it has done.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The collection it writes.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// Starts it, unless it runs.
    pub fn start(&self) -> std::io::Result<()> {
        let mut supervisor = self.supervisor.lock();
        if supervisor.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        self.progress.open();
        self.progress.set_state(PipelineState::Starting, None);
        let run = Run {
            progress: Arc::clone(&self.progress),
            shard: Arc::clone(&self.shard),
            room_pages: u32::try_from(self.bounds.in_flight_bytes_max / PERMIT_BYTES)
                .unwrap_or(u32::MAX >> 3)
                .clamp(1, u32::MAX >> 3),
            freshness_objective: self.bounds.freshness_objective,
            factory: Arc::clone(&self.factory),
        };
        let name = format!("ingest-{}", self.progress.name());
        *supervisor = Some(std::thread::Builder::new().name(name).spawn(move || run.supervise())?);
        Ok(())
    }

    /// Stops reading; what has been read is still proposed. Returns when the threads have ended.
    pub fn stop(&self, state: PipelineState) {
        self.progress.close();
        if let Some(thread) = self.supervisor.lock().take() {
            let _ = thread.join();
        }
        let over = matches!(self.progress.state().0, PipelineState::Failed | PipelineState::Finished);
        if !over {
            self.progress.set_state(state, None);
        }
    }
}

/// What the supervisor thread holds.
struct Run {
    progress: Arc<Progress>,
    shard: Arc<Shard>,
    room_pages: u32,
    freshness_objective: Duration,
    factory: Arc<PartsFactory>,
}

impl Run {
    fn supervise(self) {
        let mut pause = RESTART_MIN;
        loop {
            let read_before = self.progress.read.load(Ordering::Relaxed);
            let ended = match (self.factory)() {
                Ok(parts) => self.once(parts),
                Err(error) if error.transient => Ended::Retry(error.reason),
                Err(error) => Ended::Failed(error.reason),
            };
            match ended {
                Ended::Stopped => return,
                Ended::Finished => return self.progress.set_state(PipelineState::Finished, None),
                Ended::Failed(reason) => return self.progress.set_state(PipelineState::Failed, Some(reason)),
                Ended::Retry(reason) => self.progress.set_state(PipelineState::Retrying, Some(reason)),
            }
            if self.progress.read.load(Ordering::Relaxed) > read_before {
                pause = RESTART_MIN;
            }
            if !self.progress.pause(pause) {
                return;
            }
            pause = (pause * 2).min(RESTART_MAX);
        }
    }

    /// Runs both threads until one ends, then ends the other.
    fn once(&self, mut parts: Parts) -> Ended {
        let (outbox, inbox) = bounded(CHANNEL_BATCHES);
        let (progress, name) = (&self.progress, self.progress.name());
        let stage = DecodeStage {
            decoder: &mut *parts.decoder,
            dead_letters: parts.dead_letters.as_deref_mut().map(|letters| letters as &mut dyn DeadLetters),
            inbox,
            shard: Arc::clone(&self.shard),
            progress: Arc::clone(&self.progress),
            freshness_objective: self.freshness_objective,
            meter: StageMeter::of_pipeline(name, "decode"),
            fresh: metrics::histogram!("proximadb_pipeline_freshness_seconds", "pipeline" => name.to_string()),
            late: metrics::counter!("proximadb_pipeline_late_batches_total", "pipeline" => name.to_string()),
        };
        let source = SourceStage {
            source: &mut *parts.source,
            outbox,
            progress,
            room: Arc::new(Semaphore::new(self.room_pages as usize)),
            room_pages: self.room_pages,
            budget: self.shard.budget(),
            meter: StageMeter::of_pipeline(name, "source"),
            troubled: true,
        };
        let (source, decode) = std::thread::scope(|scope| {
            let decode =
                std::thread::Builder::new().name(format!("decode-{name}")).spawn_scoped(scope, || {
                    let ended = guarded("decode", || stage.run());
                    progress.end_run();
                    ended
                });
            let source = guarded("source", || source.run());
            let decode = match decode {
                Ok(thread) => thread.join().unwrap_or(Ended::Stopped),
                Err(error) => Ended::Retry(format!("cannot start a decode thread: {error}")),
            };
            (source, decode)
        });
        // The reason that is worth telling, not the stage that stopped because the other did.
        match (source, decode) {
            (ended @ (Ended::Failed(_) | Ended::Retry(_)), _)
            | (_, ended @ (Ended::Failed(_) | Ended::Retry(_))) => {
                self.progress.next_run();
                ended
            }
            (source, _) => source,
        }
    }
}

/// A stage that panics ends its pipeline's run, loudly, and the run is started again.
fn guarded(stage: &str, body: impl FnOnce() -> Ended) -> Ended {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        metrics::counter!("proximadb_stage_panics_total", "stage" => stage.to_string()).increment(1);
        Ended::Retry(format!("the {stage} stage panicked: {what}"))
    })
}
