//! Greedy best-first walk over neighbour lists: the inside of building and of searching.
use std::cmp::Reverse;
use std::time::Instant;

use super::codes::{CodedQuery, Codes};
use super::flat::distances_ids;
use super::links::Lists;
use super::near::Near;
use super::scratch::Scratch;
use super::space::{Probe, Space};
use super::{IndexError, TopK, VectorBlock};

/// Nodes walked, or 64 rows scanned, between two looks at the clock: some 50 µs.
const HOPS_PER_CLOCK: u64 = 64;

/// Distances from what is looked for to rows.
pub(super) trait Target {
    fn distances(&self, ids: &[u32], out: &mut [f32]);
}

/// A query, in the distance that users asked for.
pub(super) struct Query<'a> {
    pub(super) block: VectorBlock<'a>,
    pub(super) vector: &'a [f32],
}

impl Target for Query<'_> {
    #[inline]
    fn distances(&self, ids: &[u32], out: &mut [f32]) {
        distances_ids(self.block, self.vector, ids, out);
    }
}

/// A query and rows' codes, in the space of the build.
pub(super) struct CodedTarget<'a> {
    pub(super) codes: Codes<'a>,
    pub(super) query: &'a CodedQuery,
}

impl Target for CodedTarget<'_> {
    #[inline]
    fn distances(&self, ids: &[u32], out: &mut [f32]) {
        self.codes.distances(self.query, ids, out);
    }
}

/// A row that is being inserted, in the space of the build.
pub(super) struct Row<'a> {
    pub(super) space: &'a Space<'a>,
    pub(super) probe: &'a Probe,
}

impl Target for Row<'_> {
    #[inline]
    fn distances(&self, ids: &[u32], out: &mut [f32]) {
        self.space.distances(self.probe, ids, out);
    }
}

/// Stops a walk that takes too long.
pub(super) struct Clock {
    deadline: Option<Instant>,
    hops: u64,
}

impl Clock {
    pub(super) fn new(deadline: Option<Instant>) -> Clock {
        Clock { deadline, hops: 0 }
    }

    #[inline]
    pub(super) fn tick(&mut self) -> Result<(), IndexError> {
        self.hops += 1;
        let Some(deadline) = self.deadline else { return Ok(()) };
        if self.hops % HOPS_PER_CLOCK == 1 && Instant::now() >= deadline {
            return Err(IndexError::Deadline);
        }
        Ok(())
    }
}

impl Scratch {
    /// Puts the unseen ones of `rows`, up to `most`, and their distances into `ids` and `distances`.
    #[inline]
    fn score_unseen(&mut self, target: &impl Target, most: usize, rows: impl Iterator<Item = u32>) {
        // Seen or not is a coin's toss: written anyway and counted if unseen, since a wrong guess of the
        // processor costs more.
        self.ids.resize(most, 0);
        let mut unseen = 0;
        for row in rows {
            self.ids[unseen] = row;
            unseen += usize::from(self.visited.insert(row));
        }
        self.ids.truncate(unseen);
        self.distances.resize(unseen, 0.0);
        target.distances(&self.ids, &mut self.distances);
    }
}

/// Walks until the `ef` nearest nodes found have all been walked; they are in `scratch.beam` then.
/// Returns the number of distances computed. `on_walked` sees each node whose neighbours were looked at.
pub(super) fn walk(
    links: impl Lists,
    target: &impl Target,
    entries: &[u32],
    ef: usize,
    scratch: &mut Scratch,
    clock: &mut Clock,
    mut on_walked: impl FnMut(Near),
) -> Result<u64, IndexError> {
    scratch.visited.start(links.len());
    scratch.beam.start(ef);
    scratch.score_unseen(target, entries.len(), entries.iter().copied());
    let mut computed = 0;
    loop {
        computed += scratch.ids.len() as u64;
        let mut bound = scratch.beam.bound();
        for (&row, &distance) in scratch.ids.iter().zip(&scratch.distances) {
            // What isn't a number isn't beyond it, and has a place too: the last.
            if distance > bound {
                continue;
            }
            scratch.beam.insert(Near::new(distance, row));
            bound = scratch.beam.bound();
        }
        let Some(near) = scratch.beam.walk_next() else { return Ok(computed) };
        clock.tick()?;
        if let Some(next) = scratch.beam.peek() {
            links.prefetch(next.row()); // most likely walked next
        }
        on_walked(near);
        scratch.score_unseen(target, links.longest(), links.neighbours(near.row()));
    }
}

/// Walks until the `ef` nearest *admitted* rows are found: others are walked through, not kept.
///
/// `admitted` puts into the result what a node stands for, if anything. Gives up with `None` after
/// `distances_max`: where the query's surroundings are admitted less than elsewhere, everything near is
/// walked through before anything is found. The second number is that of distances computed.
#[allow(clippy::too_many_arguments)]
pub(super) fn walk_admitted(
    links: impl Lists,
    target: &impl Target,
    entries: &[u32],
    ef: usize,
    scratch: &mut Scratch,
    clock: &mut Clock,
    distances_max: u64,
    mut admitted: impl FnMut(Near, &mut TopK),
) -> Result<(Option<TopK>, u64), IndexError> {
    scratch.visited.start(links.len());
    scratch.frontier.clear();
    scratch.score_unseen(target, entries.len(), entries.iter().copied());
    let mut found = TopK::new(ef);
    let mut computed = 0;
    loop {
        computed += scratch.ids.len() as u64;
        let mut bound = found.bound();
        for (&row, &distance) in scratch.ids.iter().zip(&scratch.distances) {
            if distance > bound {
                continue;
            }
            let near = Near::new(distance, row);
            scratch.frontier.push(Reverse(near));
            admitted(near, &mut found);
            bound = found.bound();
        }
        let Some(Reverse(near)) = scratch.frontier.pop() else { return Ok((Some(found), computed)) };
        if near.distance() > found.bound() {
            return Ok((Some(found), computed));
        }
        if computed > distances_max {
            return Ok((None, computed));
        }
        clock.tick()?;
        if let Some(Reverse(next)) = scratch.frontier.peek() {
            links.prefetch(next.row());
        }
        scratch.score_unseen(target, links.longest(), links.neighbours(near.row()));
    }
}
