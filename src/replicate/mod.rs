//! The log as a Raft log: one write and one sync serve both.
//!
//! ```text
//! openraft ─append, truncate, purge, vote─▶ RaftLog ─▶ the shard's log thread ─▶ files
//!     ▲                                                        │
//!     └──────────────── callback, after the fdatasync ◀────────┘
//! ```
//!
//! Raft counts entries from index 0, the log from LSN 1: `lsn = index + 1`.
#[cfg(feature = "raft")]
mod log_store;

#[cfg(feature = "raft")]
pub use log_store::RaftLog;
