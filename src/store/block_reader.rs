//! Reads the frame described in `block_format`: opening costs a header, a footer and the table.
use std::ops::Range;
use std::path::{Path, PathBuf};

use proximadb_kernels::map::Map;

use super::block_checks::{BadBlock, BlockChecks};
use super::block_format::{
    FOOTER_BYTES, Footer, HEADER_BYTES, Header, HeaderFault, VERSION, check_header, read_u32,
};
use super::error::SEGMENT_REMEDY;
use super::{FileMeta, StoreError};

/// An open file; its data blocks are checked when they are first touched.
pub(crate) struct BlockFile {
    path: PathBuf,
    map: Map,
    data: Range<usize>,
    checks: BlockChecks,
    header: Header,
    meta_crc: u32,
}

impl BlockFile {
    /// Opens the file that `meta` describes, and checks length, header, footer and table.
    pub(crate) fn open(dir: &Path, meta: &FileMeta, header: Header) -> Result<Self, StoreError> {
        let path = meta.path(dir);
        let map = Map::open(&path).map_err(StoreError::open(&path, SEGMENT_REMEDY))?;
        if map.len() as u64 != meta.bytes {
            let what = format!("it has {} bytes, the manifest says {}", map.len(), meta.bytes);
            return Err(StoreError::corrupt(&path, what));
        }
        let (data, crcs) = parse(&path, map.bytes(), &header, meta.crc32c)?;
        Ok(Self { path, map, data, checks: BlockChecks::new(crcs), header, meta_crc: meta.crc32c })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the data.
    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// Part of the data, checked.
    pub(crate) fn range(&self, range: Range<usize>) -> Result<&[u8], StoreError> {
        let data = self.data();
        let Some(bytes) = data.get(range.clone()) else {
            let what = format!("bytes {range:?} are asked for, it has {}", data.len());
            return Err(StoreError::corrupt(&self.path, what));
        };
        self.checks.range(data, range).map_err(|bad| self.bad_block(&bad))?;
        Ok(bytes)
    }

    /// All of the data, checked.
    pub(crate) fn all(&self) -> Result<&[u8], StoreError> {
        self.range(0..self.len())
    }

    /// Reads and checks every byte again, whatever has passed before.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        parse(&self.path, self.map.bytes(), &self.header, self.meta_crc)?;
        self.checks.every(self.data()).map_err(|bad| self.bad_block(&bad))
    }

    fn data(&self) -> &[u8] {
        self.map.bytes().get(self.data.clone()).unwrap_or_default()
    }

    fn bad_block(&self, bad: &BadBlock) -> StoreError {
        StoreError::corrupt(&self.path, bad.describe(HEADER_BYTES))
    }
}

/// Where the data lies, and the checksums of its blocks.
fn parse(
    path: &Path,
    bytes: &[u8],
    expected: &Header,
    meta_crc: u32,
) -> Result<(Range<usize>, Vec<u32>), StoreError> {
    let corrupt = |what: String| StoreError::corrupt(path, what);
    let too_short = || corrupt(format!("it has only {} bytes", bytes.len()));
    let header = bytes.first_chunk::<HEADER_BYTES>().ok_or_else(too_short)?;
    let header_crc = check_header(header, expected).map_err(|fault| match fault {
        HeaderFault::Damaged(what) => corrupt(what),
        HeaderFault::Version(found) => StoreError::VersionUnknown {
            path: path.to_path_buf(),
            found: found.into(),
            known: VERSION.into(),
        },
    })?;
    let footer_bytes = bytes.last_chunk::<FOOTER_BYTES>().ok_or_else(too_short)?;
    let footer = Footer::decode(footer_bytes).map_err(corrupt)?;
    if read_u32(footer_bytes, FOOTER_BYTES - 4) != meta_crc {
        return Err(corrupt(format!("its footer is whole but not the manifest's ({meta_crc:08x})")));
    }
    if Footer::file_bytes(footer.data_bytes) != Some(bytes.len() as u64) || footer.header_crc != header_crc {
        return Err(corrupt("its footer does not fit its length and header".to_string()));
    }
    // The length fits, so these ranges do.
    let data = HEADER_BYTES..HEADER_BYTES + footer.data_bytes as usize;
    let table = bytes.get(data.end..bytes.len() - FOOTER_BYTES).ok_or_else(too_short)?;
    if crc32c::crc32c(table) != footer.table_crc {
        return Err(corrupt("its table of block checksums fails its own".to_string()));
    }
    Ok((data, table.chunks_exact(4).map(|crc| read_u32(crc, 0)).collect()))
}
