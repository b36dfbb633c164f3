//! One collection: writes, reads, facts.
use crate::query::{
    Filter, Freshness, PayloadEdit, PayloadSelection, PointSelector, ReadOptions, Record, ScrollAnswer,
    ScrollRequest, SearchAnswer, SearchRequest,
};
use crate::types::{CollectionConfig, Lsn, PointId, Reject, WriteBatch};

use super::EngineError;

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// In the log's queue.
    Ack,
    /// Fsynced and searchable.
    #[default]
    Durable,
    /// Seen by every search from now on.
    Searchable,
    /// In a graph (or in a segment too small to need one).
    Indexed,
}

/// Facts about a collection.
#[derive(Debug, Clone)]
pub struct CollectionInfo {
    /// Live points.
    pub points: u64,
    /// Segments.
    pub segments: u64,
    /// Live points that a graph finds.
    pub indexed_points: u64,
    /// `green`, or `yellow` while background work is pending.
    pub status: &'static str,
    /// Memory held: memtables, column caches, indexes.
    pub memory_bytes: u64,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Log marks.
    pub durable_lsn: Lsn,
    /// Searchable up to here.
    pub applied_lsn: Lsn,
    /// In segments up to here.
    pub flushed_lsn: Lsn,
    /// Records in quarantine.
    pub quarantined: u64,
}

/// A record in quarantine.
#[derive(Debug, Clone, serde::Serialize)]
pub struct QuarantinedRecord {
    /// The source (pipeline) it came from.
    pub source: String,
    /// The entry that holds it.
    pub lsn: Lsn,
    /// The record and what was wrong with it.
    #[serde(flatten)]
    pub reject: Reject,
}

/// One collection, shared by all doors.
pub struct Collection {
    config: CollectionConfig,
}

impl Collection {
    /// What the catalog holds.
    pub fn config(&self) -> &CollectionConfig {
        &self.config
    }

    /// Counts, sizes and marks.
    pub fn info(&self) -> CollectionInfo {
        CollectionInfo {
            points: 0,
            segments: 0,
            indexed_points: 0,
            status: "green",
            memory_bytes: 0,
            disk_bytes: 0,
            durable_lsn: Lsn(0),
            applied_lsn: Lsn(0),
            flushed_lsn: Lsn(0),
            quarantined: 0,
        }
    }

    /// Writes a batch atomically. Vectors must have `dim` finite components (see `check_vector`); cosine
    /// vectors are normalised here. The answer is the LSN, a token for `fresh_as_of`.
    pub async fn write(&self, _batch: WriteBatch, _wait: Wait) -> Result<Lsn, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// Deletes every point that matches.
    pub async fn delete_by_filter(&self, _filter: Filter, _wait: Wait) -> Result<Lsn, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// Edits payloads; each point's edit is atomic against concurrent writes of the same point.
    pub async fn edit_payload(
        &self,
        _points: PointSelector,
        _edit: PayloadEdit,
        _wait: Wait,
    ) -> Result<Lsn, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// Searches.
    pub async fn search(&self, _request: SearchRequest) -> Result<SearchAnswer, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// Points by id, in the order asked, missing ones left out.
    pub async fn get(
        &self,
        _ids: Vec<PointId>,
        _with_payload: PayloadSelection,
        _with_vector: bool,
        _read: ReadOptions,
    ) -> Result<Vec<Record>, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// A page of points in id order (integers by value before texts).
    pub async fn scroll(&self, _request: ScrollRequest) -> Result<ScrollAnswer, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// How many points match; always exact.
    pub async fn count(&self, _filter: Option<Filter>, _read: ReadOptions) -> Result<u64, EngineError> {
        Err(EngineError::ShuttingDown)
    }

    /// The receipt a search would carry now.
    pub fn freshness(&self) -> Freshness {
        Freshness { lsn: Lsn(0), positions: Default::default(), watermark_ms: None, scanned_fraction: 0.0 }
    }

    /// The latest records in quarantine, newest first.
    pub async fn quarantine(&self, _limit: usize) -> Result<Vec<QuarantinedRecord>, EngineError> {
        Err(EngineError::ShuttingDown)
    }
}
