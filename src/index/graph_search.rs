//! Searches a graph file.
use std::path::{Path, PathBuf};

use super::flat::exact_rows;
use super::graph_format::{self, GraphFile};
use super::near::Near;
use super::scratch::Scratch;
use super::twins::Twins;
use super::walk::{Clock, Query, walk, walk_admitted};
use super::{IndexError, IndexHits, IndexQuery, TopK, VectorBlock, VectorIndex};
use crate::types::Distance;

/// Rows asked whether they are admitted, to tell what kind of filter it is.
const SAMPLE: u64 = 64;

/// Share of the sample that must be admitted for a plain walk, whose candidates need not be admitted.
const PLAIN_SHARE: f64 = 0.9;

/// Most candidates of a plain walk: it keeps them sorted, and each insertion moves half of them.
const PLAIN_EF_MAX: usize = 1024;

/// Distances that a walk computes per candidate kept, divided by the share of rows admitted: 6 to 12
/// where measured.
const WALK_COST: f64 = 8.0;

/// What asking about a row costs a scan, in distances.
const ADMIT_COST: f64 = 1.0 / 16.0;

/// A built graph, mapped.
///
/// How it searches depends on the share of rows admitted, which it samples. If it is nearly all, a walk
/// keeps the `ef_search` nearest nodes and picks the admitted ones among them. If it is less, a walk keeps
/// the `ef_search` nearest *admitted* rows and goes through the others, so recall holds and cost grows as
/// one over the share. If that would cost more than computing the distances of all admitted rows, it does
/// the latter; a caller who knows the rows does it cheaper yet with [`super::exact_rows`].
pub struct Graph {
    path: PathBuf,
    file: GraphFile,
    twins: Twins,
}

impl Graph {
    /// Maps a file that [`super::GraphBuilder`] wrote and checks every byte of it.
    pub fn open(path: &Path) -> Result<Graph, IndexError> {
        let mut file = graph_format::open(path)?;
        let twins = Twins::new(std::mem::take(&mut file.twins), file.rows);
        // Walks jump about: reading ahead would fill memory with lists nobody asked for. Advice only.
        let _ = file.map.advise_random();
        Ok(Graph { path: path.to_owned(), file, twins })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.file.rows
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.file.rows == 0
    }

    /// Components of each row.
    pub fn dim(&self) -> usize {
        self.file.dim
    }

    /// How rows are compared.
    pub fn distance(&self) -> Distance {
        self.file.distance
    }

    /// Was it built from such a block? Any other would be walked by wrong links.
    fn check(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<(), IndexError> {
        let fits = vectors.len() == self.file.rows
            && vectors.distance == self.file.distance
            && (vectors.dim == self.file.dim || self.is_empty())
            && query.vector.len() == vectors.dim;
        if fits {
            return Ok(());
        }
        Err(IndexError::Mismatch {
            path: self.path.clone(),
            rows: self.file.rows,
            dim: self.file.dim,
            distance: self.file.distance,
            given_rows: vectors.len(),
            given_dim: vectors.dim,
            given_distance: vectors.distance,
            query_dim: query.vector.len(),
        })
    }

    /// The share of rows admitted, roughly.
    fn admitted_share(&self, query: &IndexQuery<'_>) -> f64 {
        let rows = self.file.rows as u64;
        let sample = rows.min(SAMPLE);
        // Multiples of the golden ratio: spread evenly, without a period that a filter might share.
        let row = |at: u64| ((u64::from((at as u32).wrapping_mul(0x9e37_79b1)) * rows) >> 32) as u32;
        let admitted = (0..sample).filter(|&at| (query.admit)(row(at))).count();
        admitted as f64 / sample as f64
    }

    /// Would scanning all rows for admitted ones cost less than walking?
    fn scan_is_cheaper(&self, share: f64, ef: usize) -> bool {
        let rows = self.file.rows as f64;
        let share = share.max(1.0 / (2 * SAMPLE) as f64); // none in the sample doesn't mean none
        rows * (share + ADMIT_COST) < WALK_COST * ef as f64 / share
    }

    /// The nearest admitted rows among the nodes a plain walk kept. `None` if that may not be all there is:
    /// the rows around the query are admitted less than elsewhere.
    fn pick(&self, nearest: &[Near], k: usize, query: &IndexQuery<'_>) -> Option<TopK> {
        let mut top = TopK::new(k);
        let looked_max = (2 * k).max(32);
        for (looked, near) in nearest.iter().enumerate() {
            // Twins of a node are as near as it is; all that follow are farther.
            if top.is_full() && near.distance() > top.bound() {
                return Some(top);
            }
            if looked >= looked_max && !top.is_full() {
                return None;
            }
            self.offer(near.distance(), near.row(), query, &mut top);
        }
        top.is_full().then_some(top)
    }

    /// Walks through everything and keeps what is admitted.
    pub(super) fn walk_filtered(
        &self,
        vectors: VectorBlock<'_>,
        query: &IndexQuery<'_>,
        ef: usize,
        scratch: &mut Scratch,
        clock: &mut Clock,
    ) -> Result<IndexHits, IndexError> {
        let target = Query { block: vectors, vector: query.vector };
        let (links, entries) = (self.file.links(), &self.file.entries);
        let (found, visited) = walk_admitted(links, &target, entries, ef, scratch, clock, |near, found| {
            self.offer(near.distance(), near.row(), query, found);
        })?;
        let mut rows = found.into_sorted();
        rows.truncate(query.k);
        Ok(IndexHits { rows, visited })
    }

    /// Offers all admitted rows at a node's place.
    #[inline]
    fn offer(&self, distance: f32, row: u32, query: &IndexQuery<'_>, top: &mut TopK) {
        if (query.admit)(row) {
            top.push(distance, row);
        }
        for twin in self.twins.of(row) {
            if (query.admit)(twin) {
                top.push(distance, twin);
            }
        }
    }
}

impl VectorIndex for Graph {
    fn search(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<IndexHits, IndexError> {
        self.check(vectors, query)?;
        let k = query.k.min(self.file.rows);
        if k == 0 {
            return Ok(IndexHits::default());
        }
        let ef = query.ef_search.clamp(k, self.file.rows.max(k));
        let target = Query { block: vectors, vector: query.vector };
        let (links, entries) = (self.file.links(), &self.file.entries);
        let mut scratch = Scratch::pooled();
        let mut clock = Clock::new(query.deadline);
        let mut visited = 0;
        let share = self.admitted_share(query);
        if share >= PLAIN_SHARE && ef <= PLAIN_EF_MAX {
            visited += walk(links, &target, entries, ef, &mut scratch, &mut clock, |_| {})?;
            if let Some(top) = self.pick(scratch.beam.nearest(), k, query) {
                return Ok(IndexHits { rows: top.into_sorted(), visited });
            }
        } else if self.scan_is_cheaper(share, ef) {
            let admitted = (0..self.file.rows as u32).filter(|&row| (query.admit)(row));
            return Ok(exact_rows(vectors, query.vector, k, admitted));
        }
        let mut hits = self.walk_filtered(vectors, query, ef, &mut scratch, &mut clock)?;
        hits.visited += visited;
        Ok(hits)
    }

    fn bytes(&self) -> usize {
        self.file.map.bytes().len() + self.file.entries.len() * 4 + self.twins.bytes()
    }
}
