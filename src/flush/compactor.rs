//! Several segments become one, without the rows that no reader to come can see.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::store::{
    PickedRows, SegmentId, SegmentInput, SegmentMeta, SegmentWriter, StoreError, Tombstone, VectorForm,
};
use crate::types::{CollectionConfig, Lsn};
use crate::view::LiveSegment;

/// Files written by a merge, durable but named by no manifest yet.
pub struct Compacted {
    /// The segment; `None` where nothing was left.
    pub segment: Option<SegmentMeta>,
    /// (place among the inputs, row) that each row came from.
    pub origins: Vec<(u32, u32)>,
}

/// Merges `inputs`, oldest first, keeping rows that are alive as of `flushed`.
///
/// Not a later LSN: a crash replays the log from `flushed`, and replay must find the rows it found the
/// first time. `others_remain`: segments outside the merge may hold older versions of deleted points, so the
/// tombstones are carried on for readers of plain Parquet. `stop` ends it early, with an error.
pub fn compact(
    config: &CollectionConfig,
    dir: &Path,
    inputs: &[Arc<LiveSegment>],
    flushed: Lsn,
    others_remain: bool,
    id: SegmentId,
    stop: &AtomicBool,
) -> Result<Compacted, StoreError> {
    let mut origins = Vec::new();
    let mut tombstones: Vec<Tombstone> = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        let alive = (0..input.rows()).filter(|row| input.is_visible(*row, flushed));
        origins.extend(alive.map(|row| (place as u32, row)));
        if others_remain {
            tombstones.extend(input.segment.tombstones()?);
        }
    }
    if origins.is_empty() && tombstones.is_empty() {
        return Ok(Compacted { segment: None, origins });
    }
    let segments = inputs.iter().map(|input| Arc::clone(&input.segment)).collect();
    let rows = PickedRows::new(segments, origins.clone(), stop);
    let input = SegmentInput {
        id,
        dim: config.dim,
        distance: config.distance,
        rows: &rows,
        tombstones: &tombstones,
        vectors: VectorForm::Packed,
    };
    let segment = Some(SegmentWriter::write(dir, &input)?);
    Ok(Compacted { segment, origins })
}
