//! Graphs of segments that are large enough to deserve one.
use std::fs;
use std::path::{Path, PathBuf};

use crate::index::{BuildControl, Graph, IndexBuilder, IndexError};
use crate::store::StoreError;
use crate::types::{GraphParams, Quantization};
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

/// Where a segment's graph lies.
pub fn graph_path(dir: &Path, segment: &LiveSegment) -> PathBuf {
    dir.join(segment.id().file_name("graph"))
}

/// Does the segment deserve a graph that it hasn't got?
pub fn lacks_graph(segment: &LiveSegment, params: &GraphParams) -> bool {
    segment.rows() >= params.full_scan_threshold.max(2) && segment.graph.load().is_none()
}

/// Bytes that building a segment's graph takes, roughly: the lists of links while they grow, packed as they are
/// written, and read back for their checksum; some words per row besides.
pub fn build_bytes(segment: &LiveSegment, params: &GraphParams) -> usize {
    let (links, dim) = (2 * params.m as usize, segment.segment.dim());
    // A byte per component at most but for half floats; codewords are taught by up to 16 Mi components.
    let (code, taught) = match params.quantization {
        Some(Quantization::F16 {}) => (2 * dim, 0),
        Some(Quantization::Product(_)) => (dim, 64 << 20),
        _ => (dim, 0),
    };
    // The lowest level's rows are copied, and it is the largest.
    let levels = if params.levels.are_built() { (4 * dim + links * 4 * 4 + code) / 8 } else { 0 };
    // Codes are padded, and have factors.
    segment.rows() as usize * (links * 4 * 4 + 48 + code + 32 + 8 + levels) + taught
}

/// Builds a segment's graph; it is to be opened, and the manifest to be told.
pub fn build_graph(
    dir: &Path,
    segment: &LiveSegment,
    builder: &dyn IndexBuilder,
    control: &BuildControl,
) -> Result<PathBuf, GraphError> {
    let path = graph_path(dir, segment);
    builder.build(segment.vectors()?, &path, control)?;
    Ok(path)
}

/// Puts a graph that was built before into service. `leaving`: bytes of graphs that go when it has come.
pub fn open_graph(path: &Path, segment: &LiveSegment, leaving: usize) -> Result<(), IndexError> {
    let bytes = fs::metadata(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?.len();
    let graph =
        if segment.has_room_for_graph(bytes, leaving) { Graph::open(path) } else { Graph::open_mapped(path) };
    segment.set_graph(Box::new(graph?));
    Ok(())
}
