//! Immutable segments and the manifest that names the live ones.
//!
//! ```text
//! flush, compaction ──▶ SegmentWriter ──▶ <id>.{parquet,vec,ids,payload} ──▶ Segment ──▶ index, query
//!                            │ SegmentMeta
//!                            ▼
//!                        Manifest ──▶ manifest-<version>.json     gc deletes what no manifest names
//! ```
//! I1 a file is complete and fsynced before a manifest names it, and never changes afterwards.
//! I2 no answer comes from a byte whose checksum has not passed.
//! I3 the newest manifest decides; if it is damaged the store stops and says so, it never falls back.
mod block_format;
mod block_checks;
mod block_reader;
mod block_writer;
mod deletes;
mod durable;
mod error;
mod gc;
mod id_table;
mod ids;
mod json_field;
mod manifest;
mod meta;
mod parquet_format;
mod parquet_reader;
mod parquet_writer;
mod payload_cells;
mod payloads;
mod quarantine;
mod rows;
mod sealed;
mod segment_reader;
mod segment_writer;
mod vector_chunk;
mod vector_draft;
#[cfg(test)]
mod tests;

pub use deletes::{DelMeta, Deletes};
pub use error::StoreError;
pub use gc::{GcReport, collect_garbage};
pub use ids::Ids;
pub use manifest::{Manifest, SegmentEntry};
pub use meta::{FileMeta, SegmentId, SegmentMeta};
pub use quarantine::{QuarantineFile, Quarantined};
pub use rows::{PickedRows, RowRef, RowSource, Tombstone};
pub use segment_reader::Segment;
pub use segment_writer::{SegmentInput, SegmentWriter, VectorForm};
pub use vector_draft::VectorDraft;
