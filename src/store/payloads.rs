//! `.payload`: row → payload; and the checksums of the Parquet file, which has no room for them itself.
//!
//! Data of the block frame, for `n` rows (numbers little-endian):
//! ```text
//! start:u64[n+1] (into text)  parquet_crc32c:u32[blocks of 1 MiB]  zeros up to a multiple of 8
//! text: the JSON objects one after the other, byte for byte as they came; empty means {}
//! ```
use std::path::Path;

use super::block_format::{BLOCK_BYTES, BlockKind, Header, read_u32};
use super::block_reader::BlockFile;
use super::block_writer::BlockWriter;
use super::{FileMeta, RowSource, SegmentMeta, StoreError};

/// Writes and fsyncs the file.
pub(crate) fn write_payloads(
    path: &Path,
    header: Header,
    rows: &dyn RowSource,
    parquet_crcs: &[u32],
) -> Result<FileMeta, StoreError> {
    let mut out = BlockWriter::create(path, &Header { kind: BlockKind::Payloads, ..header })?;
    let mut start = 0u64;
    out.write(&start.to_le_bytes())?;
    for row in 0..rows.len() {
        start += rows.row(row)?.payload.len() as u64;
        out.write(&start.to_le_bytes())?;
    }
    for crc in parquet_crcs {
        out.write(&crc.to_le_bytes())?;
    }
    out.align()?;
    for row in 0..rows.len() {
        out.write(rows.row(row)?.payload)?;
    }
    out.finish()
}

/// An open `.payload` file.
pub(crate) struct PayloadFile {
    file: BlockFile,
    rows: u32,
    parquet_blocks: usize,
}

impl PayloadFile {
    pub(crate) fn open(dir: &Path, meta: &SegmentMeta, header: Header) -> Result<Self, StoreError> {
        let header = Header { kind: BlockKind::Payloads, ..header };
        let file = BlockFile::open(dir, &meta.payload, header)?;
        let parquet_blocks = meta.parquet.bytes.div_ceil(BLOCK_BYTES as u64) as usize;
        let opened = Self { file, rows: meta.rows, parquet_blocks };
        match opened.file.len() >= opened.text_start() {
            true => Ok(opened),
            false => Err(opened.misfit("it has no room for its offsets".to_string())),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// One row's payload. Panics if there is no such row.
    pub(crate) fn payload(&self, row: u32) -> Result<&[u8], StoreError> {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let (start, end) = (self.start(row as usize)?, self.start(row as usize + 1)?);
        let text_start = self.text_start() as u64;
        let range = text_start.checked_add(start).zip(text_start.checked_add(end));
        match range {
            Some((start, end)) if start <= end && end <= self.file.len() as u64 => {
                self.file.range(start as usize..end as usize)
            }
            _ => Err(self.misfit(format!("row {row} is said to lie at {start}..{end}"))),
        }
    }

    /// Checksums of the Parquet file's blocks.
    pub(crate) fn parquet_crcs(&self) -> Result<Vec<u32>, StoreError> {
        let start = (self.rows as usize + 1) * 8;
        let bytes = self.file.range(start..start + self.parquet_blocks * 4)?;
        Ok(bytes.chunks_exact(4).map(|crc| read_u32(crc, 0)).collect())
    }

    /// Reads and checks every byte again.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        self.file.verify()?;
        (0..self.rows).try_for_each(|row| self.payload(row).map(|_| ()))
    }

    /// Where row `row`'s text starts, and where that of the row before ends.
    fn start(&self, row: usize) -> Result<u64, StoreError> {
        let bytes = self.file.range(row * 8..row * 8 + 8)?;
        Ok(u64::from(read_u32(bytes, 0)) | u64::from(read_u32(bytes, 4)) << 32)
    }

    fn text_start(&self) -> usize {
        ((self.rows as usize + 1) * 8 + self.parquet_blocks * 4).next_multiple_of(8)
    }

    fn misfit(&self, what: String) -> StoreError {
        StoreError::corrupt(self.file.path(), what)
    }
}
