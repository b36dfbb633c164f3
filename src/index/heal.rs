//! Lists of a graph some of whose nodes have gone, taken into one that is being built.
//!
//! A node that was linked to dead ones keeps its neighbours that live and gets others for those that don't: of what
//! the dead led to the nearest, pruned as in building. Source: *FreshDiskANN: A Fast and Accurate Graph-Based ANN
//! Index for Streaming Similarity Search*, Singh et al. (arXiv:2105.09613), consolidation of deletes; there the whole
//! list is pruned again.
use std::sync::atomic::Ordering;

use super::IndexError;
use super::graph_format::GraphFile;
use super::insert::{Build, ROWS_PER_JOB, Worker, parallel};
use super::links::NONE;
use super::prune::ALPHA;

/// Nodes whose lists are computed before any is written: bounds what they take meanwhile.
const NODES_AT_ONCE: usize = 1 << 16;

/// Candidates for each link that was lost: the nearest. Fewer save little and leave shorter lists; with all of
/// them, and what lives pruned again beside them, healing took twice as long and found no more.
const CANDIDATES_PER_LOST: usize = 6;

/// Dead nodes that are followed from one living: where a whole region has died, nothing near is left to find.
const DEAD_MAX: usize = 256;

/// A graph some of whose nodes live on under other numbers.
#[derive(Clone, Copy)]
pub(super) struct Survivors<'a> {
    pub(super) file: &'a GraphFile,
    /// Per row of the file its node's number now; [`NONE`] for those that died and for twins.
    pub(super) now: &'a [u32],
}

impl Build<'_> {
    /// Takes over the lists of nodes `(now, then)`, which the graph doesn't hold yet. Returns how many had dead
    /// neighbours.
    pub(super) fn take_over(
        &mut self,
        from: Survivors<'_>,
        nodes: &[(u32, u32)],
    ) -> Result<usize, IndexError> {
        let (space, links_max) = (self.space, self.links_max);
        let mut healed = 0;
        for nodes in nodes.chunks(NODES_AT_ONCE) {
            let mut lists = vec![NONE; nodes.len() * links_max];
            let mut hurt = vec![false; nodes.len()];
            let jobs = nodes.chunks(ROWS_PER_JOB).zip(lists.chunks_mut(ROWS_PER_JOB * links_max));
            let jobs = jobs.zip(hurt.chunks_mut(ROWS_PER_JOB));
            parallel(
                &mut self.workers,
                self.control,
                jobs,
                nodes.len(),
                |worker, ((nodes, lists), hurt)| {
                    for ((&(now, then), list), hurt) in
                        nodes.iter().zip(lists.chunks_mut(links_max)).zip(hurt)
                    {
                        let lost = from.gather(now, then, worker);
                        *hurt = lost > 0;
                        if *hurt {
                            worker.aim_at_ids(space, now);
                            let Worker { pruner, candidates, kept, .. } = worker;
                            candidates.truncate(CANDIDATES_PER_LOST * lost);
                            pruner.add(space, candidates, (kept.len() + lost).min(links_max), ALPHA, kept);
                        }
                        list[..worker.kept.len()].copy_from_slice(&worker.kept);
                    }
                    Ok(())
                },
            )?;
            for (&(now, _), list) in nodes.iter().zip(lists.chunks(links_max)) {
                let used = list.iter().position(|&slot| slot == NONE).unwrap_or(links_max);
                self.links.set(now, &list[..used]);
            }
            healed += hurt.iter().filter(|&&hurt| hurt).count();
            self.inside += nodes.len();
            self.control.done.fetch_add(nodes.len() as u64, Ordering::Relaxed);
        }
        Ok(healed)
    }
}

impl Survivors<'_> {
    /// Puts a node's living neighbours into `kept`, and what the dead ones led to into `scratch.ids`; returns
    /// how many dead ones there were.
    fn gather(&self, now: u32, then: u32, worker: &mut Worker) -> usize {
        let Worker { scratch, kept, list, dead, .. } = worker;
        let visited = &mut scratch.visited;
        visited.start(self.now.len());
        visited.insert(then);
        scratch.ids.clear();
        kept.clear();
        dead.clear();
        let mut look = |from: u32, living: &mut Vec<u32>, dead: &mut Vec<u32>| {
            list.clear();
            self.file.neighbours_into(from, list);
            for &row in list.iter().filter(|&&row| visited.insert(row)) {
                match self.now[row as usize] {
                    NONE => dead.push(row),
                    node => living.push(node),
                }
            }
        };
        look(then, kept, dead);
        let lost = dead.len();
        let enough = self.file.links_max / 2;
        let mut followed = 0;
        // Beyond what dead neighbours led to only as long as that is little.
        while followed < lost || kept.len() + scratch.ids.len() < enough && followed < DEAD_MAX {
            let Some(&next) = dead.get(followed) else { break };
            look(next, &mut scratch.ids, dead);
            followed += 1;
        }
        // Two nodes that kept apart by chance of hashes may be one now.
        for ids in [&mut *kept, &mut scratch.ids] {
            ids.sort_unstable();
            ids.dedup();
            ids.retain(|&node| node != now);
        }
        scratch.ids.retain(|node| kept.binary_search(node).is_err());
        lost
    }
}
