//! Write-ahead log: the first durable copy of every accepted entry.
//!
//! ```text
//!  proposers ──body──▶ queue ──group──▶ log thread ──frames──▶ 00000000000000000001.wal
//!  (encode, crc)       bounded          LogStore               00000000000000004711.wal ◀─ active
//!                                          │ one write, one fdatasync     log.meta  (purge mark, vote)
//!                                          ▼
//!                       durable_lsn, on_durable(entries in order) ─▶ apply
//! ```
//!
//! The log has the shape of a Raft log (term, leader, suffix truncation, prefix purge, vote), so that
//! `replicate` can make it one: one write and one sync for both.
//!
//! Invariants, cited by tests and comments:
//!
//! * **I1** An entry is reported durable only after an fdatasync that covers it returned without error.
//! * **I2** LSNs have no holes: an append continues the last one, on disk and in memory.
//! * **I3** After a failed fdatasync nothing is accepted any more: the kernel marks the pages clean, so a
//!   second sync would lie ("Can Applications Recover from fsync Failures?", USENIX ATC 2020).
//! * **I4** Only a tail that cannot have been acknowledged is cut at open, and the cut is reported. A bad
//!   frame that good frames follow, or that lies in an earlier file, is [`WalError::Corrupt`].
//! * **I5** A full disk refuses appends and nothing else: reads go on, and appends succeed once there is room.
//! * **I6** What a purge or a truncation removed never comes back, whichever step a crash hits.
//! * **I7** What is read back passed its checksums; a corrupt length never allocates more than the input's size.
//!
//! Byte formats: frames and files in `frame.rs` and `log_file.rs`, `log.meta` in `log_meta.rs`, bodies in
//! `bincode_codec.rs`.
mod bincode_codec;
mod codec;
mod disk;
mod error;
mod frame;
mod group_commit;
mod log_file;
mod log_meta;
mod log_store;
mod metrics;
mod queue;
mod recovery;
mod terms;

#[cfg(test)]
mod tests;

pub use bincode_codec::BincodeCodec;
pub use codec::WalCodec;
pub use error::{Damage, WalError};
pub use frame::{FRAME_HEADER_BYTES, Frame, FrameKind, FrameRef};
pub use group_commit::{Durable, GroupCommit, GroupHooks, GroupOptions, LogHandle, Rejected};
pub use log_meta::Vote;
pub use log_store::{LogOptions, LogStore};
pub use recovery::{Cut, Recovered};
pub use terms::LogMark;
