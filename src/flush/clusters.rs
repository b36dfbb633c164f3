//! Rows of a merge cluster by cluster, so that a probe reads them in one piece.
//!
//! ```text
//!   rows kept ─▶ draft of their vectors ─▶ clusters ─┬─▶ .ivf, its rows numbered as they will be
//!                                                    └─▶ order of the rows ─▶ segment
//! ```
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::compactor::Kept;
use super::graphs::GraphError;
use crate::index::{BuildControl, IvfBuilder, VectorBlock};
use crate::store::{SegmentId, StoreError, VectorDraft};
use crate::types::CollectionConfig;
use crate::view::LiveSegment;

/// Puts the rows that a merge keeps into clusters and into their order, and writes the index at `path`, before there
/// is a segment; the index is to be read, and the manifest to be told. Returns the first row of each cluster.
///
/// On failure rows are in the order in which they were.
pub fn cluster(
    path: &Path,
    (config, dir, id): (&CollectionConfig, &Path, SegmentId),
    inputs: &[Arc<LiveSegment>],
    kept: &mut Kept,
    builder: &IvfBuilder,
    control: &BuildControl,
) -> Result<Vec<u32>, GraphError> {
    let blocks = inputs.iter().map(|input| input.vectors()).collect::<Result<Vec<_>, _>>()?;
    let vectors = kept.origins.iter().map(|&(place, row)| {
        let block = blocks.get(place as usize).filter(|_| !control.cancelled.load(Ordering::Relaxed));
        block.map(|block| block.row(row)).ok_or(StoreError::Stopped)
    });
    let draft = VectorDraft::gather(dir, id, vectors)?;
    let vectors = VectorBlock { dim: config.dim as usize, rows: draft.vectors()?, distance: config.distance };
    let order = builder.build_in_order(vectors, path, control)?;
    let origin = |row: &u32| kept.origins.get(*row as usize).copied();
    kept.origins = order.rows.iter().filter_map(origin).collect();
    Ok(order.starts)
}
