//! Several segments become one, without the rows that no reader to come can see.
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::store::{
    PickedRows, SegmentId, SegmentInput, SegmentMeta, SegmentWriter, StoreError, Tombstone, VectorForm,
};
use crate::types::{CollectionConfig, IdHash, Lsn};
use crate::view::LiveSegment;

/// What a merge keeps of its inputs.
pub struct Kept {
    /// (place among the inputs, row) of each row, in the order in which they will be written.
    pub origins: Vec<(u32, u32)>,
    /// Deletes to carry on.
    tombstones: Vec<Tombstone>,
}

impl Kept {
    /// What is alive in `inputs`, oldest first, as of `flushed`; rows in the order in which they came.
    ///
    /// Not a later LSN: a crash replays the log from `flushed`, and replay must find the rows it found the
    /// first time. `others`: the segments outside the merge. Where one holds an older version of a deleted point, the
    /// tombstone is carried on for readers of plain Parquet; all others have nothing left to hide, since whatever is
    /// flushed meanwhile is newer.
    pub fn of(
        inputs: &[Arc<LiveSegment>],
        others: &[Arc<LiveSegment>],
        flushed: Lsn,
    ) -> Result<Self, StoreError> {
        let hides = |tombstone: &Tombstone| {
            let id = tombstone.id.as_str();
            let hash = IdHash::of(id);
            others.iter().any(|other| other.find(id, hash).is_some())
        };
        let mut kept = Self { origins: Vec::new(), tombstones: Vec::new() };
        for (place, input) in inputs.iter().enumerate() {
            let alive = (0..input.rows()).filter(|row| input.is_visible(*row, flushed));
            kept.origins.extend(alive.map(|row| (place as u32, row)));
            kept.tombstones.extend(input.segment.tombstones()?.into_iter().filter(hides));
        }
        Ok(kept)
    }

    /// Writes it as one segment, durable but named by no manifest yet; `None` where nothing is left.
    ///
    /// `clusters`: the first row of each, where rows are in clusters. `stop` ends it early, with an error.
    pub fn write(
        &self,
        config: &CollectionConfig,
        dir: &Path,
        inputs: &[Arc<LiveSegment>],
        clusters: &[u32],
        id: SegmentId,
        stop: &AtomicBool,
    ) -> Result<Option<SegmentMeta>, StoreError> {
        if self.origins.is_empty() && self.tombstones.is_empty() {
            return Ok(None);
        }
        let segments = inputs.iter().map(|input| Arc::clone(&input.segment)).collect();
        let rows = PickedRows::new(segments, self.origins.clone(), stop);
        let input = SegmentInput {
            id,
            dim: config.dim,
            distance: config.distance,
            rows: &rows,
            clusters,
            tombstones: &self.tombstones,
            vectors: VectorForm::Packed,
        };
        SegmentWriter::write(dir, &input).map(Some)
    }
}
