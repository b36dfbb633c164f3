//! One frozen memtable becomes one segment.
use std::path::Path;
use std::sync::Arc;

use crate::memtable::{Block, Memtable};
use crate::store::{
    QuarantineFile, Quarantined, RowRef, SegmentId, SegmentInput, SegmentMeta, SegmentWriter, StoreError,
    Tombstone, VectorForm,
};
use crate::types::CollectionConfig;
use crate::view::Frozen;

/// Files written for a frozen memtable, durable but named by no manifest yet.
pub struct Flushed {
    /// The segment; `None` where the memtable left neither rows nor tombstones.
    pub segment: Option<SegmentMeta>,
    /// The memtable row that each segment row came from.
    pub origins: Vec<u32>,
    /// The rejected records' file, if there are any.
    pub quarantine: Option<QuarantineFile>,
}

/// Writes the rows that are alive as of the memtable's last entry, its tombstones, and its rejects.
pub fn flush(
    config: &CollectionConfig,
    dir: &Path,
    frozen: &Frozen,
    id: SegmentId,
) -> Result<Flushed, StoreError> {
    let blocks = frozen.memtable.blocks();
    let (rows, origins) = alive(&blocks, frozen);
    let tombstones = tombstones(&*frozen.memtable);
    let segment = match rows.is_empty() && tombstones.is_empty() {
        true => None,
        false => Some(SegmentWriter::write(
            dir,
            &SegmentInput {
                id,
                dim: config.dim,
                distance: config.distance,
                rows: &rows,
                // Rows that are merged again within minutes are not worth it.
                clusters: &[],
                tombstones: &tombstones,
                // Most are merged within minutes, and the writers that fill memtables wait for this one.
                vectors: VectorForm::Plain,
            },
        )?),
    };
    let rejected: Vec<Quarantined> = frozen
        .memtable
        .rejected()
        .into_iter()
        .map(|one| Quarantined { source: Some(one.source), lsn: one.lsn, reject: one.reject })
        .collect();
    let quarantine = QuarantineFile::write(dir, &rejected)?;
    Ok(Flushed { segment, origins, quarantine })
}

fn alive<'a>(blocks: &'a [Arc<Block>], frozen: &Frozen) -> (Vec<RowRef<'a>>, Vec<u32>) {
    let (mut rows, mut origins, mut number) = (Vec::new(), Vec::new(), 0);
    for block in blocks {
        for row in 0..block.len() {
            if block.is_visible(row, frozen.marks.lsn) {
                let id = block.id(row);
                rows.push(RowRef {
                    id: id.as_str(),
                    id_is_integer: id.is_integer(),
                    lsn: block.born(row),
                    event_time_ms: block.event_time_ms(row),
                    vector: block.vector(row),
                    payload: block.payload(row),
                });
                origins.push(number);
            }
            number += 1;
        }
    }
    (rows, origins)
}

fn tombstones(memtable: &dyn Memtable) -> Vec<Tombstone> {
    let buried = memtable.tombstones().into_iter();
    buried.map(|one| Tombstone { id: one.id, lsn: one.lsn, event_time_ms: one.event_time_ms }).collect()
}
