//! Searches a graph file.
use std::path::{Path, PathBuf};

use super::ahead::Warmth;
use super::choice::{Choice, Way, choose};
use super::graph_format::{self, GraphFile};
use super::links::Lists;
use super::rescore::Rescore;
use super::scratch::Scratch;
use super::search_ways::Search;
use super::twins::Twins;
use super::walk::{Clock, CodedTarget, Query, Target};
use super::{IndexError, IndexHits, IndexQuery, VectorBlock, VectorIndex};
use crate::types::Distance;

/// A built graph, in memory.
///
/// How it searches depends on the share of rows that match and are alive (see `choice`). If all match, a walk keeps
/// the `ef_search` nearest nodes and picks the rows that are alive. Else a walk keeps the nearest nodes that match and
/// steps over the others. If that would cost more than looking at all rows that match, it does the latter.
pub struct Graph {
    path: PathBuf,
    file: GraphFile,
    twins: Twins,
    /// Of the vectors that it was searched with.
    pub(super) warmth: Warmth,
}

impl Graph {
    /// Reads a file that [`super::GraphBuilder`] wrote into memory and checks every byte of it.
    pub fn open(path: &Path) -> Result<Graph, IndexError> {
        Ok(Graph::of(path, graph_format::open(path)?))
    }

    /// Maps a file and checks every byte of it: takes no memory that others might need, and has no huge pages.
    pub fn open_mapped(path: &Path) -> Result<Graph, IndexError> {
        Ok(Graph::of(path, graph_format::open_mapped(path)?))
    }

    fn of(path: &Path, mut file: GraphFile) -> Graph {
        let twins = Twins::new(std::mem::take(&mut file.twins), file.rows);
        Graph { path: path.to_owned(), file, twins, warmth: Warmth::default() }
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

    /// What it was read from, and the twins taken out of it: for merging.
    pub(super) fn file_and_twins(&self) -> (&GraphFile, &Twins) {
        (&self.file, &self.twins)
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

    /// Candidates to keep: what was asked for, times what the codes need to find as much.
    fn candidates(&self, query: &IndexQuery<'_>, k: usize) -> usize {
        let codes = self.file.codes().filter(|_| !query.codes.ignore);
        let widening = codes.map_or(1.0, |codes| codes.quantizer.widening);
        let widened = (query.ef_search as f32 * widening).ceil() as usize;
        widened.max((k as f32 * query.codes.oversampling).ceil() as usize)
    }

    /// Bytes that are read of a row to compare it.
    pub(super) fn row_bytes(&self) -> usize {
        self.file.codes().map_or(self.file.dim * size_of::<f32>(), |codes| codes.quantizer.stride())
    }

    /// Bytes of them that a scan reads first, and of most rows alone.
    pub(super) fn front_bytes(&self) -> usize {
        self.file.codes().map_or(self.row_bytes(), |codes| codes.quantizer.front_bytes())
    }

    /// Searches by codes if there are any. `k` and `ef_search` of the query are within bounds.
    pub(super) fn search_by(
        &self,
        vectors: VectorBlock<'_>,
        query: &IndexQuery<'_>,
        choice: Choice,
    ) -> Result<IndexHits, IndexError> {
        let mut scratch = Scratch::pooled();
        let Some(codes) = self.file.codes().filter(|_| !query.codes.ignore) else {
            let target = Query { block: vectors, vector: query.vector };
            return self.walk(&target, &Rescore::none(vectors, query.vector), query, choice, &mut scratch);
        };
        let mut coded = std::mem::take(&mut scratch.coded);
        let lift = (self.file.distance == Distance::Dot).then_some(0.0);
        codes.quantizer.prepare(query.vector, lift, &mut coded);
        let target = CodedTarget { codes, query: &coded };
        let lifted_square = self.file.lifted_square;
        let mut rescore = Rescore::new(vectors, query.vector, codes, &coded, lifted_square, &self.warmth);
        if !query.codes.rescore {
            rescore.believe();
        }
        let hits = self.walk(&target, &rescore, query, choice, &mut scratch);
        scratch.coded = coded;
        hits
    }

    fn walk(
        &self,
        target: &impl Target,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        choice: Choice,
        scratch: &mut Scratch,
    ) -> Result<IndexHits, IndexError> {
        match self.file.width() {
            3 => self.walk_along(self.file.links::<3>(), target, rescore, query, choice, scratch),
            _ => self.walk_along(self.file.links::<4>(), target, rescore, query, choice, scratch),
        }
    }

    fn walk_along(
        &self,
        links: impl Lists,
        target: &impl Target,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        choice: Choice,
        scratch: &mut Scratch,
    ) -> Result<IndexHits, IndexError> {
        let (mut clock, mut visited, mut found) = (Clock::new(query.deadline), 0, Vec::new());
        if choice.way == Way::Plain
            && let Some(levels) = self.file.levels()
        {
            visited += levels.doors(target, scratch, &mut clock, &mut found)?;
        }
        let entries = &self.file.entries;
        let search = Search {
            links,
            target,
            rescore,
            entries,
            doors: if found.is_empty() { entries } else { &found },
            twins: &self.twins,
            query,
            choice,
            clock,
            visited,
        };
        search.run(scratch)
    }
}

impl VectorIndex for Graph {
    fn search(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<IndexHits, IndexError> {
        self.check(vectors, query)?;
        let k = query.k.min(self.file.rows);
        if k == 0 {
            return Ok(IndexHits::default());
        }
        let ef_search = self.candidates(query, k).clamp(k, self.file.rows.max(k));
        let query = IndexQuery { k, ef_search, ..*query };
        let choice = choose(&query, self.file.rows, self.row_bytes(), self.front_bytes());
        self.search_by(vectors, &query, choice)
    }

    fn bytes(&self) -> usize {
        self.file.bytes() + self.twins.bytes()
    }

    fn is_mapped(&self) -> bool {
        self.file.is_mapped()
    }

    fn as_graph(&self) -> Option<&Graph> {
        Some(self)
    }
}
