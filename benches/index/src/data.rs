//! The data set as the driver lays it out: row-major little-endian files of f32, and masks of bits.
use std::path::{Path, PathBuf};

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
        Ok(bytes.chunks_exact(rows.div_ceil(64) * 8).map(Mask::new).collect())
    }
}

/// The rows that a filter admits.
pub struct Mask {
    words: Vec<u64>,
    /// How many.
    pub count: usize,
}

impl Mask {
    fn new(bytes: &[u8]) -> Self {
        let word =
            |chunk: &[u8]| u64::from_le_bytes(std::array::from_fn(|at| chunk.get(at).copied().unwrap_or(0)));
        let words: Vec<u64> = bytes.chunks(8).map(word).collect();
        let count = words.iter().map(|word| word.count_ones() as usize).sum();
        Self { words, count }
    }

    /// Is this row admitted?
    #[inline]
    pub fn admits(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Rows admitted, rising.
    pub fn rows(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}
