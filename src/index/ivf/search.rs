//! Searches an index of clusters.
use std::path::{Path, PathBuf};

use super::ahead;
use super::format::{self, IvfFile, Record};
use super::order::Order;
use crate::index::blocks_file::Bytes;
use crate::index::codes::{CodedQuery, Quantizer};
use crate::index::flat::distances_ids;
use crate::index::rescore::{Rescore, scale_and_base};
use crate::index::scan::{InSet, scan};
use crate::index::scratch::Scratch;
use crate::index::walk::Clock;
use crate::index::{Graph, IndexError, IndexHits, IndexQuery, TopK, VectorBlock, VectorIndex};
use crate::types::{Distance, RowSet};

/// Candidates of `ef_search` per probe. So the settings that people know give about the recall
/// that a graph gives; see `docs/decisions/0018-ivf.md` for figures.
const EF_PER_PROBE: usize = 4;

/// Rows compared one by one per cluster there is: so few match then that probes would have to go through half of the
/// clusters. (Of 24,000 passages, 5 %: 70 µs instead of 240 at the same recall.)
const ROWS_PER_CLUSTER: f64 = 4.0;

/// Rows estimated before the bound and the clock are looked at again.
const AT_ONCE: usize = 64;

/// Rows whose vectors are fetched at once.
const RESCORED_AT_ONCE: usize = 16;

/// Standard deviations of an estimate's error; one row in a thousand lies beyond.
const DEVIATIONS: f32 = 3.0;

/// What rounding may take from a rotated vector's square, as a share of the query's.
const ROUNDING: f32 = 4e-6;

/// A built index of clusters, in memory or mapped.
///
/// A search looks into the clusters whose centroids are nearest, one after the other. It estimates the distances of
/// their rows that match, and keeps those that may be among the `k` nearest however wrong estimates
/// may well be; in the end these are scored exactly, until the rest is too far. A cluster is skipped if
/// the triangle inequality puts all of its rows beyond.
///
/// It ends after `ef_search / 4` probes; one counts the less, the fewer of its rows match and are alive (by
/// the square root of their share), and where these are fewer than elsewhere as many more are granted. It
/// goes on as long as it has fewer than `k`. Where no more than four rows match per cluster that there is it looks at
/// these rows alone.
pub struct Ivf {
    path: PathBuf,
    file: IvfFile,
}

impl Ivf {
    /// Reads a file that [`super::IvfBuilder`] wrote into memory and checks every byte of it.
    pub fn open(path: &Path) -> Result<Ivf, IndexError> {
        Ok(Ivf { path: path.to_owned(), file: format::parse(path, Bytes::read(path)?)? })
    }

    /// Maps a file and checks every byte of it: takes no memory that others might need.
    pub fn open_mapped(path: &Path) -> Result<Ivf, IndexError> {
        Ok(Ivf { path: path.to_owned(), file: format::parse(path, Bytes::map(path)?)? })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.file.rows
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.file.rows == 0
    }

    /// Number of clusters.
    pub fn clusters(&self) -> usize {
        self.file.clusters()
    }

    /// Rows of each cluster, ascending: where a probe finds them next to each other once they are stored so.
    pub fn rows_by_cluster(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.file.clusters() as u32).map(|cluster| self.file.record(cluster).rows)
    }

    /// Was it built from such a block?
    fn check(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<(), IndexError> {
        let file = &self.file;
        let fits = vectors.len() == file.rows
            && vectors.distance == file.distance
            && (vectors.dim == file.dim || self.is_empty())
            && query.vector.len() == vectors.dim;
        if fits {
            return Ok(());
        }
        Err(IndexError::Mismatch {
            path: self.path.clone(),
            rows: file.rows,
            dim: file.dim,
            distance: file.distance,
            given_rows: vectors.len(),
            given_dim: vectors.dim,
            given_distance: vectors.distance,
            query_dim: query.vector.len(),
        })
    }

    /// Would looking at each row that matches cost no more than ranking the clusters and looking into many?
    fn are_few(&self, query: &IndexQuery<'_>) -> bool {
        let matching = query.matching.map_or(self.file.rows, RowSet::count) as f64;
        let alive = (query.alive_rows as f64 / self.file.rows as f64).min(1.0);
        matching * alive <= ROWS_PER_CLUSTER * self.file.clusters() as f64
    }

    /// Looks into `probes` clusters, or more. `k` is within bounds.
    pub(super) fn probe(
        &self,
        vectors: VectorBlock<'_>,
        query: &IndexQuery<'_>,
        probes: f32,
    ) -> Result<IndexHits, IndexError> {
        let mut scratch = Scratch::pooled();
        let mut target = Vec::new();
        let lift = (self.file.distance == Distance::Dot).then_some(0.0);
        match &self.file.quantizer {
            Some(quantizer) => quantizer.residual(query.vector, lift, &mut target),
            None => target.extend(query.vector.iter().copied().chain(lift)),
        }
        let mut order = Order::new(&self.file, &target, std::mem::take(&mut scratch.frontier));
        let mut probe = Probe::new(&self.file, vectors, query, &target, std::mem::take(&mut scratch.coded));
        let expected = probe.expected();
        // No probe is worth more than one, so these are looked into whatever they hold.
        let least = (probes as usize).min(self.file.clusters());
        let first: Vec<u32> = (0..least).map_while(|_| order.next(&mut scratch.distances)).collect();
        ahead::records(&self.file, &first);
        let mut first = first.into_iter();
        let (mut spent, mut budget, mut scanned) = (0.0, probes, false);
        while spent < budget || !probe.top.is_full() {
            let Some(cluster) = first.next().or_else(|| order.next(&mut scratch.distances)) else {
                scanned = true;
                break;
            };
            let worth = probe.look_into(cluster, &mut scratch)?;
            spent += worth;
            budget += (expected - worth).max(0.0);
        }
        let visited = probe.visited + order.visited;
        let rows = probe.rescored(&mut scratch)?;
        let memory = order.into_memory();
        scratch.frontier = memory;
        scratch.coded = std::mem::take(&mut probe.coded);
        Ok(IndexHits { rows, visited, scanned })
    }
}

impl VectorIndex for Ivf {
    fn search(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<IndexHits, IndexError> {
        self.check(vectors, query)?;
        let k = query.k.min(self.file.rows);
        if k == 0 {
            return Ok(IndexHits::default());
        }
        let query = IndexQuery { k, ..*query };
        if self.are_few(&query) {
            let (exact, mut clock) = (Rescore::none(vectors, query.vector), Clock::new(query.deadline));
            let mut scratch = Scratch::pooled();
            return match query.matching {
                Some(matching) => scan(&exact, &mut InSet::new(matching), &query, &mut scratch, &mut clock),
                None => scan(&exact, &mut (0..self.file.rows as u32), &query, &mut scratch, &mut clock),
            };
        }
        let probes = query.ef_search.max(k).div_ceil(EF_PER_PROBE);
        self.probe(vectors, &query, probes as f32)
    }

    fn bytes(&self) -> usize {
        self.file.bytes()
    }

    fn is_mapped(&self) -> bool {
        self.file.is_mapped()
    }

    fn as_graph(&self) -> Option<&Graph> {
        None
    }
}

/// A row that may be among the nearest. Distances are those that users asked for.
struct Candidate {
    estimate: f32,
    /// It is hardly nearer than this.
    nearest: f32,
    row: u32,
}

/// The state of one search.
struct Probe<'a> {
    file: &'a IvfFile,
    vectors: VectorBlock<'a>,
    query: &'a IndexQuery<'a>,
    /// The query in the space of the build, as centroids are.
    target: &'a [f32],
    target_square: f32,
    /// Of codes; `None` where there are none, or the query will have none.
    quantizer: Option<&'a Quantizer>,
    coded: CodedQuery,
    /// Users' distances are `scale · d + base` of distances d in the space of the build.
    scale: f32,
    base: f32,
    /// The farthest that rows may well be, of those that are nearest by it.
    top: TopK,
    candidates: Vec<Candidate>,
    visited: u64,
    clock: Clock,
}

impl<'a> Probe<'a> {
    fn new(
        file: &'a IvfFile,
        vectors: VectorBlock<'a>,
        query: &'a IndexQuery<'a>,
        target: &'a [f32],
        coded: CodedQuery,
    ) -> Probe<'a> {
        let (scale, base) = scale_and_base(file.distance, query.vector, file.lifted_square);
        let oversampled = (query.k as f32 * query.codes.oversampling).ceil() as usize;
        Probe {
            file,
            vectors,
            query,
            target,
            target_square: proximadb_kernels::distance::dot(target, target),
            quantizer: file.quantizer.as_ref().filter(|_| !query.codes.ignore),
            coded,
            scale,
            base,
            top: TopK::new(oversampled.max(query.k)),
            candidates: Vec::new(),
            visited: 0,
            clock: Clock::new(query.deadline),
        }
    }

    /// What a probe is worth if what matches and is alive is spread evenly.
    fn expected(&self) -> f32 {
        let rows = self.file.rows as f32;
        let matching = self.query.matching.map_or(self.file.rows, RowSet::count) as f32;
        (matching / rows * (self.query.alive_rows as f32 / rows).min(1.0)).sqrt()
    }

    /// Are all rows of a cluster too far, whatever they are? `square`: of its centroid's distance.
    fn is_beyond(&self, cluster: u32, square: f32) -> bool {
        let bound = (self.top.bound() - self.base) / self.scale;
        let nearest = (square.sqrt() - self.file.radius(cluster)) * (1.0 - 1e-4);
        // Squares far smaller than the vectors' own are what rounding leaves.
        nearest > 0.0 && nearest * nearest > bound + ROUNDING * (self.target_square + self.file.lifted_square)
    }

    /// Takes what may be near from a cluster. Returns what that is worth: 1 where all rows match and are alive.
    fn look_into(&mut self, cluster: u32, scratch: &mut Scratch) -> Result<f32, IndexError> {
        self.clock.tick()?;
        let record = self.file.record(cluster);
        let Scratch { ids: places, distances: estimates, .. } = scratch;
        places.clear();
        let numbered = record.rows.iter().zip(0u32..);
        match self.query.matching {
            Some(set) => {
                places.extend(numbered.filter(|(row, _)| set.contains(**row)).map(|(_, place)| place))
            }
            None => places.extend(0..record.rows.len() as u32),
        }
        if places.is_empty() {
            return Ok(0.0);
        }
        let centroid = self.file.centroids(cluster as usize..cluster as usize + 1);
        let square = match self.quantizer {
            Some(quantizer) => {
                quantizer.prepare_around(self.target, centroid, &mut self.coded);
                self.coded.square()
            }
            None => proximadb_kernels::distance::l2_squared(self.target, centroid),
        };
        if self.is_beyond(cluster, square) {
            return Ok(1.0);
        }
        let slack_max = match self.quantizer {
            Some(quantizer) => {
                let unit = 2.0 * self.file.radius(cluster) * square.sqrt();
                self.scale * DEVIATIONS * quantizer.error * unit + self.rounding()
            }
            None => 0.0,
        };
        let (mut near, mut alive) = (0, 0);
        for places in places.chunks(AT_ONCE) {
            self.clock.tick()?;
            self.estimate(&record, places, estimates);
            for (&place, &estimate) in places.iter().zip(estimates.iter()) {
                // What isn't a number isn't beyond anything: its exact distance says where it belongs.
                if estimate - slack_max > self.top.bound() {
                    continue;
                }
                let slack = match self.quantizer.and(record.codes.as_ref()) {
                    Some(codes) => {
                        self.scale * DEVIATIONS * codes.quantizer.error * codes.unit(&self.coded, place)
                            + self.rounding()
                    }
                    None => 0.0,
                };
                let nearest = estimate - slack;
                if nearest > self.top.bound() {
                    continue;
                }
                near += 1;
                let row = record.rows[place as usize];
                if (self.query.alive)(row) {
                    alive += 1;
                    self.top.push(estimate + slack, row);
                    self.candidates.push(Candidate { estimate, nearest, row });
                }
            }
        }
        self.visited += places.len() as u64;
        let share = |some: usize, all: usize| if all == 0 { 1.0 } else { some as f32 / all as f32 };
        Ok((share(places.len(), record.rows.len()) * share(alive, near)).sqrt())
    }

    /// What rounding may take from a distance.
    fn rounding(&self) -> f32 {
        self.scale * ROUNDING * self.target_square
    }

    /// Estimates the distances of the rows at some places.
    fn estimate(&self, record: &Record<'_>, places: &[u32], estimates: &mut Vec<f32>) {
        estimates.resize(places.len(), 0.0);
        match self.quantizer.and(record.codes.as_ref()) {
            Some(codes) => {
                codes.distances(&self.coded, places, estimates);
                estimates.iter_mut().for_each(|estimate| *estimate = self.scale * *estimate + self.base);
            }
            None => {
                let rows: Vec<u32> = places.iter().map(|&place| record.rows[place as usize]).collect();
                distances_ids(self.vectors, self.query.vector, &rows, estimates);
            }
        }
    }

    /// The exact distances of the candidates that may be among the nearest; estimates if they are believed.
    fn rescored(&mut self, scratch: &mut Scratch) -> Result<Vec<(f32, u32)>, IndexError> {
        let bound = self.top.bound();
        let mut top = TopK::new(self.query.k);
        if self.quantizer.is_none() || !self.query.codes.rescore {
            self.candidates.iter().for_each(|candidate| {
                top.push(candidate.estimate, candidate.row);
            });
            return Ok(top.into_sorted());
        }
        self.candidates.retain(|candidate| !is_beyond(candidate.nearest, bound));
        self.candidates.sort_unstable_by(|a, b| a.estimate.total_cmp(&b.estimate).then(a.row.cmp(&b.row)));
        crate::index::ahead::vectors(self.vectors, self.candidates.iter().map(|candidate| candidate.row));
        let Scratch { ids, distances, .. } = scratch;
        for candidates in self.candidates.chunks(RESCORED_AT_ONCE) {
            self.clock.tick()?;
            ids.clear();
            let near = candidates.iter().filter(|candidate| !is_beyond(candidate.nearest, top.bound()));
            ids.extend(near.map(|candidate| candidate.row));
            distances.resize(ids.len(), 0.0);
            distances_ids(self.vectors, self.query.vector, ids, distances);
            for (&row, &distance) in ids.iter().zip(distances.iter()) {
                top.push(distance, row);
            }
        }
        Ok(top.into_sorted())
    }
}

/// Is a row too far to be of use? What isn't a number is not: nothing is known of it.
fn is_beyond(nearest: f32, bound: f32) -> bool {
    nearest > bound
}
