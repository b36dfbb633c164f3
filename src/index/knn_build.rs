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
//! K1 what comes out is what the processor's build promises (B2, B3), in the same file; it depends on the device's
//! answers but not on the number of threads. K2 a device that fails costs time alone: the rows are inserted as if it
//! weren't there. Unlike the processor's, a build need not give the same bytes twice, since devices round differently.
//!
//! Sources: *CAGRA: Highly Parallel Graph Construction and Approximate Nearest Neighbor Search for GPUs*, Ootomo et
//! al. (ICDE 2024, arXiv:2308.15136) for a pruned k-nearest-neighbour graph with links back; the pruning is our own
//! (see `prune`).
use std::cell::Cell;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::graph_build::{GraphBuilder, Order};
use super::graph_format;
use super::insert::{Build, ROWS_PER_JOB, Worker, parallel};
use super::links::NONE;
use super::near::Near;
use super::neighbours::{NO_NEIGHBOUR, Neighbours, NeighboursError, Points};
use super::pace::{Pace, processor_takes};
use super::prune::ALPHA;
use super::space::Space;
use super::{BuildControl, IndexBuilder, IndexError, VectorBlock};

/// A head is so many times shorter than the one before it.
const HEAD_STEP: usize = 8;

/// Heads with fewer rows have nothing to add: their rows are all among each other's neighbours.
const HEAD_MIN: usize = 256;

/// Neighbours within a head: links that lead away, of which a row needs a few.
const HEAD_K: usize = 32;

/// Links back are made in so many parts at least, and in so many per thread: each part reads all lists, but all links
/// at once would take more memory than the graph, and parts don't all take equally long.
const LINK_BACK_PARTS: usize = 8;
const LINK_BACK_PARTS_PER_THREAD: usize = 4;

/// Builds the graph of one segment with a device's help.
#[derive(Clone)]
pub struct KnnBuilder {
    /// What all else is done by, and everything where the device can't.
    pub processor: GraphBuilder,
    /// Finds near rows.
    pub neighbours: Arc<dyn Neighbours>,
    /// The device is given up if it turns out to take longer than the processor would, once it has worked for so long.
    /// None: it may take as long as it takes.
    pub judged_after: Option<Duration>,
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
            return order.insert_into(build);
        }
        let before = build.control.done.load(Ordering::Relaxed);
        let limit = self.judged_after.map(|_| processor_takes(build, &order.rows));
        let device = self.neighbours.name();
        let why = match self.links_to_near(build, order, limit) {
            Ok(lists) => {
                metrics::counter!("proximadb_gpu_builds_total").increment(1);
                return link_both_ways(build, &lists);
            }
            Err(Stopped::Index(error)) => return Err(error),
            Err(Stopped::Device(error)) => {
                tracing::warn!(device, %error, "a graph is built on the processor instead");
                "failed"
            }
            Err(Stopped::Slower { by }) => {
                let (rows, times) = (order.rows.len(), (10.0 * by).round() / 10.0);
                tracing::info!(
                    device,
                    rows,
                    times,
                    "slower than the processor, which builds the graph instead"
                );
                "slower"
            }
        };
        metrics::counter!("proximadb_gpu_fallbacks_total", "why" => why).increment(1);
        build.control.done.store(before, Ordering::Relaxed);
        order.insert_into(build)
    }

    /// Each row's links before others link back. The device may take no longer than `limit`.
    fn links_to_near(
        &self,
        build: &mut Build<'_>,
        order: &Order,
        limit: Option<Duration>,
    ) -> Result<Lists, Stopped> {
        let count = order.rows.len();
        // Comparisons grow with the square of the rows.
        let limit_of = |size: usize| limit.map(|limit| limit.mul_f64((size as f64 / count as f64).powi(2)));
        let sizes = std::iter::successors(Some(count / HEAD_STEP), |size| Some(size / HEAD_STEP));
        let heads: Vec<Head> = sizes
            .take_while(|&size| size >= HEAD_MIN)
            .map(|size| self.head(build, &order.rows[..size], limit_of(size)))
            .collect::<Result<_, _>>()?;
        let mut lists = Lists::empty(build.space.len(), build.links_first());
        let k = build.ef.min(self.neighbours.k_max()).max(1);
        let mut answered = 0;
        self.each(build, &order.rows, k, limit, |build, first, found| {
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
    fn head(&self, build: &mut Build<'_>, rows: &[u32], limit: Option<Duration>) -> Result<Head, Stopped> {
        let k = HEAD_K.min(self.neighbours.k_max());
        let mut lists = Vec::with_capacity(rows.len() * k);
        self.each(build, rows, k, limit, |_, _, found| {
            lists.extend_from_slice(found);
            Ok(())
        })?;
        Ok(Head { k, lists })
    }

    /// Asks the device about `rows`, and works on what it has found while it goes on. Whoever of the two fails ends it
    /// for both.
    fn each(
        &self,
        build: &mut Build<'_>,
        rows: &[u32],
        k: usize,
        limit: Option<Duration>,
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
                let (started, mut slower) = (Instant::now(), None);
                let mut pace = limit.zip(self.judged_after).map(|(limit, after)| Pace::new(limit, after));
                // While nobody takes what it has found the device has nothing to do.
                let idle = Cell::new(Duration::ZERO);
                let mut go_on = |part: f64| {
                    let worked = started.elapsed().saturating_sub(idle.get());
                    slower = slower.or(pace.as_mut().and_then(|pace| pace.too_slow(worked, part)));
                    go_on_if(slower.is_none() && !control.cancelled.load(Ordering::Relaxed))
                };
                let mut found = |first: usize, found: &[u32]| {
                    let waiting = Instant::now();
                    let sent = send.send((first, found.to_vec()));
                    idle.set(idle.get() + waiting.elapsed());
                    go_on_if(sent.is_ok()) // else `work` has failed, and nobody listens
                };
                let outcome = self.neighbours.nearest(&points, k, &mut go_on, &mut found);
                match slower.zip(limit) {
                    Some((whole, limit)) => {
                        Err(Stopped::Slower { by: whole.as_secs_f64() / limit.as_secs_f64().max(1e-9) })
                    }
                    None => outcome.map_err(|error| match error {
                        NeighboursError::Cancelled => Stopped::Index(IndexError::Cancelled),
                        NeighboursError::Failed(error) => Stopped::Device(error),
                    }),
                }
            });
            // It takes the receiver with it, so that nobody waits to send.
            let worked = receive.into_iter().try_for_each(|(first, found)| {
                check(rows.len(), first, k, &found)?;
                work(build, first, &found).map_err(Stopped::Index)
            });
            let asked = asking.join();
            worked?;
            asked.unwrap_or_else(|_| Err(Stopped::Device("the thread that asks it panicked".into())))
        })
    }
}

fn go_on_if(so: bool) -> ControlFlow<()> {
    if so { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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
            let Worker { scratch, probe, pruner, candidates, kept, distances, .. } = worker;
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

/// Makes the lists links, and links back: to a row lead its own links and those of the rows that link to it, pruned
/// where they are too many. A part of the rows at a time; what comes out doesn't depend on the parts.
fn link_both_ways(build: &mut Build<'_>, lists: &Lists) -> Result<(), IndexError> {
    let (space, control, links_max) = (build.space, build.control, build.links_max);
    let count = space.len();
    let parts = LINK_BACK_PARTS.max(LINK_BACK_PARTS_PER_THREAD * build.workers.len());
    let each = count.div_ceil(parts).max(1);
    let (slots, slots_per_node) = build.links.parts_mut(each);
    let jobs = (0..count as u32).step_by(each).zip(slots);
    parallel(&mut build.workers, control, jobs, count, |worker, (first, slots)| {
        let back = Back::to(first..first + (slots.len() / slots_per_node) as u32, lists);
        for (at, slots) in slots.chunks_mut(slots_per_node).enumerate() {
            if at.is_multiple_of(ROWS_PER_JOB) && control.cancelled.load(Ordering::Relaxed) {
                return Err(IndexError::Cancelled);
            }
            let row = first + at as u32;
            let own = lists.of(row);
            let ids = &mut worker.scratch.ids;
            ids.clear();
            ids.extend_from_slice(own);
            ids.extend(back.of(at).iter().filter(|from| !own.contains(from)));
            if ids.len() <= links_max {
                slots[..ids.len()].copy_from_slice(ids);
                continue;
            }
            worker.aim_at_ids(space, row);
            let Worker { pruner, candidates, kept, .. } = worker;
            pruner.prune(space, candidates, links_max, ALPHA, kept);
            slots[..kept.len()].copy_from_slice(kept);
        }
        Ok(())
    })
}

/// Who links to the rows of a range.
struct Back {
    /// Where those that link to a row end in `from`.
    ends: Vec<usize>,
    /// Row by row, rising.
    from: Vec<u32>,
}

impl Back {
    /// Counting sort of the links by the row they lead to.
    fn to(rows: Range<u32>, lists: &Lists) -> Back {
        let place = |&to: &u32| rows.contains(&to).then(|| (to - rows.start) as usize);
        // Where each row's next one goes: first its start, at last its end.
        let mut ends = vec![0; rows.len() + 1];
        lists.slots.iter().filter_map(place).for_each(|at| ends[at + 1] += 1);
        let mut sum = 0;
        for end in &mut ends {
            sum += *end;
            *end = sum;
        }
        let mut from = vec![NONE; sum];
        for (row, list) in (0..).zip(lists.slots.chunks(lists.width)) {
            for at in list.iter().filter_map(place) {
                from[ends[at]] = row;
                ends[at] += 1;
            }
        }
        Back { ends, from }
    }

    fn of(&self, at: usize) -> &[u32] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.from[start..self.ends[at]]
    }
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
    /// The device takes so many times as long as the processor, which goes on alone.
    Slower {
        /// How many.
        by: f64,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn who_links_to_a_row_is_known_whatever_the_range(
            links in prop::collection::vec(prop::collection::vec(0u32..30, 0..5), 30),
            start in 0u32..30,
            len in 0u32..31,
        ) {
            let mut lists = Lists::empty(30, 5);
            for (slots, links) in lists.slots.chunks_mut(5).zip(&links) {
                slots[..links.len()].copy_from_slice(links);
            }
            let rows = start..(start + len).min(30);
            let back = Back::to(rows.clone(), &lists);
            for (at, to) in rows.enumerate() {
                let from = (0u32..).zip(&links).flat_map(|(row, links)| {
                    links.iter().filter(|&&link| link == to).map(move |_| row)
                });
                prop_assert_eq!(back.of(at), from.collect::<Vec<u32>>());
            }
        }
    }
}
