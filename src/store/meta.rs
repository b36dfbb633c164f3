//! What the manifest holds of a segment.
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::types::{Distance, Lsn};

/// A segment's identity and the stem of its files' names: a UUID v7, so that names sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub Uuid);

impl SegmentId {
    /// A new one.
    #[allow(clippy::new_without_default)] // "default" would say that all are alike
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The name of one of its files.
    pub fn file_name(self, extension: &str) -> String {
        format!("{self}.{extension}")
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One immutable file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMeta {
    /// Its name inside the segments directory.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Parquet and graphs: of the whole file. `.del` and quarantine: of all before their own checksum, which it equals.
    /// `.vec`, `.ids`, `.payload`: of the footer, which covers the checksums of all the rest.
    pub crc32c: u32,
}

impl FileMeta {
    pub(crate) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(&self.name)
    }
}

/// What is needed to open a segment and to choose among segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentMeta {
    /// Its identity.
    pub id: SegmentId,
    /// Components of each vector.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Live rows when written; rows that died since are in its `.del`.
    pub rows: u32,
    /// Deletes recorded in the Parquet file only.
    pub tombstones: u32,
    /// Over rows and tombstones; 0 if it has neither.
    pub min_lsn: Lsn,
    /// Over rows and tombstones; 0 if it has neither.
    pub max_lsn: Lsn,
    /// Over rows, milliseconds since the Unix epoch; `None` without rows.
    pub min_event_time_ms: Option<i64>,
    /// Over rows, milliseconds since the Unix epoch; `None` without rows.
    pub max_event_time_ms: Option<i64>,
    /// Everything, for any Parquet reader.
    pub parquet: FileMeta,
    /// Vectors.
    pub vec: FileMeta,
    /// Row → id, LSN and event time; id → row.
    pub ids: FileMeta,
    /// Row → payload.
    pub payload: FileMeta,
}

impl SegmentMeta {
    /// Its four files.
    pub fn files(&self) -> [&FileMeta; 4] {
        [&self.parquet, &self.vec, &self.ids, &self.payload]
    }

    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.files().iter().map(|file| file.bytes).sum()
    }
}
