//! Searches a graph file.
use std::path::{Path, PathBuf};

use super::graph_format::{self, GraphFile};
use super::links::Lists;
use super::near::Near;
use super::rescore::Rescore;
use super::scan::scan;
use super::scratch::Scratch;
use super::twins::Twins;
use super::walk::{Clock, CodedTarget, Query, Target, walk, walk_admitted};
use super::{IndexError, IndexHits, IndexQuery, TopK, VectorBlock, VectorIndex};
use crate::types::{Distance, RowSet};

/// Share of the rows that must be admitted for a plain walk, whose candidates need not be admitted.
const PLAIN_SHARE: f64 = 0.9;

/// Most candidates of a plain walk: it keeps them sorted, and each insertion moves half of them.
const PLAIN_EF_MAX: usize = 1024;

/// What a walk costs per candidate kept, divided by the share of rows admitted, in rows scanned: it
/// computes 6 to 12 distances where measured, to rows that lie anywhere, and keeps the results in order.
const WALK_COST: f64 = 25.0;

/// Rows scanned in the time of one distance of a walk, whose rows lie anywhere.
const SCANNED_PER_WALKED: u64 = 2;

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
/// How it searches depends on the share of rows that match and are alive. If it is nearly all, a walk
/// keeps the `ef_search` nearest nodes and picks those rows among them. If it is less, a walk keeps
/// the `ef_search` nearest such *rows* and goes through the others, so recall holds and cost grows as
/// one over the share. If that would cost more than looking at all rows that match, it does the latter.
pub struct Graph {
    path: PathBuf,
    file: GraphFile,
    twins: Twins,
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
        Graph { path: path.to_owned(), file, twins }
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

    /// How to search at least cost, from how many rows match and are alive. A filter and the dead are
    /// taken to have nothing to do with each other or with the query; where they have, `walk` notices.
    fn way(&self, query: &IndexQuery<'_>) -> Way {
        let rows = self.file.rows as f64;
        let matching = query.matching.map_or(self.file.rows, RowSet::count) as f64;
        let share = matching / rows * (query.alive_rows as f64 / rows).min(1.0);
        if share >= PLAIN_SHARE && query.ef_search <= PLAIN_EF_MAX {
            Way::Plain
        } else if matching * share < WALK_COST * query.ef_search as f64 {
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
        let mut scratch = Scratch::pooled();
        let Some(codes) = self.file.codes().filter(|_| !query.codes.ignore) else {
            let target = Query { block: vectors, vector: query.vector };
            return self.walk(&target, &Rescore::none(vectors, query.vector), query, way, &mut scratch);
        };
        let mut coded = std::mem::take(&mut scratch.coded);
        let lift = (self.file.distance == Distance::Dot).then_some(0.0);
        codes.quantizer.prepare(query.vector, lift, &mut coded);
        let target = CodedTarget { codes, query: &coded };
        let mut rescore = Rescore::new(vectors, query.vector, codes, &coded, self.file.lifted_square);
        if !query.codes.rescore {
            rescore.believe();
        }
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
        if way == Way::Scan {
            return self.scan(rescore, query, scratch, &mut clock);
        }
        let (entries, ef) = (&self.file.entries, query.ef_search);
        let (mut visited, mut doors) = (0, Vec::new());
        if let Some(levels) = self.file.levels() {
            visited += levels.doors(target, scratch, &mut clock, &mut doors)?;
        }
        if way == Way::Plain {
            let starts = if doors.is_empty() { entries } else { &doors };
            visited += walk(links, target, starts, ef, scratch, &mut clock, |_| {})?;
            if let Some(rows) = self.pick(rescore, query, scratch) {
                return Ok(IndexHits { rows, visited, scanned: false });
            }
        }
        // What can be reached, can be from the entries.
        doors.extend(entries);
        // No more than a scan would cost: so a wrong choice costs twice the right one.
        let matching = query.matching.map_or(self.file.rows, RowSet::count);
        let most = matching as u64 / SCANNED_PER_WALKED;
        let offer = |near: Near, found: &mut TopK| self.offer(near.distance(), near.row(), query, found);
        let (found, walked) = walk_admitted(links, target, &doors, ef, scratch, &mut clock, most, offer)?;
        let Some(found) = found else {
            let mut hits = self.scan(rescore, query, scratch, &mut clock)?;
            hits.visited += visited + walked;
            return Ok(hits);
        };
        let found: Vec<Near> = found.into_sorted().into_iter().map(|(d, row)| Near::new(d, row)).collect();
        let mut top = TopK::new(query.k);
        let Scratch { ids, distances, .. } = scratch;
        rescore.run(&found, ids, distances, |distance, row| {
            top.push(distance, row);
            Some(top.bound())
        });
        Ok(IndexHits { rows: top.into_sorted(), visited: visited + walked, scanned: false })
    }

    /// Looks at all rows that match.
    fn scan(
        &self,
        rescore: &Rescore<'_>,
        query: &IndexQuery<'_>,
        scratch: &mut Scratch,
        clock: &mut Clock,
    ) -> Result<IndexHits, IndexError> {
        match query.matching {
            Some(matching) => scan(rescore, matching.iter(), query, scratch, clock),
            None => scan(rescore, 0..self.file.rows as u32, query, scratch, clock),
        }
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
        if query.admits(row) {
            top.push(distance, row);
        }
        for twin in self.twins.of(row) {
            if query.admits(twin) {
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
        let ef_search = self.candidates(query, k).clamp(k, self.file.rows.max(k));
        let query = IndexQuery { k, ef_search, ..*query };
        self.search_by(vectors, &query, self.way(&query))
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
