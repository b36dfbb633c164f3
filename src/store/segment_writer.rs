//! Rows to segment files.
//!
//! ```text
//!             ┌─▶ .parquet ──block checksums──┐
//! rows ───────┼─▶ .vec                        ▼
//!             ├─▶ .ids                    .payload
//!             └──────────────────────────────▲
//! ```
//! W1 all files are fsynced, then their directory, before `write` returns: a manifest may name them at once.
//! W2 nothing names them before, so what a crash leaves behind is garbage (see `gc`).
use std::path::Path;

use proximadb_kernels::map::f32s_as_bytes;

use super::block_format::{BlockKind, Header};
use super::block_writer::BlockWriter;
use super::ids::write_ids;
use super::parquet_writer::write_parquet;
use super::payloads::write_payloads;
use super::{FileMeta, RowSource, SegmentId, SegmentMeta, StoreError, Tombstone, durable};
use crate::faults;
use crate::types::{Distance, Lsn};

/// What a segment is written from.
pub struct SegmentInput<'a> {
    /// Its identity: a new one each time.
    pub id: SegmentId,
    /// Components of each vector; at least 1.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Live rows, at most 2³² - 2; the segment keeps their order.
    pub rows: &'a dyn RowSource,
    /// The first row of each cluster, rising from 0, where rows are in clusters: row groups of the Parquet file hold
    /// whole ones. Empty where they are in none.
    pub clusters: &'a [u32],
    /// Deletes to record in the Parquet file.
    pub tombstones: &'a [Tombstone],
    /// How vectors lie in the Parquet file.
    pub vectors: VectorForm,
}

/// How the vectors of a Parquet file are encoded; readers see the same lists of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorForm {
    /// As they are: costs the writer a copy. For what is soon written again.
    Plain,
    /// Split into byte streams and compressed: 85 % of the bytes for some µs per row. For what stays.
    Packed,
}

/// Writes segments.
#[derive(Debug, Clone, Copy)]
pub struct SegmentWriter;

impl SegmentWriter {
    /// Writes the files of a segment into `dir`, durably. On failure it deletes what it wrote.
    ///
    /// Memory: one row group (128 MiB) and as much of parsed payloads, 11 to 22 bytes per row, and the types of the
    /// payload's fields.
    pub fn write(dir: &Path, input: &SegmentInput<'_>) -> Result<SegmentMeta, StoreError> {
        let written = Self::write_files(dir, input);
        if written.is_err() {
            for extension in EXTENSIONS {
                // Best effort; collection finds what stays.
                let _ = durable::remove(&dir.join(input.id.file_name(extension)));
            }
        }
        written
    }

    fn write_files(dir: &Path, input: &SegmentInput<'_>) -> Result<SegmentMeta, StoreError> {
        let path = |extension| dir.join(input.id.file_name(extension));
        let spans = check(&path(VEC), input)?;
        let header = Header {
            kind: BlockKind::Vectors,
            dim: input.dim,
            distance: input.distance,
            rows: input.rows.len() as u32,
            segment: input.id.0,
        };
        let vec = write_vectors(&path(VEC), header, input.rows)?;
        let ids = write_ids(&path(IDS), header, input.rows)?;
        let (parquet, crcs) = write_parquet(&path(PARQUET), input)?;
        let payload = write_payloads(&path(PAYLOAD), header, input.rows, &crcs)?;
        faults::pass("store::segment_before_dir_fsync").map_err(StoreError::io(dir, "fsync directory"))?;
        durable::sync_dir(dir)?;
        faults::pass("store::segment_written").map_err(StoreError::io(dir, "fsync directory"))?;
        Ok(SegmentMeta {
            id: input.id,
            dim: input.dim,
            distance: input.distance,
            rows: header.rows,
            tombstones: input.tombstones.len() as u32,
            min_lsn: spans.lsns.map_or(Lsn(0), |(min, _)| min),
            max_lsn: spans.lsns.map_or(Lsn(0), |(_, max)| max),
            min_event_time_ms: spans.times.map(|(min, _)| min),
            max_event_time_ms: spans.times.map(|(_, max)| max),
            parquet,
            vec,
            ids,
            payload,
        })
    }
}

/// Ends of the names of a segment's files.
pub(crate) const PARQUET: &str = "parquet";
pub(crate) const VEC: &str = "vec";
pub(crate) const IDS: &str = "ids";
pub(crate) const PAYLOAD: &str = "payload";
const EXTENSIONS: [&str; 4] = [PARQUET, VEC, IDS, PAYLOAD];

/// The most rows that slots of `.ids` can name.
const ROWS_MAX: usize = u32::MAX as usize - 1;

struct Spans {
    lsns: Option<(Lsn, Lsn)>,
    times: Option<(i64, i64)>,
}

/// Refuses what can't be written, before anything is.
fn check(path: &Path, input: &SegmentInput<'_>) -> Result<Spans, StoreError> {
    let dim = input.dim as usize;
    if dim == 0 || i32::try_from(dim).is_err() {
        return Err(StoreError::invalid(path, format!("vectors of {dim} components")));
    }
    if input.rows.len() > ROWS_MAX || input.tombstones.len() > ROWS_MAX {
        let what = format!("{} rows, {} tombstones", input.rows.len(), input.tombstones.len());
        return Err(StoreError::invalid(path, format!("{what}; at most {ROWS_MAX} fit")));
    }
    let mut spans = Spans { lsns: None, times: None };
    for row in 0..input.rows.len() {
        let at = input.rows.row(row)?;
        if at.vector.len() != dim {
            let what = format!("row {row} has {} components, expected {dim}", at.vector.len());
            return Err(StoreError::invalid(path, what));
        }
        spans.lsns = Some(widen(spans.lsns, at.lsn));
        spans.times = Some(widen(spans.times, at.event_time_ms));
    }
    for dead in input.tombstones {
        spans.lsns = Some(widen(spans.lsns, dead.lsn));
    }
    Ok(spans)
}

fn widen<T: Ord + Copy>(span: Option<(T, T)>, value: T) -> (T, T) {
    span.map_or((value, value), |(min, max)| (min.min(value), max.max(value)))
}

fn write_vectors(path: &Path, header: Header, rows: &dyn RowSource) -> Result<FileMeta, StoreError> {
    let mut out = BlockWriter::create(path, &header)?;
    for row in 0..rows.len() {
        let vector = rows.row(row)?.vector;
        match f32s_as_bytes(vector) {
            Some(bytes) => out.write(bytes)?,
            None => vector.iter().try_for_each(|component| out.write(&component.to_le_bytes()))?,
        }
    }
    out.finish()
}
