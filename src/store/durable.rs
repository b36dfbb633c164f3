//! Files that exist whole or not at all, and stay.
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::StoreError;

/// Makes the names in a directory durable: a created or renamed file may vanish in a crash before this.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io(dir, "fsync directory"))
}

/// Creates a file that must not exist: names are never used twice, so a file in the way is a bug to be seen.
pub(crate) fn create_new(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().write(true).create_new(true).open(path).map_err(StoreError::io(path, "create"))
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
