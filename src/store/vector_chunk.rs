//! The vector column of a row group as plain floats, made while the file is written.
//!
//! Parquet gives every float of a list two levels. In live rows they follow from the dimension alone, so they are
//! written as runs; the general writer would compute, compare and encode each of them, which costs more than
//! all the bytes of a row. Nothing is gathered in memory: a page's floats are read where the rows lie.
use std::io::{self, Read};
use std::ops::Range;

use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::ColumnDescPtr;
use proximadb_kernels::map::f32s_as_bytes;

use super::RowSource;

/// Bytes of floats in a page: what a reader decodes at least. Smaller pages only add headers.
const PAGE_BYTES: usize = 1 << 20;
/// Levels of a float that is there, in a list that is there; the first of a list, and those that follow it.
const DEFINED: u8 = 2;
const FIRST: u8 = 0;
const FOLLOWING: u8 = 1;

/// A column chunk that is encoded by reading it.
pub(super) struct VectorChunk<'a> {
    rows: &'a dyn RowSource,
    group: Range<usize>,
    dim: usize,
    page_rows: usize,
    /// What stands in front of the floats of every page but the last.
    full: Bytes,
    /// The same for the last page, which may be shorter.
    last: Bytes,
}

impl<'a> VectorChunk<'a> {
    /// The vectors of `group`, of which each has `dim` components.
    pub fn new(rows: &'a dyn RowSource, group: Range<usize>, dim: usize) -> Result<Self> {
        let page_rows = (PAGE_BYTES / (dim * 4)).max(1).min(group.len().max(1));
        let last_rows = match group.len() % page_rows {
            0 => page_rows,
            rest => rest,
        };
        let (full, last) = (page_start(page_rows, dim)?, page_start(last_rows, dim)?);
        Ok(Self { rows, group, dim, page_rows, full, last })
    }

    fn pages(&self) -> usize {
        self.group.len().div_ceil(self.page_rows)
    }

    /// What a row group writer wants to know of a chunk that it did not encode itself.
    pub fn close(&self, column: ColumnDescPtr) -> Result<ColumnCloseResult> {
        if (column.max_def_level(), column.max_rep_level()) != (DEFINED.into(), FOLLOWING.into()) {
            return Err(ParquetError::General(format!("{} is no list of floats", column.path())));
        }
        let mut index = OffsetIndexBuilder::new();
        let mut offset = 0;
        for page in 0..self.pages() {
            let (start, rows) = self.page(page);
            let bytes = start.len() + rows.len() * self.dim * 4;
            index.append_row_count(rows.len() as i64);
            index.append_offset_and_size(offset, bytes as i32);
            index.append_unencoded_byte_array_data_bytes(None);
            offset += bytes as i64;
        }
        let metadata = ColumnChunkMetaData::builder(column)
            .set_compression(Compression::UNCOMPRESSED)
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_num_values((self.group.len() * self.dim) as i64)
            .set_total_compressed_size(offset)
            .set_total_uncompressed_size(offset)
            .set_data_page_offset(0)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: offset as u64,
            rows_written: self.group.len() as u64,
            metadata,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        })
    }

    /// What a page begins with, and its rows.
    fn page(&self, page: usize) -> (&Bytes, Range<usize>) {
        let first = self.group.start + page * self.page_rows;
        let end = (first + self.page_rows).min(self.group.end);
        (if page + 1 == self.pages() { &self.last } else { &self.full }, first..end)
    }
}

impl Length for VectorChunk<'_> {
    fn len(&self) -> u64 {
        let starts = self.full.len() * self.pages().saturating_sub(1) + self.last.len();
        (starts + self.group.len() * self.dim * 4) as u64
    }
}

impl<'a> ChunkReader for VectorChunk<'a> {
    type T = VectorRead<'a>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        if start != 0 {
            return Err(ParquetError::General("vectors are encoded from their beginning only".to_string()));
        }
        let pages = (0..self.pages()).map(|page| self.page(page)).map(|(start, rows)| (start.clone(), rows));
        Ok(VectorRead {
            rows: self.rows,
            pages: pages.collect::<Vec<_>>().into_iter(),
            start: Bytes::new(),
            left: 0..0,
            row: Row::Done,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let mut bytes = vec![0; length];
        self.get_read(start)?.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// The encoded chunk, front to back.
pub(super) struct VectorRead<'a> {
    rows: &'a dyn RowSource,
    pages: std::vec::IntoIter<(Bytes, Range<usize>)>,
    /// What is left of what stands in front of a page's floats.
    start: Bytes,
    /// Rows of the page that are not begun.
    left: Range<usize>,
    row: Row<'a>,
}

/// What is left of a row.
enum Row<'a> {
    Done,
    Borrowed(&'a [u8]),
    /// Where floats don't lie in memory as they lie in the file.
    Swapped(Bytes),
}

impl VectorRead<'_> {
    /// Bytes to hand out next; none at the end.
    fn next(&mut self) -> io::Result<&[u8]> {
        let row_is_done = match &self.row {
            Row::Done => true,
            Row::Borrowed(bytes) => bytes.is_empty(),
            Row::Swapped(bytes) => bytes.is_empty(),
        };
        if row_is_done && self.start.is_empty() {
            match self.left.next() {
                Some(row) => {
                    let vector = self.rows.row(row).map_err(io::Error::other)?.vector;
                    self.row = match f32s_as_bytes(vector) {
                        Some(bytes) => Row::Borrowed(bytes),
                        None => Row::Swapped(vector.iter().flat_map(|float| float.to_le_bytes()).collect()),
                    };
                }
                None => {
                    self.row = Row::Done;
                    if let Some((start, rows)) = self.pages.next() {
                        (self.start, self.left) = (start, rows);
                    }
                }
            }
        }
        if !self.start.is_empty() {
            return Ok(&self.start);
        }
        Ok(match &self.row {
            Row::Done => &[],
            Row::Borrowed(bytes) => bytes,
            Row::Swapped(bytes) => bytes,
        })
    }

    fn advance(&mut self, bytes: usize) {
        if !self.start.is_empty() {
            let _ = self.start.split_to(bytes);
            return;
        }
        match &mut self.row {
            Row::Done => {}
            Row::Borrowed(left) => *left = left.get(bytes..).unwrap_or_default(),
            Row::Swapped(left) => drop(left.split_to(bytes)),
        }
    }
}

impl Read for VectorRead<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while let Some(room) = to.get_mut(done..).filter(|room| !room.is_empty()) {
            let next = self.next()?;
            let count = next.len().min(room.len());
            if count == 0 {
                break;
            }
            for (to, from) in room.chunks_mut(count).zip(next.chunks(count)).take(1) {
                to.copy_from_slice(from);
            }
            self.advance(count);
            done += count;
        }
        Ok(done)
    }
}

/// What stands in front of the floats of a page of `rows` rows: its header and its levels.
fn page_start(rows: usize, dim: usize) -> Result<Bytes> {
    let (mut repetition, mut definition) = (Vec::new(), Vec::new());
    for _ in 0..rows {
        run(1, FIRST, &mut repetition);
        run(dim - 1, FOLLOWING, &mut repetition);
    }
    run(rows * dim, DEFINED, &mut definition);
    let mut levels = Vec::with_capacity(repetition.len() + definition.len() + 8);
    for part in [repetition, definition] {
        levels.extend_from_slice(&(part.len() as u32).to_le_bytes());
        levels.extend_from_slice(&part);
    }
    let values = rows * dim;
    let too_large = |_| ParquetError::General(format!("{values} floats don't fit a page"));
    let bytes = i32::try_from(levels.len() + values * 4).map_err(too_large)?;
    let mut start = header(bytes, values as i32);
    start.extend_from_slice(&levels);
    Ok(start.into())
}

/// A run of equal levels in Parquet's hybrid encoding: twice the count as a varint, then the level.
fn run(count: usize, level: u8, out: &mut Vec<u8>) {
    if count > 0 {
        varint((count as u64) << 1, out);
        out.push(level);
    }
}

/// `PageHeader` of a plain page without compression, in Thrift's compact protocol.
fn header(bytes: i32, values: i32) -> Vec<u8> {
    /// A field that follows the one before it, and the one after the next; both of type i32, and a struct.
    const NEXT_I32: u8 = 0x15;
    const AFTER_NEXT_STRUCT: u8 = 0x2c;
    const STOP: u8 = 0;
    let mut out = Vec::with_capacity(32);
    let i32s = |values: &[i32], out: &mut Vec<u8>| {
        for value in values {
            out.push(NEXT_I32);
            varint(u64::from(((value << 1) ^ (value >> 31)) as u32), out);
        }
    };
    let (data_page, plain, rle) = (0, 0, 3);
    i32s(&[data_page, bytes, bytes], &mut out);
    out.push(AFTER_NEXT_STRUCT);
    i32s(&[values, plain, rle, rle], &mut out);
    out.extend_from_slice(&[STOP, STOP]);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
