//! Builds an index of clusters.
use std::path::Path;

use proximadb_kernels::distance;
use proximadb_kernels::huge::HugeBuffer;

use super::format::{self, IvfParts, Record, RecordLayout};
use super::jobs::Workers;
use super::train::{Cluster, Training, training_bytes};
use crate::index::codes::{self, CodedQuery, Kind, Quantizer};
use crate::index::links::ROWS_MAX;
use crate::index::near::Near;
use crate::index::space::Space;
use crate::index::{BuildControl, IndexBuilder, IndexError, VectorBlock};
use crate::types::{IndexSpec, Quantization};

/// Clusters per square root of the rows. Fewer make each probe longer, more make ranking their centroids
/// dearer than what is read; see `docs/decisions/0018-ivf.md` for figures.
const CLUSTERS_PER_ROOT: f64 = 2.0;

/// More clusters than this are ranked group by group: looking at each centroid would take longer than the
/// probes.
pub(super) const GROUPED_ABOVE: usize = 4096;

/// Rows that are asked about to measure how wrong estimates are …
const QUERIES: usize = 64;

/// … and the nearest clusters that they are compared with.
const CLUSTERS_PER_QUERY: usize = 4;

/// Most clusters.
const CLUSTERS_MAX: usize = *IndexSpec::CLUSTERS.end() as usize;

/// How many clusters a segment's rows are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clusters {
    /// By the number of rows: twice its square root.
    #[default]
    Auto,
    /// About so many: empty ones are dropped, and those far larger than most are split.
    Count(u32),
}

impl From<Option<u32>> for Clusters {
    fn from(asked: Option<u32>) -> Self {
        asked.map_or(Self::Auto, Self::Count)
    }
}

impl Clusters {
    /// Bytes of memory that a build takes, roughly.
    pub fn build_bytes(self, rows: usize, dim: usize) -> usize {
        // Codes: a byte per component at most, padded; factors and numbers.
        training_bytes(rows, dim + 1, self.of(rows)) + rows * (dim + 32 + 12)
    }

    /// Of so many rows.
    fn of(self, rows: usize) -> usize {
        let count = match self {
            Clusters::Auto => (CLUSTERS_PER_ROOT * (rows as f64).sqrt()).ceil() as usize,
            Clusters::Count(count) => count as usize,
        };
        count.clamp(1, CLUSTERS_MAX).min(rows.max(1))
    }
}

/// Builds the cluster index of one segment.
#[derive(Debug, Clone)]
pub struct IvfBuilder {
    /// How many clusters.
    pub clusters: Clusters,
    /// The codes asked for.
    pub quantization: Option<Quantization>,
    /// Threads to use; at least one.
    pub threads: usize,
    /// Decides the sample, the first centroids and the rotation.
    pub seed: u64,
}

impl IndexBuilder for IvfBuilder {
    fn build(&self, vectors: VectorBlock<'_>, path: &Path, control: &BuildControl) -> Result<(), IndexError> {
        format::write(path, &self.parts(vectors, control, GROUPED_ABOVE)?)
    }
}

/// Rows cluster by cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOrder {
    /// Their numbers in the block that was given.
    pub rows: Vec<u32>,
    /// The place of each cluster's first row.
    pub starts: Vec<u32>,
}

impl IvfBuilder {
    /// Does what `build` does, but for rows that are going to be stored cluster by cluster: the file gives them
    /// the numbers that they will have. Returns the order.
    pub fn build_in_order(
        &self,
        vectors: VectorBlock<'_>,
        path: &Path,
        control: &BuildControl,
    ) -> Result<ClusterOrder, IndexError> {
        let mut parts = self.parts(vectors, control, GROUPED_ABOVE)?;
        let order = put_in_order(&mut parts);
        format::write(path, &parts)?;
        Ok(order)
    }

    /// The index in memory.
    pub(super) fn parts(
        &self,
        vectors: VectorBlock<'_>,
        control: &BuildControl,
        grouped_above: usize,
    ) -> Result<IvfParts, IndexError> {
        let rows = vectors.len();
        if rows > ROWS_MAX {
            return Err(IndexError::TooLarge { rows });
        }
        let space = Space::new(vectors);
        let mut parts = IvfParts {
            distance: vectors.distance,
            dim: vectors.dim,
            rows,
            lifted_square: space.lifted_square,
            quantizer: None,
            group_starts: vec![0],
            offsets: vec![0],
            radii: Vec::new(),
            spreads: Vec::new(),
            groups: Vec::new(),
            centroids: Vec::new(),
            records: HugeBuffer::zeroed(0).map_err(IndexError::Memory)?,
        };
        if rows == 0 {
            return Ok(parts);
        }
        let workers = Workers { threads: self.threads.max(1), control };
        parts.quantizer = self.quantizer(&space);
        let training = Training { space: &space, seed: self.seed, workers, grouped_above };
        let clustering = training.run(self.clusters.of(rows))?;

        let quantizer = parts.quantizer.as_ref();
        let rotated = |centroid: &[f32]| match quantizer {
            Some(quantizer) => {
                let mut rotated = Vec::new();
                quantizer.residual(centroid, None, &mut rotated);
                rotated
            }
            None => centroid.to_vec(),
        };
        // A group whose clusters all went has nothing to be found in.
        let mut start = 0;
        for clusters in clustering.clusters.chunk_by(|a, b| a.group == b.group) {
            start += clusters.len() as u32;
            parts.group_starts.push(start);
            parts.groups.extend(rotated(&clustering.groups[clusters[0].group as usize]));
        }
        let mut place = 0;
        for cluster in &clustering.clusters {
            place += cluster.rows.len() as u32;
            parts.offsets.push(place);
            parts.centroids.extend(rotated(&cluster.centroid));
        }
        self.encode(&space, &clustering.clusters, &mut parts, workers)?;
        let error = measured_error(&space, &parts);
        if let (Some(quantizer), Some(error)) = (&mut parts.quantizer, error) {
            quantizer.error = error;
        }
        Ok(parts)
    }

    /// The codes asked for, but no codewords, which describe no residuals; else what a sample needs.
    ///
    /// It is tried out around one centre for all: if so many bits are enough there, they are around many.
    fn quantizer(&self, space: &Space<'_>) -> Option<Quantizer> {
        let coarse = codes::to_walk_on(space, self.quantization, self.seed, self.threads)
            .filter(|coarse| !matches!(coarse.kind(), Kind::Product { .. }));
        let chosen = coarse.or_else(|| codes::to_build_on(space, self.quantization, self.seed))?;
        let (kind, rotated) = (chosen.kind(), chosen.is_rotated());
        let mut quantizer = Quantizer::new(kind, space.dim(), chosen.seed, rotated, Vec::new(), Vec::new());
        quantizer.error = chosen.error;
        Some(quantizer)
    }

    /// Writes the records, and the radii.
    fn encode(
        &self,
        space: &Space<'_>,
        clusters: &[Cluster],
        parts: &mut IvfParts,
        workers: Workers<'_>,
    ) -> Result<(), IndexError> {
        let quantizer = parts.quantizer.as_ref();
        let layout =
            |cluster: &Cluster| RecordLayout::new(cluster.rows.len(), quantizer.map(Quantizer::stride));
        let bytes = clusters.iter().map(|cluster| layout(cluster).end).sum();
        let mut records = HugeBuffer::zeroed(bytes).map_err(IndexError::Memory)?;
        let mut lengths = vec![Lengths::default(); clusters.len()];
        let width = parts.centroids.len() / clusters.len();
        let mut rest = records.as_mut_slice();
        let mut jobs = Vec::with_capacity(clusters.len());
        for ((cluster, centroid), lengths) in
            clusters.iter().zip(parts.centroids.chunks(width)).zip(&mut lengths)
        {
            let (record, others) = std::mem::take(&mut rest).split_at_mut(layout(cluster).end);
            rest = others;
            jobs.push((cluster, centroid, record, lengths));
        }
        workers.run(jobs.into_iter(), |work: &mut RecordWork, (cluster, centroid, record, lengths)| {
            *lengths = match quantizer {
                Some(quantizer) => work.write(space, quantizer, cluster, centroid, record),
                None => {
                    write_rows(cluster, record);
                    work.lengths(space, cluster, centroid)
                }
            };
        })?;
        parts.radii = lengths.iter().map(Lengths::radius).collect();
        parts.spreads = lengths.iter().map(Lengths::spread).collect();
        parts.records = records;
        Ok(())
    }
}

/// Numbers rows by their places.
pub(super) fn put_in_order(parts: &mut IvfParts) -> ClusterOrder {
    let stride = parts.quantizer.as_ref().map(Quantizer::stride);
    let mut rows = Vec::with_capacity(parts.rows);
    let mut rest = parts.records.as_mut_slice();
    for places in parts.offsets.windows(2) {
        let count = (places[1] - places[0]) as usize;
        let (record, others) = std::mem::take(&mut rest).split_at_mut(RecordLayout::new(count, stride).end);
        rest = others;
        for (bytes, place) in record[..4 * count].as_chunks_mut::<4>().0.iter_mut().zip(places[0]..) {
            rows.push(u32::from_le_bytes(*bytes));
            *bytes = place.to_le_bytes();
        }
    }
    let starts = parts.offsets[..parts.offsets.len() - 1].to_vec();
    ClusterOrder { rows, starts }
}

fn write_rows(cluster: &Cluster, record: &mut [u8]) {
    for (bytes, row) in record.as_chunks_mut::<4>().0.iter_mut().zip(&cluster.rows) {
        *bytes = row.to_le_bytes();
    }
}

/// How far a cluster's rows are from its centroid.
#[derive(Default, Clone, Copy)]
struct Lengths {
    /// Of all rows; not finite if one of them isn't.
    greatest: f32,
    /// Of those that are finite.
    sum: f64,
    count: u32,
}

impl Lengths {
    fn add(&mut self, square: f32) {
        if square.is_finite() {
            self.greatest = self.greatest.max(square);
            self.sum += f64::from(square);
            self.count += 1;
        } else {
            self.greatest = f32::INFINITY;
        }
    }

    /// A little more than the greatest length, since it was rounded.
    fn radius(&self) -> f32 {
        self.greatest.sqrt() * 1.0001
    }

    fn spread(&self) -> f32 {
        (self.sum / f64::from(self.count.max(1))).sqrt() as f32
    }
}

/// A thread's memory.
#[derive(Default)]
struct RecordWork {
    residual: Vec<f32>,
    levels: Vec<u8>,
}

impl RecordWork {
    /// Writes a record with codes; returns how far its rows are from the centroid.
    fn write(
        &mut self,
        space: &Space<'_>,
        quantizer: &Quantizer,
        cluster: &Cluster,
        centroid: &[f32],
        record: &mut [u8],
    ) -> Lengths {
        write_rows(cluster, record);
        let layout = RecordLayout::new(cluster.rows.len(), Some(quantizer.stride()));
        let (head, codes) = record.split_at_mut(layout.codes);
        let factors = head[layout.factors..].as_chunks_mut::<8>().0;
        let codes = codes.chunks_mut(quantizer.stride());
        let mut lengths = Lengths::default();
        for ((&row, bytes), code) in cluster.rows.iter().zip(factors).zip(codes) {
            quantizer.residual(space.block.row(row), space.lift_of(row), &mut self.residual);
            self.residual.iter_mut().zip(centroid).for_each(|(x, centroid)| *x -= centroid);
            let [square, scale] = quantizer.encode_residual(&self.residual, code, &mut self.levels);
            bytes[..4].copy_from_slice(&square.to_le_bytes());
            bytes[4..].copy_from_slice(&scale.to_le_bytes());
            lengths.add(square);
        }
        lengths
    }

    /// How far rows are from the centroid.
    fn lengths(&mut self, space: &Space<'_>, cluster: &Cluster, centroid: &[f32]) -> Lengths {
        let mut lengths = Lengths::default();
        for &row in &cluster.rows {
            self.residual.clear();
            self.residual.extend_from_slice(space.block.row(row));
            self.residual.extend(space.lift_of(row));
            lengths.add(distance::l2_squared(&self.residual, centroid));
        }
        lengths
    }
}

/// Standard deviation of estimates' errors in units of `2 |r| |q|`, measured around the queries: rows of the
/// segment. `None` if there are no codes, or nothing to measure.
fn measured_error(space: &Space<'_>, parts: &IvfParts) -> Option<f32> {
    let quantizer = parts.quantizer.as_ref()?;
    let clusters = parts.offsets.len() - 1;
    let width = quantizer.padded();
    let mut starts = Vec::with_capacity(clusters);
    let mut start = 0;
    for places in parts.offsets.windows(2) {
        starts.push(start);
        start += RecordLayout::new((places[1] - places[0]) as usize, Some(quantizer.stride())).end;
    }
    let (mut rotated, mut coded) = (Vec::new(), CodedQuery::default());
    let mut to_centroids = vec![0.0; clusters];
    let (mut exact, mut estimates) = (Vec::new(), Vec::new());
    let (mut squares, mut measured) = (0.0f64, 0u32);
    for at in 0..QUERIES.min(parts.rows) {
        let vector = space.block.row((parts.rows * at / QUERIES.min(parts.rows)) as u32);
        quantizer.residual(vector, space.query_lift(), &mut rotated);
        distance::l2_squared_many(&rotated, &parts.centroids, &mut to_centroids);
        let mut nearest: Vec<Near> = to_centroids.iter().zip(0..).map(|(&d, at)| Near::new(d, at)).collect();
        nearest.sort_unstable();
        for cluster in nearest.iter().take(CLUSTERS_PER_QUERY) {
            let cluster = cluster.row() as usize;
            let rows = (parts.offsets[cluster + 1] - parts.offsets[cluster]) as usize;
            let record = Record::new(&parts.records.as_slice()[starts[cluster]..], rows, Some(quantizer))?;
            let codes = record.codes?;
            quantizer.prepare_around(&rotated, &parts.centroids[cluster * width..][..width], &mut coded);
            estimates.resize(rows, 0.0);
            exact.resize(rows, 0.0);
            let places: Vec<u32> = (0..rows as u32).collect();
            codes.distances(&coded, &places, &mut estimates);
            space.distances_from_query(vector, record.rows, &mut exact);
            for (place, (exact, estimate)) in exact.iter().zip(&estimates).enumerate() {
                let unit = codes.unit(&coded, place as u32);
                let error = (exact - estimate) / unit;
                // Where residuals are as small as what rounding leaves of a row, that would be measured.
                if error.is_finite() && unit > 1e-4 * space.square(record.rows[place]) {
                    squares += f64::from(error * error);
                    measured += 1;
                }
            }
        }
    }
    (measured > 0).then(|| (squares / f64::from(measured)).sqrt() as f32)
}
