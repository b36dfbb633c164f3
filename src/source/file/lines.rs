//! JSON lines. A position is the number of bytes consumed.
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::file_source::{Bounds, Chunk, Reader, changed, io_error};
use crate::source::SourceError;
use crate::types::{Position, RawRecord, RawRows};

/// Bytes of a line that are handed on; the rest of a longer line is read and dropped, so that the record
/// fails to decode and one broken file cannot take all memory.
const LINE_BYTES_MAX: usize = 16 << 20;

pub(super) struct LineReader {
    path: PathBuf,
    file: BufReader<File>,
    follow: bool,
    identity: Option<Identity>,
    /// Bytes consumed as whole lines.
    consumed: u64,
    /// A line whose newline has not come yet: what is kept of it, and its bytes so far.
    partial: Vec<u8>,
    partial_bytes: u64,
}

impl LineReader {
    pub fn open(path: PathBuf, after: Option<Position>, follow: bool) -> Result<Self, SourceError> {
        let io = |source| io_error("opening", &path, source);
        let mut file = File::open(&path).map_err(io)?;
        let identity = Identity::of(&file.metadata().map_err(io)?);
        let consumed = after.map_or(0, Position::as_u64);
        check_start(&path, &mut file, consumed)?;
        file.seek(SeekFrom::Start(consumed)).map_err(io)?;
        let file = BufReader::with_capacity(256 << 10, file);
        Ok(Self { path, file, follow, identity, consumed, partial: Vec::new(), partial_bytes: 0 })
    }

    /// Reads on in the line that has begun; true once it is complete.
    fn read_line(&mut self) -> Result<bool, SourceError> {
        loop {
            let available = self.file.fill_buf().map_err(|source| io_error("reading", &self.path, source))?;
            if available.is_empty() {
                // The end of a file that is not followed ends its last line.
                return Ok(!self.follow && self.partial_bytes > 0);
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&available[..taken.min(room)]);
            self.file.consume(taken);
            self.partial_bytes += taken as u64;
            if newline.is_some() {
                return Ok(true);
            }
        }
    }

    /// At the end of a followed file: is it still the same file, and has it not shrunk?
    fn check_unchanged(&self) -> Result<(), SourceError> {
        let metadata =
            std::fs::metadata(&self.path).map_err(|source| io_error("following", &self.path, source))?;
        let seen = self.consumed + self.partial_bytes;
        if metadata.len() < seen {
            return Err(changed(&self.path, &format!("has {} bytes, {seen} were read", metadata.len())));
        }
        if Identity::of(&metadata) != self.identity {
            return Err(changed(&self.path, "is not the file that was opened"));
        }
        Ok(())
    }
}

impl Reader for LineReader {
    fn next(&mut self, bounds: Bounds) -> Result<Option<Chunk>, SourceError> {
        let start = self.consumed;
        let mut text = Vec::new();
        let mut lines = Vec::new();
        while lines.len() < bounds.records && text.len() < bounds.bytes && self.read_line()? {
            let is_first = self.consumed == 0;
            self.consumed += self.partial_bytes;
            self.partial_bytes = 0;
            let line = trim(&self.partial, is_first);
            if !line.is_empty() {
                let from = text.len();
                text.extend_from_slice(line);
                lines.push((from..text.len(), self.consumed));
            }
            self.partial.clear();
            // A run of blank lines must not keep the caller waiting.
            if lines.is_empty() && self.consumed - start > bounds.bytes as u64 {
                break;
            }
        }
        if self.consumed == start {
            if self.follow {
                self.check_unchanged()?;
            }
            return Ok(None);
        }
        let text = Bytes::from(text);
        let records = lines.into_iter().map(|(range, consumed)| RawRecord {
            position: consumed.into(),
            key: None,
            value: Some(text.slice(range)),
            timestamp_ms: None,
        });
        Ok(Some(Chunk { rows: RawRows::Records(records.collect()), to: self.consumed.into() }))
    }

    fn lag(&self) -> Option<(Option<Position>, u64)> {
        let length = std::fs::metadata(&self.path).ok()?.len();
        Some((Some(length.into()), length.saturating_sub(self.consumed)))
    }
}

/// Does the file still have a line's end where the log says that reading stopped?
fn check_start(path: &Path, file: &mut File, consumed: u64) -> Result<(), SourceError> {
    let io = |source| io_error("reading", path, source);
    let length = file.metadata().map_err(io)?.len();
    if consumed > length {
        return Err(changed(path, &format!("has {length} bytes, the log holds position {consumed}")));
    }
    if consumed == 0 || consumed == length {
        return Ok(());
    }
    let mut before = [0];
    file.seek(SeekFrom::Start(consumed - 1)).map_err(io)?;
    file.read_exact(&mut before).map_err(io)?;
    match before {
        [b'\n'] => Ok(()),
        _ => Err(changed(path, &format!("has no line's end at byte {consumed}, which the log holds"))),
    }
}

/// A line without its end, without blanks around it, and without a byte-order mark where it is the first.
fn trim(line: &[u8], is_first: bool) -> &[u8] {
    let line = if is_first { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
    line.trim_ascii()
}

/// What tells a file from another one under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    #[cfg(unix)]
    fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }

    #[cfg(not(unix))]
    fn of(_: &std::fs::Metadata) -> Option<Self> {
        None
    }
}
