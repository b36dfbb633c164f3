//! Exact search of one query over many runs of rows: blocks of memtables, segments without a graph.
//!
//! ```text
//!   run ─ chunk of 512 rows ─┬─ coded: bounds from codes ──▶ rows that may be near ──▶ floats ─┐
//!                            └─ not yet: all floats, then coded while the allowance lasts ─────┴──▶ the k nearest
//! ```
//! E1 what comes back is what computing and sorting all distances would give, ties by id included. E2 a row farther
//! than the `k` best of the runs before is passed over: the search has no use for it.
use std::cmp::Ordering;
use std::time::Instant;

use super::code_chunk::{Aim, CHUNK_ROWS};
use super::flat::{distances_ids, distances_many};
use super::near::Near;
use super::scan_codes::ScanCodes;
use super::{IndexError, IndexHits, TopK, VectorBlock};
use crate::types::{Distance, RowSet};

/// Rows whose floats are fetched at once, before the bound is looked at again.
const AT_ONCE: usize = 64;

/// Components that one search may code: 1,365 rows of 768. More where it scans more: see [`ALLOWANCE_SHARE`].
const ALLOWANCE: usize = 1 << 20;

/// One component in so many that are scanned in floats may be coded, so that a long run isn't scanned slowly for
/// hundreds of searches: after ten nearly all of it is coded.
const ALLOWANCE_SHARE: usize = 4;

/// One search's exact part.
pub struct Scanner<'a> {
    query: &'a [f32],
    distance: Distance,
    k: usize,
    deadline: Option<Instant>,
    /// The `k` best of all runs so far, by distance alone.
    nearest: TopK,
    /// Components that may still be coded.
    allowance: usize,
    aim: Aim,
    bounds: Vec<f32>,
    ids: Vec<u32>,
    doubtful: Vec<(f32, u32)>,
    distances: Vec<f32>,
}

/// One run of rows.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Its vectors.
    pub vectors: VectorBlock<'a>,
    /// Their codes, as far as there are any.
    pub codes: &'a ScanCodes,
    /// Rows that a filter lets through, dead ones among them; `None` where there is no filter.
    pub matching: Option<&'a RowSet>,
    /// Is the row alive at the snapshot? Asked about rows that are near enough only.
    pub alive: &'a dyn Fn(u32) -> bool,
    /// Which of two rows comes first where both are as near: by id.
    pub by_id: &'a dyn Fn(u32, u32) -> Ordering,
}

impl<'a> Scanner<'a> {
    /// Nothing scanned yet. `deadline`: give up after this.
    pub fn new(query: &'a [f32], distance: Distance, k: usize, deadline: Option<Instant>) -> Self {
        Self {
            query,
            distance,
            k,
            deadline,
            nearest: TopK::new(k),
            allowance: ALLOWANCE,
            aim: Aim::default(),
            bounds: Vec::new(),
            ids: Vec::new(),
            doubtful: Vec::new(),
            distances: Vec::new(),
        }
    }

    /// Takes note of rows found otherwise: `k` of them let scans pass over what is farther.
    pub fn note(&mut self, hits: &[(f32, u32)]) {
        for &(distance, row) in hits {
            self.nearest.push(distance, row);
        }
    }

    /// The nearest rows of a run, at most `k`; none that is farther than the `k` best of the runs before.
    ///
    /// Panics if the query's length isn't the rows', or the set of matching rows is that of another run.
    pub fn scan(&mut self, run: Run<'_>) -> Result<IndexHits, IndexError> {
        let block = run.vectors;
        assert_eq!(self.query.len(), block.dim, "the query has another number of components");
        let len = block.len();
        assert!(run.matching.is_none_or(|matching| matching.rows() == len), "a set of another run's rows");
        if self.k == 0 || block.dim == 0 {
            return Ok(IndexHits::default());
        }
        let mut kept = Kept::new(self.k, self.nearest.bound());
        let held = run.codes.held();
        let mut visited = 0;
        for (number, first) in (0..len).step_by(CHUNK_ROWS).enumerate() {
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(IndexError::Deadline);
            }
            let chunk = Chunk { first, len: CHUNK_ROWS.min(len - first), block };
            let listed = self.list(run.matching, &chunk);
            visited += if listed { self.ids.len() } else { chunk.len } as u64;
            if listed && self.ids.is_empty() {
                continue;
            }
            let codes = held.as_ref().and_then(|held| held.chunk(number));
            if let Some(codes) = codes
                && codes.aim(self.query, self.distance, &mut self.aim)
            {
                if listed {
                    codes.bounds_ids(&mut self.aim, &self.ids, &mut self.bounds);
                } else {
                    codes.bounds(&mut self.aim, &mut self.bounds);
                }
                self.look_at_doubtful(&run, &chunk, listed, &mut kept);
                continue;
            }
            self.look_at_all(&run, &chunk, listed, &mut kept);
            if codes.is_none() {
                self.code(&run, number, &chunk, len);
            }
        }
        let rows = kept.into_sorted(run.by_id);
        self.note(&rows);
        Ok(IndexHits { rows, visited, scanned: true })
    }

    /// Lists the rows of a chunk that match, counted from its first, unless all are to be looked at.
    fn list(&mut self, matching: Option<&RowSet>, chunk: &Chunk<'_>) -> bool {
        let Some(matching) = matching else { return false };
        let words = matching.words().get(chunk.first / 64..(chunk.first + chunk.len).div_ceil(64));
        let words = words.unwrap_or_default();
        let count: usize = words.iter().map(|word| word.count_ones() as usize).sum();
        // Rows in a row are read faster than rows here and there.
        if count * 4 > chunk.len * 3 {
            return false;
        }
        self.ids.clear();
        for (word, first) in words.iter().zip((0..).step_by(64)) {
            let mut rest = *word;
            while rest != 0 {
                self.ids.push(first + rest.trailing_zeros());
                rest &= rest - 1;
            }
        }
        true
    }

    /// All distances in floats.
    fn look_at_all(&mut self, run: &Run<'_>, chunk: &Chunk<'_>, listed: bool, kept: &mut Kept) {
        let block = chunk.vectors();
        let admits = |row: u32| listed || run.matching.is_none_or(|matching| matching.contains(row));
        if listed {
            self.distances.resize(self.ids.len(), 0.0);
            distances_ids(block, self.query, &self.ids, &mut self.distances);
        } else {
            self.distances.resize(chunk.len, 0.0);
            distances_many(block.distance, self.query, block.rows, &mut self.distances);
        }
        let mut offer = |row: u32, distance: f32| {
            let row = row + chunk.first as u32;
            if !kept.is_beyond(distance) && admits(row) && (run.alive)(row) {
                kept.offer(distance, row);
            }
        };
        if listed {
            self.ids.iter().zip(&self.distances).for_each(|(&row, &distance)| offer(row, distance));
        } else {
            (0..).zip(&self.distances).for_each(|(row, &distance)| offer(row, distance));
        }
    }

    /// Those distances in floats that the bounds don't rule out.
    fn look_at_doubtful(&mut self, run: &Run<'_>, chunk: &Chunk<'_>, listed: bool, kept: &mut Kept) {
        let Self { bounds, ids, doubtful, distances, query, .. } = self;
        doubtful.clear();
        let within = kept.bound();
        let admits = |row: u32| {
            let row = row + chunk.first as u32;
            (listed || run.matching.is_none_or(|matching| matching.contains(row))) && (run.alive)(row)
        };
        // What isn't a number rules nothing out.
        let is_near = |bound: f32| bound.partial_cmp(&within) != Some(Ordering::Greater);
        if listed {
            let near = bounds.iter().zip(&*ids).filter(|(bound, row)| is_near(**bound) && admits(**row));
            doubtful.extend(near.map(|(&bound, &row)| (bound, row)));
        } else {
            let near = bounds.iter().zip(0..).filter(|(bound, row)| is_near(**bound) && admits(*row));
            doubtful.extend(near.map(|(&bound, row)| (bound, row)));
        }
        if doubtful.len() > AT_ONCE {
            // The likely ones first: they rule out others.
            doubtful.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        }
        for group in doubtful.chunks(AT_ONCE) {
            ids.clear();
            ids.extend(group.iter().filter(|(bound, _)| !kept.is_beyond(*bound)).map(|(_, row)| *row));
            distances.resize(ids.len(), 0.0);
            distances_ids(chunk.vectors(), query, ids, distances);
            for (&row, &distance) in ids.iter().zip(distances.iter()) {
                if !kept.is_beyond(distance) {
                    kept.offer(distance, row + chunk.first as u32);
                }
            }
        }
    }

    /// Codes a chunk that has just been read, if that may be.
    fn code(&mut self, run: &Run<'_>, number: usize, chunk: &Chunk<'_>, rows: usize) {
        let vectors = chunk.vectors();
        self.allowance += vectors.rows.len() / ALLOWANCE_SHARE;
        if self.allowance >= vectors.rows.len() && run.codes.code(rows, number, vectors) {
            self.allowance -= vectors.rows.len();
        }
    }
}

/// Rows of a run that are looked at together.
struct Chunk<'a> {
    first: usize,
    len: usize,
    block: VectorBlock<'a>,
}

impl<'a> Chunk<'a> {
    #[allow(clippy::indexing_slicing)]
    fn vectors(&self) -> VectorBlock<'a> {
        let VectorBlock { dim, rows, distance } = self.block;
        VectorBlock { dim, rows: &rows[self.first * dim..(self.first + self.len) * dim], distance }
    }
}

/// The `k` nearest rows of a run, and those that are as near as the last of them.
struct Kept {
    top: TopK,
    /// Farther rows are of no use.
    within: f32,
    tied: Vec<u32>,
}

impl Kept {
    fn new(k: usize, within: f32) -> Self {
        Self { top: TopK::new(k), within, tied: Vec::new() }
    }

    #[inline]
    fn bound(&self) -> f32 {
        self.top.bound().min(self.within) // that of what isn't a number is the other
    }

    #[inline]
    fn is_beyond(&self, distance: f32) -> bool {
        distance > self.bound()
    }

    fn offer(&mut self, distance: f32, row: u32) {
        let before = self.top.bound();
        let Some(left_out) = self.top.offer(Near::new(distance, row)) else { return };
        let now = self.top.bound();
        if now.total_cmp(&before).is_ne() {
            self.tied.clear();
        }
        if left_out.distance().total_cmp(&now).is_eq() {
            self.tied.push(left_out.row());
        }
    }

    fn into_sorted(self, by_id: &dyn Fn(u32, u32) -> Ordering) -> Vec<(f32, u32)> {
        let (mut rows, mut tied) = (self.top.into_sorted(), self.tied);
        let Some(&(farthest, _)) = rows.last() else { return rows };
        if tied.is_empty() {
            return rows;
        }
        let nearer = rows.partition_point(|(distance, _)| distance.total_cmp(&farthest).is_lt());
        let wanted = rows.len() - nearer;
        tied.extend(rows.drain(nearer..).map(|(_, row)| row));
        if wanted < tied.len() {
            tied.select_nth_unstable_by(wanted, |a, b| by_id(*a, *b));
        }
        rows.extend(tied.into_iter().take(wanted).map(|row| (farthest, row)));
        rows
    }
}

#[cfg(test)]
#[path = "scanner_tests.rs"]
mod tests;
