//! `<uuid>.rejects`: records that could not be applied, one JSON object per line, sealed by a checksum.
//!
//! Written at flush from the rejects of the log entries that the flush covers, never changed afterwards.
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{FileMeta, StoreError, durable, sealed};
use crate::types::{Lsn, Reject};

const REMEDY: &str = "put back a copy from a replica or a backup; the points themselves are not affected";

/// What the manifest holds of a quarantine file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuarantineFile {
    /// The file.
    pub file: FileMeta,
    /// Records in it.
    pub count: u64,
    /// The first entry with rejects in it.
    pub first_lsn: Lsn,
    /// The last one.
    pub last_lsn: Lsn,
}

/// One rejected record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The entry that recorded it.
    pub lsn: Lsn,
    /// The source's name; `None` for requests.
    pub source: Option<String>,
    /// The record and the reason.
    pub reject: Reject,
}

impl QuarantineFile {
    /// Writes rejects, in order of LSNs, into a new file, durably; `None` if there are none.
    pub fn write(dir: &Path, rejects: &[Quarantined]) -> Result<Option<Self>, StoreError> {
        let (Some(first), Some(last)) = (rejects.first(), rejects.last()) else { return Ok(None) };
        let name = format!("{}.rejects", Uuid::now_v7());
        let path = dir.join(&name);
        let mut text = String::new();
        for reject in rejects {
            let line = serde_json::to_string(reject).map_err(|error| {
                StoreError::invalid(&path, format!("reject at lsn {}: {error}", reject.lsn))
            })?;
            text.push_str(&line);
            text.push('\n');
        }
        let (text, crc32c) = sealed::seal(text);
        durable::write_new(&path, text.as_bytes())?;
        durable::sync_dir(dir)?;
        Ok(Some(Self {
            file: FileMeta { name, bytes: text.len() as u64, crc32c },
            count: rejects.len() as u64,
            first_lsn: first.lsn,
            last_lsn: last.lsn,
        }))
    }

    /// Reads the records; all of the file is checked.
    pub fn read(&self, dir: &Path) -> Result<Vec<Quarantined>, StoreError> {
        let path = self.file.path(dir);
        let bytes = fs::read(&path).map_err(StoreError::open(&path, REMEDY))?;
        let corrupt = |what: String| StoreError::Corrupt { path: path.clone(), what, remedy: REMEDY };
        let (text, crc) = sealed::unseal(&bytes).map_err(corrupt)?;
        if crc != self.file.crc32c {
            return Err(corrupt("it is whole but not the file that the manifest names".to_string()));
        }
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|error| corrupt(error.to_string()))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rejects_come_back_and_no_damage_goes_unseen() {
        let dir = tempfile::tempdir().unwrap();
        let reject = |lsn| Quarantined {
            lsn: Lsn(lsn),
            source: Some("products".into()),
            reject: Reject {
                partition: "products.v1/3".into(),
                position: crate::types::Position(u128::MAX),
                code: "decode".into(),
                reason: "line\nbreak".into(),
                key: None,
                value: Some("AAAA".into()),
                timestamp_ms: Some(-1),
            },
        };
        let rejects = [reject(4), reject(9)];
        assert_eq!(QuarantineFile::write(dir.path(), &[]).unwrap(), None);
        let meta = QuarantineFile::write(dir.path(), &rejects).unwrap().unwrap();
        assert_eq!((meta.count, meta.first_lsn, meta.last_lsn), (2, Lsn(4), Lsn(9)));
        assert_eq!(meta.read(dir.path()).unwrap(), rejects);
        let path = dir.path().join(&meta.file.name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            assert!(matches!(meta.read(dir.path()), Err(StoreError::Corrupt { .. })), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(matches!(meta.read(dir.path()), Err(StoreError::Corrupt { .. })), "cut at {at}");
        }
    }
}
