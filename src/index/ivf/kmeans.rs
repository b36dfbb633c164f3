//! Balanced k-means of points in memory.
//!
//! Lloyd's rounds from randomly chosen points. After a round, centroids that few points are near to move
//! into the clusters that have far too many: a probe should cost the same wherever it goes.
//!
//! Source: *Least Squares Quantization in PCM*, Lloyd (IEEE Trans. Inf. Theory 1982).
use std::collections::BinaryHeap;

use proximadb_kernels::distance;

use super::jobs::Workers;
use crate::index::IndexError;
use crate::index::random::Random;

/// Rounds; more move centroids by little.
const ROUNDS: usize = 10;

/// Rounds at the end that move no centroid elsewhere, so that those that were moved settle.
const ROUNDS_SETTLING: usize = 3;

/// A cluster of so many times the mean is too large …
const LARGE: usize = 3;

/// … and one of a so-manieth is given up for it.
const SMALL: usize = 8;

/// Points that a thread takes at once: their products with 4,096 centroids fill half a second-level cache.
const POINTS_AT_ONCE: usize = 32;

/// Points one behind the other, `dim` components each.
pub(super) struct Points {
    pub(super) dim: usize,
    pub(super) values: Vec<f32>,
}

impl Points {
    pub(super) fn len(&self) -> usize {
        self.values.len() / self.dim.max(1)
    }

    pub(super) fn get(&self, at: usize) -> &[f32] {
        &self.values[at * self.dim..][..self.dim]
    }
}

/// Points that others are nearest to.
pub(super) struct Centroids {
    pub(super) points: Points,
    /// Half of each one's square: `|x - c|² / 2 = |x|² / 2 + |c|² / 2 - x·c`.
    half_squares: Vec<f32>,
}

impl Centroids {
    pub(super) fn new(points: Points) -> Centroids {
        let half_square = |at: usize| 0.5 * distance::dot(points.get(at), points.get(at));
        let half_squares = (0..points.len()).map(half_square).collect();
        Centroids { points, half_squares }
    }

    pub(super) fn len(&self) -> usize {
        self.half_squares.len()
    }

    /// Scores of each of `points` with each centroid of a range, the nearest having the least.
    pub(super) fn scores<'a>(
        &self,
        points: &[f32],
        range: std::ops::Range<usize>,
        scores: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        let dim = self.points.dim;
        scores.resize(points.len() / dim * range.len(), 0.0);
        let centroids = &self.points.values[range.start * dim..range.end * dim];
        distance::dot_block(points, centroids, dim, scores);
        for scores in scores.chunks_mut(range.len().max(1)) {
            let half_squares = &self.half_squares[range.clone()];
            scores.iter_mut().zip(half_squares).for_each(|(score, half)| *score = half - *score);
        }
        scores
    }

    /// The nearest centroid of each point, the first of equals.
    pub(super) fn nearest(&self, points: &[f32], scores: &mut Vec<f32>, nearest: &mut [u32]) {
        let scores = self.scores(points, 0..self.len(), scores);
        for (scores, nearest) in scores.chunks(self.len()).zip(nearest) {
            *nearest = least(scores).map_or(0, |(at, _)| at as u32);
        }
    }
}

/// The place of the least score, the first of equals, and the score. `None` if none is a number.
pub(super) fn least(scores: &[f32]) -> Option<(usize, f32)> {
    let mut least = None;
    let mut least_score = f32::INFINITY;
    for (at, &score) in scores.iter().enumerate() {
        if score < least_score {
            (least, least_score) = (Some((at, score)), score);
        }
    }
    least
}

/// Which points belong to which cluster.
pub(super) struct Members {
    /// First place of each cluster, and the end of the last.
    starts: Vec<usize>,
    /// Cluster by cluster, ascending in each.
    members: Vec<u32>,
}

impl Members {
    pub(super) fn new(owners: &[u32], clusters: usize) -> Members {
        let mut starts = vec![0; clusters + 1];
        owners.iter().for_each(|&owner| starts[owner as usize + 1] += 1);
        (0..clusters).for_each(|at| starts[at + 1] += starts[at]);
        let mut next = starts.clone();
        let mut members = vec![0; owners.len()];
        for (&owner, point) in owners.iter().zip(0u32..) {
            members[next[owner as usize]] = point;
            next[owner as usize] += 1;
        }
        Members { starts, members }
    }

    pub(super) fn of(&self, cluster: usize) -> &[u32] {
        &self.members[self.starts[cluster]..self.starts[cluster + 1]]
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

/// The nearest centroid of each point.
pub(super) fn assign(
    points: &Points,
    centroids: &Centroids,
    workers: Workers<'_>,
) -> Result<Vec<u32>, IndexError> {
    let mut owners = vec![0; points.len()];
    let jobs = points.values.chunks(POINTS_AT_ONCE * points.dim).zip(owners.chunks_mut(POINTS_AT_ONCE));
    workers.run(jobs, |scores, (points, owners)| centroids.nearest(points, scores, owners))?;
    Ok(owners)
}

/// Puts points into at most `count` clusters; there is at least one point. Returns their centroids, some
/// of which may have no point in the end.
pub(super) fn kmeans(
    points: &Points,
    count: usize,
    seed: u64,
    workers: Workers<'_>,
) -> Result<Centroids, IndexError> {
    let mut random = Random::new(seed);
    let count = count.clamp(1, points.len());
    let mut order: Vec<u32> = (0..points.len() as u32).collect();
    random.shuffle(&mut order);
    let first = order[..count].iter().flat_map(|&at| points.get(at as usize)).copied().collect();
    let mut centroids = Centroids::new(Points { dim: points.dim, values: first });
    if count == points.len() {
        return Ok(centroids);
    }
    for round in 0..ROUNDS {
        let owners = assign(points, &centroids, workers)?;
        let members = Members::new(&owners, count);
        let mut values = centroids.points.values;
        let jobs = values.chunks_mut(points.dim).enumerate();
        workers.run(jobs, |sums: &mut Vec<f64>, (cluster, centroid)| {
            mean(members.of(cluster).iter().map(|&at| points.get(at as usize)), sums, centroid);
        })?;
        if round + ROUNDS_SETTLING < ROUNDS {
            balance(points, &members, &mut values, &mut random);
        }
        centroids = Centroids::new(Points { dim: points.dim, values });
    }
    Ok(centroids)
}

/// The mean of some vectors into `centroid`, which stays as it is if there are none.
pub(super) fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>, sums: &mut Vec<f64>, centroid: &mut [f32]) {
    sums.clear();
    sums.resize(centroid.len(), 0.0);
    let mut count = 0u32;
    for vector in vectors {
        sums.iter_mut().zip(vector).for_each(|(sum, &x)| *sum += f64::from(x));
        count += 1;
    }
    if count > 0 {
        let scale = 1.0 / f64::from(count);
        centroid.iter_mut().zip(sums.iter()).for_each(|(x, sum)| *x = (sum * scale) as f32);
    }
}

/// Moves the centroids of empty and very small clusters to points of very large ones.
fn balance(points: &Points, members: &Members, centroids: &mut [f32], random: &mut Random) {
    let sizes: Vec<usize> = (0..members.len()).map(|cluster| members.of(cluster).len()).collect();
    let mean = points.len().div_ceil(sizes.len());
    let mut small: Vec<usize> = (0..sizes.len()).filter(|&at| sizes[at] * SMALL <= mean).collect();
    small.sort_by_key(|&at| sizes[at]);
    // By size, then the first: each gives half of its points away.
    let mut large: BinaryHeap<(usize, std::cmp::Reverse<usize>)> =
        sizes.iter().enumerate().map(|(at, &size)| (size, std::cmp::Reverse(at))).collect();
    for moved in small {
        let Some((size, from)) = large.pop() else { return };
        // An empty cluster is of use anywhere; others only where there is far too much.
        if size < 2 || sizes[moved] > 0 && size < LARGE * mean {
            return;
        }
        let giving = members.of(from.0);
        let point = points.get(giving[random.below(giving.len())] as usize);
        centroids[moved * points.dim..][..points.dim].copy_from_slice(point);
        large.push((size / 2, from));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::index::BuildControl;
    use crate::index::test_data::clustered;
    use crate::types::Distance;

    fn run(points: &Points, count: usize, threads: usize) -> (Vec<f32>, Vec<u32>) {
        let control = BuildControl::default();
        let workers = Workers { threads, control: &control };
        let centroids = kmeans(points, count, 5, workers).unwrap();
        let owners = assign(points, &centroids, workers).unwrap();
        (centroids.points.values, owners)
    }

    fn points(count: usize, dim: usize) -> Points {
        Points { dim, values: clustered(count, dim, Distance::L2, 3).rows }
    }

    fn error(points: &Points, centroids: &[f32], owners: &[u32]) -> f32 {
        let centroid = |at: u32| &centroids[at as usize * points.dim..][..points.dim];
        let one = |(at, &owner): (usize, &u32)| distance::l2_squared(points.get(at), centroid(owner));
        owners.iter().enumerate().map(one).sum::<f32>() / owners.len() as f32
    }

    #[test]
    fn every_point_belongs_to_the_nearest_centroid() {
        let points = points(700, 19);
        let (centroids, owners) = run(&points, 23, 2);
        for (at, &owner) in owners.iter().enumerate() {
            let distances: Vec<f32> =
                centroids.chunks(19).map(|c| distance::l2_squared(points.get(at), c)).collect();
            let least = distances.iter().copied().fold(f32::INFINITY, f32::min);
            assert!(distances[owner as usize] <= least * 1.0001 + 1e-4);
        }
    }

    #[test]
    fn clusters_explain_far_more_than_chosen_points_do() {
        let points = points(2_000, 16);
        let (centroids, owners) = run(&points, 60, 1);
        let chosen = Centroids::new(Points { dim: 16, values: points.values[..60 * 16].to_vec() });
        let control = BuildControl::default();
        let nearest = assign(&points, &chosen, Workers { threads: 1, control: &control }).unwrap();
        let (trained, untrained) =
            (error(&points, &centroids, &owners), error(&points, &chosen.points.values, &nearest));
        assert!(trained < 0.7 * untrained, "{trained} of {untrained}");
    }

    #[test]
    fn clusters_are_of_about_one_size() {
        // Most points in one place.
        let mut points = points(300, 8);
        let crowd = clustered(3_000, 8, Distance::L2, 9).rows;
        points.values.extend(crowd.iter().map(|x| 0.01 * x));
        let (_, owners) = run(&points, 40, 2);
        let members = Members::new(&owners, 40);
        let largest = (0..40).map(|cluster| members.of(cluster).len()).max().unwrap();
        assert!(largest <= 5 * 3_300 / 40, "{largest}");
    }

    #[test]
    fn threads_change_nothing() {
        let points = points(1_000, 12);
        let one = run(&points, 30, 1);
        assert!(one == run(&points, 30, 2) && one == run(&points, 30, 5));
    }

    #[test]
    fn copies_and_few_points_do_no_harm() {
        let copies = Points { dim: 3, values: [1.0, 2.0, 3.0].repeat(100) };
        let (centroids, owners) = run(&copies, 7, 2);
        assert!(centroids.iter().all(|x| x.is_finite()) && owners.iter().all(|&owner| owner == owners[0]));
        let (centroids, owners) = run(&points(3, 4), 10, 2);
        assert_eq!((centroids.len(), owners.len()), (12, 3));
    }

    #[test]
    fn members_are_ascending_cluster_by_cluster() {
        let members = Members::new(&[2, 0, 2, 2, 0], 4);
        let all: Vec<&[u32]> = (0..4).map(|cluster| members.of(cluster)).collect();
        assert_eq!(all, [&[1, 4][..], &[], &[0, 2, 3], &[]]);
    }
}
