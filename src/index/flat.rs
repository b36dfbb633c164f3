//! Exact search that computes every distance: the truth for tests and figures. See `scanner` for what searches use.
use proximadb_kernels::distance;

use super::{IndexHits, TopK, VectorBlock};
use crate::types::Distance;

/// Rows scored before the bound is looked at again: their distances fill a quarter of the L1 cache.
const SCAN_ROWS: usize = 1024;

/// Rows gathered by number in one call.
const GATHER_ROWS: usize = 64;

/// The `k` nearest of all rows that `admit` lets through, by internal distance.
///
/// `admit` is asked only about rows near enough to be returned. Panics if the query's length isn't the
/// block's.
pub fn exact_scan(block: VectorBlock<'_>, query: &[f32], k: usize, admit: impl Fn(u32) -> bool) -> IndexHits {
    assert_eq!(query.len(), block.dim, "the query has another number of components");
    if block.dim == 0 || k == 0 {
        return IndexHits::default();
    }
    let mut top = TopK::new(k);
    let mut distances = [0.0; SCAN_ROWS];
    let mut first = 0;
    for rows in block.rows.chunks(SCAN_ROWS * block.dim) {
        let count = rows.len() / block.dim;
        let distances = &mut distances[..count];
        distances_many(block.distance, query, rows, distances);
        let mut bound = top.bound();
        for (row, &distance) in (first..).zip(distances.iter()) {
            // What is no farther than the bound or isn't a number: the heap knows where to put either.
            if distance > bound {
                continue;
            }
            if admit(row) && top.push(distance, row) {
                bound = top.bound();
            }
        }
        first += count as u32;
    }
    IndexHits { rows: top.into_sorted(), visited: block.len() as u64, scanned: true }
}

/// The `k` nearest of the given rows, by internal distance.
///
/// Panics if the query's length isn't the block's or a row isn't there.
pub fn exact_rows(
    block: VectorBlock<'_>,
    query: &[f32],
    k: usize,
    rows: impl Iterator<Item = u32>,
) -> IndexHits {
    assert_eq!(query.len(), block.dim, "the query has another number of components");
    let mut rows = rows;
    let mut top = TopK::new(k);
    let mut visited = 0;
    let (mut ids, mut distances) = ([0; GATHER_ROWS], [0.0; GATHER_ROWS]);
    loop {
        let mut count = 0;
        for (slot, row) in ids.iter_mut().zip(rows.by_ref()) {
            *slot = row;
            count += 1;
        }
        if count == 0 {
            return IndexHits { rows: top.into_sorted(), visited, scanned: true };
        }
        let (ids, distances) = (&ids[..count], &mut distances[..count]);
        distances_ids(block, query, ids, distances);
        for (&row, &distance) in ids.iter().zip(distances.iter()) {
            top.push(distance, row);
        }
        visited += count as u64;
    }
}

/// Internal distances from the query to contiguous rows.
pub(super) fn distances_many(kind: Distance, query: &[f32], rows: &[f32], out: &mut [f32]) {
    match kind {
        Distance::L2 => distance::l2_squared_many(query, rows, out),
        Distance::Cosine | Distance::Dot => {
            distance::dot_many(query, rows, out);
            from_dots(kind, out);
        }
    }
}

/// Internal distances from the query to rows by number. Panics if a row isn't there.
#[inline]
pub(super) fn distances_ids(block: VectorBlock<'_>, query: &[f32], ids: &[u32], out: &mut [f32]) {
    match block.distance {
        Distance::L2 => distance::l2_squared_ids(query, block.rows, ids, out),
        Distance::Cosine | Distance::Dot => {
            distance::dot_ids(query, block.rows, ids, out);
            from_dots(block.distance, out);
        }
    }
}

#[inline]
fn from_dots(kind: Distance, out: &mut [f32]) {
    let base = if kind == Distance::Cosine { 1.0 } else { 0.0 };
    out.iter_mut().for_each(|value| *value = base - *value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::test_data::{ALL_DISTANCES, clustered};

    fn by_sorting(block: VectorBlock<'_>, query: &[f32], k: usize, admit: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut all: Vec<(f32, u32)> = (0..block.len() as u32)
            .filter(|&row| admit(row))
            .map(|row| {
                let score = match block.distance {
                    Distance::L2 => distance::l2_squared(query, block.row(row)),
                    Distance::Cosine => 1.0 - distance::dot(query, block.row(row)),
                    Distance::Dot => -distance::dot(query, block.row(row)),
                };
                (score, row)
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.iter().take(k).map(|hit| hit.1).collect()
    }

    fn rows_of(hits: &IndexHits) -> Vec<u32> {
        hits.rows.iter().map(|hit| hit.1).collect()
    }

    #[test]
    fn scan_and_gather_agree_with_sorting() {
        for kind in ALL_DISTANCES {
            let data = clustered(2_500, 19, kind, 1);
            let block = data.block();
            for (query, k) in [(3, 1), (77, 10), (1_200, 3_000)] {
                let query = block.row(query);
                let admit = |row: u32| row % 3 != 1;
                let expected = by_sorting(block, query, k, admit);
                let scanned = exact_scan(block, query, k, admit);
                let gathered = exact_rows(block, query, k, (0..2_500).filter(|&row| admit(row)));
                assert_eq!(rows_of(&scanned), expected);
                assert_eq!(gathered.rows, scanned.rows, "same bits from both");
                assert_eq!((scanned.visited, gathered.visited), (2_500, 1_667));
            }
        }
    }

    #[test]
    fn nothing_to_find_is_no_trouble() {
        let empty = VectorBlock { dim: 4, rows: &[], distance: Distance::L2 };
        assert!(exact_scan(empty, &[0.0; 4], 5, |_| true).rows.is_empty());
        assert!(exact_rows(empty, &[0.0; 4], 5, std::iter::empty()).rows.is_empty());
        let one = VectorBlock { dim: 2, rows: &[1.0, 2.0], distance: Distance::L2 };
        assert!(exact_scan(one, &[0.0; 2], 0, |_| true).rows.is_empty());
        assert!(exact_scan(one, &[0.0; 2], 3, |_| false).rows.is_empty());
        assert_eq!(exact_scan(one, &[0.0; 2], 3, |_| true).rows, [(5.0, 0)]);
    }

    #[test]
    fn rows_that_are_not_numbers_come_last() {
        let rows = [f32::NAN, 3.0, 1.0, f32::NAN, 2.0];
        let block = VectorBlock { dim: 1, rows: &rows, distance: Distance::L2 };
        assert_eq!(rows_of(&exact_scan(block, &[0.0], 4, |_| true)), [2, 4, 1, 0]);
    }
}
