//! Writes the frame described in `block_format`, front to back.
use std::path::{Path, PathBuf};

use super::block_format::{BLOCK_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Header, read_u32};
use super::durable::LargeFile;
use super::{FileMeta, StoreError};

/// A file being written; it is not valid before [`BlockWriter::finish`].
pub(crate) struct BlockWriter {
    path: PathBuf,
    file: LargeFile,
    /// The block not yet full.
    block: Vec<u8>,
    table: Vec<u8>,
    data_bytes: u64,
    header_crc: u32,
}

impl BlockWriter {
    pub(crate) fn create(path: &Path, header: &Header) -> Result<Self, StoreError> {
        let mut file = LargeFile::create(path)?;
        let header = header.encode();
        file.write_all(&header).map_err(StoreError::io(path, "write"))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            block: Vec::with_capacity(BLOCK_BYTES),
            table: Vec::new(),
            data_bytes: 0,
            header_crc: read_u32(&header, HEADER_BYTES - 4),
        })
    }

    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.data_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
            bytes = later;
        }
        Ok(())
    }

    /// Writes zeros up to a multiple of eight bytes, so that what follows can be read as numbers.
    pub(crate) fn align(&mut self) -> Result<(), StoreError> {
        let ragged = (self.data_bytes % 8) as usize;
        self.write(&[0; 8][..(8 - ragged) % 8])
    }

    fn end_block(&mut self) -> Result<(), StoreError> {
        self.table.extend_from_slice(&crc32c::crc32c(&self.block).to_le_bytes());
        self.file.write_all(&self.block).map_err(StoreError::io(&self.path, "write"))?;
        self.block.clear();
        Ok(())
    }

    /// Writes what is left, and fsyncs the file; the directory is the caller's.
    pub(crate) fn finish(mut self) -> Result<FileMeta, StoreError> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let table_crc = crc32c::crc32c(&self.table);
        let footer = Footer { data_bytes: self.data_bytes, table_crc, header_crc: self.header_crc };
        let (footer, crc32c) = footer.encode();
        let mut tail = std::mem::take(&mut self.table);
        tail.extend_from_slice(&footer);
        self.file.write_all(&tail).map_err(StoreError::io(&self.path, "write"))?;
        self.file.sync_all().map_err(StoreError::io(&self.path, "fsync"))?;
        let table_bytes = tail.len() - FOOTER_BYTES;
        let bytes = (HEADER_BYTES + table_bytes + FOOTER_BYTES) as u64 + self.data_bytes;
        Ok(FileMeta { name: file_name(&self.path), bytes, crc32c })
    }
}

/// The last part of a path that this module's callers made from UTF-8 names.
pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
