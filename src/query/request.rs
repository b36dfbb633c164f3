//! What can be asked, after a door has validated it, and what comes back.
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::Filter;
use crate::types::{CodedSearch, Lsn, PointId, Position, Positions};

/// A state that must be searchable before the answer is computed.
#[derive(Debug, Clone, PartialEq)]
pub enum FreshAsOf {
    /// Everything up to this entry of the collection's log.
    Lsn(Lsn),
    /// These records of these sources: source → partition → last position.
    Positions(BTreeMap<String, BTreeMap<String, Position>>),
}

/// How a read relates to concurrent writes.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Wait for this first; `None` reads what is searchable now.
    pub fresh_as_of: Option<FreshAsOf>,
    /// For the wait and the work together.
    pub timeout: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self { fresh_as_of: None, timeout: Duration::from_secs(60) }
    }
}

/// Which payload fields come back.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum PayloadSelection {
    /// None.
    #[default]
    Nothing,
    /// All of them.
    Everything,
    /// Only these top-level fields.
    Include(Vec<String>),
    /// All but these top-level fields.
    Exclude(Vec<String>),
}

/// What to search near.
#[derive(Debug, Clone, PartialEq)]
pub enum Nearest {
    /// This vector.
    Vector(Vec<f32>),
    /// The vector of this point, which itself is left out of the answer.
    Id(PointId),
}

/// A search.
#[derive(Debug, Clone)]
pub struct SearchRequest {
    /// What to search near.
    pub nearest: Nearest,
    /// Hits wanted.
    pub limit: usize,
    /// Hits skipped before them.
    pub offset: usize,
    /// Only points that match.
    pub filter: Option<Filter>,
    /// Payload of the hits.
    pub with_payload: PayloadSelection,
    /// Vectors of the hits?
    pub with_vector: bool,
    /// Only hits at least this good: scores ≥ it for cosine and dot, ≤ it for l2.
    pub score_threshold: Option<f32>,
    /// Scan everything instead of walking graphs.
    pub exact: bool,
    /// Candidates kept while walking graphs; `None` is the default.
    pub ef_search: Option<usize>,
    /// Of graphs that have codes.
    pub codes: CodedSearch,
    /// Freshness and deadline.
    pub read: ReadOptions,
}

/// A point as it is read back.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its id, in the form of its latest write.
    pub id: PointId,
    /// The entry that wrote it: its version.
    pub version: Lsn,
    /// The selected payload; `None` where none was asked for.
    pub payload: Option<Map<String, Value>>,
    /// Its vector, if asked for (normalised for cosine).
    pub vector: Option<Vec<f32>>,
}

/// A point found by a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The point.
    pub record: Record,
    /// Higher is better for cosine and dot; distance, lower is better, for l2.
    pub score: f32,
}

/// The freshness receipt: what an answer has seen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Freshness {
    /// Everything up to this log entry.
    pub lsn: Lsn,
    /// How far each source partition is applied.
    pub positions: Positions,
    /// Latest event time applied, milliseconds since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// Share of the rows that were scanned rather than found by a graph.
    pub scanned_fraction: f64,
}

/// Hits, best first.
#[derive(Debug, Clone)]
pub struct SearchAnswer {
    /// At most `limit`.
    pub hits: Vec<Hit>,
    /// The receipt.
    pub freshness: Freshness,
}

/// A page of points in id order.
#[derive(Debug, Clone)]
pub struct ScrollRequest {
    /// Only points that match.
    pub filter: Option<Filter>,
    /// Points wanted.
    pub limit: usize,
    /// First id of the page (inclusive); `None` starts at the beginning.
    pub offset: Option<PointId>,
    /// Payload of the points.
    pub with_payload: PayloadSelection,
    /// Vectors of the points?
    pub with_vector: bool,
    /// Freshness and deadline.
    pub read: ReadOptions,
}

/// One page, and where the next begins.
#[derive(Debug, Clone)]
pub struct ScrollAnswer {
    /// In id order.
    pub points: Vec<Record>,
    /// `None` on the last page.
    pub next: Option<PointId>,
    /// The receipt.
    pub freshness: Freshness,
}

/// Which points an edit touches.
#[derive(Debug, Clone)]
pub enum PointSelector {
    /// These (missing ones are ignored).
    Ids(Vec<PointId>),
    /// All that match.
    Filter(Filter),
}

/// A change of payloads.
#[derive(Debug, Clone)]
pub enum PayloadEdit {
    /// Set these fields, keep the others.
    Set(Map<String, Value>),
    /// Replace the whole payload.
    Overwrite(Map<String, Value>),
    /// Remove these fields.
    Delete(Vec<String>),
    /// Remove all fields.
    Clear,
}
