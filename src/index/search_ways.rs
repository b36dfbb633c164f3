//! One search along one graph, whichever way it goes. All ways end in a scan where they found too little.
use super::choice::{Choice, Way};
use super::links::Lists;
use super::near::Near;
use super::rescore::Rescore;
use super::scan::{self, scan};
use super::scratch::Scratch;
use super::twins::Twins;
use super::two_hop::{Admits, InSet, TwoHops, Work};
use super::walk::{Clock, Target, walk, walk_admitted};
use super::{IndexError, IndexHits, IndexQuery, TopK};

/// Rows of what matches that a walk in two hops starts from, beside the graph's entries. They put a walk where it has
/// to be when no entry is admitted, and into most parts of a set that doesn't hang together.
const SAMPLED: usize = 32;

/// As many again, several times over, where a walk came to an end before it had enough.
const SAMPLED_AGAIN: usize = 128;

/// Candidates of the walk that looks for the query's surroundings, admitted or not.
const SURROUNDINGS_EF: usize = 4;

/// Entries around which is looked whether rows match as often as elsewhere.
const ENTRIES_ASKED: usize = 2;

/// Nearest doors of a walk through everything, once its surroundings were looked at.
const DOORS_THROUGH: usize = 4;

/// `(internal distance, row)`, nearest first.
type Rows = Vec<(f32, u32)>;

/// What a walk over others has found.
enum Found {
    /// The answer.
    Rows(Rows),
    /// Nodes, in `scratch.beam`.
    Beam,
    /// Not what is there, or not at less than a scan costs.
    TooLittle,
}

/// A search, and what it has done so far.
pub(super) struct Search<'a, L, T> {
    pub(super) links: L,
    pub(super) target: &'a T,
    pub(super) rescore: &'a Rescore<'a>,
    pub(super) entries: &'a [u32],
    /// Where a plain walk starts: the entries, or what levels have found.
    pub(super) doors: &'a [u32],
    pub(super) twins: &'a Twins,
    pub(super) query: &'a IndexQuery<'a>,
    pub(super) choice: Choice,
    pub(super) clock: Clock,
    /// Distances computed.
    pub(super) visited: u64,
}

impl<L: Lists, T: Target> Search<'_, L, T> {
    /// The nearest admitted rows: `k` of them, if there are so many.
    pub(super) fn run(mut self, scratch: &mut Scratch) -> Result<IndexHits, IndexError> {
        let rows = match self.choice.way {
            Way::Plain => match self.plain(scratch)? {
                None => self.two_hops(true, scratch)?,
                rows => rows,
            },
            Way::TwoHops => self.two_hops(self.choice.many_dead, scratch)?,
            Way::Through => self.through(self.entries, scratch)?,
            Way::Scan => None,
        };
        if let Some(rows) = rows {
            return Ok(IndexHits { rows, visited: self.visited, scanned: false });
        }
        let (rescore, query, clock) = (self.rescore, self.query, &mut self.clock);
        let mut hits = match query.matching {
            Some(matching) => scan(rescore, &mut scan::InSet::new(matching), query, scratch, clock)?,
            None => scan(rescore, &mut (0..self.links.len() as u32), query, scratch, clock)?,
        };
        hits.visited += self.visited;
        Ok(hits)
    }

    fn plain(&mut self, scratch: &mut Scratch) -> Result<Option<Rows>, IndexError> {
        let Search { links, target, doors, query, clock, .. } = self;
        self.visited += walk(*links, *target, doors, query.ef_search, scratch, clock, |_| {})?;
        Ok(self.pick(scratch))
    }

    /// Steps over nodes that don't match, and over dead ones if `over_dead`; over those too in a second try, where too
    /// many of the nodes found were dead. `None` if a scan is cheaper or too little was found.
    fn two_hops(&mut self, over_dead: bool, scratch: &mut Scratch) -> Result<Option<Rows>, IndexError> {
        let (query, twins) = (self.query, self.twins);
        let found = match query.matching {
            // What most filters come to: a bit tells.
            Some(set) if !over_dead => self.walk_over(InSet { set, twins }, scratch)?,
            matching => {
                let one = |row: u32| {
                    matching.is_none_or(|matching| matching.contains(row))
                        && (!over_dead || (query.alive)(row))
                };
                self.walk_over(|row| one(row) || twins.of(row).any(one), scratch)?
            }
        };
        match found {
            Found::Rows(rows) => Ok(Some(rows)),
            Found::Beam => match self.pick(scratch) {
                None if !over_dead => self.two_hops(true, scratch),
                rows => Ok(rows),
            },
            Found::TooLittle => Ok(None),
        }
    }

    fn walk_over(&mut self, admits: impl Admits, scratch: &mut Scratch) -> Result<Found, IndexError> {
        let (links, target) = (self.links, self.target);
        let mut hops = TwoHops { links, target, admits, work: Work::default() };
        let mut doors = std::mem::take(&mut scratch.doors);
        let found = self.walk_from_doors(&mut hops, &mut doors, scratch);
        scratch.doors = doors;
        self.visited += hops.work.computed;
        found
    }

    fn walk_from_doors<A: Admits>(
        &mut self,
        hops: &mut TwoHops<'_, L, T, A>,
        doors: &mut Vec<u32>,
        scratch: &mut Scratch,
    ) -> Result<Found, IndexError> {
        let choice = self.choice;
        let mut ef = choice.ef_usual(self.query.ef_search);
        if self.find_doors(hops, doors, scratch)? {
            if choice.prefers_through(self.query.ef_search) {
                let doors = &doors[..doors.len().min(DOORS_THROUGH)];
                return Ok(self.through(doors, scratch)?.map_or(Found::TooLittle, Found::Rows));
            }
        } else {
            ef = choice.ef_refused(self.query.ef_search);
            if choice.prefers_scan_where_refused(ef) {
                return Ok(Found::TooLittle);
            }
        }
        hops.start(ef, scratch);
        let (near, others) = doors.split_at(ENTRIES_ASKED.min(doors.len()));
        hops.enter(near, scratch);
        near.iter().for_each(|&door| hops.enter_around(door, scratch));
        hops.enter(others, scratch);
        self.sample(SAMPLED, 0, doors);
        hops.enter(doors, scratch);
        let is_too_much = |work| choice.is_too_much(work);
        let mut walked = hops.run(scratch, &mut self.clock, is_too_much)?;
        if walked && !scratch.beam.is_full() {
            // What matches doesn't hang together here.
            self.sample(SAMPLED_AGAIN, 1, doors);
            hops.enter(doors, scratch);
            walked = hops.run(scratch, &mut self.clock, is_too_much)?;
        }
        Ok(if walked && scratch.beam.is_full() { Found::Beam } else { Found::TooLittle })
    }

    /// Puts doors into `doors`, nearest first, and tells whether rows around the query match as elsewhere.
    ///
    /// Where fewer match around the nearest entries, a short walk finds the query's own surroundings.
    fn find_doors<A: Admits>(
        &mut self,
        hops: &mut TwoHops<'_, L, T, A>,
        doors: &mut Vec<u32>,
        scratch: &mut Scratch,
    ) -> Result<bool, IndexError> {
        let Scratch { distances, near, .. } = &mut *scratch;
        distances.resize(self.entries.len(), 0.0);
        self.target.distances(self.entries, distances);
        hops.work.computed += self.entries.len() as u64;
        near.clear();
        near.extend(
            self.entries.iter().zip(distances.iter()).map(|(&row, &distance)| Near::new(distance, row)),
        );
        near.sort_unstable();
        doors.clear();
        doors.extend(near.iter().map(|near| near.row()));
        let (admitted, looked) = self.look_around(hops, doors, scratch);
        if self.choice.is_usual(admitted, looked) {
            return Ok(true);
        }
        let nearest = doors.get(..1).unwrap_or_default();
        let (links, target) = (self.links, self.target);
        hops.work.computed +=
            walk(links, target, nearest, SURROUNDINGS_EF, scratch, &mut self.clock, |_| {})?;
        doors.splice(..0, scratch.beam.finish().iter().map(|near| near.row()));
        let (admitted, looked) = self.look_around(hops, doors, scratch);
        Ok(!self.choice.is_refused(admitted, looked))
    }

    /// How many nodes around the first doors are admitted, and how many were looked at.
    fn look_around<A: Admits>(
        &self,
        hops: &mut TwoHops<'_, L, T, A>,
        doors: &[u32],
        scratch: &mut Scratch,
    ) -> (usize, usize) {
        let looks = self.choice.looks() / ENTRIES_ASKED;
        let around = doors.iter().take(ENTRIES_ASKED).map(|&door| hops.surroundings(door, looks, scratch));
        around.fold((0, 0), |sum, around| (sum.0 + around.0, sum.1 + around.1))
    }

    /// Puts nodes of some rows that match into `doors`, instead of what is there.
    fn sample(&self, wanted: usize, seed: u32, doors: &mut Vec<u32>) {
        doors.clear();
        if let Some(matching) = self.query.matching {
            matching.sample(wanted, seed, doors);
            doors.iter_mut().for_each(|row| *row = self.twins.node_of(*row));
        }
    }

    /// Goes through nodes that don't match, too.
    fn through(&mut self, doors: &[u32], scratch: &mut Scratch) -> Result<Option<Rows>, IndexError> {
        let (twins, query, most) = (self.twins, self.query, self.choice.distances_max());
        let admitted = |near: Near, found: &mut TopK| offer(twins, query, near.distance(), near.row(), found);
        let (links, target, clock) = (self.links, self.target, &mut self.clock);
        let ef = query.ef_search;
        let (found, computed) = walk_admitted(links, target, doors, ef, scratch, clock, most, admitted)?;
        self.visited += computed;
        let Some(found) = found else { return Ok(None) };
        let Scratch { ids, distances, near, .. } = scratch;
        near.clear();
        near.extend(found.into_sorted().into_iter().map(|(distance, row)| Near::new(distance, row)));
        let mut top = TopK::new(query.k);
        self.rescore.run(near, ids, distances, |distance, row| {
            top.push(distance, row);
            Some(top.bound())
        });
        Ok(top.is_full().then(|| top.into_sorted()))
    }

    /// The nearest admitted rows among the nodes a walk kept. `None` if that may not be all there is: the rows around
    /// the query are admitted less than elsewhere.
    fn pick(&self, scratch: &mut Scratch) -> Option<Rows> {
        let mut top = TopK::new(self.query.k);
        let looked_max = (2 * self.query.k).max(32);
        let mut looked = 0;
        let Scratch { beam, ids, distances, .. } = scratch;
        self.rescore.run(beam.finish(), ids, distances, |distance, row| {
            looked += 1;
            let few = looked > looked_max && !top.is_full();
            offer(self.twins, self.query, distance, row, &mut top);
            if few { None } else { Some(top.bound()) }
        });
        top.is_full().then(|| top.into_sorted())
    }
}

/// Offers all admitted rows at a node's place.
#[inline]
fn offer(twins: &Twins, query: &IndexQuery<'_>, distance: f32, row: u32, top: &mut TopK) {
    if query.admits(row) {
        top.push(distance, row);
    }
    for twin in twins.of(row) {
        if query.admits(twin) {
            top.push(distance, twin);
        }
    }
}
