//! Graphs of segments that are large enough to deserve one.
use std::fs;
use std::path::{Path, PathBuf};

use crate::index::{BuildControl, Graph, IndexBuilder, IndexError};
use crate::store::StoreError;
use crate::types::GraphParams;
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
    let links = 2 * params.m as usize;
    // Codes: a byte per component at most, padded, and their factors.
    let codes = segment.segment.dim() + 32 + 8;
    segment.rows() as usize * (links * 4 * 4 + 48 + codes)
}

/// Builds a segment's graph and puts it into service; the manifest is told afterwards.
pub fn build_graph(
    dir: &Path,
    segment: &LiveSegment,
    builder: &dyn IndexBuilder,
    control: &BuildControl,
) -> Result<PathBuf, GraphError> {
    let path = graph_path(dir, segment);
    builder.build(segment.vectors()?, &path, control)?;
    open_graph(&path, segment)?;
    Ok(path)
}

/// Opens a graph that was built before.
pub fn open_graph(path: &Path, segment: &LiveSegment) -> Result<(), IndexError> {
    let bytes = fs::metadata(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?.len();
    let graph = if segment.has_room_for_graph(bytes) { Graph::open(path) } else { Graph::open_mapped(path) };
    segment.set_graph(Box::new(graph?));
    Ok(())
}
