//! Reads payload columns from a segment's Parquet file; every block is checked before it is decoded.
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use proximadb_kernels::map::Map;

use super::block_checks::BlockChecks;
use super::error::SEGMENT_REMEDY;
use super::parquet_format::{META_KEY, ViperMeta};
use super::parquet_writer::COLUMNS_BEFORE_FIELDS;
use super::{SegmentMeta, StoreError, Tombstone};
use crate::types::{Column, FieldType, Lsn, PointId};

/// Rows decoded at once; they are joined into one column at the end.
const BATCH_ROWS: usize = 65_536;
/// What 32-bit offsets reach.
const TEXT_BYTES_MAX: u64 = i32::MAX as u64;

/// An open Parquet file.
pub(crate) struct ParquetFile {
    source: CheckedMap,
    metadata: ArrowReaderMetadata,
    viper: ViperMeta,
    crc32c: u32,
    rows: usize,
}

impl ParquetFile {
    /// Opens the file; its metadata is read and checked. `crcs` are those of its blocks.
    pub(crate) fn open(dir: &Path, meta: &SegmentMeta, crcs: Vec<u32>) -> Result<Self, StoreError> {
        let path = meta.parquet.path(dir);
        let map = Map::open(&path).map_err(StoreError::open(&path, SEGMENT_REMEDY))?;
        if map.len() as u64 != meta.parquet.bytes {
            let what = format!("it has {} bytes, the manifest says {}", map.len(), meta.parquet.bytes);
            return Err(StoreError::corrupt(&path, what));
        }
        let bytes = Bytes::from_owner(map);
        let source = CheckedMap { path: Arc::from(path), bytes, checks: Arc::new(BlockChecks::new(crcs)) };
        let metadata = ArrowReaderMetadata::load(&source, ArrowReaderOptions::new())
            .map_err(|error| source.corrupt(&error))?;
        let values = metadata.metadata().file_metadata().key_value_metadata().into_iter().flatten();
        let text =
            values.into_iter().find(|value| value.key == META_KEY).and_then(|value| value.value.as_deref());
        let viper = ViperMeta::decode(&source.path, text)?;
        if viper.segment != meta.id || viper.rows != meta.rows || viper.dim != meta.dim {
            return Err(StoreError::corrupt(&source.path, "it is of another segment than the manifest's"));
        }
        Ok(Self { source, metadata, viper, crc32c: meta.parquet.crc32c, rows: meta.rows as usize })
    }

    /// Which fields are where.
    pub(crate) fn viper(&self) -> &ViperMeta {
        &self.viper
    }

    /// The column of a field that has its own, over the live rows; `None` for other fields.
    pub(crate) fn column(&self, field: &str) -> Result<Option<Column>, StoreError> {
        let fields = &self.viper.fields;
        let Some(index) = fields.iter().position(|at| at.field == field) else { return Ok(None) };
        let corrupt = |error: &dyn std::fmt::Display| {
            StoreError::corrupt(&self.source.path, format!("its column of field {field:?}: {error}"))
        };
        let parts = self.read(COLUMNS_BEFORE_FIELDS + index).map_err(|error| corrupt(&error))?;
        let text_bytes: u64 = parts.iter().map(text_bytes).sum();
        if text_bytes > TEXT_BYTES_MAX {
            return Err(StoreError::ColumnTooLarge {
                path: self.source.path.to_path_buf(),
                field: field.to_string(),
                bytes: text_bytes,
                max: TEXT_BYTES_MAX,
            });
        }
        let kind = fields.get(index).map_or(FieldType::Json, |field| field.kind);
        let refs: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let joined = match refs.is_empty() {
            true => arrow_array::new_empty_array(&super::parquet_writer::data_type(kind)),
            false => arrow_select::concat::concat(&refs).map_err(|error| corrupt(&error))?,
        };
        let column = typed(&joined, kind).filter(|column| column.len() == self.rows);
        column.map(Some).ok_or_else(|| {
            corrupt(&format!(
                "{} values of type {}, expected {} of {kind:?}",
                joined.len(),
                joined.data_type(),
                self.rows
            ))
        })
    }

    fn read(&self, root: usize) -> Result<Vec<ArrayRef>, ParquetError> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), [root]);
        let reader =
            builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_limit(self.rows).build()?;
        reader.map(|batch| batch.map(|batch| batch.column(0).clone()).map_err(ParquetError::from)).collect()
    }

    /// The deletes recorded behind the live rows.
    pub(crate) fn tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(self.source.clone(), self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), 0..4);
        let corrupt =
            |error: &dyn std::fmt::Display| StoreError::corrupt(&self.source.path, error.to_string());
        let reader = builder.with_projection(mask).with_batch_size(BATCH_ROWS).with_offset(self.rows).build();
        let mut tombstones = Vec::new();
        for batch in reader.map_err(|error| corrupt(&error))? {
            let batch = batch.map_err(|error| corrupt(&error))?;
            let rows =
                tombstones_of(&batch).ok_or_else(|| corrupt(&"its first columns are not those of VIPER"))?;
            tombstones.extend(rows);
        }
        Ok(tombstones)
    }

    /// Reads and checks every byte again.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        let CheckedMap { path, bytes, checks } = &self.source;
        checks.every(bytes).map_err(|bad| StoreError::corrupt(path, bad.describe(0)))?;
        match crc32c::crc32c(bytes) == self.crc32c {
            true => Ok(()),
            false => Err(StoreError::corrupt(path, "its checksum is not the manifest's")),
        }
    }
}

fn tombstones_of(batch: &RecordBatch) -> Option<Vec<Tombstone>> {
    let ids = batch.column(0).as_string_opt::<i32>()?;
    let integers = batch.column(1).as_boolean_opt()?;
    let lsns = batch.column(2).as_primitive_opt::<UInt64Type>()?;
    let times = batch.column(3).as_primitive_opt::<TimestampMillisecondType>()?;
    let tombstone = |row| Tombstone {
        id: PointId::from_stored(ids.value(row), integers.value(row)),
        lsn: Lsn(lsns.value(row)),
        event_time_ms: times.value(row),
    };
    Some((0..batch.num_rows()).map(tombstone).collect())
}

/// Bytes of text in an array, be it the part of a larger one or not.
fn text_bytes(array: &ArrayRef) -> u64 {
    let Some(text) = array.as_string_opt::<i32>() else { return 0 };
    let offsets = text.value_offsets();
    let (first, last) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
    u64::try_from(last - first).unwrap_or(u64::MAX)
}

fn typed(array: &ArrayRef, kind: FieldType) -> Option<Column> {
    Some(match kind {
        FieldType::Bool => Column::Bool(array.as_boolean_opt()?.clone()),
        FieldType::Int => Column::Int(array.as_primitive_opt::<Int64Type>()?.clone()),
        FieldType::Float => Column::Float(array.as_primitive_opt::<Float64Type>()?.clone()),
        FieldType::Text => Column::Text(array.as_string_opt::<i32>()?.clone()),
        FieldType::Json => Column::Json(array.as_string_opt::<i32>()?.clone()),
    })
}

/// A map whose blocks are checked when the Parquet reader first asks for them.
#[derive(Clone)]
struct CheckedMap {
    path: Arc<Path>,
    bytes: Bytes,
    checks: Arc<BlockChecks>,
}

impl CheckedMap {
    fn corrupt(&self, error: &ParquetError) -> StoreError {
        StoreError::corrupt(&self.path, error.to_string())
    }

    fn checked(&self, start: usize, length: usize) -> Result<Bytes, ParquetError> {
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            let has = self.bytes.len();
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} are asked for, the file has {has}"
            )));
        };
        let bad = |bad: super::block_checks::BadBlock| ParquetError::General(bad.describe(0));
        self.checks.range(&self.bytes, start..end).map_err(bad)?;
        Ok(self.bytes.slice(start..end))
    }
}

impl Length for CheckedMap {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl ChunkReader for CheckedMap {
    type T = CheckedRead;

    fn get_read(&self, start: u64) -> Result<CheckedRead, ParquetError> {
        let at = usize::try_from(start).unwrap_or(usize::MAX).min(self.bytes.len());
        Ok(CheckedRead { map: self.clone(), at })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.checked(usize::try_from(start).unwrap_or(usize::MAX), length)
    }
}

/// Reads on from a place.
struct CheckedRead {
    map: CheckedMap,
    at: usize,
}

impl Read for CheckedRead {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let length = to.len().min(self.map.bytes.len() - self.at);
        let bytes = self.map.checked(self.at, length).map_err(io::Error::other)?;
        for (to, from) in to.iter_mut().zip(bytes.as_ref()) {
            *to = *from;
        }
        self.at += length;
        Ok(length)
    }
}
