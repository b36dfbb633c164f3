//! What can go wrong with the log, with the evidence and what to do about it.
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::types::{ErrorKind, Lsn};

/// What is wrong with bytes that were read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The header of a `.wal` file fails its checksum or is cut short.
    FileHeader,
    /// `log.meta` fails its checksum or has the wrong length.
    Meta,
    /// There are `.wal` files but no `log.meta`.
    MetaMissing,
    /// A file's header names another log.
    OtherLog,
    /// A file's name and its header disagree about its first LSN.
    FileName {
        /// What the header says.
        header: Lsn,
    },
    /// A file between or before those that are there is gone.
    FileMissing {
        /// The LSN that should be there.
        expected: Lsn,
    },
    /// A frame's header fails its checksum.
    FrameHeader,
    /// A frame's body fails its checksum, or its padding is not zero.
    FrameBody,
    /// A frame does not end before its file does.
    FrameCut,
    /// A frame is sound but does not continue the one before it.
    Chain,
    /// A frame is sound but has the wrong LSN.
    Order {
        /// The LSN that should be there.
        expected: Lsn,
    },
    /// A frame is sound but of a kind that this version does not know.
    KindUnknown(u8),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileHeader => f.write_str("the file's header fails its checksum or is cut short"),
            Self::Meta => f.write_str("the file fails its checksum or has the wrong length"),
            Self::MetaMissing => f.write_str("the file is missing although there are .wal files"),
            Self::OtherLog => f.write_str("the file belongs to another log"),
            Self::FileName { header } => {
                write!(f, "the header says that the file begins at lsn {header}, its name differs")
            }
            Self::FileMissing { expected } => write!(f, "the file that holds lsn {expected} is missing"),
            Self::FrameHeader => f.write_str("the frame's header fails its checksum"),
            Self::FrameBody => f.write_str("the frame's body fails its checksum"),
            Self::FrameCut => f.write_str("the frame crosses the end of its file"),
            Self::Chain => f.write_str("the frame does not continue the one before it"),
            Self::Order { expected } => write!(f, "the frame should have lsn {expected}"),
            Self::KindUnknown(kind) => {
                write!(f, "the frame is of unknown kind {kind}; a newer version wrote it")
            }
        }
    }
}

/// Why the log could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were durable are not what was written.
    #[error(
        "log is damaged at byte {byte} of {path:?} (lsn {}): {damage}{}; keep a copy of the directory, \
         then restore this file from a replica or a backup",
        lsn.map_or("unknown".to_string(), |lsn| lsn.to_string()),
        followed_by.map_or(String::new(), |lsn| format!(", and a sound frame with lsn {lsn} follows it")),
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file the trouble begins.
        byte: u64,
        /// The entry that should be there, where known.
        lsn: Option<Lsn>,
        /// What is wrong.
        damage: Damage,
        /// A later entry that is sound, which shows that this is no torn tail.
        followed_by: Option<Lsn>,
    },
    /// A sync failed earlier; nothing is accepted any more.
    #[error("log stopped accepting writes after this failure: {cause}; restart to recover what is durable")]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The sync that should have made entries durable failed: their outcome is unknown.
    #[error("cannot sync {path:?}; the log stops accepting writes, restart to recover what is durable")]
    SyncFailed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The disk (or the quota) is full: nothing was appended, reads go on.
    #[error("no room on the disk of {path:?}; appends succeed again once there is")]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Any other failure of the file system.
    #[error("cannot {doing} {path:?}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// An entry is larger than the log accepts; split it.
    #[error("entry has {bytes} bytes, the log takes at most {bytes_max}; split it")]
    EntryTooLarge {
        /// Its size, or the size of the group it came in.
        bytes: usize,
        /// `entry_bytes_max`.
        bytes_max: usize,
    },
    /// A body is not the encoding of an entry.
    #[error("entry cannot be decoded: {part}: {problem}")]
    BadEntry {
        /// Which part of the entry.
        part: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer version wrote this.
    #[error("{what} has version {found}, this program reads up to {known}; use the version that wrote it")]
    VersionUnknown {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The newest one known.
        known: u32,
    },
    /// An append that does not continue the log.
    #[error("the next lsn is {expected}, not {found}")]
    OutOfOrder {
        /// What comes next.
        expected: Lsn,
        /// What came.
        found: Lsn,
    },
    /// Something before the purge mark was asked to change, or something after the end to be purged.
    #[error("lsn {asked} lies outside the log, which holds {first} to {last}")]
    OutOfRange {
        /// The LSN asked for.
        asked: Lsn,
        /// The first that is held.
        first: Lsn,
        /// The last that is held.
        last: Lsn,
    },
    /// Another process has the log open.
    #[error("{path:?} is locked: another process has this log open")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The queue in front of the log is full.
    #[error("the log's queue is full; retry shortly")]
    Busy,
    /// The log thread has stopped.
    #[error("the log is closed")]
    Closed,
}

impl WalError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } | Self::BadEntry { .. } | Self::VersionUnknown { .. } => ErrorKind::DataLoss,
            Self::Poisoned { .. }
            | Self::SyncFailed { .. }
            | Self::Full { .. }
            | Self::Io { .. }
            | Self::Locked { .. }
            | Self::Closed => ErrorKind::Unavailable,
            Self::EntryTooLarge { .. } => ErrorKind::Invalid,
            Self::OutOfOrder { .. } | Self::OutOfRange { .. } => ErrorKind::Internal,
            Self::Busy => ErrorKind::Overloaded,
        }
    }

    /// A failed file operation; a full disk becomes its own variant.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    /// The whole chain of causes in one line.
    pub(crate) fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
