//! What a search is going to read, asked for at once where it isn't in memory.
//!
//! Left to page faults, each piece would be waited for before the next is asked for. Where all is in memory, the
//! usual case, a search pays for a look at a few pages.
use std::ops::Range;

use proximadb_kernels::residency::{is_resident, will_need};

use super::format::IvfFile;
use crate::index::VectorBlock;

/// Pieces that are looked at: if they are in memory, so are the others.
const SAMPLED: usize = 4;

/// Clusters whose records are asked for, at most: a search of more reads on while others come.
const RECORDS_MAX: usize = 256;

/// Bytes that are read for nothing rather than ask for two pieces.
const GAP_BYTES: usize = 32 << 10;

/// Asks for the records of clusters, the first of which are looked into first.
pub(super) fn records(file: &IvfFile, clusters: &[u32]) {
    let near = clusters.iter().take(RECORDS_MAX);
    if file.is_mapped() && !near.clone().take(SAMPLED).all(|&cluster| is_resident(file.record_bytes(cluster)))
    {
        near.for_each(|&cluster| will_need(file.record_bytes(cluster)));
    }
}

/// Asks for the vectors of rows, of which the first are the likeliest to be read.
pub(super) fn vectors(block: VectorBlock<'_>, rows: impl Iterator<Item = u32> + Clone) {
    if rows.clone().take(SAMPLED).all(|row| is_resident(block.row(row))) {
        return;
    }
    let gap = GAP_BYTES / (4 * block.dim.max(1));
    for piece in pieces(rows.collect(), gap) {
        will_need(&block.rows[piece.start * block.dim..piece.end * block.dim]);
    }
}

/// Stretches that hold all of `rows`, none of which are as near to the next as `gap` rows.
fn pieces(mut rows: Vec<u32>, gap: usize) -> Vec<Range<usize>> {
    rows.sort_unstable();
    let is_near = |a: &u32, b: &u32| (b - a) as usize <= gap.max(1);
    let stretch = |piece: &[u32]| piece[0] as usize..piece[piece.len() - 1] as usize + 1;
    rows.chunk_by(is_near).map(stretch).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proximadb_kernels::map::{Map, as_f32s};

    use super::*;
    use crate::index::test_data::Data;
    use crate::index::{BuildControl, Clusters, IndexBuilder, IndexQuery, Ivf, IvfBuilder, VectorIndex};
    use crate::types::{CodedSearch, Distance};

    #[test]
    fn rows_that_are_near_each_other_are_one_piece() {
        assert_eq!(pieces(vec![9, 2, 3, 5, 20], 2), [2..6, 9..10, 20..21]);
        assert_eq!(pieces(vec![4, 3, 6], 0), [3..5, 6..7]);
        assert_eq!(pieces(vec![7], 5).first(), Some(&(7..8)));
        assert!(pieces(Vec::new(), 5).is_empty());
    }

    /// Of a file of zeros that has never been read no page is in memory.
    #[test]
    fn vectors_that_are_on_the_disk_are_found_like_others() {
        const ROWS: usize = 20_000;
        const DIM: usize = 40;
        let folder = tempfile::tempdir().unwrap();
        let (path, vectors) = (folder.path().join("0.ivf"), folder.path().join("0.vec"));
        let data = Data { dim: DIM, rows: vec![0.0; ROWS * DIM], distance: Distance::L2 };
        let builder = IvfBuilder { clusters: Clusters::Count(9), quantization: None, threads: 1, seed: 1 };
        builder.build(data.block(), &path, &BuildControl::default()).unwrap();
        let index = Ivf::open_mapped(&path).unwrap();
        std::fs::File::create(&vectors).unwrap().set_len((ROWS * DIM * 4) as u64).unwrap();
        let map = Map::open(&vectors).unwrap();
        let cold = VectorBlock { rows: as_f32s(map.bytes()).unwrap(), ..data.block() };
        let query = IndexQuery {
            vector: &[1.0; DIM],
            k: 10,
            ef_search: 64,
            matching: None,
            alive: &|_| true,
            alive_rows: ROWS,
            codes: CodedSearch::default(),
            deadline: None,
        };
        let found = index.search(cold, &query).unwrap().rows;
        assert_eq!(found, index.search(data.block(), &query).unwrap().rows);
        assert!(found.len() == 10 && found.iter().all(|hit| hit.0 == DIM as f32));
    }
}
