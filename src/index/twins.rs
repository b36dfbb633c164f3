//! Rows with the very same vector.
//!
//! A thousand copies in a graph fill every candidate list with one place, and nothing leads away from it.
//! So one row stands for all of them in the graph (the first), and the others, its twins, are added to
//! what a walk has found.
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::VectorBlock;

/// `(representative, twin)`, sorted; representatives are no twins.
pub(super) type TwinPairs = Vec<(u32, u32)>;

/// Finds all twins.
pub(super) fn find_twins(block: VectorBlock<'_>) -> TwinPairs {
    let mut first_of_hash: HashMap<u64, u32> = HashMap::with_capacity(block.len());
    let mut pairs = TwinPairs::new();
    for row in 0..block.len() as u32 {
        match first_of_hash.entry(hash(block.row(row))) {
            Entry::Vacant(place) => {
                place.insert(row);
            }
            // Rows that only share a hash stay nodes of their own.
            Entry::Occupied(place) if block.row(*place.get()) == block.row(row) => {
                pairs.push((*place.get(), row));
            }
            Entry::Occupied(_) => {}
        }
    }
    pairs.sort_unstable();
    pairs
}

/// All rows that are nobody's twin, ascending.
pub(super) fn nodes_without(twins: &[(u32, u32)], rows: usize) -> Vec<u32> {
    let mut is_twin = vec![false; rows];
    twins.iter().for_each(|&(_, twin)| is_twin[twin as usize] = true);
    (0..rows as u32).filter(|&row| !is_twin[row as usize]).collect()
}

/// Equal rows have equal hashes, 0 and -0 being equal.
fn hash(row: &[f32]) -> u64 {
    // Four lanes, since a multiplication takes as long as the next four components' loads.
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [1u64, 2, 3, 4];
    for (at, &x) in row.iter().enumerate() {
        let lane = &mut lanes[at % 4];
        *lane = (*lane ^ u64::from((x + 0.0).to_bits())).wrapping_mul(PRIME);
        *lane ^= *lane >> 29;
    }
    lanes.iter().fold(0, |hash: u64, &lane| (hash.rotate_left(17) ^ lane).wrapping_mul(PRIME))
}

/// The twins of a graph, to look up.
#[derive(Default)]
pub(super) struct Twins {
    pairs: TwinPairs,
    /// A bit per row: has it twins? Most rows don't, and a walk asks about each.
    representatives: Vec<u64>,
    /// `(twin, representative)`, sorted.
    nodes: TwinPairs,
}

impl Twins {
    /// `pairs` as [`find_twins`] returns them.
    pub(super) fn new(pairs: TwinPairs, rows: usize) -> Twins {
        if pairs.is_empty() {
            return Twins::default();
        }
        let mut representatives = vec![0; rows.div_ceil(64)];
        for &(row, _) in &pairs {
            representatives[row as usize / 64] |= 1 << (row % 64);
        }
        let mut nodes: TwinPairs = pairs.iter().map(|&(row, twin)| (twin, row)).collect();
        nodes.sort_unstable();
        Twins { pairs, representatives, nodes }
    }

    /// The other rows at a node's place.
    #[inline]
    pub(super) fn of(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let word = self.representatives.get(row as usize / 64).copied().unwrap_or(0);
        let pairs = if word >> (row % 64) & 1 == 1 {
            let start = self.pairs.partition_point(|pair| pair.0 < row);
            &self.pairs[start..]
        } else {
            &[]
        };
        pairs.iter().take_while(move |pair| pair.0 == row).map(|pair| pair.1)
    }

    /// A bit per row, 64 in a word: has it twins? Nothing where no row has.
    pub(super) fn representatives(&self) -> &[u64] {
        &self.representatives
    }

    /// All of them.
    pub(super) fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }

    /// The node at a row's place: itself, unless it is a twin.
    pub(super) fn node_of(&self, row: u32) -> u32 {
        let found = self.nodes.binary_search_by_key(&row, |pair| pair.0);
        found.map_or(row, |at| self.nodes[at].1)
    }

    /// Bytes of memory held.
    pub(super) fn bytes(&self) -> usize {
        self.pairs.len() * 16 + self.representatives.len() * 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Distance;

    #[test]
    fn the_first_of_equal_rows_stands_for_the_others() {
        let rows = [1.0, 2.0, 0.0, 0.0, 1.0, 2.0, -0.0, 0.0, 2.0, 1.0, 1.0, 2.0];
        let pairs = find_twins(VectorBlock { dim: 2, rows: &rows, distance: Distance::L2 });
        assert_eq!(pairs, [(0, 2), (0, 5), (1, 3)]);
        let twins = Twins::new(pairs, 6);
        let of = |row| twins.of(row).collect::<Vec<u32>>();
        assert_eq!([0, 1, 2, 3, 5, 77].map(|row| twins.node_of(row)), [0, 1, 0, 1, 0, 77]);
        assert_eq!((of(0), of(1), of(2), of(4), of(77)), (vec![2, 5], vec![3], vec![], vec![], vec![]));
    }

    #[test]
    fn rows_that_are_not_numbers_equal_nothing() {
        let rows = [f32::NAN, f32::NAN, f32::NAN];
        assert!(find_twins(VectorBlock { dim: 1, rows: &rows, distance: Distance::L2 }).is_empty());
    }
}
