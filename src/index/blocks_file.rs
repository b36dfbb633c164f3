//! Index files: a body that grows front to back, and the checksums of its blocks behind it.
//!
//! ```text
//!       0   F  the body, F a multiple of 64
//!       F  4 b  crc32c of each block of 1 MiB of the body (the last is shorter)
//!  F+4 b    4  crc32c of the 4 b bytes before
//!  F+4 b+4  8  magic
//! ```
//! A file is complete and durable under its name, or not there. All numbers are little-endian.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use proximadb_kernels::huge::HugeBuffer;
use proximadb_kernels::map::Map;

use super::IndexError;

/// Sections that are read as cache lines start at a multiple of this.
pub(super) const ALIGNMENT: usize = 64;

/// Bytes that one checksum covers.
pub(super) const BLOCK_BYTES: usize = 1 << 20;

/// How a file ends.
pub(super) type MagicEnd = [u8; 8];

/// A whole file.
pub(super) enum Bytes {
    /// Anonymous memory: file-backed maps get no huge pages, which matter once
    /// an index outgrows the processor's caches.
    Memory(HugeBuffer),
    Mapped(Map),
}

impl Bytes {
    /// Reads a file into memory.
    pub(super) fn read(path: &Path) -> Result<Bytes, IndexError> {
        read(path).map(Bytes::Memory).map_err(|source| IndexError::Io { path: path.to_owned(), source })
    }

    /// Maps a file.
    pub(super) fn map(path: &Path) -> Result<Bytes, IndexError> {
        Map::open(path).map(Bytes::Mapped).map_err(|source| IndexError::Io { path: path.to_owned(), source })
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Memory(buffer) => buffer.as_slice(),
            Bytes::Mapped(map) => map.bytes(),
        }
    }

    pub(super) fn is_mapped(&self) -> bool {
        matches!(self, Bytes::Mapped(_))
    }
}

fn read(path: &Path) -> io::Result<HugeBuffer> {
    let mut file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = HugeBuffer::zeroed(len)?;
    file.read_exact(bytes.as_mut_slice())?;
    Ok(bytes)
}

/// Writes a file, its body by `write_body`: complete and durable under its name, or not at all.
pub(super) fn write(
    path: &Path,
    magic_end: &MagicEnd,
    write_body: impl FnOnce(&mut Blocks) -> io::Result<()>,
) -> Result<(), IndexError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    let written = write_and_rename(path, &unfinished, magic_end, write_body);
    if written.is_err() {
        // What is left would be collected as garbage anyway; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(|source| IndexError::Io { path: path.to_owned(), source })
}

fn write_and_rename(
    path: &Path,
    unfinished: &Path,
    magic_end: &MagicEnd,
    write_body: impl FnOnce(&mut Blocks) -> io::Result<()>,
) -> io::Result<()> {
    let mut out =
        Blocks { file: File::create(unfinished)?, block: Vec::new(), checksums: Vec::new(), written: 0 };
    write_body(&mut out)?;
    out.finish(magic_end)?.sync_all()?;
    fs::rename(unfinished, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A number of a header.
pub(super) fn number(value: usize) -> io::Result<u32> {
    u32::try_from(value)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "index has a number above 2^32"))
}

/// Writes blocks and remembers their checksums.
pub(super) struct Blocks {
    file: File,
    block: Vec<u8>,
    checksums: Vec<u8>,
    written: usize,
}

impl Blocks {
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    pub(super) fn write_numbers(&mut self, mut numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(1 << 16);
        loop {
            bytes.clear();
            bytes.extend(numbers.by_ref().take(1 << 14).flat_map(u32::to_le_bytes));
            if bytes.is_empty() {
                return Ok(());
            }
            self.write(&bytes)?;
        }
    }

    /// Zeros up to a multiple of [`ALIGNMENT`].
    pub(super) fn align(&mut self) -> io::Result<()> {
        let zeros = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&[0; ALIGNMENT][..zeros])
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.checksums.extend(crc32c::crc32c(&self.block).to_le_bytes());
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self, magic_end: &MagicEnd) -> io::Result<File> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.file.write_all(&self.checksums)?;
        self.file.write_all(&crc32c::crc32c(&self.checksums).to_le_bytes())?;
        self.file.write_all(magic_end)?;
        Ok(self.file)
    }
}

/// Checks that a file has a body of so many bytes, as its header says, and every byte of it.
///
/// Lengths from a header are trusted only after the file proved to be as long as they say.
pub(super) fn check(bytes: &[u8], body: u128, magic_end: &MagicEnd) -> Result<(), String> {
    let expected = body + body.div_ceil(BLOCK_BYTES as u128) * 4 + 4 + magic_end.len() as u128;
    if expected != bytes.len() as u128 {
        return Err(format!("it has {} bytes, and its header asks for {expected}", bytes.len()));
    }
    let (body, table) = bytes.split_at(body as usize);
    let (checksums, end) = table.split_at(table.len() - magic_end.len() - 4);
    let (own, magic) = end.split_at(4);
    if magic != magic_end {
        return Err("it doesn't end as an index file of its kind".into());
    }
    if own != crc32c::crc32c(checksums).to_le_bytes() {
        return Err("its list of checksums fails its crc32c".into());
    }
    for (at, (block, expected)) in body.chunks(BLOCK_BYTES).zip(checksums.chunks(4)).enumerate() {
        if crc32c::crc32c(block).to_le_bytes() != expected {
            return Err(format!("block {at} (at byte {}) fails its crc32c", at * BLOCK_BYTES));
        }
    }
    Ok(())
}
