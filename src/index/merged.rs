//! The graph of merged segments, from theirs.
//!
//! ```text
//!   lists of the largest ──renumbered, healed around the dead──▶ graph ◀──inserted── the other inputs' rows
//!                                                                  where their own graphs say they lie ─┘
//! ```
//! The promises of building from nothing hold (`graph_build`): B1, the inputs' graphs being the same too, B2, B3.
//!
//! Codes: the quantizer of the largest is kept while a sample says that it keeps the merged rows apart; then its
//! rows' codes are copied, else all are encoded anew. Lists don't depend on codes.
//!
//! For dot, rows go in by falling length (see `space`), and lists depend on the length that all are lifted to. So a
//! graph is kept, with its lift, where nothing has to be inserted; else it is built from nothing.
//!
//! Sources: `heal` for deletes; *Three Algorithms for Merging Hierarchical Navigable Small World Graphs*,
//! Ponomarenko (arXiv:2505.16064), and Lucene's merging of graphs for what other graphs' lists are good for.
use std::path::Path;
use std::sync::atomic::Ordering;

use super::codes;
use super::entries::choose_entries;
use super::graph_build::GraphBuilder;
use super::graph_format::{self, GraphFile, GraphParts};
use super::heal::Survivors;
use super::insert::{Build, links_max_of};
use super::links::{Links, NONE, ROWS_MAX};
use super::random::Random;
use super::space::Space;
use super::twins::{Twins, find_twins, nodes_without};
use super::{BuildControl, Graph, IndexError, VectorBlock};
use crate::types::Distance;

/// Share of the base's nodes that may have died: healing around more costs as much as inserting, and makes
/// worse lists.
const DEAD_SHARE_MAX: f64 = 0.4;

/// Share of the merged nodes that must not have to be inserted without a hint.
const KNOWN_SHARE_MIN: f64 = 0.2;

/// What segments that became one leave to its graph.
pub struct MergeInputs<'a> {
    /// The graph of each, where it has one.
    pub graphs: &'a [Option<&'a Graph>],
    /// Per row of the new segment: which of them it comes from, and its row there.
    pub origins: &'a [(u32, u32)],
}

/// How a graph was made of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphMade {
    /// From the graphs of the inputs.
    Merged {
        /// Nodes whose lists were taken over …
        kept: usize,
        /// … and how many of them had neighbours that died.
        healed: usize,
        /// Nodes inserted.
        inserted: usize,
    },
    /// From nothing.
    FromNothing {
        /// Why.
        reason: &'static str,
    },
}

impl GraphBuilder {
    /// Builds the graph over `vectors` from the graphs of the segments they come from, or from nothing where those
    /// are of little use, and writes `path` (complete and fsynced, or not at all).
    pub fn merge(
        &self,
        vectors: VectorBlock<'_>,
        inputs: &MergeInputs<'_>,
        path: &Path,
        control: &BuildControl,
    ) -> Result<GraphMade, IndexError> {
        let (parts, made) = self.merged_parts(vectors, inputs, control)?;
        graph_format::write(path, &parts)?;
        Ok(made)
    }

    /// The graph in memory.
    pub(super) fn merged_parts(
        &self,
        vectors: VectorBlock<'_>,
        inputs: &MergeInputs<'_>,
        control: &BuildControl,
    ) -> Result<(GraphParts, GraphMade), IndexError> {
        let reason = match self.try_merge(vectors, inputs, control)? {
            Ok(merged) => return Ok(merged),
            Err(reason) => reason,
        };
        Ok((self.parts(vectors, control)?, GraphMade::FromNothing { reason }))
    }

    /// Merges; the inner error says why that is of no use.
    fn try_merge(
        &self,
        vectors: VectorBlock<'_>,
        inputs: &MergeInputs<'_>,
        control: &BuildControl,
    ) -> Result<Result<(GraphParts, GraphMade), &'static str>, IndexError> {
        if vectors.len() > ROWS_MAX {
            return Err(IndexError::TooLarge { rows: vectors.len() });
        }
        let fits = |graph: &Graph| {
            let (file, _) = graph.file_and_twins();
            let alike = file.distance == vectors.distance && file.dim == vectors.dim;
            // Nothing can be told apart by distances that are all infinite.
            alike && file.links_max == links_max_of(&self.params) && file.lifted_square.is_finite()
        };
        let of_these = |&(place, then): &(u32, u32)| match inputs.graphs.get(place as usize) {
            Some(graph) => graph.is_none_or(|graph| (then as usize) < graph.len()),
            None => false,
        };
        if inputs.origins.len() != vectors.len() || !inputs.origins.iter().all(of_these) {
            return Ok(Err("the inputs' graphs are not of these rows"));
        }
        let graphs: Vec<Option<&Graph>> =
            inputs.graphs.iter().map(|graph| graph.filter(|graph| fits(graph))).collect();
        let twins = find_twins(vectors);
        let renumbered = Renumbered::new(&graphs, inputs.origins, &twins);
        let Some(base) = renumbered.base() else {
            return Ok(Err("no input has a graph of the same parameters"));
        };
        let mut nodes = nodes_without(&twins, vectors.len());
        let kept = base.kept_nodes(vectors.len());
        if let Some(reason) = renumbered.is_of_little_use(base, &kept, &nodes) {
            return Ok(Err(reason));
        }
        // No row is longer: all of them are the base's, for dot.
        let mut space = Space::lifted_to(vectors, base.file.lifted_square);
        self.encode(&mut space, base, inputs.origins)?;

        let mut random = Random::new(self.seed);
        random.shuffle(&mut nodes);
        let entries = choose_entries(&space, &nodes, &mut random);
        let mut is_kept = vec![false; vectors.len()];
        kept.iter().for_each(|&(now, _)| is_kept[now as usize] = true);
        let is_new = |row: &u32| !is_kept[*row as usize];
        let mut order: Vec<u32> = entries.iter().copied().filter(is_new).collect();
        let new_entries = order.len();
        let mut others: Vec<u32> =
            nodes.iter().copied().filter(|row| is_new(row) && !entries.contains(row)).collect();
        space.longest_first(&mut others);
        order.append(&mut others);

        let mut build = Build::new(&space, &self.params, self.threads, control);
        control.done.fetch_add(twins.len() as u64, Ordering::Relaxed);
        let healed = build.take_over(base.survivors(), &kept)?;
        build.doors = entries.iter().copied().filter(|row| !is_new(row)).collect();
        if build.doors.is_empty() {
            build.doors.extend(kept.first().map(|&(now, _)| now));
        }
        build.insert_all(&order, new_entries, &|row, links, near| renumbered.hint(row, links, near))?;
        let lists = build.finish(&nodes, &entries)?;
        let made = GraphMade::Merged { kept: kept.len(), healed, inserted: order.len() };
        Ok(Ok((self.finished(space, lists, entries, twins, &nodes, control)?, made)))
    }

    /// Codes the rows, by the base's quantizer if it will do.
    fn encode(
        &self,
        space: &mut Space<'_>,
        base: &Input<'_>,
        origins: &[(u32, u32)],
    ) -> Result<(), IndexError> {
        let asked = self.params.quantization;
        let Some(chosen) = codes::to_build_on(space, asked, self.seed) else { return Ok(()) };
        let before = base.file.codes().filter(|codes| codes.quantizer.kind() == chosen.kind());
        let again = before.and_then(|codes| codes::still_fits(codes.quantizer, space, self.seed));
        let encoded = match before.zip(again) {
            Some((codes, again)) => space.encode_rest(again, self.threads, &|row| {
                let &(place, then) = origins.get(row as usize)?;
                (place == base.place).then(|| codes.stored(then))
            }),
            None => space.encode(chosen, self.threads),
        };
        encoded.map_err(IndexError::Memory)
    }
}

/// One input's graph, and what its nodes are called now.
struct Input<'a> {
    place: u32,
    file: &'a GraphFile,
    /// Nodes that it had.
    nodes: usize,
    /// See [`Survivors::now`].
    now: Vec<u32>,
    alive: usize,
}

impl<'a> Input<'a> {
    /// `origins` and `representatives` are those of the merged rows.
    fn new(place: u32, graph: &'a Graph, origins: &[(u32, u32)], representatives: &[u32]) -> Input<'a> {
        let (file, twins): (&GraphFile, &Twins) = graph.file_and_twins();
        let mut now = vec![NONE; file.rows];
        for (&(_, then), &node) in origins.iter().zip(representatives).filter(|((at, _), _)| *at == place) {
            if let Some(now) = now.get_mut(then as usize) {
                *now = node;
            }
        }
        // A node that died leaves its list to the rows that were equal to it.
        for &(node, twin) in twins.pairs() {
            let heir = std::mem::replace(&mut now[twin as usize], NONE);
            if now[node as usize] == NONE {
                now[node as usize] = heir;
            }
        }
        let alive = now.iter().filter(|&&now| now != NONE).count();
        Input { place, file, nodes: file.rows - twins.pairs().len(), now, alive }
    }

    fn survivors(&self) -> Survivors<'_> {
        Survivors { file: self.file, now: &self.now }
    }

    /// `(now, then)` of each node that lives on, none twice.
    fn kept_nodes(&self, rows: usize) -> Vec<(u32, u32)> {
        let mut taken = vec![false; rows];
        let nodes = self.now.iter().copied().zip(0u32..).filter(|&(now, _)| now != NONE);
        nodes.filter(|&(now, _)| !std::mem::replace(&mut taken[now as usize], true)).collect()
    }
}

/// The inputs' graphs by the numbers of the merged rows.
struct Renumbered<'a> {
    /// By place.
    inputs: Vec<Option<Input<'a>>>,
    /// Per merged row: the input it comes from and the node it was there, [`NONE`] if it was none.
    then: Vec<(u32, u32)>,
}

impl<'a> Renumbered<'a> {
    fn new(graphs: &[Option<&'a Graph>], origins: &[(u32, u32)], twins: &[(u32, u32)]) -> Renumbered<'a> {
        let mut representatives: Vec<u32> = (0..origins.len() as u32).collect();
        twins.iter().for_each(|&(node, twin)| representatives[twin as usize] = node);
        let inputs: Vec<Option<Input<'a>>> = graphs
            .iter()
            .zip(0u32..)
            .map(|(graph, place)| graph.map(|graph| Input::new(place, graph, origins, &representatives)))
            .collect();
        let mut then = origins.to_vec();
        for (graph, place) in graphs.iter().zip(0u32..) {
            let pairs = graph.map_or(&[][..], |graph| graph.file_and_twins().1.pairs());
            let mut node_of: Vec<(u32, u32)> = pairs.iter().map(|&(node, twin)| (twin, node)).collect();
            node_of.sort_unstable();
            for (_, row) in then.iter_mut().filter(|(at, _)| *at == place) {
                if let Ok(found) = node_of.binary_search_by_key(row, |&(twin, _)| twin) {
                    *row = node_of[found].1;
                }
            }
        }
        Renumbered { inputs, then }
    }

    /// The largest by nodes alive; of two such the first.
    fn base(&self) -> Option<&Input<'a>> {
        let inputs = self.inputs.iter().flatten().filter(|input| input.alive > 0);
        inputs.max_by_key(|input| (input.alive, std::cmp::Reverse(input.place)))
    }

    /// Why the merged `nodes` had better get a graph from nothing, if they had.
    fn is_of_little_use(&self, base: &Input<'_>, kept: &[(u32, u32)], nodes: &[u32]) -> Option<&'static str> {
        let dead = 1.0 - kept.len() as f64 / base.nodes.max(1) as f64;
        if dead > DEAD_SHARE_MAX {
            return Some("too much of the largest input has died");
        }
        if base.file.distance == Distance::Dot && kept.len() < nodes.len() {
            return Some("by dot the longest rows go in first, which those of other inputs can't");
        }
        let is_known = |row: &&u32| {
            let then = self.then.get(**row as usize);
            then.is_some_and(|(place, _)| matches!(self.inputs.get(*place as usize), Some(Some(_))))
        };
        let known = nodes.iter().filter(is_known).count();
        let share = known as f64 / nodes.len().max(1) as f64;
        (share < KNOWN_SHARE_MIN).then_some("too few rows come from graphs")
    }

    /// Appends the nodes in the graph that were a row's neighbours in its own.
    fn hint(&self, row: u32, links: Links<'_>, near: &mut Vec<u32>) {
        let Some(&(place, then)) = self.then.get(row as usize) else { return };
        let Some(Some(input)) = self.inputs.get(place as usize) else { return };
        input.file.neighbours_into(then, near);
        near.iter_mut().for_each(|neighbour| *neighbour = input.now[*neighbour as usize]);
        near.retain(|&now| now != NONE && now != row && !links.of(now).is_empty());
    }
}
