//! Files that exist whole or not at all, and stay.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use proximadb_kernels::writeback;

use super::StoreError;

/// Makes the names in a directory durable: a created or renamed file may vanish in a crash before this.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io(dir, "fsync directory"))
}

/// Creates a file that must not exist: names are never used twice, so a file in the way is a bug to be seen.
pub(crate) fn create_new(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(StoreError::io(path, "create"))
}

/// Bytes that are given to the disk at once. A log that syncs meanwhile waits behind them: 2 MiB are some
/// milliseconds. Less costs a call more often than it helps.
const STEP_BYTES: u64 = 2 << 20;

/// A large new file, on its way to the disk while it is written.
///
/// Left to the final sync, tens of MiB would reach the disk in one burst, and every entry of the log that is synced
/// meanwhile would wait for them.
pub(crate) struct LargeFile {
    file: File,
    written: u64,
    /// What the disk has been given last.
    begun: std::ops::Range<u64>,
}

impl LargeFile {
    /// Creates a file that must not exist.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { file: create_new(path)?, written: 0, begun: 0..0 })
    }

    /// Writes all of it.
    pub fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        if self.written - self.begun.end < STEP_BYTES {
            return Ok(());
        }
        // One step is on its way while the next is made.
        writeback::wait(&self.file, self.begun.clone())?;
        self.begun = self.begun.end..self.written;
        writeback::begin(&self.file, self.begun.clone())
    }

    /// Makes all of it durable, but not its name.
    pub fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Writes a new file and fsyncs it, but not its directory. A failed write leaves no file behind.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = create_new(path)?;
    let written = file.write_all(bytes).map_err(StoreError::io(path, "write"));
    let written = written.and_then(|()| file.sync_all().map_err(StoreError::io(path, "fsync")));
    if written.is_err() {
        // Best effort: what is left is garbage that collection finds, since no manifest names it.
        let _ = fs::remove_file(path);
    }
    written
}

/// Deletes a file; one that is gone already is no error.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "delete")(error))
        }
        _ => Ok(()),
    }
}

/// The names of the files in a directory.
pub(crate) fn list(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(StoreError::io(dir, "list"))? {
        let entry = entry.map_err(StoreError::io(dir, "list"))?;
        let is_file = entry.file_type().map_err(StoreError::io(dir, "list"))?.is_file();
        // Names that are not UTF-8 are none of ours.
        if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
            names.push(name);
        }
    }
    Ok(names)
}
