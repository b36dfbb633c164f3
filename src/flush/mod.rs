//! Memory to segments, segments to fewer segments, segments to graphs.
//!
//! ```text
//!   frozen memtable ─▶ flusher ─▶ segment ─▶ manifest ─▶ log purge
//!   segments ─▶ policy (pure) ─▶ compactor ─▶ segment ─▶ manifest
//!                                  └─▶ clusters ─▶ order of its rows, where clusters are wanted
//!   segments ─▶ graph build, or merge of graphs ─▶ manifest
//! ```
//! I1 a segment's files are durable before a manifest names them, and the manifest before the log behind it is
//! purged. I2 whatever is dropped for good was dead as of the manifest's `flushed_lsn`, so replay of the log
//! from there finds exactly the state it found the first time. I3 views are replaced by the apply thread only.
mod clusters;
mod compactor;
mod flusher;
mod graphs;
mod policy;

pub use clusters::cluster;
pub use compactor::Kept;
pub use flusher::{Flushed, flush};
pub use graphs::{GraphError, build_bytes, build_graph, merge_graph, merge_graph_bytes, read_graph};
pub use policy::{Plan, SegmentStats, plan};
