//! One search over one snapshot: filter, find, merge, fetch.
//!
//! ```text
//!   snapshot ─┬─ segments ── filter ── graph | exact scan ─┐
//!             └─ memtable blocks ── filter ── exact scan ──┴─ top k ── payloads
//! ```
//! I1 every row is looked at in one place only: no id shows twice. I2 if `k` rows match, `k` come back:
//! where a graph finds fewer, the matching rows are scanned. I3 nothing is read past the snapshot's LSN.
use std::sync::Arc;
use std::time::Instant;

use proximadb_kernels::distance;

use super::fetch::record;
use super::{Deadline, Filter, Hit, PayloadView, QueryError, SearchRequest};
use crate::index::{IndexError, IndexHits, IndexQuery, Run, Scanner, VectorBlock};
use crate::memtable::Block;
use crate::types::{Column, Distance, Lsn, PointId, RowSet};
use crate::view::{LiveSegment, RowRef, Snapshot};

/// Rows between looks at the deadline where all rows are gone through: fractions of a millisecond.
const ROWS_PER_LOOK: usize = 1024;

/// What a search of one snapshot found, before payloads.
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Share of the rows, dead ones included, that were scanned rather than found by a graph.
    pub scanned_fraction: f64,
}

/// A search with everything resolved: the vector is there, normalised for cosine.
pub struct Search<'a> {
    /// The request; its `nearest` is not looked at again.
    pub request: &'a SearchRequest,
    /// `dim` components.
    pub vector: &'a [f32],
    /// How vectors are compared.
    pub distance: Distance,
    /// Left out of the answer: the point that was searched near.
    pub except: Option<&'a PointId>,
    /// Give up after this.
    pub deadline: Instant,
    /// Where the request names no `ef_search`.
    pub ef_search_default: usize,
}

/// A candidate: internal distance and place.
struct Candidate {
    distance: f32,
    row: RowRef,
}

impl Search<'_> {
    /// Runs the search.
    pub fn run(&self, snapshot: &Snapshot) -> Result<Found, QueryError> {
        // The point searched near may take one place.
        let k = self.request.offset + self.request.limit + usize::from(self.except.is_some());
        let mut candidates = Vec::new();
        let (mut scanned, mut total) = (0_u64, 0_u64);
        if k > 0 {
            let mut scanner = Scanner::new(self.vector, self.distance, k, Some(self.deadline));
            // Graphs first: what they find at little cost lets scans pass over nearly everything.
            let mut segments: Vec<_> = snapshot.view.segments.iter().collect();
            segments.sort_by_key(|segment| segment.graph.load().is_none());
            for segment in segments {
                let walked = self.search_segment(segment, snapshot.lsn, k, &mut scanner, &mut candidates)?;
                scanned += if walked { 0 } else { u64::from(segment.rows()) };
                total += u64::from(segment.rows());
            }
            for block in snapshot.blocks() {
                self.search_block(&block, snapshot.lsn, &mut scanner, &mut candidates)?;
                scanned += block.len() as u64;
                total += block.len() as u64;
            }
        }
        let hits = self.best(candidates)?;
        let scanned_fraction = if total == 0 { 0.0 } else { scanned as f64 / total as f64 };
        Ok(Found { hits, scanned_fraction })
    }

    fn best(&self, mut candidates: Vec<Candidate>) -> Result<Vec<Hit>, QueryError> {
        candidates
            .sort_by(|a, b| a.distance.total_cmp(&b.distance).then_with(|| a.row.id().cmp(&b.row.id())));
        let good_enough = |score: f32| match self.request.score_threshold {
            None => true,
            Some(threshold) if self.distance.higher_is_better() => score >= threshold,
            Some(threshold) => score <= threshold,
        };
        candidates
            .into_iter()
            .filter(|candidate| self.except.is_none_or(|id| *id != candidate.row.id()))
            .map(|candidate| (self.distance.score(candidate.distance), candidate.row))
            .take_while(|(score, _)| good_enough(*score))
            .skip(self.request.offset)
            .take(self.request.limit)
            .map(|(score, row)| {
                let record = record(&row, &self.request.with_payload, self.request.with_vector)?;
                Ok(Hit { record, score })
            })
            .collect()
    }

    fn search_block(
        &self,
        block: &Arc<Block>,
        at: Lsn,
        scanner: &mut Scanner<'_>,
        into: &mut Vec<Candidate>,
    ) -> Result<(), QueryError> {
        self.check_deadline()?;
        let matching = matching(self.request.filter.as_ref(), &BlockPayload(block))?;
        let run = Run {
            vectors: VectorBlock { dim: self.vector.len(), rows: block.vectors(), distance: self.distance },
            codes: block.scan_codes(),
            matching: matching.as_ref(),
            alive: &|row| block.is_visible(row as usize, at),
            by_id: &|a, b| block.id(a as usize).cmp(block.id(b as usize)),
        };
        let found = scanner.scan(run).map_err(|error| self.timed(error))?;
        into.extend(found.rows.into_iter().map(|(distance, row)| Candidate {
            distance,
            row: RowRef::Memory { block: Arc::clone(block), row: row as usize },
        }));
        Ok(())
    }

    /// Returns whether a graph was walked.
    fn search_segment(
        &self,
        segment: &Arc<LiveSegment>,
        at: Lsn,
        k: usize,
        scanner: &mut Scanner<'_>,
        into: &mut Vec<Candidate>,
    ) -> Result<bool, QueryError> {
        self.check_deadline()?;
        let matching = matching(self.request.filter.as_ref(), &SegmentPayload(segment))?;
        let vectors = segment.vectors()?;
        let alive = |row: u32| segment.is_visible(row, at);
        let (found, walked) = self.search_vectors(segment, vectors, matching.as_ref(), &alive, k, scanner)?;
        into.extend(found.rows.into_iter().map(|(distance, row)| Candidate {
            distance,
            row: RowRef::Segment { segment: Arc::clone(segment), row },
        }));
        Ok(walked)
    }

    fn search_vectors(
        &self,
        segment: &LiveSegment,
        vectors: VectorBlock<'_>,
        matching: Option<&RowSet>,
        alive: &(dyn Fn(u32) -> bool + Sync),
        k: usize,
        scanner: &mut Scanner<'_>,
    ) -> Result<(IndexHits, bool), QueryError> {
        let by_id = |a: u32, b: u32| segment.ids().id(a).cmp(&segment.ids().id(b));
        let run = Run { vectors, codes: segment.scan_codes(), matching, alive: &alive, by_id: &by_id };
        let mut scan = || scanner.scan(run).map_err(|error| self.timed(error));
        let graph = segment.graph.load();
        let Some(graph) = graph.as_ref().filter(|_| !self.request.exact) else {
            return Ok((scan()?, false));
        };
        let ef_search = self.request.ef_search.unwrap_or(self.ef_search_default).max(k);
        let alive_rows = segment.alive() as usize;
        let deadline = Some(self.deadline);
        let query = IndexQuery {
            vector: self.vector,
            k,
            ef_search,
            matching,
            alive,
            alive_rows,
            codes: self.request.codes,
            deadline,
        };
        let found = graph.search(vectors, &query).map_err(|error| self.timed(error))?;
        // A walk looks only so far; whoever asks for k rows that exist gets them. Graphs scan where they find too
        // few, so this is for indexes that don't.
        let enough = k.min(matching.map_or(vectors.len(), RowSet::count)).min(alive_rows);
        if !found.scanned && found.rows.len() < enough {
            return Ok((scan()?, false));
        }
        scanner.note(&found.rows);
        let walked = !found.scanned;
        Ok((found, walked))
    }

    fn timed(&self, error: IndexError) -> QueryError {
        match error {
            IndexError::Deadline => QueryError::Timeout { timeout: self.request.read.timeout },
            error => QueryError::Index(error),
        }
    }

    fn check_deadline(&self) -> Result<(), QueryError> {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        Err(QueryError::Timeout { timeout: self.request.read.timeout })
    }
}

/// Rows that a filter lets through; `None` where there is no filter.
fn matching(filter: Option<&Filter>, view: &dyn PayloadView) -> Result<Option<RowSet>, QueryError> {
    filter.map(|filter| filter.evaluate(view)).transpose().map_err(QueryError::from)
}

/// All rows of a snapshot that are visible and match, block by block and segment by segment; up to the deadline, which
/// is looked at every thousand rows or so.
pub fn for_each_match(
    snapshot: &Snapshot,
    filter: Option<&Filter>,
    deadline: Option<Deadline>,
    mut visit: impl FnMut(RowRef),
) -> Result<(), QueryError> {
    let look = || deadline.map_or(Ok(()), |deadline| deadline.check());
    for block in snapshot.blocks() {
        look()?;
        let matching = matching(filter, &BlockPayload(&block))?;
        for row in 0..block.len() {
            if row.is_multiple_of(ROWS_PER_LOOK) {
                look()?;
            }
            let matches = matching.as_ref().is_none_or(|matching| matching.contains(row as u32));
            if matches && block.is_visible(row, snapshot.lsn) {
                visit(RowRef::Memory { block: Arc::clone(&block), row });
            }
        }
    }
    for segment in &snapshot.view.segments {
        look()?;
        let matching = matching(filter, &SegmentPayload(segment))?;
        for row in 0..segment.rows() {
            if (row as usize).is_multiple_of(ROWS_PER_LOOK) {
                look()?;
            }
            let matches = matching.as_ref().is_none_or(|matching| matching.contains(row));
            if matches && segment.is_visible(row, snapshot.lsn) {
                visit(RowRef::Segment { segment: Arc::clone(segment), row });
            }
        }
    }
    Ok(())
}

/// Normalises a query for cosine; refuses what cannot be compared.
pub fn prepare_vector(distance: Distance, mut vector: Vec<f32>, field: &str) -> Result<Vec<f32>, QueryError> {
    let invalid = |problem, code| QueryError::BadVector { field: field.into(), problem, code };
    if !distance::all_finite(&vector) {
        return Err(invalid("a component is NaN or infinite; give finite numbers", "not_finite"));
    }
    if distance == Distance::Cosine && distance::normalize(&mut vector) == 0.0 {
        return Err(invalid("the zero vector has no direction, so cosine cannot compare it", "zero_vector"));
    }
    Ok(vector)
}

struct BlockPayload<'a>(&'a Block);

impl PayloadView for BlockPayload<'_> {
    fn rows(&self) -> usize {
        self.0.len()
    }

    fn column(&self, field: &str) -> Result<Option<Column>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.column(field))
    }

    fn for_each_id(&self, visit: &mut dyn FnMut(u32, &str)) {
        for row in 0..self.0.len() {
            visit(row as u32, self.0.id(row).as_str());
        }
    }
}

struct SegmentPayload<'a>(&'a LiveSegment);

impl PayloadView for SegmentPayload<'_> {
    fn rows(&self) -> usize {
        self.0.rows() as usize
    }

    fn column(&self, field: &str) -> Result<Option<Column>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.segment.column(field)?)
    }

    fn for_each_id(&self, visit: &mut dyn FnMut(u32, &str)) {
        for row in 0..self.0.rows() {
            visit(row, self.0.ids().text(row));
        }
    }
}
