//! A walk inside a filter: only admitted nodes are scored and kept, and it steps over the others.
//!
//! ```text
//!   walked ─┬▶ neighbour, admitted ──────────────────────────▶ scored
//!           └▶ neighbour, refused ──▶ its neighbours, admitted ▶ scored
//! ```
//! A refused node costs a look into its list, no distance. Lists of refused neighbours are read, nearest first, until
//! as many admitted nodes were met as a list is long: more are mostly met again later.
//!
//! What is admitted hangs together less well than all nodes do. So a walk starts from several doors, and what can't be
//! reached in two hops stays unseen: the caller looks whether as many were found as should be there.
//!
//! Sources: *ACORN: Performant and Predicate-Agnostic Search Over Vector Embeddings and Structured Data*, Patel et
//! al. (SIGMOD 2024, arXiv:2403.04871); as in its ACORN-1 the graph knows of no filter. That second hops go through
//! refused nodes alone and that doors are sampled from what matches is what Weaviate and Lucene do.
use super::IndexError;
use super::links::{Lists, SPARE};
use super::near::Near;
use super::scratch::{Scratch, Visited};
use super::twins::Twins;
use super::walk::{Clock, Target};
use crate::types::RowSet;

/// Lists asked for ahead of the one being read.
const LISTS_AHEAD: usize = 6;

/// What a walk has done.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Work {
    /// Distances computed.
    pub(super) computed: u64,
    /// Links looked at.
    pub(super) looked: u64,
}

/// Which nodes a walk lets through.
pub(super) trait Admits {
    /// Does it let this one through?
    fn admits(&self, row: u32) -> bool;

    /// Splits a node's neighbours by that: see [`Lists::split`].
    #[inline]
    fn split(&self, links: impl Lists, row: u32, inside: &mut [u32], outside: &mut [u32]) -> (usize, usize) {
        links.split_by(row, |row| self.admits(row), inside, outside)
    }
}

impl<F: Fn(u32) -> bool> Admits for F {
    #[inline]
    fn admits(&self, row: u32) -> bool {
        self(row)
    }
}

/// Those whose rows are in a set: most filters come to that, and many neighbours are looked up at once.
pub(super) struct InSet<'a> {
    pub(super) set: &'a RowSet,
    pub(super) twins: &'a Twins,
}

impl Admits for InSet<'_> {
    #[inline]
    fn admits(&self, row: u32) -> bool {
        self.set.contains(row) || self.twins.of(row).any(|row| self.set.contains(row))
    }

    #[inline]
    fn split(&self, links: impl Lists, row: u32, inside: &mut [u32], outside: &mut [u32]) -> (usize, usize) {
        let doubtful = self.twins.representatives();
        let (mut yes, mut no) = links.split(row, self.set.words(), doubtful, inside, outside);
        if doubtful.is_empty() {
            return (yes, no);
        }
        // Those that have twins are there whether one of them is in the set or not.
        let found = yes;
        yes = 0;
        for at in 0..found {
            let row = inside[at];
            if self.admits(row) {
                inside[yes] = row;
                yes += 1;
            } else {
                if let Some(place) = outside.get_mut(no) {
                    *place = row;
                }
                no += 1;
            }
        }
        (yes, no)
    }
}

/// A walk over the nodes that `admits` lets through. Those found are in `scratch.beam`.
pub(super) struct TwoHops<'a, L, T, A> {
    pub(super) links: L,
    pub(super) target: &'a T,
    pub(super) admits: A,
    pub(super) work: Work,
}

impl<L: Lists, T: Target, A: Admits> TwoHops<'_, L, T, A> {
    /// Forgets what was seen and kept; keeps up to `ef` nodes from now on.
    pub(super) fn start(&mut self, ef: usize, scratch: &mut Scratch) {
        scratch.visited.start(self.links.len());
        scratch.beam.start(ef);
    }

    /// Scores the admitted ones of `doors` that were not seen yet.
    pub(super) fn enter(&mut self, doors: &[u32], scratch: &mut Scratch) {
        let Scratch { ids, visited, .. } = scratch;
        ids.clear();
        ids.extend(doors.iter().filter(|&&door| visited.insert_if(door, self.admits.admits(door))));
        self.score(scratch);
    }

    /// Scores the admitted nodes around one that is refused.
    pub(super) fn enter_around(&mut self, row: u32, scratch: &mut Scratch) {
        if !self.admits.admits(row) {
            self.expand(row, scratch);
        }
    }

    /// How many nodes around `row` are admitted, and how many were looked at: its neighbours and theirs, at least
    /// `looks` of them unless there are fewer.
    pub(super) fn surroundings(&mut self, row: u32, looks: usize, scratch: &mut Scratch) -> (usize, usize) {
        let mut inside = std::mem::take(&mut scratch.ids);
        inside.resize(self.links.longest() + SPARE, 0);
        let (mut admitted, mut looked) = (0, 0);
        let mut look = |row: u32| {
            let (yes, no) = self.admits.split(self.links, row, &mut inside, &mut []);
            admitted += yes;
            looked += yes + no;
            looked
        };
        if look(row) < looks {
            let _ = self.links.neighbours(row).find(|&next| look(next) >= looks);
        }
        scratch.ids = inside;
        self.work.looked += looked as u64;
        (admitted, looked)
    }

    /// Walks until the nearest nodes found have all been walked. Gives up with `false` as soon as `is_too_much`.
    pub(super) fn run(
        &mut self,
        scratch: &mut Scratch,
        clock: &mut Clock,
        is_too_much: impl Fn(Work) -> bool,
    ) -> Result<bool, IndexError> {
        while let Some(near) = scratch.beam.walk_next() {
            if is_too_much(self.work) {
                return Ok(false);
            }
            clock.tick()?;
            if let Some(next) = scratch.beam.peek() {
                self.links.prefetch(next.row()); // most likely walked next
            }
            self.expand(near.row(), scratch);
        }
        Ok(true)
    }

    /// Scores unseen admitted nodes within two hops.
    #[inline]
    fn expand(&mut self, row: u32, scratch: &mut Scratch) {
        let met = self.first_hop(row, scratch);
        // Lists of refused neighbours come from memory while the first ones are scored.
        scratch.refused.iter().take(LISTS_AHEAD).for_each(|&next| self.links.prefetch(next));
        self.score(scratch);
        if met < self.links.longest() && !scratch.refused.is_empty() {
            self.second_hop(met, scratch);
            self.score(scratch);
        }
    }

    /// Puts unseen admitted neighbours into `scratch.ids`, refused ones into `scratch.refused`. Returns how many are
    /// admitted.
    #[inline]
    fn first_hop(&mut self, row: u32, scratch: &mut Scratch) -> usize {
        let Scratch { ids, refused, visited, .. } = scratch;
        let room = self.links.longest() + SPARE;
        ids.resize(room, 0);
        refused.resize(room, 0);
        let (admitted, others) = self.admits.split(self.links, row, ids, refused);
        refused.truncate(others);
        let unseen = keep_unseen(ids, 0, admitted, visited);
        ids.truncate(unseen);
        self.work.looked += (admitted + others) as u64;
        admitted
    }

    /// Puts unseen admitted neighbours of `scratch.refused` into `scratch.ids`, until as many were met as a
    /// list is long.
    #[inline]
    fn second_hop(&mut self, mut met: usize, scratch: &mut Scratch) {
        let Scratch { ids, refused, visited, .. } = scratch;
        // Fewer than a list is long are met before each list.
        ids.resize(2 * self.links.longest() + SPARE, 0);
        let mut unseen = 0;
        for (at, &row) in refused.iter().enumerate() {
            if met >= self.links.longest() {
                break;
            }
            if let Some(&next) = refused.get(at + LISTS_AHEAD) {
                self.links.prefetch(next);
            }
            // Refused nodes are marked when their lists are read: all that is there has been seen then.
            if !visited.insert(row) {
                continue;
            }
            // Marks lie anywhere, bits of a filter close together: marks of admitted nodes alone are looked at.
            let (admitted, others) = self.admits.split(self.links, row, &mut ids[unseen..], &mut []);
            self.work.looked += (admitted + others) as u64;
            met += admitted;
            unseen = keep_unseen(ids, unseen, unseen + admitted, visited);
        }
        ids.truncate(unseen);
    }

    #[inline]
    fn score(&mut self, scratch: &mut Scratch) {
        let Scratch { ids, distances, beam, .. } = scratch;
        distances.resize(ids.len(), 0.0);
        self.target.distances(ids, distances);
        self.work.computed += ids.len() as u64;
        let mut bound = beam.bound();
        for (&row, &distance) in ids.iter().zip(distances.iter()) {
            // What isn't a number isn't beyond it, and has a place too: the last.
            if distance > bound {
                continue;
            }
            beam.insert(Near::new(distance, row));
            bound = beam.bound();
        }
    }
}

/// Moves the unseen ones of `ids[first..end]` to its front and marks them. Returns where they end.
#[inline]
fn keep_unseen(ids: &mut [u32], first: usize, end: usize, visited: &mut Visited) -> usize {
    let mut unseen = first;
    for at in first..end {
        // Seen or not is a coin's toss: written anyway and counted if unseen.
        let row = ids[at];
        ids[unseen] = row;
        unseen += usize::from(visited.insert(row));
    }
    unseen
}
