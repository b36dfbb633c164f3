//! Records that a search is going to read, asked for at once where they aren't in memory (as vectors are, see
//! [`crate::index::ahead`]).
use proximadb_kernels::residency::{is_resident, will_need};

use super::format::IvfFile;

/// Records that are looked at: if they are in memory, so are the others.
const SAMPLED: usize = 4;

/// Clusters whose records are asked for, at most: a search of more reads on while others come.
const RECORDS_MAX: usize = 256;

/// Asks for the records of clusters, the first of which are looked into first.
pub(super) fn records(file: &IvfFile, clusters: &[u32]) {
    let near = clusters.iter().take(RECORDS_MAX);
    if file.is_mapped() && !near.clone().take(SAMPLED).all(|&cluster| is_resident(file.record_bytes(cluster)))
    {
        near.for_each(|&cluster| will_need(file.record_bytes(cluster)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proximadb_kernels::map::{Map, as_f32s};

    use crate::index::test_data::Data;
    use crate::index::{
        BuildControl, Clusters, IndexBuilder, IndexQuery, Ivf, IvfBuilder, VectorBlock, VectorIndex,
    };
    use crate::types::{CodedSearch, Distance};

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
