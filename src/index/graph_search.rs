//! Searches a graph file.
use std::path::{Path, PathBuf};

use super::graph_format::{self, GraphFile};
use super::scratch::Scratch;
use super::twins::Twins;
use super::walk::{Clock, Query, walk, walk_admitted};
use super::{IndexError, IndexHits, IndexQuery, TopK, VectorBlock, VectorIndex};
use crate::types::Distance;

/// Rows asked whether they are admitted, to tell a filter from a few dead rows.
const SAMPLE: usize = 64;

/// Share of the sample that must be admitted for a plain walk, whose candidates need not be admitted.
const PLAIN_SHARE: f64 = 0.9;

/// A built graph, mapped.
///
/// A walk that admits nearly all rows keeps the `ef_search` nearest nodes and picks the admitted ones
/// among them; any other keeps the `ef_search` nearest *admitted* rows and walks through the rest, so
/// recall holds and cost grows as `1 / share admitted`. When few rows are admitted, scan them instead
/// ([`super::exact_rows`]).
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

    /// Are nearly all rows admitted?
    fn admits_nearly_all(&self, query: &IndexQuery<'_>) -> bool {
        let step = self.file.rows.div_ceil(SAMPLE).max(1);
        let sample = || (0..self.file.rows as u32).step_by(step);
        let admitted = sample().filter(|&row| (query.admit)(row)).count();
        admitted as f64 >= PLAIN_SHARE * sample().count() as f64
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
        if self.admits_nearly_all(query) {
            visited += walk(links, &target, entries, ef, &mut scratch, &mut clock, |_| {})?;
            let mut top = TopK::new(k);
            for near in scratch.beam.nearest() {
                // Twins of a node are as near as it is, and all that follow are farther.
                if top.is_full() && near.distance() > top.bound() {
                    break;
                }
                self.offer(near.distance(), near.row(), query, &mut top);
            }
            if top.is_full() {
                return Ok(IndexHits { rows: top.into_sorted(), visited });
            }
            // What isn't admitted lies just around the query.
        }
        let (found, computed) =
            walk_admitted(links, &target, entries, ef, &mut scratch, &mut clock, |near, found| {
                self.offer(near.distance(), near.row(), query, found);
            })?;
        let mut rows = found.into_sorted();
        rows.truncate(k);
        Ok(IndexHits { rows, visited: visited + computed })
    }

    fn bytes(&self) -> usize {
        self.file.map.bytes().len() + self.file.entries.len() * 4 + self.twins.bytes()
    }
}
