//! What can go wrong with files on disk.
use std::io;
use std::path::{Path, PathBuf};

use crate::types::ErrorKind;

/// What to do about a damaged segment file; one text, so that help can be found by searching for it.
pub(crate) const SEGMENT_REMEDY: &str =
    "put back an undamaged copy of the segment from a replica or a backup";

/// Why a file cannot be written, opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not those that were written.
    #[error("{path:?} is damaged: {what}; {remedy}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit, with the values.
        what: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The manifest names a file that is not there.
    #[error("{path:?} is missing though the manifest names it; {remedy}")]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        remedy: &'static str,
    },
    /// Written by another version of this program.
    #[error(
        "{path:?} has format version {found}, this program reads {known}; use the release that wrote it or a later one"
    )]
    VersionUnknown {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version known here.
        known: u64,
    },
    /// No space left: reads go on, writes must wait.
    #[error("no space left to write {path:?}; free some space, writing resumes by itself")]
    Full {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The system refused.
    #[error("cannot {doing} {path:?}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The verb: open, write, fsync, …
        doing: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The caller gave rows that cannot be a segment.
    #[error("rows cannot be written to {path:?}: {what}")]
    Invalid {
        /// The file that would have held them.
        path: PathBuf,
        /// What is wrong with which row.
        what: String,
    },
    /// The process is ending: what was being written is given up, and done again after the next start.
    #[error("writing was stopped because the shard is closing")]
    Stopped,
    /// One field's text exceeds what one column in memory can address.
    #[error("field {field:?} of {path:?} holds {bytes} bytes of text; one column holds at most {max}")]
    ColumnTooLarge {
        /// The file.
        path: PathBuf,
        /// The payload field.
        field: String,
        /// Its size.
        bytes: u64,
        /// The bound.
        max: u64,
    },
}

impl StoreError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } | Self::Missing { .. } => ErrorKind::DataLoss,
            Self::VersionUnknown { .. } | Self::Invalid { .. } => ErrorKind::Internal,
            Self::Full { .. } | Self::Io { .. } | Self::Stopped => ErrorKind::Unavailable,
            Self::ColumnTooLarge { .. } => ErrorKind::Invalid,
        }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), what: what.into(), remedy: SEGMENT_REMEDY }
    }

    pub(crate) fn invalid(path: &Path, what: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_path_buf(), what: what.into() }
    }

    /// For `map_err`: sorts a full disk from other trouble.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path: path.to_path_buf(), source }
            }
            _ => Self::Io { path: path.to_path_buf(), doing, source },
        }
    }

    /// For `map_err` where the manifest says that the file exists.
    pub(crate) fn open(path: &Path, remedy: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path: path.to_path_buf(), remedy },
            _ => Self::Io { path: path.to_path_buf(), doing: "open", source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_from_other_trouble() {
        let path = Path::new("segments/x.vec");
        let full = StoreError::io(path, "write")(io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, StoreError::Full { .. }), "{full}");
        let denied = StoreError::io(path, "write")(io::Error::from_raw_os_error(libc::EACCES));
        assert!(matches!(denied, StoreError::Io { doing: "write", .. }), "{denied}");
        let absent = StoreError::open(path, SEGMENT_REMEDY)(io::ErrorKind::NotFound.into());
        assert_eq!(absent.kind(), ErrorKind::DataLoss);
        assert!(absent.to_string().contains("backup"), "{absent}");
    }
}
