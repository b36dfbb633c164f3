//! A scan by codes: all rows of a list, exact where the codes leave a doubt.
use std::ops::Range;

use proximadb_kernels::sets::{SPARE, numbers};

use super::near::Near;
use super::rescore::Rescore;
use super::scratch::Scratch;
use super::walk::Clock;
use super::{IndexError, IndexHits, IndexQuery, TopK};
use crate::types::RowSet;

/// Rows looked at before the bound is looked at again, at first.
const AT_ONCE: usize = 64;

/// The same once some were looked at: a list that ends leaves the memory idle. By codes alone.
const AT_ONCE_MAX: usize = 512;

/// Words of a set that are listed together.
const WORDS: usize = 4;

/// Times that rows are read as a whole before their fronts are tried again, where these said too little.
const WHOLE_TIMES: usize = 4;

/// Rows to look at, rising.
pub(super) trait Rows {
    /// Puts the next ones into `ids`, about `wanted`, instead of what is there; none at the end.
    fn next_rows(&mut self, wanted: usize, ids: &mut Vec<u32>);
}

impl Rows for Range<u32> {
    fn next_rows(&mut self, wanted: usize, ids: &mut Vec<u32>) {
        ids.clear();
        ids.extend(self.by_ref().take(wanted));
    }
}

/// The rows of a set.
pub(super) struct InSet<'a> {
    words: &'a [u64],
    /// The first row of `words`.
    first: u32,
}

impl<'a> InSet<'a> {
    pub(super) fn new(set: &'a RowSet) -> InSet<'a> {
        InSet { words: set.words(), first: 0 }
    }
}

impl Rows for InSet<'_> {
    fn next_rows(&mut self, wanted: usize, ids: &mut Vec<u32>) {
        let mut here = [0; 64 * WORDS + SPARE];
        ids.clear();
        while ids.len() < wanted && !self.words.is_empty() {
            let (words, rest) = self.words.split_at(WORDS.min(self.words.len()));
            let count = numbers(words, self.first, &mut here);
            ids.extend_from_slice(&here[..count]);
            (self.words, self.first) = (rest, self.first.wrapping_add(64 * WORDS as u32));
        }
    }
}

/// The nearest alive rows of `rows`.
///
/// First every row that the front of its code doesn't rule out is estimated, and those stay that may be among the `k`
/// nearest, as wrong as estimates may well be; they are then scored exactly, nearest estimate first, while there is a
/// doubt. Two in a thousand of those that belong to the answer are missed. Without codes all alive rows are scored
/// exactly.
pub(super) fn scan(
    rescore: &Rescore<'_>,
    rows: &mut impl Rows,
    query: &IndexQuery<'_>,
    scratch: &mut Scratch,
    clock: &mut Clock,
) -> Result<IndexHits, IndexError> {
    let mut top = TopK::new(query.k);
    let mut visited = 0;
    let Scratch { ids, distances, near, .. } = scratch;
    near.clear();
    let (sieve, mut at_once, mut as_a_whole) = (rescore.sieve(), AT_ONCE, 0);
    loop {
        clock.tick()?;
        rows.next_rows(at_once, ids);
        if ids.is_empty() {
            break;
        }
        visited += ids.len() as u64;
        if let Some(sieve) = sieve.as_ref().filter(|_| top.is_full()) {
            at_once = (2 * at_once).min(AT_ONCE_MAX);
            if as_a_whole > 0 {
                as_a_whole -= 1;
            } else {
                let before = ids.len();
                sieve.keep_near(ids, rescore.in_space(top.bound()));
                as_a_whole = if sieve.pays(ids.len(), before) { 0 } else { WHOLE_TIMES };
            }
        }
        distances.resize(ids.len(), 0.0);
        if !rescore.estimates(ids, distances) {
            ids.retain(|&row| (query.alive)(row));
            distances.resize(ids.len(), 0.0);
            rescore.exact(ids, distances);
            for (&row, &distance) in ids.iter().zip(distances.iter()) {
                top.push(distance, row);
            }
            continue;
        }
        // `top` holds the least upper bounds for now: no row of the answer lies beyond the k-th.
        let mut bound = top.bound();
        for (&row, &estimate) in ids.iter().zip(distances.iter()) {
            if !rescore.may_be_within(row, estimate, bound) || !(query.alive)(row) {
                continue;
            }
            near.push(Near::new(estimate, row));
            if top.push(rescore.at_most(row, estimate), row) {
                bound = top.bound();
            }
        }
    }
    if near.is_empty() {
        return Ok(IndexHits { rows: top.into_sorted(), visited, scanned: true });
    }
    let bound = top.bound();
    near.retain(|near| rescore.may_be_within(near.row(), near.distance(), bound));
    near.sort_unstable();
    let mut top = TopK::new(query.k);
    rescore.look(near, ids, distances, |distance, row| {
        top.push(distance, row);
        Some(top.bound())
    });
    Ok(IndexHits { rows: top.into_sorted(), visited, scanned: true })
}
