//! Where records come from.
//!
//! ```text
//!   broker / file ──▶ Source::next_batch ──RawBatch──▶ decode
//!                          ▲      ▲
//!            PositionLookup┘      └ hold(): downstream has no room
//! ```
//! I1 a source starts each partition behind the position that *our log* holds, never where a broker's
//!    committed offset says. I2 `from` of a batch is the position seen before it, so gaps are legal and
//!    holes are not; the first batch of a partition that the log has never seen, or of a new epoch, has
//!    none. I3 a source holds no more than its own bound of undelivered bytes.
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod file;

use std::time::Duration;

use crate::types::{ErrorKind, PartitionPosition, Position, RawBatch};

/// Asks the log how far a partition has been applied.
pub trait PositionLookup: Send + Sync {
    /// `None`: the log has never seen the partition, so the pipeline's `start` decides.
    fn position(&self, partition: &str) -> Option<PartitionPosition>;
}

/// What one call of [`Source::next_batch`] brought.
#[derive(Debug)]
pub enum Polled {
    /// Records, or a bare move of a position.
    Batch(RawBatch),
    /// Nothing within `max_wait`.
    Idle,
    /// The source is bounded and everything has been handed out.
    Finished,
}

/// How far a partition is behind its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PartitionLag {
    /// `topic/partition` or a file's name.
    pub partition: String,
    /// The last position handed out.
    pub position: Option<Position>,
    /// The last position that exists, as far as the source knows.
    pub end: Option<Position>,
    /// Records (or bytes, for files) between them.
    pub behind: Option<u64>,
}

/// Pulls raw records from the partitions assigned to this node. Lives on a thread of its own.
///
/// Contract
/// * `next_batch` returns within about `max_wait`, perhaps `Idle`, so shutdown is never blocked.
/// * Positions rise strictly inside a partition; across partitions there is no order.
/// * While downstream has no room the runner calls `hold` (at least every 100 ms) instead of
///   `next_batch`; a source must hand out nothing then, yet keep its session with the broker alive. The
///   next `next_batch` ends the hold.
/// * `durable` tells how far the log holds a partition; a broker's committed position may follow, for
///   dashboards. Nothing is read from it.
/// * `rewind` is called when the log refused a batch: go back to what [`PositionLookup`] says.
/// * Dropping a source releases its broker resources within a deadline.
pub trait Source: Send {
    /// The next records of some partition.
    fn next_batch(&mut self, max_wait: Duration) -> Result<Polled, SourceError>;
    /// Keep alive without handing out records; `held_for` is how long this hold has lasted.
    fn hold(&mut self, held_for: Duration) -> Result<(), SourceError>;
    /// The log holds `partition` up to `upto`.
    fn durable(&mut self, partition: &str, upto: Position);
    /// Start `partition` again behind the position that the log holds.
    fn rewind(&mut self, partition: &str) -> Result<(), SourceError>;
    /// How far each assigned partition is behind.
    fn lag(&self) -> Vec<PartitionLag>;
}

/// Why a source cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Will probably pass: the runner retries with growing pauses.
    #[error("{action} failed; retrying")]
    Transient {
        /// What was tried, on what.
        action: String,
        /// The client's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody has to change something: the pipeline stops and says so.
    #[error("{problem}; {remedy}")]
    Fatal {
        /// What is wrong, where.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

impl SourceError {
    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Transient { .. } => ErrorKind::Unavailable,
            Self::Fatal { .. } => ErrorKind::Invalid,
        }
    }
}
