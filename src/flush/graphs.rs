//! Graphs of segments that are large enough to deserve one.
use std::fs;
use std::path::Path;

use crate::index::{BuildControl, Graph, IndexBuilder, IndexError, VectorIndex};
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

impl GraphError {
    /// Was it stopped, since nobody wants it any more?
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Index(IndexError::Cancelled) | Self::Store(StoreError::Stopped))
    }
}

/// Bytes that building a segment's graph takes, roughly: the lists of links while they grow, packed as they are
/// written, and read back for their checksum; some words per row besides.
pub fn build_bytes(segment: &LiveSegment, params: &GraphParams) -> usize {
    let links = 2 * params.m as usize;
    // Codes: a byte per component at most, padded, and their factors.
    let codes = segment.segment.dim() + 32 + 8;
    segment.rows() as usize * (links * 4 * 4 + 48 + codes)
}

/// Builds a segment's graph at `path`; it is to be read, and the manifest to be told.
pub fn build_graph(
    path: &Path,
    segment: &LiveSegment,
    builder: &dyn IndexBuilder,
    control: &BuildControl,
) -> Result<(), GraphError> {
    Ok(builder.build(segment.vectors()?, path, control)?)
}

/// Reads a graph that was built before. `leaving`: bytes of graphs that go when it has come.
pub fn read_graph(
    path: &Path,
    segment: &LiveSegment,
    leaving: usize,
) -> Result<Box<dyn VectorIndex>, IndexError> {
    let bytes = fs::metadata(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?.len();
    let graph =
        if segment.has_room_for_graph(bytes, leaving) { Graph::open(path) } else { Graph::open_mapped(path) };
    Ok(Box::new(graph?))
}
