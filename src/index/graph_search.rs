//! Searches a graph file.
use std::path::{Path, PathBuf};

use super::flat::exact_rows;
use super::graph_format::{self, GraphFile};
use super::links::Lists;
use super::near::Near;
use super::rescore::Rescore;
use super::scratch::Scratch;
use super::twins::Twins;
use super::walk::{Clock, CodedTarget, Query, Target, walk, walk_admitted};
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

/// How a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A walk keeps the nearest nodes, and the admitted ones are picked.
    Plain,
    /// A walk keeps the nearest admitted rows.
    Filtered,
    /// The distances of all admitted rows are computed.
    Scan,
}

/// A built graph, in memory.
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
    /// Reads a file that [`super::GraphBuilder`] wrote into memory and checks every byte of it.
    pub fn open(path: &Path) -> Result<Graph, IndexError> {
        let mut file = graph_format::open(path)?;
        let twins = Twins::new(std::mem::take(&mut file.twins), file.rows);
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

    /// How to search where that share of the rows is admitted.
    fn way(&self, share: f64, ef: usize) -> Way {
        if share >= PLAIN_SHARE && ef <= PLAIN_EF_MAX {
            Way::Plain
        } else if self.scan_is_cheaper(share, ef) {
            Way::Scan
        } else {
            Way::Filtered
        }
    }

    /// Searches by codes if there are any. `k` and `ef_search` of the query are within bounds.
    pub(super) fn search_by(
        &self,
        vectors: VectorBlock<'_>,
        query: &IndexQuery<'_>,
        way: Way,
    ) -> Result<IndexHits, IndexError> {
        if way == Way::Scan {
            let admitted = (0..self.file.rows as u32).filter(|&row| (query.admit)(row));
            return Ok(exact_rows(vectors, query.vector, query.k, admitted));
        }
        let mut scratch = Scratch::pooled();
        let Some(codes) = self.file.codes() else {
            let target = Query { block: vectors, vector: query.vector };
            return self.walk(&target, &Rescore::none(vectors, query.vector), query, way, &mut scratch);
        };
        let mut coded = std::mem::take(&mut scratch.coded);
        let lift = (self.file.distance == Distance::Dot).then_some(0.0);
        codes.quantizer.prepare(query.vector, lift, &mut coded);
        let target = CodedTarget { codes, query: &coded };
        let rescore = Rescore::new(vectors, query.vector, codes, &coded, self.file.lifted_square);
        let hits = self.walk(&target, &rescore, query, way, &mut scratch);
        scratch.coded = coded;
        hits
    }

    fn walk(
        &self,
        target: &impl Target,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        way: Way,
        scratch: &mut Scratch,
    ) -> Result<IndexHits, IndexError> {
        match self.file.width() {
            3 => self.walk_along(self.file.links::<3>(), target, rescore, query, way, scratch),
            _ => self.walk_along(self.file.links::<4>(), target, rescore, query, way, scratch),
        }
    }

    fn walk_along(
        &self,
        links: impl Lists,
        target: &impl Target,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        way: Way,
        scratch: &mut Scratch,
    ) -> Result<IndexHits, IndexError> {
        let mut clock = Clock::new(query.deadline);
        let (entries, ef) = (&self.file.entries, query.ef_search);
        let mut visited = 0;
        if way == Way::Plain {
            visited += walk(links, target, entries, ef, scratch, &mut clock, |_| {})?;
            if let Some(rows) = self.pick(rescore, query, scratch) {
                return Ok(IndexHits { rows, visited });
            }
        }
        let (found, walked) =
            walk_admitted(links, target, entries, ef, scratch, &mut clock, |near, found| {
                self.offer(near.distance(), near.row(), query, found);
            })?;
        let found: Vec<Near> = found.into_sorted().into_iter().map(|(d, row)| Near::new(d, row)).collect();
        let mut top = TopK::new(query.k);
        let Scratch { ids, distances, .. } = scratch;
        rescore.run(&found, ids, distances, |distance, row| {
            top.push(distance, row);
            Some(top.bound())
        });
        Ok(IndexHits { rows: top.into_sorted(), visited: visited + walked })
    }

    /// The nearest admitted rows among the nodes a plain walk kept. `None` if that may not be all there is:
    /// the rows around the query are admitted less than elsewhere.
    fn pick(
        &self,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        scratch: &mut Scratch,
    ) -> Option<Vec<(f32, u32)>> {
        let mut top = TopK::new(query.k);
        let looked_max = (2 * query.k).max(32);
        let mut looked = 0;
        let Scratch { beam, ids, distances, .. } = scratch;
        rescore.run(beam.finish(), ids, distances, |distance, row| {
            looked += 1;
            let few = looked > looked_max && !top.is_full();
            self.offer(distance, row, query, &mut top);
            if few { None } else { Some(top.bound()) }
        });
        top.is_full().then(|| top.into_sorted())
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
        let ef_search = query.ef_search.clamp(k, self.file.rows.max(k));
        let query = IndexQuery { k, ef_search, ..*query };
        let way = self.way(self.admitted_share(&query), ef_search);
        self.search_by(vectors, &query, way)
    }

    fn bytes(&self) -> usize {
        self.file.bytes() + self.twins.bytes()
    }
}
