//! `log.meta`: what must outlive the frames themselves. The log's id, the purge mark and the vote.
//!
//! Replaced as a whole: written to `log.meta.tmp`, synced, renamed, the directory synced. Little-endian:
//!
//! ```text
//! byte  size  field
//!    0     8  magic        "PXDBMETA"
//!    8     4  version      1
//!   12     4  flags        1 a purge mark is there, 2 a vote is there, 4 the vote is committed
//!   16    16  log id       random, made with the log
//!   32     8  start        the first LSN that the log has to hold; 1 in a new log
//!   40     8  purged term      ┐
//!   48     8  purged leader    │ the last entry purged, zero without
//!   56     8  purged lsn       ┘
//!   64     8  vote term        ┐ zero without
//!   72     8  vote node        ┘
//!   80     4  zero
//!   84     4  crc          crc32c of bytes 0–83
//! ```
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::disk::Disk;
use super::{Damage, LogMark, WalError};
use crate::types::Lsn;

const MAGIC: &[u8; 8] = b"PXDBMETA";
const VERSION: u32 = 1;
const BYTES: usize = 88;

/// What this node voted for in Raft's sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate voted for.
    pub node: u64,
    /// Is it known that a quorum voted for it?
    pub committed: bool,
}

/// The contents of `log.meta`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogMeta {
    pub log: Uuid,
    pub start: Lsn,
    pub purged: Option<LogMark>,
    pub vote: Option<Vote>,
}

pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("log.meta")
}

impl LogMeta {
    pub fn new() -> Self {
        Self { log: Uuid::new_v4(), start: Lsn(1), purged: None, vote: None }
    }

    /// Reads it; `None` where there is none.
    pub fn read(dir: &Path) -> Result<Option<Self>, WalError> {
        let path = path(dir);
        match fs::read(&path) {
            Ok(bytes) => Self::decode(&bytes, &path).map(Some),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(WalError::io("read", &path, source)),
        }
    }

    /// Replaces what is there; durable when it returns.
    pub fn replace(&self, dir: &Path, disk: &Disk) -> Result<(), WalError> {
        let (path, temporary) = (path(dir), dir.join("log.meta.tmp"));
        let file = File::create(&temporary).map_err(|source| WalError::io("create", &temporary, source))?;
        disk.write(&file, &temporary, &self.encode(), 0)?;
        disk.sync(&file, &temporary)?;
        fs::rename(&temporary, &path).map_err(|source| WalError::io("replace", &path, source))?;
        disk.sync_dir(dir)
    }

    fn encode(&self) -> [u8; BYTES] {
        let mut flags = 0u32;
        let mut numbers = [0u64; 6];
        numbers[0] = self.start.0;
        if let Some(LogMark { term, leader, lsn }) = self.purged {
            flags |= 1;
            numbers[1..4].copy_from_slice(&[term, leader, lsn.0]);
        }
        if let Some(Vote { term, node, committed }) = self.vote {
            flags |= 2 | if committed { 4 } else { 0 };
            numbers[4..6].copy_from_slice(&[term, node]);
        }
        let mut bytes = [0u8; BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log.as_bytes());
        for (slot, number) in bytes[32..80].chunks_exact_mut(8).zip(numbers) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..84]);
        bytes[84..88].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, WalError> {
        let damaged = || WalError::Corrupt {
            path: path.to_path_buf(),
            byte: 0,
            lsn: None,
            damage: Damage::Meta,
            followed_by: None,
        };
        let bytes: &[u8; BYTES] = bytes.try_into().map_err(|_| damaged())?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if !bytes.starts_with(MAGIC) || u32_at(84) != crc32c::crc32c(&bytes[..84]) {
            return Err(damaged());
        }
        if u32_at(8) != VERSION {
            return Err(WalError::VersionUnknown { what: "log.meta", found: u32_at(8), known: VERSION });
        }
        let flags = u32_at(12);
        let mut log = [0u8; 16];
        log.copy_from_slice(&bytes[16..32]);
        let purged = LogMark { term: u64_at(40), leader: u64_at(48), lsn: Lsn(u64_at(56)) };
        let vote = Vote { term: u64_at(64), node: u64_at(72), committed: flags & 4 != 0 };
        Ok(Self {
            log: Uuid::from_bytes(log),
            start: Lsn(u64_at(32)),
            purged: (flags & 1 != 0).then_some(purged),
            vote: (flags & 2 != 0).then_some(vote),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_back_and_every_flip_and_cut_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(LogMeta::read(dir.path()).unwrap(), None);
        let mut meta = LogMeta::new();
        meta.replace(dir.path(), &Disk::default()).unwrap();
        assert_eq!(LogMeta::read(dir.path()).unwrap(), Some(meta));
        meta.start = Lsn(10);
        meta.purged = Some(LogMark { term: 2, leader: 3, lsn: Lsn(9) });
        meta.vote = Some(Vote { term: 4, node: 5, committed: true });
        meta.replace(dir.path(), &Disk::default()).unwrap();
        assert_eq!(LogMeta::read(dir.path()).unwrap(), Some(meta));

        let good = meta.encode();
        for byte in 0..good.len() {
            let mut bad = good;
            bad[byte] ^= 0x10;
            assert!(LogMeta::decode(&bad, Path::new("log.meta")).is_err(), "byte {byte}");
            assert!(LogMeta::decode(&good[..byte], Path::new("log.meta")).is_err(), "length {byte}");
        }
    }
}
