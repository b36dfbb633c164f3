//! Builds a flat pruned graph by inserting batches in parallel.
//!
//! ```text
//!   batch of rows ──▶ walk the graph as it is, prune   (parallel: reads only)
//!                 ──▶ their own lists                  (one thread)
//!                 ──▶ links back, grouped by target; full lists pruned again (parallel: reads only)
//! ```
//! B1 the same rows, parameters, seed and SIMD level give the same bytes, whatever the number of threads.
//! B2 no list is longer than `2 m`. B3 every row can be reached (I2): what pruning cut off is linked
//! again at the end, and rows equal to others hang on those.
//!
//! Sources: *DiskANN* (see `prune`) and its FreshDiskANN for inserting; *ParlayANN: Scalable and
//! Deterministic Parallel Graph-Based Approximate Nearest Neighbor Search Algorithms*, Manohar et al.
//! (PPoPP 2024, arXiv:2305.04359) for batches.
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;

use parking_lot::Mutex;

use super::codes;
use super::entries::choose_entries;
use super::graph_format::{self, GraphParts};
use super::links::{LinksMut, NONE, ROWS_MAX, slots_for};
use super::near::Near;
use super::prune::{ALPHA, Pruner};
use super::random::Random;
use super::reach::relink_unreached;
use super::scratch::Scratch;
use super::space::{Probe, Space};
use super::twins::find_twins;
use super::walk::{Clock, Row, walk};
use super::{BuildControl, IndexBuilder, IndexError, VectorBlock};
use crate::types::GraphParams;

/// Rows already in the graph per row of a batch. The rows of a batch don't see each other, so smaller
/// batches make a better graph; larger ones keep threads busy.
const INSERTED_PER_BATCHED: usize = 32;

/// Rows of a batch at most: beyond it threads are busy anyway, and cancelling takes longer.
const BATCH_MAX: usize = 4096;

/// Rows that a thread takes at once.
pub(super) const ROWS_PER_JOB: usize = 16;

/// Builds the graph of one segment on the CPU.
#[derive(Debug, Clone)]
pub struct GraphBuilder {
    /// Links and candidates per row.
    pub params: GraphParams,
    /// Threads to use; at least one.
    pub threads: usize,
    /// Decides the order of insertion and the entries.
    pub seed: u64,
}

impl IndexBuilder for GraphBuilder {
    fn build(&self, vectors: VectorBlock<'_>, path: &Path, control: &BuildControl) -> Result<(), IndexError> {
        let parts = self.parts(vectors, control)?;
        graph_format::write(path, &parts)
    }
}

impl GraphBuilder {
    /// The graph in memory.
    pub(super) fn parts(
        &self,
        vectors: VectorBlock<'_>,
        control: &BuildControl,
    ) -> Result<GraphParts, IndexError> {
        self.parts_by(vectors, control, |build, order| build.insert_all(&order.rows, &order.entries))
    }

    /// The graph in memory, its nodes linked by `link`.
    pub(super) fn parts_by(
        &self,
        vectors: VectorBlock<'_>,
        control: &BuildControl,
        link: impl FnOnce(&mut Build<'_>, &Order) -> Result<(), IndexError>,
    ) -> Result<GraphParts, IndexError> {
        if vectors.len() > ROWS_MAX {
            return Err(IndexError::TooLarge { rows: vectors.len() });
        }
        let twins = find_twins(vectors);
        let mut space = Space::new(vectors);
        if let Some(quantizer) = codes::choose(&space, self.seed) {
            space.encode(quantizer, self.threads).map_err(IndexError::Memory)?;
        }
        let mut random = Random::new(self.seed);
        let mut nodes: Vec<u32> = nodes_without(&twins, space.len());
        random.shuffle(&mut nodes);
        let entries = choose_entries(&space, &nodes, &mut random);
        // Entries first: until they are in, walks have fewer doors.
        let mut others: Vec<u32> = nodes.iter().copied().filter(|row| !entries.contains(row)).collect();
        space.longest_first(&mut others);
        let order = Order { rows: [&entries[..], &others].concat(), entries };

        let mut build = Build::new(&space, &self.params, self.threads, control);
        control.done.fetch_add(twins.len() as u64, Ordering::Relaxed);
        link(&mut build, &order)?;
        build.trim(&nodes)?;
        let (ef, entries) = (build.ef, order.entries);
        relink_unreached(&space, &mut build.links, build.links_max, &entries, &nodes, ef)?;
        let (links_max, links) = (build.links_max, build.links);
        Ok(GraphParts {
            distance: vectors.distance,
            dim: vectors.dim,
            rows: space.len(),
            links_max,
            links,
            entries,
            twins,
            lifted_square: space.lifted_square,
            coded: space.into_coded(),
        })
    }
}

/// The nodes, in the order in which they are inserted.
pub(super) struct Order {
    /// All of them, entries first.
    pub(super) rows: Vec<u32>,
    /// Where walks start.
    pub(super) entries: Vec<u32>,
}

/// All rows that are nobody's twin, ascending.
fn nodes_without(twins: &[(u32, u32)], rows: usize) -> Vec<u32> {
    let mut is_twin = vec![false; rows];
    twins.iter().for_each(|&(_, twin)| is_twin[twin as usize] = true);
    (0..rows as u32).filter(|&row| !is_twin[row as usize]).collect()
}

/// A graph being built.
pub(super) struct Build<'a> {
    pub(super) space: &'a Space<'a>,
    pub(super) control: &'a BuildControl,
    /// Longest list when done.
    links_max: usize,
    /// Candidates per row.
    pub(super) ef: usize,
    /// Lists with more slots than `links_max`: a full list is pruned once per many links, not each time.
    pub(super) links: LinksMut,
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
}

impl<'a> Build<'a> {
    fn new(
        space: &'a Space<'a>,
        params: &GraphParams,
        threads: usize,
        control: &'a BuildControl,
    ) -> Build<'a> {
        let links_max = (2 * params.m as usize).clamp(4, 512);
        Build {
            space,
            control,
            links_max,
            ef: (params.ef_construct as usize).clamp(links_max / 2, 1 << 16),
            links: LinksMut::empty(space.len(), slots_for(links_max + links_max / 2)),
            workers: (0..threads.max(1)).map(|_| Worker::default()).collect(),
        }
    }

    /// Inserts rows in order, which starts with the entries.
    pub(super) fn insert_all(&mut self, order: &[u32], entries: &[u32]) -> Result<(), IndexError> {
        let mut inserted = 0;
        while inserted < order.len() {
            let size = (inserted / INSERTED_PER_BATCHED).clamp(1, BATCH_MAX);
            let batch = &order[inserted..order.len().min(inserted + size)];
            self.insert(batch, &entries[..entries.len().min(inserted)])?;
            inserted += batch.len();
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
    fn insert(&mut self, batch: &[u32], entries: &[u32]) -> Result<(), IndexError> {
        let (space, links_max, ef, links) = (self.space, self.links_max, self.ef, self.links.view());
        let links_first = self.links_first();
        let mut lists = vec![NONE; batch.len() * links_max];
        let jobs = batch.chunks(ROWS_PER_JOB).zip(lists.chunks_mut(ROWS_PER_JOB * links_max));
        parallel(&mut self.workers, self.control, jobs, batch.len(), |worker, (rows, lists)| {
            for (&row, list) in rows.iter().zip(lists.chunks_mut(links_max)) {
                let Worker { scratch, probe, pruner, candidates, kept, .. } = worker;
                candidates.clear();
                space.aim(probe, row);
                let target = Row { space, probe };
                walk(links, &target, entries, ef, scratch, &mut Clock::new(None), |near| {
                    candidates.push(near);
                })?;
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
    pub(super) fn link_back(&mut self, mut links: Vec<(u32, u32)>) -> Result<(), IndexError> {
        links.sort_unstable();
        let mut overflowing: Vec<&[(u32, u32)]> = Vec::new();
        for group in links.chunk_by(|a, b| a.0 == b.0) {
            if !self.links.append(group[0].0, group.iter().map(|link| link.1)) {
                overflowing.push(group);
            }
        }
        self.prune_lists(&overflowing)
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
                let Worker { scratch, probe, pruner, candidates, kept, distances } = worker;
                let ids = &mut scratch.ids;
                ids.clear();
                ids.extend_from_slice(links.of(row));
                ids.extend(group.iter().map(|link| link.1).filter(|&added| added != NONE));
                distances.resize(ids.len(), 0.0);
                space.aim_by_code(probe, row);
                space.distances(probe, ids, distances);
                candidates.clear();
                candidates.extend(ids.iter().zip(distances).map(|(&id, distance)| Near::new(*distance, id)));
                candidates.sort_unstable();
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
