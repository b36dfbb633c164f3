//! Builds the graph of one segment from nothing.
//!
//! B1 the same rows, parameters, seed and SIMD level give the same bytes, whatever the number of threads.
//! B2 no list is longer than `2 m`. B3 every row can be reached (I2): what pruning cut off is linked
//! again at the end, and rows equal to others hang on those.
use std::path::Path;
use std::sync::atomic::Ordering;

use super::codes;
use super::entries::choose_entries;
use super::graph_format::{self, GraphParts};
use super::insert::Build;
use super::levels::{self, LevelParts};
use super::links::{LinksMut, ROWS_MAX};
use super::random::Random;
use super::space::Space;
use super::twins::{TwinPairs, find_twins, nodes_without};
use super::{BuildControl, IndexBuilder, IndexError, VectorBlock};
use crate::types::GraphParams;

/// The nodes, in the order in which they are inserted.
pub(super) struct Order {
    /// All of them, entries first.
    pub(super) rows: Vec<u32>,
    /// Where walks start.
    pub(super) entries: Vec<u32>,
}

impl Order {
    /// Inserts all of them where walks say that they lie.
    pub(super) fn insert_into(&self, build: &mut Build<'_>) -> Result<(), IndexError> {
        build.insert_all(&self.rows, self.entries.len(), &|_, _, _| {})
    }
}

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
        self.parts_by(vectors, control, |build, order| order.insert_into(build))
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
        if let Some(quantizer) = codes::to_build_on(&space, self.params.quantization, self.seed) {
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

        control.done.fetch_add(twins.len() as u64, Ordering::Relaxed);
        let mut build = Build::new(&space, &self.params, self.threads, control);
        link(&mut build, &order)?;
        let lists = build.finish(&nodes, &order.entries)?;
        self.finished(space, lists, order.entries, twins, &nodes, control)
    }

    /// Links all `nodes`, inserted in order. Also says how long lists may be.
    fn linked(
        &self,
        space: &Space<'_>,
        order: &[u32],
        nodes: &[u32],
        entries: &[u32],
        control: &BuildControl,
    ) -> Result<(usize, LinksMut), IndexError> {
        let mut build = Build::new(space, &self.params, self.threads, control);
        build.insert_all(order, entries.len(), &|_, _, _| {})?;
        build.finish(nodes, entries)
    }

    /// Everything that is written of a graph whose lists are done: `lists` says how long they may be, too. `nodes` are
    /// in random order.
    pub(super) fn finished(
        &self,
        mut space: Space<'_>,
        lists: (usize, LinksMut),
        entries: Vec<u32>,
        twins: TwinPairs,
        nodes: &[u32],
        control: &BuildControl,
    ) -> Result<GraphParts, IndexError> {
        let levels = self.levels(space.block, nodes, control)?;
        let asked = self.params.quantization;
        if let Some(quantizer) = codes::to_walk_on(&space, asked, self.seed, self.threads) {
            space.encode(quantizer, self.threads).map_err(IndexError::Memory)?;
        }
        let (links_max, links) = lists;
        Ok(GraphParts {
            distance: space.block.distance,
            dim: space.block.dim,
            rows: space.len(),
            links_max,
            links,
            entries,
            twins,
            lifted_square: space.lifted_square,
            coded: space.into_coded(),
            levels,
        })
    }

    /// The levels above the graph of `nodes`, which are in random order.
    fn levels(
        &self,
        vectors: VectorBlock<'_>,
        nodes: &[u32],
        control: &BuildControl,
    ) -> Result<LevelParts, IndexError> {
        if !self.params.levels.are_built() {
            return Ok(LevelParts::default());
        }
        let sizes = levels::sizes(nodes.len(), self.params.m as usize);
        let rows = nodes[..sizes.first().copied().unwrap_or(0)].to_vec();
        let mut links = Vec::new();
        for &size in sizes.iter().rev().skip(1).rev() {
            let gathered: Vec<f32> = rows[..size].iter().flat_map(|&row| vectors.row(row)).copied().collect();
            let mut space = Space::new(VectorBlock { rows: &gathered, ..vectors });
            if let Some(quantizer) = codes::to_build_on(&space, self.params.quantization, self.seed) {
                space.encode(quantizer, self.threads).map_err(IndexError::Memory)?;
            }
            let all: Vec<u32> = (0..size as u32).collect();
            let doors = choose_entries(&space, &all, &mut Random::new(self.seed));
            let mut others: Vec<u32> = all.iter().copied().filter(|node| !doors.contains(node)).collect();
            space.longest_first(&mut others);
            let order = [&doors[..], &others].concat();
            // They have been counted as inserted already.
            control.done.fetch_sub(size as u64, Ordering::Relaxed);
            let (links_max, mut level) = self.linked(&space, &order, &all, &doors, control)?;
            level.shrink(links_max);
            links.push(level);
        }
        Ok(LevelParts { rows, sizes, links })
    }
}
