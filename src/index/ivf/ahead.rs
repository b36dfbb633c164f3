//! What a search is going to read, asked for at once where it isn't in memory.
//!
//! Left to page faults, each piece would be waited for before the next is asked for. Where all is in memory, the
//! usual case, a search pays for a look at a few pages.
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
    let mut rows: Vec<u32> = rows.collect();
    rows.sort_unstable();
    let gap = (GAP_BYTES / (4 * block.dim.max(1))) as u32;
    for piece in rows.chunk_by(|a, b| b - a <= gap) {
        if let [first, .., last] | [first @ last] = piece {
            let (start, end) = (*first as usize * block.dim, (*last as usize + 1) * block.dim);
            will_need(&block.rows[start..end]);
        }
    }
}
