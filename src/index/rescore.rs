//! A second look: exact distances of what a walk on codes has found.
use std::time::Instant;

use super::VectorBlock;
use super::ahead::{self, Warmth};
use super::codes::{CodedQuery, Codes, Sieve};
use super::flat::distances_ids;
use super::near::Near;
use crate::types::Distance;

/// Rows whose vectors are fetched at once.
const AT_ONCE: usize = 16;

/// Turns estimates into exact distances, where the estimate's error leaves a doubt.
pub(super) struct Rescore<'a> {
    pub(super) block: VectorBlock<'a>,
    vector: &'a [f32],
    codes: Option<(Codes<'a>, &'a CodedQuery)>,
    /// Of the vectors, where there are codes.
    warmth: Option<&'a Warmth>,
    /// Are estimates taken for exact?
    believed: bool,
    /// Estimates are squared l2 in the space of the build; users' distances are `scale · estimate + base`.
    scale: f32,
    base: f32,
}

impl<'a> Rescore<'a> {
    /// For walks whose distances are exact.
    pub(super) fn none(block: VectorBlock<'a>, vector: &'a [f32]) -> Rescore<'a> {
        Rescore { block, vector, codes: None, warmth: None, believed: true, scale: 1.0, base: 0.0 }
    }

    /// For walks on codes. `lifted_square`: see `space`.
    pub(super) fn new(
        block: VectorBlock<'a>,
        vector: &'a [f32],
        codes: Codes<'a>,
        query: &'a CodedQuery,
        lifted_square: f32,
        warmth: &'a Warmth,
    ) -> Rescore<'a> {
        let (scale, base) = scale_and_base(block.distance, vector, lifted_square);
        let (codes, warmth) = (Some((codes, query)), Some(warmth));
        Rescore { block, vector, codes, warmth, believed: false, scale, base }
    }

    /// Takes what a walk has found for exact: faster by the look at full vectors, and wrong by what codes are.
    /// A scan looks all the same.
    pub(super) fn believe(&mut self) {
        self.believed = true;
    }

    /// Estimates of rows' distances, in the space of the build; `false` if there are no codes.
    pub(super) fn estimates(&self, ids: &[u32], out: &mut [f32]) -> bool {
        let Some((codes, query)) = &self.codes else { return false };
        codes.distances(query, ids, out);
        true
    }

    /// A test of rows by the front of their codes, if they have such.
    pub(super) fn sieve(&self) -> Option<Sieve<'a>> {
        let (codes, query) = self.codes?;
        codes.sieve(query)
    }

    /// A user's distance as a squared one in the space of the build.
    pub(super) fn in_space(&self, distance: f32) -> f32 {
        (distance - self.base) / self.scale
    }

    /// Exact distances of rows.
    pub(super) fn exact(&self, ids: &[u32], out: &mut [f32]) {
        distances_ids(self.block, self.vector, ids, out);
    }

    /// May a row of that estimate lie within `bound`?
    #[inline]
    pub(super) fn may_be_within(&self, row: u32, estimate: f32, bound: f32) -> bool {
        let Some((codes, query)) = &self.codes else { return true };
        let beyond = |estimate: f32| self.scale * estimate + self.base > bound;
        // What isn't a number isn't beyond anything: its exact distance says where it belongs.
        !(beyond(estimate) && beyond(estimate - codes.slack(query, row)))
    }

    /// The distance that a row of that estimate may well have at most.
    #[inline]
    pub(super) fn at_most(&self, row: u32, estimate: f32) -> f32 {
        let slack = self.codes.as_ref().map_or(0.0, |(codes, query)| codes.slack(query, row));
        self.scale * (estimate + slack) + self.base
    }

    /// Shows `take` the exact distances of `found` (nearest first), but for rows that lie beyond the bound
    /// that it returned last however wrong their estimates are. `take` ends it with `None`.
    pub(super) fn run(
        &self,
        found: &[Near],
        ids: &mut Vec<u32>,
        distances: &mut Vec<f32>,
        mut take: impl FnMut(f32, u32) -> Option<f32>,
    ) {
        let mut bound = f32::INFINITY;
        if self.believed {
            for near in found {
                let distance = self.scale * near.distance() + self.base;
                // All that follow are farther.
                if distance > bound {
                    return;
                }
                match take(distance, near.row()) {
                    Some(now) => bound = now,
                    None => return,
                }
            }
            return;
        }
        self.look(found, ids, distances, take);
    }

    /// The same, whether estimates are taken for exact or not. Without codes it looks at all of `found`.
    pub(super) fn look(
        &self,
        found: &[Near],
        ids: &mut Vec<u32>,
        distances: &mut Vec<f32>,
        mut take: impl FnMut(f32, u32) -> Option<f32>,
    ) {
        let mut bound = f32::INFINITY;
        let mut is_cold = self.warmth.is_some_and(Warmth::is_cold);
        let mut asked_for = 0;
        'all: for (from, chunk) in (0..).step_by(AT_ONCE).zip(found.chunks(AT_ONCE)) {
            let within = |near: &&Near| self.may_be_within(near.row(), near.distance(), bound);
            ids.clear();
            ids.extend(chunk.iter().filter(within).map(|near| near.row()));
            if is_cold && asked_for <= from {
                // First for those that give a bound, then for all that may lie within it.
                let wanted = if from == 0 { chunk } else { &found[from..] };
                asked_for = from + wanted.len();
                let had_to = ahead::vectors(self.block, wanted.iter().filter(within).map(|near| near.row()));
                // That nothing lies within the bound doesn't say that the next search will find all in memory.
                is_cold = had_to || from > 0;
            }
            distances.resize(ids.len(), 0.0);
            let begun = self.warmth.map(|_| Instant::now());
            self.exact(ids, distances);
            is_cold |= begun.is_some_and(|begun| Warmth::was_waited_for(begun.elapsed()));
            for (&row, &distance) in ids.iter().zip(distances.iter()) {
                match take(distance, row) {
                    Some(now) => bound = now,
                    None => break 'all,
                }
            }
        }
        if let Some(warmth) = self.warmth {
            warmth.set(is_cold);
        }
    }
}

/// Users' distances from a query are `scale · d + base` of distances d in the space of the build.
pub(super) fn scale_and_base(distance: Distance, vector: &[f32], lifted_square: f32) -> (f32, f32) {
    match distance {
        Distance::L2 => (1.0, 0.0),
        // Of unit vectors |a - b|² = 2 (1 - a·b).
        Distance::Cosine => (0.5, 0.0),
        // |a - q|² = |a|² + |q|² - 2 a·q, and all lifted rows are of one length.
        Distance::Dot => (0.5, -0.5 * (proximadb_kernels::distance::dot(vector, vector) + lifted_square)),
    }
}
