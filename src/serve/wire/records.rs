//! Points as they are answered.
use serde::Serialize;
use serde_json::{Map, Value};

use crate::engine::Wait;
use crate::query::{Hit, Record};
use crate::types::{Lsn, PointId};

/// A write's answer. The LSN is a token for `fresh_as_of`.
#[derive(Debug, Serialize)]
pub struct UpdateResult {
    operation_id: u64,
    status: &'static str,
    lsn: u64,
}

impl UpdateResult {
    /// The answer to a write that took this place in the log.
    pub fn new(lsn: Lsn, wait: Wait) -> Self {
        let status = if wait == Wait::Ack { "acknowledged" } else { "completed" };
        Self { operation_id: lsn.0, status, lsn: lsn.0 }
    }
}

/// A point without a score.
#[derive(Debug, Serialize)]
pub struct RecordOut {
    id: PointId,
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl From<Record> for RecordOut {
    fn from(record: Record) -> Self {
        Self { id: record.id, version: record.version.0, payload: record.payload, vector: record.vector }
    }
}

/// A point with its score.
#[derive(Debug, Serialize)]
pub struct ScoredPoint {
    id: PointId,
    version: u64,
    score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vector: Option<Vec<f32>>,
}

impl From<Hit> for ScoredPoint {
    fn from(hit: Hit) -> Self {
        let Hit { record, score } = hit;
        Self {
            id: record.id,
            version: record.version.0,
            score,
            payload: record.payload,
            vector: record.vector,
        }
    }
}

/// Hits, best first.
#[derive(Debug, Serialize)]
pub struct QueryResult {
    /// At most `limit`.
    pub points: Vec<ScoredPoint>,
}

impl QueryResult {
    /// From the engine's hits.
    pub fn new(hits: Vec<Hit>) -> Self {
        Self { points: hits.into_iter().map(ScoredPoint::from).collect() }
    }
}

/// A page, and where the next begins.
#[derive(Debug, Serialize)]
pub struct ScrollResult {
    /// In id order.
    pub points: Vec<RecordOut>,
    /// `null` on the last page.
    pub next_page_offset: Option<PointId>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn points_look_as_clients_expect() {
        let record = |payload, vector| Record { id: PointId::integer(7), version: Lsn(3), payload, vector };
        let bare = serde_json::to_value(RecordOut::from(record(None, None))).unwrap();
        assert_eq!(bare, json!({"id": 7, "version": 3}));
        let hit = Hit { record: record(Some(Map::new()), Some(vec![0.5])), score: 0.1 };
        let text = serde_json::to_string(&QueryResult::new(vec![hit])).unwrap();
        assert_eq!(text, r#"{"points":[{"id":7,"version":3,"score":0.1,"payload":{},"vector":[0.5]}]}"#);
        let uuid = PointId::text("6f1c1f5e-0b1d-4a43-9f57-6f0f3d0b8a11").unwrap();
        let page = ScrollResult { points: Vec::new(), next_page_offset: Some(uuid) };
        assert_eq!(
            serde_json::to_value(page).unwrap(),
            json!({"points": [], "next_page_offset": "6f1c1f5e-0b1d-4a43-9f57-6f0f3d0b8a11"})
        );
        assert_eq!(
            serde_json::to_value(UpdateResult::new(Lsn(9), Wait::Ack)).unwrap(),
            json!({"operation_id": 9, "status": "acknowledged", "lsn": 9})
        );
    }
}
