//! Where walks start: the middle, and one door per crowd.
//!
//! A flat graph has no upper levels to jump across clustered data; a walk that starts in the wrong
//! cluster may never leave it. Some 32 doors cost 32 distances a query.
use proximadb_kernels::distance;

use super::random::Random;
use super::space::Space;

/// Doors besides the middle.
const DOORS_MAX: usize = 32;

/// Rows sampled per door; more finds better doors and takes longer.
const SAMPLE_PER_DOOR: usize = 64;

/// Rounds of k-means. The doors need to be spread, not optimal.
const ROUNDS: usize = 4;

/// Chooses entries among `nodes`, which are in random order: the medoid, then centres of k-means over a
/// sample, then for dot the longest row. At least one unless there are no nodes; none twice.
pub(super) fn choose_entries(space: &Space<'_>, nodes: &[u32], random: &mut Random) -> Vec<u32> {
    let doors = (nodes.len() / SAMPLE_PER_DOOR).min(DOORS_MAX);
    let sample = &nodes[..nodes.len().min(SAMPLE_PER_DOOR * (DOORS_MAX + 1))];
    let mut entries = Vec::with_capacity(doors + 2);
    let mean = mean(space, sample);
    entries.extend(nearest(space, &mean, sample, &entries));
    for centre in centres(space, sample, doors, random) {
        entries.extend(nearest(space, &centre, sample, &entries));
    }
    if doors > 0 {
        let longest = space.longest().filter(|row| !entries.contains(row));
        entries.extend(longest.filter(|row| nodes.contains(row)));
    }
    entries
}

/// The row nearest to a point, but for those taken.
fn nearest(space: &Space<'_>, point: &[f32], rows: &[u32], taken: &[u32]) -> Option<u32> {
    let mut distances = vec![0.0; rows.len()];
    distance::l2_squared_ids(point, space.block.rows, rows, &mut distances);
    let free = rows.iter().zip(&distances).filter(|(row, _)| !taken.contains(row));
    free.min_by(|a, b| a.1.total_cmp(b.1)).map(|(&row, _)| row)
}

fn mean(space: &Space<'_>, rows: &[u32]) -> Vec<f32> {
    let mut sum = vec![0.0; space.block.dim];
    rows.iter().for_each(|&row| add(&mut sum, space.block.row(row)));
    scale(&mut sum, rows.len());
    sum
}

fn add(sum: &mut [f32], row: &[f32]) {
    sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x);
}

fn scale(sum: &mut [f32], count: usize) {
    let scale = 1.0 / count.max(1) as f32;
    sum.iter_mut().for_each(|x| *x *= scale);
}

/// k-means: far-apart seeds (k-means++), then some rounds.
fn centres(space: &Space<'_>, sample: &[u32], count: usize, random: &mut Random) -> Vec<Vec<f32>> {
    let mut centres: Vec<Vec<f32>> = Vec::with_capacity(count);
    let mut to_nearest = vec![f32::INFINITY; sample.len()];
    let mut distances = vec![0.0; sample.len()];
    for _ in 0..count {
        let row = sample[draw(&to_nearest, random)];
        space.exact_distances(row, sample, &mut distances);
        to_nearest.iter_mut().zip(&distances).for_each(|(least, &new)| *least = least.min(new));
        centres.push(space.block.row(row).to_vec());
    }
    for _ in 0..ROUNDS {
        let mut sums = vec![(vec![0.0; space.block.dim], 0); count];
        let flat: Vec<f32> = centres.concat();
        let mut distances = vec![0.0; count];
        for &row in sample {
            distance::l2_squared_many(space.block.row(row), &flat, &mut distances);
            let best = distances.iter().zip(&mut sums).min_by(|a, b| a.0.total_cmp(b.0));
            if let Some((_, (sum, rows))) = best {
                add(sum, space.block.row(row));
                *rows += 1;
            }
        }
        for (centre, (mut sum, rows)) in centres.iter_mut().zip(sums) {
            if rows > 0 {
                scale(&mut sum, rows);
                *centre = sum;
            }
        }
    }
    centres
}

/// An index, likelier where the weight is greater.
fn draw(weights: &[f32], random: &mut Random) -> usize {
    let weight = |x: f32| if x.is_finite() { f64::from(x) } else { 0.0 };
    let total: f64 = weights.iter().map(|&x| weight(x)).sum();
    if total <= 0.0 {
        return random.below(weights.len());
    }
    let mut left = random.unit() * total;
    let chosen = weights.iter().position(|&x| {
        left -= weight(x);
        left < 0.0
    });
    chosen.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::test_data::{ALL_DISTANCES, clustered};

    #[test]
    fn doors_are_distinct_and_few() {
        for kind in ALL_DISTANCES {
            let data = clustered(3_000, 8, kind, 3);
            let space = Space::new(data.block());
            for count in [0, 1, 2, 63, 64, 700, 3_000] {
                let nodes: Vec<u32> = (0..count).collect();
                let mut entries = choose_entries(&space, &nodes, &mut Random::new(1));
                assert_eq!(entries.is_empty(), count == 0);
                assert!(entries.len() <= DOORS_MAX + 2);
                assert!(entries.iter().all(|&row| row < count));
                let found = entries.len();
                entries.sort_unstable();
                entries.dedup();
                assert_eq!(entries.len(), found);
            }
        }
    }
}
