//! Graphs of segments that are large enough to deserve one.
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::index::{
    self, BuildControl, Clusters, Graph, GraphBuilder, GraphMade, IndexBuilder, IndexError, MergeInputs,
    VectorIndex,
};
use crate::store::StoreError;
use crate::types::{IndexKind, IndexSpec, Quantization};
use crate::view::LiveSegment;

/// Why a graph was not built.
#[derive(Debug, thiserror::Error)]
pub enum GraphError {
    /// The build failed, or was stopped.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The vectors cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl GraphError {
    /// Was it stopped, since nobody wants it any more?
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Index(IndexError::Cancelled) | Self::Store(StoreError::Stopped))
    }

    /// Was there no memory for it?
    pub fn is_want_of_memory(&self) -> bool {
        matches!(self, Self::Index(IndexError::Memory(_)))
    }
}

/// Bytes that building the index of so many rows takes, roughly: of a graph the lists of links while they grow, packed
/// as they are written, and read back for their checksum; some words per row besides.
pub fn build_bytes(rows: u32, dim: usize, wanted: &IndexSpec) -> usize {
    let rows = rows as usize;
    if wanted.kind == IndexKind::Ivf {
        return Clusters::from(wanted.clusters).build_bytes(rows, dim);
    }
    let params = &wanted.graph;
    let links = 2 * params.m as usize;
    // A byte per component at most but for half floats; codewords are taught by up to 16 Mi components.
    let (code, taught) = match params.quantization {
        Some(Quantization::F16 {}) => (2 * dim, 0),
        Some(Quantization::Product(_)) => (dim, 64 << 20),
        _ => (dim, 0),
    };
    // The lowest level's rows are copied, and it is the largest.
    let levels = if params.levels.are_built() { (4 * dim + links * 4 * 4 + code) / 8 } else { 0 };
    // Codes are padded, and have factors.
    rows * (links * 4 * 4 + 48 + code + 32 + 8 + levels) + taught
}

/// Bytes that making a merged segment's graph takes, roughly: as building does, and the numbers that rows of the
/// inputs and of the new segment have in each other.
pub fn merge_graph_bytes(segment: &LiveSegment, inputs: &[Arc<LiveSegment>], wanted: &IndexSpec) -> usize {
    let renumbered: usize = inputs.iter().map(|input| input.rows() as usize * size_of::<u32>()).sum();
    build_bytes(segment.rows(), segment.segment.dim(), wanted) + renumbered + segment.rows() as usize * 32
}

/// Builds a segment's graph at `path` from nothing; it is to be read, and the manifest to be told.
pub fn build_graph(
    path: &Path,
    segment: &LiveSegment,
    builder: &dyn IndexBuilder,
    control: &BuildControl,
) -> Result<(), GraphError> {
    Ok(builder.build(segment.vectors()?, path, control)?)
}

/// Builds at `path` the graph of a segment that `inputs` were merged into, from theirs where that pays; it is to be
/// read, and the manifest to be told. `origins`: per row, its place among the inputs and its row there.
pub fn merge_graph(
    path: &Path,
    segment: &LiveSegment,
    inputs: &[Arc<LiveSegment>],
    origins: &[(u32, u32)],
    builder: &GraphBuilder,
    control: &BuildControl,
) -> Result<GraphMade, GraphError> {
    // One that was built otherwise is of no use, even if it could be merged: it would pass for what is wanted.
    let is_alike = |input: &LiveSegment| {
        input.built().is_some_and(|built| built.params(builder.params) == builder.params)
    };
    let graphs: Vec<_> =
        inputs.iter().map(|input| input.graph.load_full().filter(|_| is_alike(input))).collect();
    let graphs: Vec<Option<&Graph>> = graphs.iter().map(|graph| graph.as_deref()?.as_graph()).collect();
    let inputs = MergeInputs { graphs: &graphs, origins };
    Ok(builder.merge(segment.vectors()?, &inputs, path, control)?)
}

/// Reads a graph that was built before. `leaving`: bytes of graphs that go when it has come.
pub fn read_graph(
    path: &Path,
    segment: &LiveSegment,
    leaving: usize,
) -> Result<Box<dyn VectorIndex>, IndexError> {
    let bytes = fs::metadata(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?.len();
    index::open(path, !segment.has_room_for_graph(bytes, leaving))
}
