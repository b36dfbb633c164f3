//! The log as a Raft log.
