//! One file of the log: `<first lsn, 20 digits>.wal`, a header and then frames up to the end of the file.
//!
//! ```text
//! byte  size  field
//!    0     8  magic      "PXDBWAL\x01"
//!    8     4  version    1
//!   12     4  prev_crc   header_crc of the last frame of the file before; any number in the first file
//!   16    16  log id     as in log.meta
//!   32     8  first_lsn  of the first frame, also the file's name
//!   40    20  zero
//!   60     4  crc        crc32c of bytes 0–59
//!   64        frames, see frame.rs
//! ```
//!
//! There is no preallocation: the end of the file is the end of the log, which nothing can mistake, and
//! unwritten extents would cost a journal commit at each sync all the same.
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::disk::Disk;
use super::frame::{FRAME_HEADER_BYTES, Found};
use super::{Damage, Frame, WalError};
use crate::faults;
use crate::types::Lsn;

/// Where the first frame begins.
pub(super) const FILE_HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"PXDBWAL\x01";
const VERSION: u32 = 1;

/// The header of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileHeader {
    pub log: Uuid,
    pub first: Lsn,
    pub prev_crc: u32,
}

impl FileHeader {
    fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0u8; FILE_HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.prev_crc.to_le_bytes());
        bytes[16..32].copy_from_slice(self.log.as_bytes());
        bytes[32..40].copy_from_slice(&self.first.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `Ok(None)` where the bytes are not a header that was completely written.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, WalError> {
        let Some(bytes) = bytes.first_chunk::<FILE_HEADER_BYTES>() else { return Ok(None) };
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if !bytes.starts_with(MAGIC) || u32_at(60) != crc32c::crc32c(&bytes[..60]) {
            return Ok(None);
        }
        if u32_at(8) != VERSION {
            return Err(WalError::VersionUnknown { what: "log file", found: u32_at(8), known: VERSION });
        }
        let mut log = [0u8; 16];
        log.copy_from_slice(&bytes[16..32]);
        let first = Lsn(u64::from(u32_at(32)) | u64::from(u32_at(36)) << 32);
        Ok(Some(Self { log: Uuid::from_bytes(log), first, prev_crc: u32_at(12) }))
    }
}

/// The name of the file whose first frame is `first`.
pub(super) fn name(first: Lsn) -> String {
    format!("{:020}.wal", first.0)
}

/// The first LSN of a file with this name; `None` for anything that is no log file.
pub(super) fn first_of(name: &str) -> Option<Lsn> {
    let digits = name.strip_suffix(".wal")?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten().map(Lsn)
}

/// An open log file and where its frames begin.
#[derive(Debug)]
pub(super) struct LogFile {
    pub path: PathBuf,
    pub file: File,
    pub first: Lsn,
    /// What its first frame continues.
    pub prev_crc: u32,
    /// What the next frame has to continue.
    pub chain: u32,
    /// Where each frame begins; `file_bytes_max` keeps files below 4 GiB.
    pub offsets: Vec<u32>,
    /// Where the next frame goes.
    pub end: u64,
}

impl LogFile {
    /// Makes a file that is durable, name and header, before any frame goes into it.
    ///
    /// On failure nothing is left of it, or the error is [`WalError::Poisoned`]: a header without frames
    /// that stays behind would stand in the way of what is appended elsewhere.
    pub fn create(dir: &Path, header: FileHeader, disk: &Disk) -> Result<Self, WalError> {
        let path = dir.join(name(header.first));
        // The name is one past the last LSN, so whatever lies there is the leftover of a crash.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(|source| WalError::io("create", &path, source))?;
        let made = disk
            .write(&file, &path, &header.encode(), 0)
            .and_then(|()| disk.sync(&file, &path))
            .and_then(|()| disk.sync_dir(dir))
            .and_then(|()| {
                faults::pass("wal::file_created").map_err(|error| WalError::io("create", &path, error))
            });
        if let Err(error) = made {
            let undone = disk.remove(&path).and_then(|()| disk.sync_dir(dir));
            return Err(match undone {
                Ok(()) => error,
                Err(also) => WalError::Poisoned { cause: format!("{}; {}", error.in_full(), also.in_full()) },
            });
        }
        let FileHeader { first, prev_crc, .. } = header;
        let end = FILE_HEADER_BYTES as u64;
        Ok(Self { path, file, first, prev_crc, chain: prev_crc, offsets: Vec::new(), end })
    }

    /// The LSN after its last frame.
    pub fn next(&self) -> Lsn {
        Lsn(self.first.0 + self.offsets.len() as u64)
    }

    /// Where the frame `lsn` begins, or the end for the one after the last.
    pub fn offset(&self, lsn: Lsn) -> u64 {
        let index = usize::try_from(lsn.0 - self.first.0).unwrap_or(usize::MAX);
        self.offsets.get(index).map_or(self.end, |offset| u64::from(*offset))
    }

    /// Reads and verifies the frames `from..to`, all of which are in this file.
    pub fn read(&self, from: Lsn, to: Lsn, log: &Uuid, out: &mut Vec<Frame>) -> Result<(), WalError> {
        let begin = self.offset(from);
        let len = usize::try_from(self.offset(to) - begin).unwrap_or(usize::MAX);
        let mut buffer = vec![0u8; len];
        self.file
            .read_exact_at(&mut buffer, begin)
            .map_err(|source| WalError::io("read", &self.path, source))?;
        let buffer = Bytes::from(buffer);
        let mut at = 0;
        for lsn in from.0..to.0 {
            let corrupt = |damage| WalError::Corrupt {
                path: self.path.clone(),
                byte: begin + at as u64,
                lsn: Some(Lsn(lsn)),
                damage,
                followed_by: None,
            };
            let found = Found::parse(&buffer, at, log).map_err(|(damage, _)| corrupt(damage))?;
            if found.lsn != Lsn(lsn) {
                return Err(corrupt(Damage::Order { expected: Lsn(lsn) }));
            }
            let body = buffer.slice(found.body_at..found.body_at + found.body_len);
            let Found { lsn, term, leader, kind, .. } = found;
            out.push(Frame { lsn, term, leader, kind, body });
            at = found.end();
        }
        Ok(())
    }

    /// Removes `from` and all after it; at least one frame must stay. Durable when it returns.
    pub fn truncate(&mut self, from: Lsn, disk: &Disk) -> Result<(), WalError> {
        let end = self.offset(from);
        let keep = usize::try_from(from.0 - self.first.0).unwrap_or(usize::MAX);
        let chain = match keep.checked_sub(1).and_then(|last| self.offsets.get(last)) {
            None => self.prev_crc,
            Some(last) => {
                let mut crc = [0u8; 4];
                let crc_at = u64::from(*last) + FRAME_HEADER_BYTES as u64 - 4;
                self.file
                    .read_exact_at(&mut crc, crc_at)
                    .map_err(|source| WalError::io("read", &self.path, source))?;
                u32::from_le_bytes(crc)
            }
        };
        disk.cut(&self.file, &self.path, end)?;
        self.offsets.truncate(keep);
        (self.end, self.chain) = (end, chain);
        Ok(())
    }
}
