//! Builds a graph from near rows that a device finds, instead of by walking.
//!
//! ```text
//!   order ──▶ nearest of all rows        ─┐
//!         ──▶ nearest within its head /8  ├──▶ candidates ──▶ prune ──▶ links back ──▶ as any build
//!         ──▶ … within the head / 64, …  ─┘
//! ```
//! Near rows alone make a graph that falls apart between clusters. The rows of a head of the order have the nearest
//! within it for candidates, too, which gives links of every length: what upper levels are to HNSW, in one flat list.
//! The order is that in which rows would be inserted, so heads hold the entries.
//!
//! Dot is left to the processor: most queries' answers are the longest rows, of which nearly all rows are far away once
//! lifted, so hardly any has one among its nearest (recall 0.91 instead of 0.98 at ef 16 for lengths e^N(0, 0.5), even
//! with candidates from each of many heads for all rows).
//!
//! K1 what comes out is what the processor's build promises (B2, B3), in the same file. K2 a device that fails costs
//! time alone: the rows are inserted as if it weren't there. Unlike the processor's, a build need not give the same
//! bytes twice, since devices round differently.
//!
//! Sources: *CAGRA: Highly Parallel Graph Construction and Approximate Nearest Neighbor Search for GPUs*, Ootomo et
//! al. (ICDE 2024, arXiv:2308.15136) for a pruned k-nearest-neighbour graph with links back; the pruning is our own
//! (see `prune`).
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use super::graph_build::{Build, GraphBuilder, Order, ROWS_PER_JOB, Worker, parallel};
use super::graph_format;
use super::links::NONE;
use super::near::Near;
use super::neighbours::{NO_NEIGHBOUR, Neighbours, NeighboursError, Points};
use super::prune::ALPHA;
use super::space::Space;
use super::{BuildControl, IndexBuilder, IndexError, VectorBlock};

/// A head is so many times shorter than the one before it.
const HEAD_STEP: usize = 8;

/// Heads with fewer rows have nothing to add: their rows are all among each other's neighbours.
const HEAD_MIN: usize = 256;

/// Neighbours within a head: links that lead away, of which a row needs a few.
const HEAD_K: usize = 32;

/// Links back are made in so many parts.
const LINK_BACK_PARTS: usize = 8;

/// Builds the graph of one segment with a device's help.
#[derive(Clone)]
pub struct KnnBuilder {
    /// What all else is done by, and everything where the device can't.
    pub processor: GraphBuilder,
    /// Finds near rows.
    pub neighbours: Arc<dyn Neighbours>,
}

impl IndexBuilder for KnnBuilder {
    fn build(&self, vectors: VectorBlock<'_>, path: &Path, control: &BuildControl) -> Result<(), IndexError> {
        let parts = self.processor.parts_by(vectors, control, |build, order| self.link(build, order))?;
        graph_format::write(path, &parts)
    }
}

impl KnnBuilder {
    fn link(&self, build: &mut Build<'_>, order: &Order) -> Result<(), IndexError> {
        if build.space.query_lift().is_some() {
            return build.insert_all(&order.rows, &order.entries);
        }
        let before = build.control.done.load(Ordering::Relaxed);
        match self.links_to_near(build, order) {
            Ok(lists) => {
                metrics::counter!("proximadb_gpu_builds_total").increment(1);
                link_both_ways(build, &order.rows, &lists)
            }
            Err(Stopped::Index(error)) => Err(error),
            Err(Stopped::Device(error)) => {
                metrics::counter!("proximadb_gpu_fallbacks_total").increment(1);
                let device = self.neighbours.name();
                tracing::warn!(device, %error, "a graph is built on the processor instead");
                build.control.done.store(before, Ordering::Relaxed);
                build.insert_all(&order.rows, &order.entries)
            }
        }
    }

    /// Each row's links before others link back.
    fn links_to_near(&self, build: &mut Build<'_>, order: &Order) -> Result<Lists, Stopped> {
        let count = order.rows.len();
        let sizes = std::iter::successors(Some(count / HEAD_STEP), |size| Some(size / HEAD_STEP));
        let heads: Vec<Head> = sizes
            .take_while(|&size| size >= HEAD_MIN)
            .map(|size| self.head(build, &order.rows[..size]))
            .collect::<Result<_, _>>()?;
        let mut lists = Lists::empty(build.space.len(), build.links_first());
        let k = build.ef.min(self.neighbours.k_max()).max(1);
        let mut answered = 0;
        self.each(build, &order.rows, k, |build, first, found| {
            let candidates = |position: usize, into: &mut Vec<u32>| {
                let near = &found[(position - first) * k..][..k];
                let far = heads.iter().filter_map(|head| head.of(position)).flatten();
                let known = near.iter().chain(far).filter(|&&at| at != NO_NEIGHBOUR);
                into.clear();
                into.extend(known.map(|&at| order.rows[at as usize]));
                into.sort_unstable();
                into.dedup();
            };
            answered = first + found.len() / k;
            prune_each(build, &order.rows, first..answered, &candidates, &mut lists)
        })?;
        match answered == count {
            true => Ok(lists),
            false => Err(Stopped::Device(format!("it answered for {answered} of {count} rows").into())),
        }
    }

    /// The nearest rows within a head of the order.
    fn head(&self, build: &mut Build<'_>, rows: &[u32]) -> Result<Head, Stopped> {
        let k = HEAD_K.min(self.neighbours.k_max());
        let mut lists = Vec::with_capacity(rows.len() * k);
        self.each(build, rows, k, |_, _, found| {
            lists.extend_from_slice(found);
            Ok(())
        })?;
        Ok(Head { k, lists })
    }

    /// Asks the device about `rows`, and works on what it has found while it goes on.
    fn each(
        &self,
        build: &mut Build<'_>,
        rows: &[u32],
        k: usize,
        mut work: impl FnMut(&mut Build<'_>, usize, &[u32]) -> Result<(), IndexError>,
    ) -> Result<(), Stopped> {
        let (space, control) = (build.space, build.control);
        let copy = |position: usize, out: &mut [f32]| copy_point(space, rows[position], out);
        let points = Points {
            count: rows.len(),
            among: rows.len(),
            dim: space.dim(),
            threads: build.workers.len(),
            copy: &copy,
        };
        // One list waits while another is worked on: more would only take memory.
        let (send, receive) = crossbeam_channel::bounded::<(usize, Vec<u32>)>(1);
        thread::scope(|scope| {
            let asking = scope.spawn(move || {
                self.neighbours.nearest(&points, k, &control.cancelled, &mut |first, found| {
                    // Nobody listens any more: `work` has failed, which is told below.
                    let _ = send.send((first, found.to_vec()));
                })
            });
            let mut outcome = Ok(());
            for (first, found) in &receive {
                outcome = outcome.and_then(|()| check(rows.len(), first, k, &found));
                outcome = outcome.and_then(|()| work(build, first, &found).map_err(Stopped::Index));
            }
            match asking.join() {
                Ok(Ok(())) => outcome,
                Ok(Err(NeighboursError::Cancelled)) => Err(Stopped::Index(IndexError::Cancelled)),
                Ok(Err(NeighboursError::Failed(error))) => Err(Stopped::Device(error)),
                Err(_) => Err(Stopped::Device("the thread that asks it panicked".into())),
            }
        })
    }
}

/// Positions from a device are not believed before they were looked at: a wrong one would be a panic here.
fn check(count: usize, first: usize, k: usize, found: &[u32]) -> Result<(), Stopped> {
    let end = first + found.len() / k;
    let fits = found.len().is_multiple_of(k) && end <= count;
    let real = |(list, own): (&[u32], usize)| {
        list.iter().all(|&at| at == NO_NEIGHBOUR || (at as usize) < count && at as usize != own)
    };
    match fits && found.chunks(k).zip(first..).all(real) {
        true => Ok(()),
        false => Err(Stopped::Device("its answer names rows that aren't there".into())),
    }
}

fn copy_point(space: &Space<'_>, row: u32, out: &mut [f32]) {
    let vector = space.block.row(row);
    let (own, lift) = out.split_at_mut(vector.len());
    own.copy_from_slice(vector);
    lift.iter_mut().zip(space.lift_of(row)).for_each(|(slot, lift)| *slot = lift);
}

/// Prunes the candidates of the rows at some positions into their lists.
fn prune_each(
    build: &mut Build<'_>,
    rows: &[u32],
    positions: Range<usize>,
    candidates_of: &(impl Fn(usize, &mut Vec<u32>) + Sync),
    lists: &mut Lists,
) -> Result<(), IndexError> {
    let (space, width) = (build.space, lists.width);
    let mut slots = vec![NONE; positions.len() * width];
    let jobs = positions.clone().step_by(ROWS_PER_JOB).zip(slots.chunks_mut(ROWS_PER_JOB * width));
    parallel(&mut build.workers, build.control, jobs, positions.len(), |worker, (first, slots)| {
        for (position, list) in (first..).zip(slots.chunks_mut(width)) {
            let Worker { scratch, probe, pruner, candidates, kept, distances } = worker;
            candidates_of(position, &mut scratch.ids);
            distances.resize(scratch.ids.len(), 0.0);
            space.aim(probe, rows[position]);
            space.distances(probe, &scratch.ids, distances);
            candidates.clear();
            candidates
                .extend(scratch.ids.iter().zip(distances).map(|(&id, distance)| Near::new(*distance, id)));
            candidates.sort_unstable();
            pruner.prune(space, candidates, width, ALPHA, kept);
            list[..kept.len()].copy_from_slice(kept);
        }
        Ok(())
    })?;
    for (&row, list) in rows[positions.clone()].iter().zip(slots.chunks(width)) {
        lists.slots[row as usize * width..][..width].copy_from_slice(list);
    }
    build.control.done.fetch_add(positions.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// Makes the lists links, and links back.
fn link_both_ways(build: &mut Build<'_>, rows: &[u32], lists: &Lists) -> Result<(), IndexError> {
    rows.iter().for_each(|&row| build.links.set(row, lists.of(row)));
    let count = build.space.len();
    // A part of the targets at a time: all links at once would take more memory than the graph.
    for targets in (0..count).step_by(count.div_ceil(LINK_BACK_PARTS).max(1)) {
        let targets = targets as u32..(targets + count.div_ceil(LINK_BACK_PARTS)) as u32;
        let mut back = Vec::new();
        for row in 0..count as u32 {
            let there = lists.of(row).iter().filter(|&target| targets.contains(target));
            back.extend(
                there.filter(|&&target| !lists.of(target).contains(&row)).map(|&target| (target, row)),
            );
        }
        build.link_back(back)?;
    }
    Ok(())
}

/// Links by row, before others link back.
struct Lists {
    width: usize,
    slots: Vec<u32>,
}

impl Lists {
    fn empty(rows: usize, width: usize) -> Lists {
        Lists { width, slots: vec![NONE; rows * width] }
    }

    fn of(&self, row: u32) -> &[u32] {
        let slots = &self.slots[row as usize * self.width..][..self.width];
        let used = slots.iter().position(|&slot| slot == NONE).unwrap_or(self.width);
        &slots[..used]
    }
}

/// Near rows within the first rows of the order, as positions.
struct Head {
    k: usize,
    lists: Vec<u32>,
}

impl Head {
    fn of(&self, position: usize) -> Option<&[u32]> {
        self.lists.get(position * self.k..(position + 1) * self.k)
    }
}

/// Why there are no lists.
enum Stopped {
    /// The build itself.
    Index(IndexError),
    /// The device: the processor goes on alone.
    Device(Box<dyn std::error::Error + Send + Sync>),
}
