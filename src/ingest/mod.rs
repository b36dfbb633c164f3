//! One running pipeline: source → decode → log, supervised as a whole.
//!
//! ```text
//!   source thread ──RawBatch──▶ decode thread ──Entry──▶ shard log ──▶ apply
//!        ▲  ▲                                                            │
//!        │  └──────────── progress: durable marks, rewinds ◀─────Outcome─┘
//!        └─ held while in-flight bytes are at their limit
//! ```
//! I1 batches between source and apply hold no more undecoded bytes than the pipeline's limit, unless a single
//! one is larger: it passes alone; nor do they enter while the process's memory is full. I2 entries of one
//! partition are proposed in order. I3 if one thread ends, both do, and the supervisor says why. I4 after any
//! trouble the source starts again behind what the log holds; the position rule makes that harmless.
mod decode_stage;
mod dry_run;
mod progress;
mod source_stage;
mod supervisor;
#[cfg(test)]
mod tests;

pub use decode_stage::DeadLetters;
pub use dry_run::{DryRow, DryRun, DryRunError, dry_run};
pub use progress::{PipelineState, Progress};
pub use supervisor::{Bounds, Ingest, Parts, PartsError, PartsFactory};

/// One batch on its way, with what must happen when it is done.
struct InFlight {
    batch: crate::types::RawBatch,
    /// How often its partition had been rewound when it was read.
    generation: u64,
    /// When it came from the source.
    read_at: std::time::Instant,
    /// Dropped when the batch's outcome is known, or when the batch is.
    hold: Hold,
    /// What it holds of the process's memory until its rows are applied.
    charge: crate::memory::Charge,
}

/// Bytes of memory per byte of a batch on its way: as it came, decoded, and encoded for the log.
const FORMS: usize = 3;

/// A batch's share of the in-flight limit.
struct Hold {
    progress: std::sync::Arc<Progress>,
    _permit: tokio::sync::OwnedSemaphorePermit,
}

impl Hold {
    fn new(progress: &std::sync::Arc<Progress>, permit: tokio::sync::OwnedSemaphorePermit) -> Self {
        progress.in_flight.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        Self { progress: std::sync::Arc::clone(progress), _permit: permit }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.progress.in_flight.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
    }
}

/// In-flight limits are counted in pages, so that 64 GiB fit the semaphore.
const PERMIT_BYTES: usize = 4096;

fn permits(bytes: usize, limit: u32) -> u32 {
    // A batch larger than the limit passes alone rather than never.
    u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX).clamp(1, limit)
}
