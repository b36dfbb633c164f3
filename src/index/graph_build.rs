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
use super::links::{LinksMut, ROWS_MAX};
use super::random::Random;
use super::space::Space;
use super::twins::{TwinPairs, find_twins, nodes_without};
use super::{BuildControl, IndexBuilder, IndexError, VectorBlock};
use crate::types::GraphParams;

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
        if vectors.len() > ROWS_MAX {
            return Err(IndexError::TooLarge { rows: vectors.len() });
        }
        let twins = find_twins(vectors);
        let mut space = Space::new(vectors);
        if let Some(quantizer) = codes::choose(&space, self.seed) {
            space.encode(quantizer, self.threads, &|_| None).map_err(IndexError::Memory)?;
        }
        let mut random = Random::new(self.seed);
        let mut nodes: Vec<u32> = nodes_without(&twins, space.len());
        random.shuffle(&mut nodes);
        let entries = choose_entries(&space, &nodes, &mut random);
        // Entries first: until they are in, walks have fewer doors.
        let mut others: Vec<u32> = nodes.iter().copied().filter(|row| !entries.contains(row)).collect();
        space.longest_first(&mut others);
        let order = [&entries[..], &others].concat();

        let mut build = Build::new(&space, &self.params, self.threads, control);
        control.done.fetch_add(twins.len() as u64, Ordering::Relaxed);
        build.insert_all(&order, entries.len(), &|_, _, _| {})?;
        let (links_max, links) = build.finish(&nodes, &entries)?;
        Ok(parts_of(space, links_max, links, entries, twins))
    }
}

/// Everything that is written of a graph whose lists are done.
pub(super) fn parts_of(
    space: Space<'_>,
    links_max: usize,
    links: LinksMut,
    entries: Vec<u32>,
    twins: TwinPairs,
) -> GraphParts {
    GraphParts {
        distance: space.block.distance,
        dim: space.block.dim,
        rows: space.len(),
        links_max,
        links,
        entries,
        twins,
        lifted_square: space.lifted_square,
        coded: space.into_coded(),
    }
}
