//! `<segment>.<manifest version>.del`: the rows of a segment that are dead as of an LSN.
//!
//! ```text
//! magic[8] version:u32 rows:u32 segment:uuid[16] as_of:u64  roaring bitmap (portable form)  crc32c:u32
//! ```
//! Numbers are little-endian; the checksum covers all before it. A file is never changed: a later state is
//! another file, named by a later manifest.
use std::fs;
use std::path::Path;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::block_format::read_u32;
use super::error::SEGMENT_REMEDY;
use super::{FileMeta, SegmentMeta, StoreError, durable};
use crate::faults;
use crate::types::Lsn;

const MAGIC: &[u8; 8] = b"PXDBDEL\0";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 40;

/// What the manifest holds of a segment's dead rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelMeta {
    /// The file.
    pub file: FileMeta,
    /// Deletes and replacements up to here are in it.
    pub as_of: Lsn,
    /// Dead rows.
    pub count: u64,
}

/// The dead rows of a segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Deletes {
    /// Rows that are dead.
    pub rows: RoaringBitmap,
    /// Deletes and replacements up to here are in it.
    pub as_of: Lsn,
}

impl Deletes {
    /// Writes the file that manifest `manifest_version` will name, durably.
    pub fn write(
        &self,
        dir: &Path,
        segment: &SegmentMeta,
        manifest_version: u64,
    ) -> Result<DelMeta, StoreError> {
        let name = segment.id.file_name(&format!("{manifest_version}.del"));
        let path = dir.join(&name);
        if let Some(row) = self.rows.max().filter(|row| *row >= segment.rows) {
            return Err(StoreError::invalid(&path, format!("dead row {row} of {}", segment.rows)));
        }
        let mut bytes = self.header(segment);
        self.rows.serialize_into(&mut bytes).map_err(StoreError::io(&path, "encode"))?;
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        durable::write_new(&path, &bytes)?;
        durable::sync_dir(dir)?;
        faults::pass("store::deletes_written").map_err(StoreError::io(&path, "write"))?;
        let file = FileMeta { name, bytes: bytes.len() as u64, crc32c: crc };
        Ok(DelMeta { file, as_of: self.as_of, count: self.rows.len() })
    }

    /// Reads the file that `meta` describes; all of it is checked.
    pub fn read(dir: &Path, segment: &SegmentMeta, meta: &DelMeta) -> Result<Self, StoreError> {
        let path = meta.file.path(dir);
        let bytes = fs::read(&path).map_err(StoreError::open(&path, SEGMENT_REMEDY))?;
        let corrupt = |what: &str| StoreError::corrupt(&path, what);
        let (body, crc) = bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("it is cut short"))?;
        let crc = u32::from_le_bytes(*crc);
        if crc32c::crc32c(body) != crc {
            return Err(corrupt("it fails its checksum"));
        }
        if crc != meta.file.crc32c || bytes.len() as u64 != meta.file.bytes {
            return Err(corrupt("it is whole but not the file that the manifest names"));
        }
        let (header, bitmap) =
            body.split_at_checked(HEADER_BYTES).ok_or_else(|| corrupt("it has no room for its header"))?;
        if header.starts_with(MAGIC) && read_u32(header, 8) != VERSION {
            let found = read_u32(header, 8).into();
            return Err(StoreError::VersionUnknown { path, found, known: VERSION.into() });
        }
        let rows = RoaringBitmap::deserialize_from(bitmap).map_err(|error| corrupt(&error.to_string()))?;
        let deletes = Self { rows, as_of: meta.as_of };
        if header != deletes.header(segment) || deletes.rows.max().is_some_and(|row| row >= segment.rows) {
            return Err(corrupt("it is of another segment or another LSN than the manifest says"));
        }
        Ok(deletes)
    }

    fn header(&self, segment: &SegmentMeta) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&segment.rows.to_le_bytes());
        bytes.extend_from_slice(segment.id.0.as_bytes());
        bytes.extend_from_slice(&self.as_of.0.to_le_bytes());
        bytes
    }
}
