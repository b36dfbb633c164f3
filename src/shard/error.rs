//! Why a shard cannot be opened, and why it takes no entry.
use std::path::PathBuf;
use std::sync::Arc;

use crate::index::IndexError;
use crate::store::StoreError;
use crate::types::{ErrorKind, Lsn};
use crate::wal::WalError;

/// Why a shard cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// Its log.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Its segments or manifest.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Entries are in neither the segments nor the log.
    #[error(
        "the newest manifest in {dir:?} holds everything up to lsn {flushed}, the log begins at {first}: \
         what lies between is missing; put back the newer manifest, or both from one backup"
    )]
    LogBeginsLate {
        /// The shard's directory.
        dir: PathBuf,
        /// What segments hold.
        flushed: Lsn,
        /// The first entry of the log.
        first: Lsn,
    },
    /// An index file.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The file system, or the system's threads.
    #[error("cannot {doing} {path:?}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl ShardError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Wal(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Index(error) => error.kind(),
            Self::LogBeginsLate { .. } => ErrorKind::DataLoss,
            Self::Io { .. } => ErrorKind::Unavailable,
        }
    }
}

/// Why an entry was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ProposeError {
    /// The log refused it or failed.
    #[error("the log did not take the entry")]
    Log(#[source] Arc<WalError>),
    /// Flushing has failed for want of room: memory must not fill with what the disk cannot take.
    #[error("the disk under {path:?} is full; writes go on once there is room")]
    DiskFull {
        /// The shard's directory.
        path: PathBuf,
    },
    /// The queue stayed full for too long.
    #[error("the log's queue stayed full for {waited:?}")]
    Overloaded {
        /// How long the proposer waited.
        waited: std::time::Duration,
    },
    /// The process's memory stayed full for too long.
    #[error("the process's {} MiB of memory stayed full for {waited:?}, held by {held}", limit >> 20)]
    MemoryFull {
        /// How long the proposer waited.
        waited: std::time::Duration,
        /// The limit, bytes.
        limit: usize,
        /// By whom it is held.
        held: String,
    },
    /// The shard is closing; the entry's outcome is unknown if it was queued.
    #[error("the shard is closing")]
    Closed,
}
