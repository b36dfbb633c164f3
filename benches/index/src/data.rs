//! The data set as the driver lays it out: row-major little-endian files of f32, and masks of bits.
use std::path::{Path, PathBuf};

use proximadb::types::RowSet;
use proximadb_kernels::map::{Map, as_f32s};
use serde_json::Value;

use crate::Result;

/// Vectors and queries, mapped. For cosine all have unit length.
pub struct DataSet {
    /// Components per vector.
    pub dim: usize,
    /// Compared by cosine rather than by l2?
    pub cosine: bool,
    base: Map,
    queries: Map,
    folder: PathBuf,
}

impl DataSet {
    /// Maps the files of a folder with `meta.json`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("meta.json");
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let meta: Value = serde_json::from_slice(&text)?;
        let dim = meta["dim"].as_u64().filter(|dim| *dim > 0).ok_or("meta.json names no dim")? as usize;
        let cosine = meta["metric"] == "cosine";
        let map = |name| Map::open(&folder.join(name));
        Ok(Self {
            dim,
            cosine,
            base: map("base.f32")?,
            queries: map("queries.f32")?,
            folder: folder.to_owned(),
        })
    }

    /// All rows.
    pub fn rows(&self) -> &[f32] {
        as_f32s(self.base.bytes()).unwrap_or(&[])
    }

    /// All queries, one after the other.
    pub fn queries(&self) -> Vec<&[f32]> {
        as_f32s(self.queries.bytes()).unwrap_or(&[]).chunks_exact(self.dim).collect()
    }

    /// One mask per query from a file beside the data.
    pub fn masks(&self, name: &str) -> Result<Vec<Mask>> {
        let bytes = std::fs::read(self.folder.join(name))?;
        let rows = self.rows().len() / self.dim;
        Ok(bytes.chunks_exact(rows.div_ceil(64) * 8).map(|bits| mask(bits, rows)).collect())
    }
}

/// The rows that a filter admits.
pub type Mask = RowSet;

/// From bits as they lie in a file, lowest first.
fn mask(bytes: &[u8], rows: usize) -> Mask {
    Mask::from_fn(rows, |row| bytes.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_admits_the_rows_whose_bits_are_set() {
        let mask = mask(&[0b1000_0001, 0b10], 10);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 7, 9]);
    }
}
