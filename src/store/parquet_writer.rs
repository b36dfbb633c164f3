//! Writes the Parquet file of a segment; the columns are described in `parquet_format`.
//!
//! Vectors are a fixed-size list of f32, split into byte streams and compressed by zstd level 1: of the
//! forms that every reader shows as a list of floats it is the smallest (85 % of raw for normalised random
//! vectors; 93 % without byte streams), and costs no more than plain bytes: 320 MB/s to write, 730 to read.
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BooleanArray, FixedSizeListArray, Float32Array, StringArray, TimestampMillisecondArray,
    UInt64Array, new_null_array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::block_format::BLOCK_BYTES;
use super::block_writer::file_name;
use super::durable::LargeFile;
use super::parquet_format::{JSON_COLUMN, META_KEY, VIPER_VERSION, ViperMeta};
use super::payload_cells::PayloadCells;
use super::segment_writer::{SegmentInput, VectorForm};
use super::vector_chunk::VectorChunk;
use super::{FileMeta, RowSource, StoreError, Tombstone};
use crate::types::{FieldType, FieldTypes};

/// Rows of a row group: what a reader must decode at least.
const ROW_GROUP_ROWS: usize = 65_536;
/// Rows of a row group of whole clusters, at least: with fewer, what a reader knows of each group outweighs it.
const CLUSTERED_ROWS_MIN: usize = 4_096;
/// A row group ends early at so many bytes of vectors and parsed payloads: they are in memory while it is built.
const ROW_GROUP_BYTES: usize = 128 << 20;
/// Bytes in memory per byte of JSON text, parsed: map nodes and a string per key.
const PARSED_FACTOR: usize = 8;
/// Components of one batch of null vectors: they are as long in memory as others.
const NULL_COMPONENTS: usize = 4 << 20;

/// Fixed columns in front of those of payload fields.
pub(crate) const COLUMNS_BEFORE_FIELDS: usize = 6;

/// Writes and fsyncs the file; returns the checksums of its blocks of 1 MiB too.
pub(crate) fn write_parquet(
    path: &Path,
    input: &SegmentInput<'_>,
) -> Result<(FileMeta, Vec<u32>), StoreError> {
    let groups = row_groups(input)?;
    let mut types = FieldTypes::default();
    let mut kept = Vec::new();
    let keeps = payload_bytes(input)? * PARSED_FACTOR <= ROW_GROUP_BYTES;
    for group in &groups {
        let cells = parse(path, input.rows, group.clone())?;
        cells.observe(&mut types);
        // Of most segments all payloads fit memory, and are parsed once.
        kept.extend(keeps.then_some(cells));
    }
    let (fields, json_fields, json_fields_complete) = ViperMeta::choose(&types);
    let meta = ViperMeta {
        version: VIPER_VERSION,
        segment: input.id,
        dim: input.dim,
        distance: input.distance,
        rows: input.rows.len() as u32,
        tombstones: input.tombstones.len() as u32,
        fields,
        json_fields,
        json_fields_complete,
    };
    let failed = |error| write_error(path, error);
    let mut file = Groups::begin(path, &meta, input).map_err(failed)?;
    let mut kept = kept.into_iter();
    for group in groups {
        let cells = match kept.next() {
            Some(cells) => cells,
            None => parse(path, input.rows, group.clone())?,
        };
        let columns = live_columns(input, &meta, group.clone(), &cells)?;
        file.write(columns, Some(group)).map_err(failed)?;
    }
    let batch_rows = (NULL_COMPONENTS / input.dim as usize).clamp(1, ROW_GROUP_ROWS);
    for batch in input.tombstones.chunks(batch_rows) {
        let columns = dead_columns(&file.schema, batch);
        file.write(columns, None).map_err(failed)?;
    }
    file.end().map_err(failed)?.finish()
}

/// The file, row group by row group.
struct Groups<'a> {
    input: &'a SegmentInput<'a>,
    schema: SchemaRef,
    file: SerializedFileWriter<CrcFile>,
    columns: ArrowRowGroupWriterFactory,
    written: usize,
}

impl<'a> Groups<'a> {
    fn begin(path: &Path, meta: &ViperMeta, input: &'a SegmentInput<'a>) -> Result<Self, ParquetError> {
        let schema = schema(meta);
        let out = CrcFile::create(path).map_err(|error| ParquetError::External(Box::new(error)))?;
        let writer = ArrowWriter::try_new(out, schema.clone(), Some(properties(meta, input.vectors)))?;
        let (file, columns) = writer.into_serialized_writer()?;
        Ok(Self { input, schema, file, columns, written: 0 })
    }

    /// Writes a row group. `live`: the rows it holds, whose vectors may be read where they lie.
    fn write(
        &mut self,
        columns: Vec<Option<ArrayRef>>,
        live: Option<std::ops::Range<usize>>,
    ) -> Result<(), ParquetError> {
        let writers = self.columns.create_column_writers(self.written)?;
        // One leaf per column, lists included.
        let descriptors = self.file.schema_descr().columns().to_vec();
        let mut group = self.file.next_row_group()?;
        for (place, ((mut writer, array), leaf)) in
            writers.into_iter().zip(columns).zip(descriptors).enumerate()
        {
            match (array, &live) {
                (Some(array), _) => {
                    for leaf in compute_leaves(self.schema.field(place), &array)? {
                        writer.write(&leaf)?;
                    }
                    writer.close()?.append_to_row_group(&mut group)?;
                }
                (None, Some(rows)) => {
                    let chunk = VectorChunk::new(self.input.rows, rows.clone(), self.input.dim as usize)?;
                    let close = chunk.close(leaf)?;
                    group.append_column(&chunk, close)?;
                }
                (None, None) => return Err(ParquetError::General(format!("column {place} is missing"))),
            }
        }
        group.close()?;
        self.written += 1;
        Ok(())
    }

    fn end(self) -> Result<CrcFile, ParquetError> {
        self.file.into_inner()
    }
}

/// Where row groups end.
fn row_groups(input: &SegmentInput<'_>) -> Result<Vec<std::ops::Range<usize>>, StoreError> {
    let mut sizes = Vec::with_capacity(input.rows.len());
    for row in 0..input.rows.len() {
        sizes.push(input.dim as usize * 4 + input.rows.row(row)?.payload.len() * PARSED_FACTOR);
    }
    let bounds = Bounds { rows: ROW_GROUP_ROWS, bytes: ROW_GROUP_BYTES, clustered: CLUSTERED_ROWS_MIN };
    Ok(cut(&sizes, input.clusters, &bounds))
}

/// How large row groups are.
struct Bounds {
    /// Rows at most.
    rows: usize,
    /// Bytes at most, but for a row that has more.
    bytes: usize,
    /// Rows at least where they hold whole clusters.
    clustered: usize,
}

/// Groups of consecutive rows of so many bytes each. Where there are clusters, a group ends with one as soon as it has
/// rows enough, and earlier rather than in the midst of one; a cluster that is too large for a group is cut.
fn cut(sizes: &[usize], clusters: &[u32], bounds: &Bounds) -> Vec<std::ops::Range<usize>> {
    let mut clusters = clusters.iter().map(|start| *start as usize).peekable();
    let mut groups = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    // The last cluster that begins within the group, and the group's bytes before it.
    let mut last: Option<(usize, usize)> = None;
    for (row, &size) in sizes.iter().enumerate() {
        let begins_cluster = clusters.next_if_eq(&row).is_some();
        if begins_cluster && row - start >= bounds.clustered {
            groups.push(start..row);
            (start, bytes, last) = (row, 0, None);
        } else if begins_cluster && row > start {
            last = Some((row, bytes));
        }
        while row > start && (row - start == bounds.rows || bytes + size > bounds.bytes) {
            let (end, before) = last.take().unwrap_or((row, bytes));
            groups.push(start..end);
            (start, bytes) = (end, bytes - before);
        }
        bytes += size;
    }
    if start < sizes.len() {
        groups.push(start..sizes.len());
    }
    groups
}

fn payload_bytes(input: &SegmentInput<'_>) -> Result<usize, StoreError> {
    (0..input.rows.len()).map(|row| input.rows.row(row).map(|row| row.payload.len())).sum()
}

fn parse(
    path: &Path,
    rows: &dyn RowSource,
    group: std::ops::Range<usize>,
) -> Result<PayloadCells, StoreError> {
    let mut cells = PayloadCells::default();
    for row in group {
        let at = rows.row(row)?;
        cells.push(at.payload).map_err(|error| {
            StoreError::invalid(path, format!("the payload of row {row} (id {:?}): {error}", at.id))
        })?;
    }
    Ok(cells)
}

fn schema(meta: &ViperMeta) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let vector = DataType::FixedSizeList(element(), meta.dim as i32);
    let mut fields = vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("id_is_integer", DataType::Boolean, false),
        Field::new("lsn", DataType::UInt64, false),
        Field::new("event_time", time, false),
        Field::new("deleted", DataType::Boolean, false),
        Field::new("vector", vector, true),
    ];
    fields.extend(meta.fields.iter().map(|field| Field::new(&field.column, data_type(field.kind), true)));
    fields.push(Field::new(JSON_COLUMN, DataType::Utf8, true));
    Arc::new(Schema::new(fields))
}

fn element() -> FieldRef {
    Arc::new(Field::new("element", DataType::Float32, false))
}

pub(crate) fn data_type(kind: FieldType) -> DataType {
    match kind {
        FieldType::Bool => DataType::Boolean,
        FieldType::Int => DataType::Int64,
        FieldType::Float => DataType::Float64,
        FieldType::Text | FieldType::Json => DataType::Utf8,
    }
}

fn properties(meta: &ViperMeta, vectors: VectorForm) -> WriterProperties {
    let path = |parts: &[&str]| ColumnPath::new(parts.iter().map(|part| (*part).to_string()).collect());
    let vector = path(&["vector", "list", "element"]);
    let text = serde_json::to_string(meta).expect("names and numbers are always JSON");
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("proximadb {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(vec![KeyValue::new(META_KEY.to_string(), text)]))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).expect("zstd has a level 1")))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_encoding(vector.clone(), Encoding::BYTE_STREAM_SPLIT)
        .set_column_dictionary_enabled(vector.clone(), false)
        .set_column_statistics_enabled(vector.clone(), EnabledStatistics::None)
        // Every id is there once: a dictionary would hold them all and save nothing.
        .set_column_dictionary_enabled(path(&["id"]), false)
        .set_column_dictionary_enabled(path(&[JSON_COLUMN]), false)
        .set_column_statistics_enabled(path(&[JSON_COLUMN]), EnabledStatistics::None);
    if vectors == VectorForm::Plain {
        builder = builder
            .set_column_encoding(vector.clone(), Encoding::PLAIN)
            .set_column_compression(vector.clone(), Compression::UNCOMPRESSED);
    }
    for rising in ["lsn", "event_time"] {
        builder = builder
            .set_column_dictionary_enabled(path(&[rising]), false)
            .set_column_encoding(path(&[rising]), Encoding::DELTA_BINARY_PACKED);
    }
    builder.build()
}

/// The columns of live rows; `None` in place of vectors that are read where they lie.
fn live_columns(
    input: &SegmentInput<'_>,
    meta: &ViperMeta,
    group: std::ops::Range<usize>,
    cells: &PayloadCells,
) -> Result<Vec<Option<ArrayRef>>, StoreError> {
    let (mut ids, mut integers) = (StringBuilder::new(), BooleanBuilder::with_capacity(group.len()));
    let (mut lsns, mut times) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    for row in group.clone() {
        let row = input.rows.row(row)?;
        ids.append_value(row.id);
        integers.append_value(row.id_is_integer);
        lsns.push(row.lsn.0);
        times.push(row.event_time_ms);
    }
    let vectors = match input.vectors {
        VectorForm::Plain => None,
        VectorForm::Packed => Some(packed(input, group.clone())?),
    };
    let mut columns: Vec<Option<ArrayRef>> = vec![
        Some(Arc::new(ids.finish())),
        Some(Arc::new(integers.finish())),
        Some(Arc::new(UInt64Array::from(lsns))),
        Some(Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))),
        Some(Arc::new(BooleanArray::from(vec![false; group.len()]))),
        vectors,
    ];
    columns.extend(meta.fields.iter().map(|field| Some(cells.column(&field.field, field.kind))));
    let has_column =
        |name: &str| meta.fields.binary_search_by(|field| field.field.as_str().cmp(name)).is_ok();
    columns.push(Some(Arc::new(cells.objects(|name| !has_column(name)))));
    Ok(columns)
}

fn packed(input: &SegmentInput<'_>, group: std::ops::Range<usize>) -> Result<ArrayRef, StoreError> {
    let mut vectors: Vec<f32> = Vec::with_capacity(group.len() * input.dim as usize);
    for row in group {
        vectors.extend_from_slice(input.rows.row(row)?.vector);
    }
    let vectors = Arc::new(Float32Array::from(vectors));
    Ok(Arc::new(FixedSizeListArray::new(element(), input.dim as i32, vectors, None)))
}

fn dead_columns(schema: &Schema, tombstones: &[Tombstone]) -> Vec<Option<ArrayRef>> {
    let times = TimestampMillisecondArray::from_iter_values(tombstones.iter().map(|dead| dead.event_time_ms));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(tombstones.iter().map(|dead| dead.id.as_str()))),
        Arc::new(BooleanArray::from_iter(tombstones.iter().map(|dead| Some(dead.id.is_integer())))),
        Arc::new(UInt64Array::from_iter_values(tombstones.iter().map(|dead| dead.lsn.0))),
        Arc::new(times.with_timezone("UTC")),
        Arc::new(BooleanArray::from(vec![true; tombstones.len()])),
    ];
    for field in schema.fields().iter().skip(columns.len()) {
        columns.push(nulls(field, tombstones.len()));
    }
    columns.into_iter().map(Some).collect()
}

fn nulls(field: &Field, rows: usize) -> ArrayRef {
    match field.data_type() {
        // The generic null array would hold null *floats*, which the schema forbids.
        DataType::FixedSizeList(element, dim) => {
            let floats = Arc::new(Float32Array::from(vec![0.0; rows * *dim as usize]));
            Arc::new(FixedSizeListArray::new(element.clone(), *dim, floats, Some(NullBuffer::new_null(rows))))
        }
        other => new_null_array(other, rows),
    }
}

fn write_error(path: &Path, error: ParquetError) -> StoreError {
    let source = match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(inner) => *inner,
            Err(other) => match other.downcast::<StoreError>() {
                Ok(inner) => return *inner,
                Err(other) => io::Error::other(other),
            },
        },
        other => io::Error::other(other),
    };
    StoreError::io(path, "write")(source)
}

/// Takes checksums of what it writes: of the whole file and of each block.
struct CrcFile {
    path: PathBuf,
    file: LargeFile,
    block: Vec<u8>,
    crcs: Vec<u32>,
    whole: u32,
    bytes: u64,
}

impl CrcFile {
    fn create(path: &Path) -> Result<Self, StoreError> {
        let file = LargeFile::create(path)?;
        let block = Vec::with_capacity(BLOCK_BYTES);
        Ok(Self { path: path.to_path_buf(), file, block, crcs: Vec::new(), whole: 0, bytes: 0 })
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.file.write_all(&self.block)?;
        let crc = crc32c::crc32c(&self.block);
        self.crcs.push(crc);
        self.whole = crc32c::crc32c_combine(self.whole, crc, self.block.len());
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(FileMeta, Vec<u32>), StoreError> {
        if !self.block.is_empty() {
            self.end_block().map_err(StoreError::io(&self.path, "write"))?;
        }
        self.file.sync_all().map_err(StoreError::io(&self.path, "fsync"))?;
        Ok((FileMeta { name: file_name(&self.path), bytes: self.bytes, crc32c: self.whole }, self.crcs))
    }
}

impl Write for CrcFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let now = bytes.get(..BLOCK_BYTES - self.block.len()).unwrap_or(bytes);
        self.block.extend_from_slice(now);
        self.bytes += now.len() as u64;
        if self.block.len() == BLOCK_BYTES {
            self.end_block()?;
        }
        Ok(now.len())
    }

    /// Only whole blocks go to the file before the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_groups_hold_whole_clusters_where_these_fit() {
        let bounds = Bounds { rows: 10, bytes: 100, clustered: 4 };
        let of = |sizes: &[usize], clusters: &[u32]| {
            cut(sizes, clusters, &bounds).into_iter().map(|group| group.len()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[1; 25], &[]), [10, 10, 5]);
        assert_eq!(of(&[30; 5], &[]), [3, 2]);
        assert_eq!(of(&[], &[]), [0; 0]);
        assert_eq!(of(&[1; 14], &[0, 2, 3, 5, 11]), [5, 6, 3]);
        assert_eq!(of(&[1; 16], &[0, 3, 12]), [3, 9, 4], "rather few rows than half a cluster");
        assert_eq!(of(&[1; 30], &[0, 3, 26]), [3, 10, 10, 7], "but a large one is cut");
        assert_eq!(of(&[40; 6], &[0, 1, 3, 4]), [1, 2, 1, 2]);
        assert_eq!(of(&[500, 1, 1], &[0, 1]), [1, 2], "a row of more bytes is alone");
    }

    #[test]
    fn a_full_disk_is_seen_through_the_parquet_writer() {
        let full = || io::Error::from_raw_os_error(libc::ENOSPC);
        let error = write_error(Path::new("x.parquet"), full().into());
        assert!(matches!(error, StoreError::Full { .. }), "{error}");
        let other = write_error(Path::new("x.parquet"), ParquetError::General("odd".into()));
        assert!(matches!(other, StoreError::Io { .. }), "{other}");
    }
}
