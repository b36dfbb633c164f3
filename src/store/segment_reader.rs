//! Segment files to rows.
//!
//! R1 no byte is used before its checksum has passed: opening checks lengths, headers, footers and tables;
//! vectors and ids are checked as a whole when they are first asked for, payloads and columns by the block.
//! R2 an open segment outlives its files: unlinked maps stay readable.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use proximadb_kernels::map::as_f32s;
use serde_json::Value;

use super::block_format::{BlockKind, Header};
use super::block_reader::BlockFile;
use super::ids::{Ids, IdsFile};
use super::parquet_reader::ParquetFile;
use super::payloads::PayloadFile;
use super::{RowRef, SegmentMeta, StoreError, Tombstone, json_field};
use crate::memory::{Charge, MemoryBudget, Purpose};
use crate::types::{Column, Distance, FieldType, column_of};

/// An open, immutable segment; shared by all readers.
pub struct Segment {
    meta: SegmentMeta,
    dir: PathBuf,
    vectors: BlockFile,
    ids: IdsFile,
    payloads: PayloadFile,
    parquet: OnceLock<ParquetFile>,
    columns: Mutex<HashMap<String, Column>>,
    /// Held while a column is read, so that two searches don't both read it.
    loading: Mutex<()>,
    /// Of the columns in memory.
    cached: Charge,
    /// Of the mapped files.
    mapped: Charge,
}

impl Segment {
    /// Opens the segment that `meta` describes, in a few milliseconds whatever its size.
    pub fn open(dir: &Path, meta: &SegmentMeta) -> Result<Self, StoreError> {
        let header = Header {
            kind: BlockKind::Vectors,
            dim: meta.dim,
            distance: meta.distance,
            rows: meta.rows,
            segment: meta.id.0,
        };
        let vectors = BlockFile::open(dir, &meta.vec, header)?;
        if vectors.len() as u128 != u128::from(meta.rows) * u128::from(meta.dim) * 4 {
            let what =
                format!("it has {} bytes of vectors for {} rows of {}", vectors.len(), meta.rows, meta.dim);
            return Err(StoreError::corrupt(vectors.path(), what));
        }
        Ok(Self {
            vectors,
            ids: IdsFile::open(dir, meta, header)?,
            payloads: PayloadFile::open(dir, meta, header)?,
            parquet: OnceLock::new(),
            columns: Mutex::default(),
            loading: Mutex::default(),
            cached: Charge::uncounted(Purpose::ColumnCaches),
            mapped: Charge::uncounted(Purpose::SegmentMaps),
            meta: meta.clone(),
            dir: dir.to_path_buf(),
        })
    }

    /// Charges columns and mapped files to the budget from now on.
    pub fn charge_to(&mut self, budget: &Arc<MemoryBudget>) {
        self.cached = budget.charge(Purpose::ColumnCaches, self.cached.bytes());
        self.mapped = budget.charge(Purpose::SegmentMaps, self.meta.bytes() as usize);
    }

    /// What the manifest holds of it.
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Rows in its fast files, dead ones included.
    pub fn rows(&self) -> u32 {
        self.meta.rows
    }

    /// Components of each vector.
    pub fn dim(&self) -> usize {
        self.meta.dim as usize
    }

    /// How vectors are compared.
    pub fn distance(&self) -> Distance {
        self.meta.distance
    }

    /// All vectors, row-major `rows × dim`. The first call reads and checks all of them.
    pub fn vectors(&self) -> Result<&[f32], StoreError> {
        let bytes = self.vectors.all()?;
        as_f32s(bytes).ok_or_else(|| {
            StoreError::corrupt(self.vectors.path(), "its vectors can't be read as f32 on this machine")
        })
    }

    /// Ids, LSNs and event times. The first call reads and checks all of them.
    pub fn ids(&self) -> Result<Ids<'_>, StoreError> {
        self.ids.view()
    }

    /// One row's payload: a JSON object as text, byte for byte as it came; empty means `{}`.
    ///
    /// Panics if there is no such row.
    pub fn payload(&self, row: u32) -> Result<&[u8], StoreError> {
        self.payloads.payload(row)
    }

    /// One row, as a segment writer takes it. Panics if there is no such row.
    #[allow(clippy::indexing_slicing)]
    pub fn row(&self, row: u32) -> Result<RowRef<'_>, StoreError> {
        let ids = self.ids()?;
        let start = row as usize * self.dim();
        Ok(RowRef {
            id: ids.text(row),
            id_is_integer: ids.is_integer(row),
            lsn: ids.lsn(row),
            event_time_ms: ids.event_time_ms(row),
            vector: &self.vectors()?[start..start + self.dim()],
            payload: self.payload(row)?,
        })
    }

    /// The deletes recorded in its Parquet file; for compaction, which must carry them on.
    pub fn tombstones(&self) -> Result<Vec<Tombstone>, StoreError> {
        match self.meta.tombstones {
            0 => Ok(Vec::new()),
            _ => self.parquet()?.tombstones(),
        }
    }

    /// One payload field over all rows, typed as by [`crate::types::columns_of`]; `None` if no row has it.
    ///
    /// Kept in memory after the first call, see [`Segment::cached_bytes`].
    pub fn column(&self, field: &str) -> Result<Option<Column>, StoreError> {
        if let Some(column) = self.columns.lock().get(field) {
            return Ok(Some(column.clone()));
        }
        let _loading = self.loading.lock();
        if let Some(column) = self.columns.lock().get(field) {
            return Ok(Some(column.clone()));
        }
        let Some(column) = self.read_column(field)? else { return Ok(None) };
        let bytes = column.bytes() + field.len();
        // Adding under the lock keeps the count in step with `drop_columns`.
        let mut columns = self.columns.lock();
        columns.insert(field.to_string(), column.clone());
        self.cached.grow(bytes);
        Ok(Some(column))
    }

    fn read_column(&self, field: &str) -> Result<Option<Column>, StoreError> {
        let parquet = self.parquet()?;
        if let Some(column) = parquet.column(field)? {
            return Ok(Some(column));
        }
        let viper = parquet.viper();
        if viper.json_fields_complete && !viper.json_fields.contains_key(field) {
            return Ok(None);
        }
        // The same objects as in `payload_json`, but mapped and not compressed.
        let value = |row| {
            let payload = self.payloads.payload(row)?;
            json_field::extract(payload, field).map_err(|error| {
                StoreError::corrupt(self.payloads.path(), format!("the payload of row {row}: {error}"))
            })
        };
        let values: Vec<Option<Value>> = (0..self.meta.rows).map(value).collect::<Result<_, _>>()?;
        Ok(column_of(&values))
    }

    /// Payload fields and their types; not all of them where rows have thousands of different ones.
    pub fn fields(&self) -> Result<Vec<(String, FieldType)>, StoreError> {
        let viper = self.parquet()?.viper();
        let typed = viper.fields.iter().map(|field| (field.field.clone(), field.kind));
        let json = viper.json_fields.iter().map(|(field, kind)| (field.clone(), *kind));
        let mut fields: Vec<_> = typed.chain(json).collect();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(fields)
    }

    /// Bytes of columns in memory.
    pub fn cached_bytes(&self) -> usize {
        self.cached.bytes()
    }

    /// Forgets the columns in memory and returns their bytes: for when memory is short.
    pub fn drop_columns(&self) -> usize {
        let mut columns = self.columns.lock();
        columns.clear();
        self.cached.set(0)
    }

    /// Reads and checks every byte of all four files again: for `inspect` and the scrub.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.vectors.verify()?;
        self.ids.verify()?;
        self.payloads.verify()?;
        self.parquet()?.verify()
    }

    /// The Parquet file, opened when it is first needed.
    fn parquet(&self) -> Result<&ParquetFile, StoreError> {
        if let Some(parquet) = self.parquet.get() {
            return Ok(parquet);
        }
        let opened = ParquetFile::open(&self.dir, &self.meta, self.payloads.parquet_crcs()?)?;
        Ok(self.parquet.get_or_init(|| opened))
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment")
            .field("id", &self.meta.id)
            .field("rows", &self.meta.rows)
            .finish_non_exhaustive()
    }
}
