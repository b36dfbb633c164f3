//! One shard of a collection: its log, its memtables, its segments, and the threads that move rows along.
//!
//! ```text
//!  propose ─▶ log thread ─durable▶ apply thread ─▶ active memtable ─freeze▶ flush thread ─▶ segment
//!                                      ▲                                        │            │
//!                                      └── view swaps ◀─────────────────────────┴─ upkeep ◀──┘
//!  snapshot = view + applied LSN ─▶ query                                   (merges, graphs)
//! ```
//! I1 a write answered with an outcome is durable and searchable. I2 readers take no locks that writers hold
//! for long: a view is replaced as a whole, rows are only stamped. I3 memory in memtables is bounded: when
//! frozen ones pile up, apply waits, the log's queue fills, and proposers wait. I4 the manifest names exactly
//! the segments of the view; both change under the manifest's lock.
mod apply;
mod apply_loop;
mod core;
mod error;
mod indexing;
mod making;
mod marks;
mod merge;
mod open;
mod pauses;
mod propose;
mod upkeep;
#[cfg(test)]
pub(crate) mod tests;

pub use self::core::{Shard, ShardInfo, Tuning};
pub use error::{ProposeError, ShardError};
pub use indexing::{IndexReport, SegmentIndex};
pub use marks::Marks;
