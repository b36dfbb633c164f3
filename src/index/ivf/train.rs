//! From a segment's rows to clusters: sample, k-means, each row to its nearest centroid, what is too large
//! split.
//!
//! Everything happens in the space of the build (see `space`), with the mean of the sample as origin, so that
//! products lose no precision where rows are far from zero.
use std::sync::atomic::Ordering;

use proximadb_kernels::distance;

use super::jobs::Workers;
use super::kmeans::{Centroids, Members, Points, assign, kmeans, least, mean};
use crate::index::IndexError;
use crate::index::near::Near;
use crate::index::random::Random;
use crate::index::space::Space;

/// Rows of the sample per cluster: more move centroids by less than the next round would.
const SAMPLED_PER_CLUSTER: usize = 64;

/// Rows that a thread takes at once when all are assigned.
const ROWS_AT_ONCE: usize = 32;

/// Groups whose clusters are looked at for the nearest one, where clusters are in groups.
const GROUPS_PER_ROW: usize = 8;

/// A cluster of more than so many times the mean is split …
const OVERFULL: usize = 4;

/// … into parts of about so many times the mean, …
const PART: usize = 2;

/// … and what is still too large then once more, so often.
const SPLITS: usize = 3;

/// A cluster as it is built.
pub(super) struct Cluster {
    /// Which group it belongs to.
    pub(super) group: u32,
    /// The mean of its rows, in the space of the build.
    pub(super) centroid: Vec<f32>,
    /// Ascending; at least one.
    pub(super) rows: Vec<u32>,
}

/// All clusters of a segment, group by group.
pub(super) struct Clustering {
    pub(super) clusters: Vec<Cluster>,
    /// A centroid per group, in the space of the build.
    pub(super) groups: Vec<Vec<f32>>,
}

/// What clusters are made with.
pub(super) struct Training<'a> {
    pub(super) space: &'a Space<'a>,
    pub(super) seed: u64,
    pub(super) workers: Workers<'a>,
    /// Up to so many clusters are one group.
    pub(super) grouped_above: usize,
}

/// Centroids, group by group.
struct Model {
    groups: Centroids,
    /// First cluster of each group, and the end of the last.
    starts: Vec<usize>,
    centroids: Centroids,
}

impl Training<'_> {
    /// About `count` clusters of all rows, of which there is at least one.
    pub(super) fn run(&self, count: usize) -> Result<Clustering, IndexError> {
        let origin = self.origin(count);
        let sample = self.points(&self.sample(count * SAMPLED_PER_CLUSTER), &origin);
        let model = self.model(&sample, count)?;
        drop(sample);
        let owners = self.assign_all(&model, &origin)?;
        let members = Members::new(&owners, model.centroids.len());
        let mut clusters = Vec::with_capacity(model.centroids.len());
        for (group, range) in model.starts.windows(2).enumerate() {
            for at in range[0]..range[1] {
                let centroid = model.centroids.points.get(at).to_vec();
                clusters.push(Cluster { group: group as u32, centroid, rows: members.of(at).to_vec() });
            }
        }
        clusters.retain(|cluster| !cluster.rows.is_empty());
        self.split(&mut clusters, count, &origin)?;
        self.centre(&mut clusters, &origin)?;
        let clusters = self.neighbours_together(clusters, &model.groups, &origin)?;
        let add = |x: &[f32]| x.iter().zip(&origin).map(|(x, origin)| x + origin).collect();
        let groups = (0..model.groups.len()).map(|at| add(model.groups.points.get(at))).collect();
        Ok(Clustering { clusters, groups })
    }

    /// Can it be compared with others? What isn't finite is in a cluster, but tells nothing of it.
    fn is_sound(&self, row: u32) -> bool {
        self.space.square(row).is_finite()
    }

    /// Some of the rows, ascending: about `count`, evenly spread.
    fn sample(&self, count: usize) -> Vec<u32> {
        let rows = self.space.len();
        let mut random = Random::new(self.seed);
        let picked = |at: usize| {
            let (first, next) = (rows * at / count, rows * (at + 1) / count);
            (first + random.below(next - first)) as u32
        };
        let rows: Vec<u32> =
            if rows <= count { (0..rows as u32).collect() } else { (0..count).map(picked).collect() };
        rows.into_iter().filter(|&row| self.is_sound(row)).collect()
    }

    /// The mean of some rows.
    fn origin(&self, count: usize) -> Vec<f32> {
        let mut origin = vec![0.0; self.space.dim()];
        let points = self.points(&self.sample(count.max(1024)), &origin.clone());
        mean((0..points.len()).map(|at| points.get(at)), &mut Vec::new(), &mut origin);
        origin
    }

    fn points(&self, rows: &[u32], origin: &[f32]) -> Points {
        let mut values = Vec::with_capacity(rows.len() * self.space.dim());
        self.append(rows, origin, &mut values);
        Points { dim: self.space.dim(), values }
    }

    /// Appends rows as points; what isn't finite becomes the origin.
    fn append(&self, rows: &[u32], origin: &[f32], values: &mut Vec<f32>) {
        for &row in rows {
            if self.is_sound(row) {
                let components = self.space.block.row(row).iter().copied().chain(self.space.lift_of(row));
                values.extend(components.zip(origin).map(|(x, origin)| x - origin));
            } else {
                values.resize(values.len() + origin.len(), 0.0);
            }
        }
    }

    fn model(&self, sample: &Points, count: usize) -> Result<Model, IndexError> {
        let dim = self.space.dim();
        if sample.len() == 0 {
            let nothing = || Centroids::new(Points { dim, values: vec![0.0; dim] });
            return Ok(Model { groups: nothing(), starts: vec![0, 1], centroids: nothing() });
        }
        if count <= self.grouped_above {
            let centroids = kmeans(sample, count, self.seed, self.workers)?;
            let groups = Centroids::new(Points { dim, values: vec![0.0; dim] });
            return Ok(Model { groups, starts: vec![0, centroids.len()], centroids });
        }
        // k-means of k-means: each row is compared with twice the square root of the clusters.
        let groups = kmeans(sample, count.isqrt(), self.seed, self.workers)?;
        let members = Members::new(&assign(sample, &groups, self.workers)?, groups.len());
        let (mut values, mut starts) = (Vec::with_capacity(count * dim), vec![0]);
        for group in 0..groups.len() {
            let members = members.of(group);
            if !members.is_empty() {
                let points = members.iter().flat_map(|&at| sample.get(at as usize)).copied().collect();
                let share = (count * members.len()).div_ceil(sample.len());
                let seed = self.seed.wrapping_add(1 + group as u64);
                let within = kmeans(&Points { dim, values: points }, share, seed, self.workers)?;
                values.extend_from_slice(&within.points.values);
            }
            starts.push(values.len() / dim);
        }
        Ok(Model { groups, starts, centroids: Centroids::new(Points { dim, values }) })
    }

    /// The cluster of each row.
    fn assign_all(&self, model: &Model, origin: &[f32]) -> Result<Vec<u32>, IndexError> {
        let mut owners = vec![0; self.space.len()];
        let jobs = owners.chunks_mut(ROWS_AT_ONCE).zip((0u32..).step_by(ROWS_AT_ONCE));
        let dim = self.space.dim();
        self.workers.run(jobs, |work: &mut AssignWork, (owners, first)| {
            let rows: Vec<u32> = (first..).take(owners.len()).collect();
            let mut points = std::mem::take(&mut work.points);
            points.clear();
            self.append(&rows, origin, &mut points);
            model.assign(&points, dim, owners, work);
            work.points = points;
            self.workers.control.done.fetch_add(rows.len() as u64, Ordering::Relaxed);
        })?;
        Ok(owners)
    }

    /// Splits what is far larger than the rest.
    fn split(&self, clusters: &mut Vec<Cluster>, count: usize, origin: &[f32]) -> Result<(), IndexError> {
        let size = self.space.len().div_ceil(count);
        for _ in 0..SPLITS {
            if clusters.iter().all(|cluster| cluster.rows.len() <= OVERFULL * size) {
                return Ok(());
            }
            let mut parts = Vec::with_capacity(clusters.len());
            for cluster in clusters.drain(..) {
                if cluster.rows.len() <= OVERFULL * size {
                    parts.push(cluster);
                } else {
                    parts.append(&mut self.parts(cluster, PART * size, origin)?);
                }
            }
            *clusters = parts;
        }
        Ok(())
    }

    /// Parts of a cluster, about `size` rows each.
    fn parts(&self, cluster: Cluster, size: usize, origin: &[f32]) -> Result<Vec<Cluster>, IndexError> {
        let points = self.points(&cluster.rows, origin);
        let count = cluster.rows.len().div_ceil(size);
        let centroids = kmeans(&points, count, self.seed ^ cluster.rows.len() as u64, self.workers)?;
        let members = Members::new(&assign(&points, &centroids, self.workers)?, centroids.len());
        let part = |at: usize| Cluster {
            group: cluster.group,
            centroid: centroids.points.get(at).to_vec(),
            rows: members.of(at).iter().map(|&at| cluster.rows[at as usize]).collect(),
        };
        let parts = (0..centroids.len()).map(part);
        Ok(parts.filter(|part| !part.rows.is_empty()).collect())
    }

    /// Puts each centroid into the middle of its rows.
    fn centre(&self, clusters: &mut [Cluster], origin: &[f32]) -> Result<(), IndexError> {
        let dim = self.space.dim();
        self.workers.run(clusters.iter_mut(), |work: &mut (Vec<f32>, Vec<f64>), cluster| {
            let (points, sums) = work;
            let sound: Vec<u32> = cluster.rows.iter().copied().filter(|&row| self.is_sound(row)).collect();
            points.clear();
            self.append(&sound, origin, points);
            mean(points.chunks(dim), sums, &mut cluster.centroid);
            cluster.centroid.iter_mut().zip(origin).for_each(|(x, origin)| *x += origin);
        })
    }
}

impl Training<'_> {
    /// Orders groups, and clusters within them, so that most are followed by one that is near: rows that are stored in
    /// that order are read in fewer pieces.
    fn neighbours_together(
        &self,
        clusters: Vec<Cluster>,
        groups: &Centroids,
        origin: &[f32],
    ) -> Result<Vec<Cluster>, IndexError> {
        let mut members: Vec<Vec<Cluster>> = (0..groups.len()).map(|_| Vec::new()).collect();
        clusters.into_iter().for_each(|cluster| members[cluster.group as usize].push(cluster));
        let group = |at: usize| groups.points.get(at).iter().zip(origin).map(|(x, origin)| x + origin);
        let centroids: Vec<Vec<f32>> = (0..groups.len()).map(|at| group(at).collect()).collect();
        let order = self.chain(&centroids.iter().map(Vec::as_slice).collect::<Vec<_>>(), None)?;
        let mut ordered: Vec<Cluster> = Vec::new();
        for at in order {
            let mut group: Vec<Option<Cluster>> =
                std::mem::take(&mut members[at]).into_iter().map(Some).collect();
            let centroids: Vec<&[f32]> =
                group.iter().flatten().map(|cluster| cluster.centroid.as_slice()).collect();
            let from = ordered.last().map(|cluster| cluster.centroid.as_slice());
            let order = self.chain(&centroids, from)?;
            ordered.extend(order.into_iter().filter_map(|at| group[at].take()));
        }
        Ok(ordered)
    }

    /// Goes from each point to the nearest one where it hasn't been; begins with the one nearest to `from`, else the
    /// first.
    fn chain(&self, points: &[&[f32]], from: Option<&[f32]>) -> Result<Vec<usize>, IndexError> {
        let mut rest: Vec<usize> = (0..points.len()).collect();
        let mut order: Vec<usize> = Vec::with_capacity(points.len());
        while !rest.is_empty() {
            if self.workers.control.cancelled.load(Ordering::Relaxed) {
                return Err(IndexError::Cancelled);
            }
            let next = match order.last().map(|&at| points[at]).or(from) {
                Some(here) => {
                    let distances: Vec<f32> =
                        rest.iter().map(|&at| distance::l2_squared(here, points[at])).collect();
                    least(&distances).map_or(0, |(at, _)| at)
                }
                None => 0,
            };
            // What is left keeps its order, so that of equals the first is taken.
            order.push(rest.remove(next));
        }
        Ok(order)
    }
}

/// A thread's memory.
#[derive(Default)]
struct AssignWork {
    points: Vec<f32>,
    scores: Vec<f32>,
    member_scores: Vec<f32>,
    nearest: Vec<Near>,
}

impl Model {
    /// The nearest cluster of each point, among those of the nearest groups.
    fn assign(&self, points: &[f32], dim: usize, owners: &mut [u32], work: &mut AssignWork) {
        let AssignWork { scores, member_scores, nearest, .. } = work;
        if self.groups.len() == 1 {
            return self.centroids.nearest(points, scores, owners);
        }
        let scores = self.groups.scores(points, 0..self.groups.len(), scores);
        for ((point, scores), owner) in points.chunks(dim).zip(scores.chunks(self.groups.len())).zip(owners) {
            nearest.clear();
            nearest.extend(scores.iter().zip(0u32..).map(|(&score, group)| Near::new(score, group)));
            nearest.sort_unstable();
            let mut best = f32::INFINITY;
            for group in nearest.iter().take(GROUPS_PER_ROW) {
                let range = self.starts[group.row() as usize]..self.starts[group.row() as usize + 1];
                let start = range.start;
                let members = self.centroids.scores(point, range, member_scores);
                if let Some((at, score)) = least(members)
                    && score < best
                {
                    (best, *owner) = (score, (start + at) as u32);
                }
            }
        }
    }
}

/// Bytes that training takes at most, beside the rows.
pub(super) fn training_bytes(rows: usize, dim: usize, clusters: usize) -> usize {
    let sampled = rows.min(clusters * SAMPLED_PER_CLUSTER);
    sampled * (dim * 4 + 12) + 3 * clusters * dim * 4 + rows * 12
}
