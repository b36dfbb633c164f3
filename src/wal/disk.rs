//! The few file operations of the log in one place: where fail points sit and where tests make them fail.
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::WalError;
use crate::faults;

/// Faults that tests switch on and off; shared with the log thread.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Faults {
    /// Bytes that still fit before the disk is full.
    pub room: AtomicU64,
    pub sync_fails: AtomicBool,
    pub cut_fails: AtomicBool,
    /// Tests that open a log thousands of times don't wait for the disk.
    pub sync_is_free: AtomicBool,
}

#[cfg(test)]
impl Default for Faults {
    fn default() -> Self {
        Self {
            room: AtomicU64::new(u64::MAX),
            sync_fails: false.into(),
            cut_fails: false.into(),
            sync_is_free: false.into(),
        }
    }
}

/// The file system as the log sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub faults: Arc<Faults>,
}

impl Disk {
    /// Writes `bytes` at `at`; after an error any part of them may be there.
    pub fn write(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), WalError> {
        faults::pass("wal::before_write").map_err(|source| WalError::io("write", path, source))?;
        #[cfg(test)]
        self.fill_up(file, path, bytes, at)?;
        file.write_all_at(bytes, at).map_err(|source| WalError::io("write", path, source))
    }

    /// fdatasync: the bytes, and as much metadata as reading them back needs.
    pub fn sync(&self, file: &File, path: &Path) -> Result<(), WalError> {
        let failed = |source| WalError::SyncFailed { path: path.to_path_buf(), source };
        faults::pass("wal::before_sync").map_err(failed)?;
        #[cfg(test)]
        if self.faults.sync_fails.load(Ordering::Relaxed) {
            return Err(failed(io::Error::other("injected")));
        }
        #[cfg(test)]
        if self.faults.sync_is_free.load(Ordering::Relaxed) {
            return Ok(());
        }
        file.sync_data().map_err(failed)?;
        faults::pass("wal::after_sync").map_err(failed)
    }

    /// Shortens a file and makes that durable.
    pub fn cut(&self, file: &File, path: &Path, len: u64) -> Result<(), WalError> {
        #[cfg(test)]
        if self.faults.cut_fails.load(Ordering::Relaxed) {
            return Err(WalError::io("shorten", path, io::Error::other("injected")));
        }
        file.set_len(len).map_err(|source| WalError::io("shorten", path, source))?;
        self.sync(file, path)
    }

    /// Makes creations, renames and removals in `dir` durable.
    pub fn sync_dir(&self, dir: &Path) -> Result<(), WalError> {
        #[cfg(test)]
        if self.faults.sync_is_free.load(Ordering::Relaxed) {
            return Ok(());
        }
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|source| WalError::SyncFailed { path: dir.to_path_buf(), source })
    }

    /// Removes a file; one that is gone already is fine.
    pub fn remove(&self, path: &Path) -> Result<(), WalError> {
        faults::pass("wal::before_remove").map_err(|source| WalError::io("remove", path, source))?;
        match fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(WalError::io("remove", path, source))
            }
            _ => Ok(()),
        }
    }

    #[cfg(test)]
    fn fill_up(&self, file: &File, path: &Path, bytes: &[u8], at: u64) -> Result<(), WalError> {
        let room = self.faults.room.load(Ordering::Relaxed);
        if (bytes.len() as u64) <= room {
            let left = if room == u64::MAX { room } else { room - bytes.len() as u64 };
            self.faults.room.store(left, Ordering::Relaxed);
            return Ok(());
        }
        file.write_all_at(&bytes[..room as usize], at)
            .map_err(|source| WalError::io("write", path, source))?;
        Err(WalError::io("write", path, io::Error::from(io::ErrorKind::StorageFull)))
    }
}
