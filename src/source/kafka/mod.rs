//! Kafka: topics as a source, and a topic for dead letters.
//!
//! ```text
//!   metadata / rebalance ──▶ waiting ──placement──▶ assigned ──poll──▶ Partition ──RawBatch──▶
//!                               ▲   (our log's position + 1,              │
//!                               │    checked against the watermarks)      │ out of range, rewind
//!                               └─────────────────────────────────────────┘
//! ```
//! K1 a partition is read from our log's position + 1; the broker's committed offsets are written for
//!    dashboards and never read.
//! K2 one thread owns the consumer: it polls, assigns, pauses and commits. Callbacks only take notes, except
//!    that a revoked partition is given back at once.
//! K3 a position moves over records that nobody will see (transaction markers, aborted transactions,
//!    compacted or expired records) only when the client has passed them in order.
//! K4 a partition that ends before our position is a new topic under an old name: a new epoch, read from
//!    its beginning.
//!
//! What it cannot see: a topic deleted and created anew that has already grown past our position when we
//! look (librdkafka does not show topic ids). Pause the pipeline and rewind it when you do that on purpose.
mod context;
mod dead_letter;
mod errors;
mod metrics;
mod offsets;
mod options;
mod owned_consumer;
mod partition;
mod partitions;
mod peek;
mod placement;
mod source;
#[cfg(test)]
mod tests;

pub use dead_letter::{DeadLetter, DeadLetterTopic};
pub use options::{Assignment, KafkaOptions, Start};
pub use source::KafkaSource;
