//! A graph that grows by batches of rows, in parallel.
//!
//! ```text
//!   batch of rows ──▶ walk the graph as it is, prune   (parallel: reads only)
//!                 ──▶ their own lists                  (one thread)
//!                 ──▶ links back, grouped by target; full lists pruned again (parallel: reads only)
//! ```
//! What comes out depends on the batches and on nothing else, such as the number of threads.
//!
//! Sources: *DiskANN* (see `prune`) and its FreshDiskANN for inserting; *ParlayANN: Scalable and
//! Deterministic Parallel Graph-Based Approximate Nearest Neighbor Search Algorithms*, Manohar et al.
//! (PPoPP 2024, arXiv:2305.04359) for batches.
use std::sync::atomic::Ordering;
use std::thread;

use parking_lot::Mutex;

use super::links::{Links, LinksMut, NONE, slots_for};
use super::near::Near;
use super::prune::{ALPHA, Pruner};
use super::reach::relink_unreached;
use super::scratch::Scratch;
use super::space::{Probe, Space};
use super::walk::{Clock, Row, walk};
use super::{BuildControl, IndexError};
use crate::types::GraphParams;

/// Rows already in the graph per row of a batch. The rows of a batch don't see each other, so smaller
/// batches make a better graph; larger ones keep threads busy.
const INSERTED_PER_BATCHED: usize = 32;

/// Rows of a batch at most: beyond it threads are busy anyway, and cancelling takes longer.
const BATCH_MAX: usize = 4096;

/// Rows that a thread takes at once.
pub(super) const ROWS_PER_JOB: usize = 16;

/// Candidates of a walk that begins at hints, as a part of those of one that begins at the doors: it
/// needn't find the place, only look around. A third saves little more and costs recall.
const HINTED_PART: usize = 2;

/// Fewer places than this are no hint: they may all lie on one side.
const HINTS_MIN: usize = 8;

/// Longest lists of graphs with such parameters.
pub(super) fn links_max_of(params: &GraphParams) -> usize {
    (2 * params.m as usize).clamp(4, 512)
}

/// Where a row may lie: nodes of the graph near it are appended, if any are known.
pub(super) type Hints<'a> = dyn Fn(u32, Links<'_>, &mut Vec<u32>) + Sync + 'a;

/// A graph being built.
pub(super) struct Build<'a> {
    pub(super) space: &'a Space<'a>,
    pub(super) control: &'a BuildControl,
    /// Longest list when done.
    pub(super) links_max: usize,
    /// Candidates per row.
    pub(super) ef: usize,
    /// Lists with more slots than `links_max`: a full list is pruned once per many links, not each time.
    pub(super) links: LinksMut,
    /// Nodes in the graph where walks start.
    pub(super) doors: Vec<u32>,
    /// Nodes in the graph.
    pub(super) inside: usize,
    pub(super) workers: Vec<Worker>,
}

/// One thread's memory.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) scratch: Scratch,
    pub(super) probe: Probe,
    pub(super) pruner: Pruner,
    pub(super) candidates: Vec<Near>,
    pub(super) kept: Vec<u32>,
    pub(super) distances: Vec<f32>,
    hints: Vec<u32>,
    pub(super) list: Vec<u32>,
    pub(super) dead: Vec<u32>,
}

impl Worker {
    /// Makes candidates of `scratch.ids`, each of which is there once, by their distance from a row.
    pub(super) fn aim_at_ids(&mut self, space: &Space<'_>, row: u32) {
        let Worker { scratch, probe, candidates, distances, .. } = self;
        let ids = &scratch.ids;
        distances.resize(ids.len(), 0.0);
        space.aim_by_code(probe, row);
        space.distances(probe, ids, distances);
        candidates.clear();
        candidates.extend(ids.iter().zip(&*distances).map(|(&id, &distance)| Near::new(distance, id)));
        candidates.sort_unstable();
    }
}

impl<'a> Build<'a> {
    /// Without any node.
    pub(super) fn new(
        space: &'a Space<'a>,
        params: &GraphParams,
        threads: usize,
        control: &'a BuildControl,
    ) -> Build<'a> {
        let links_max = links_max_of(params);
        Build {
            space,
            control,
            links_max,
            ef: (params.ef_construct as usize).clamp(links_max / 2, 1 << 16),
            links: LinksMut::empty(space.len(), slots_for(links_max + links_max / 2)),
            doors: Vec::new(),
            inside: 0,
            workers: (0..threads.max(1)).map(|_| Worker::default()).collect(),
        }
    }

    /// Inserts rows in order. The first `entries` of them become doors.
    pub(super) fn insert_all(
        &mut self,
        order: &[u32],
        entries: usize,
        hints: &Hints<'_>,
    ) -> Result<(), IndexError> {
        let (mut entries, mut order) = order.split_at(entries);
        while !(entries.is_empty() && order.is_empty()) {
            let size = (self.inside / INSERTED_PER_BATCHED).clamp(1, BATCH_MAX);
            let first = entries.split_off(..size.min(entries.len())).unwrap_or_default();
            let then = order.split_off(..(size - first.len()).min(order.len())).unwrap_or_default();
            let batch = [first, then].concat();
            self.insert(&batch, hints)?;
            self.doors.extend(first);
            self.inside += batch.len();
            self.control.done.fetch_add(batch.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Links that a node gets before others link back.
    ///
    /// Room is left for these; each of a new node's own links may push another list over its end. Three quarters
    /// gave the same recall per distance as all, and a third less pruning.
    pub(super) fn links_first(&self) -> usize {
        self.links_max * 3 / 4
    }

    /// Inserts rows that don't see each other.
    fn insert(&mut self, batch: &[u32], hints: &Hints<'_>) -> Result<(), IndexError> {
        let (space, links_max, links, doors) = (self.space, self.links_max, self.links.view(), &self.doors);
        let links_first = self.links_first();
        let mut lists = vec![NONE; batch.len() * links_max];
        let jobs = batch.chunks(ROWS_PER_JOB).zip(lists.chunks_mut(ROWS_PER_JOB * links_max));
        parallel(&mut self.workers, self.control, jobs, batch.len(), |worker, (rows, lists)| {
            for (&row, list) in rows.iter().zip(lists.chunks_mut(links_max)) {
                let Worker { scratch, probe, pruner, candidates, kept, distances, hints: near, .. } = worker;
                near.clear();
                hints(row, links, near);
                let (from, ef) = match near.len() {
                    ..HINTS_MIN => (doors, self.ef),
                    _ => (&*near, (self.ef / HINTED_PART).max(links_max)),
                };
                candidates.clear();
                space.aim(probe, row);
                let target = Row { space, probe };
                walk(links, &target, from, ef, scratch, &mut Clock::new(None), |near| {
                    candidates.push(near);
                })?;
                // Those that a shorter walk left out may lead elsewhere, which is why they were links.
                near.retain(|&near| !candidates.iter().any(|candidate| candidate.row() == near));
                distances.resize(near.len(), 0.0);
                space.distances(probe, near, distances);
                candidates
                    .extend(near.iter().zip(&*distances).map(|(&id, &distance)| Near::new(distance, id)));
                candidates.sort_unstable();
                pruner.prune(space, candidates, links_first, ALPHA, kept);
                list[..kept.len()].copy_from_slice(kept);
            }
            Ok(())
        })?;
        let mut back_links = Vec::with_capacity(lists.len());
        for (&row, list) in batch.iter().zip(lists.chunks(links_max)) {
            let used = list.iter().position(|&slot| slot == NONE).unwrap_or(links_max);
            self.links.set(row, &list[..used]);
            back_links.extend(list[..used].iter().map(|&target| (target, row)));
        }
        self.link_back(back_links)
    }

    /// Adds links `(from, to)`; lists that overflow are pruned.
    fn link_back(&mut self, mut links: Vec<(u32, u32)>) -> Result<(), IndexError> {
        links.sort_unstable();
        let mut overflowing: Vec<&[(u32, u32)]> = Vec::new();
        for group in links.chunk_by(|a, b| a.0 == b.0) {
            if !self.links.append(group[0].0, group.iter().map(|link| link.1)) {
                overflowing.push(group);
            }
        }
        self.prune_lists(&overflowing)
    }

    /// Cuts lists to their length and makes sure that every node can be reached; returns the length and them.
    pub(super) fn finish(mut self, nodes: &[u32], entries: &[u32]) -> Result<(usize, LinksMut), IndexError> {
        self.trim(nodes)?;
        relink_unreached(self.space, &mut self.links, self.links_max, entries, nodes, self.ef, self.control)?;
        Ok((self.links_max, self.links))
    }

    /// Cuts all lists to `links_max`.
    fn trim(&mut self, nodes: &[u32]) -> Result<(), IndexError> {
        let long = nodes.iter().filter(|&&row| self.links.view().of(row).len() > self.links_max);
        let long: Vec<[(u32, u32); 1]> = long.map(|&row| [(row, NONE)]).collect();
        let groups: Vec<&[(u32, u32)]> = long.iter().map(|group| &group[..]).collect();
        self.prune_lists(&groups)
    }

    /// Prunes the lists of groups' first members together with the links the groups add (but `NONE`).
    fn prune_lists(&mut self, groups: &[&[(u32, u32)]]) -> Result<(), IndexError> {
        let (space, links_max, links) = (self.space, self.links_max, self.links.view());
        let mut lists = vec![NONE; groups.len() * links_max];
        let jobs = groups.chunks(ROWS_PER_JOB).zip(lists.chunks_mut(ROWS_PER_JOB * links_max));
        parallel(&mut self.workers, self.control, jobs, groups.len(), |worker, (groups, lists)| {
            for (group, list) in groups.iter().zip(lists.chunks_mut(links_max)) {
                let row = group[0].0;
                let ids = &mut worker.scratch.ids;
                ids.clear();
                ids.extend_from_slice(links.of(row));
                ids.extend(group.iter().map(|link| link.1).filter(|&added| added != NONE));
                worker.aim_at_ids(space, row);
                let Worker { pruner, candidates, kept, .. } = worker;
                pruner.prune(space, candidates, links_max, ALPHA, kept);
                list[..kept.len()].copy_from_slice(kept);
            }
            Ok(())
        })?;
        for (group, list) in groups.iter().zip(lists.chunks(links_max)) {
            let used = list.iter().position(|&slot| slot == NONE).unwrap_or(links_max);
            self.links.set(group[0].0, &list[..used]);
        }
        Ok(())
    }
}

/// Runs jobs on all workers. Which worker runs which job must not matter.
pub(super) fn parallel<J: Send>(
    workers: &mut [Worker],
    control: &BuildControl,
    jobs: impl Iterator<Item = J> + Send,
    rows: usize,
    run: impl Fn(&mut Worker, J) -> Result<(), IndexError> + Sync,
) -> Result<(), IndexError> {
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().next();
    let work = |worker: &mut Worker| {
        while let Some(job) = next() {
            if control.cancelled.load(Ordering::Relaxed) {
                return Err(IndexError::Cancelled);
            }
            run(worker, job)?;
        }
        Ok(())
    };
    // Starting a thread takes as long as inserting a row.
    let useful = rows.div_ceil(ROWS_PER_JOB).clamp(1, workers.len());
    let (first, others) = workers[..useful].split_at_mut(1);
    thread::scope(|scope| {
        let others: Vec<_> = others.iter_mut().map(|worker| scope.spawn(|| work(worker))).collect();
        let mine = work(&mut first[0]);
        others
            .into_iter()
            .map(|thread| thread.join().expect("a build thread does not panic"))
            .fold(mine, Result::and)
    })
}
