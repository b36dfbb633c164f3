//! Rows back to records: by id, and the payload and vector of what was found.
use serde_json::{Map, Value};

use super::{PayloadSelection, QueryError, Record};
use crate::types::{IdHash, PointId};
use crate::view::{RowRef, Snapshot};

/// A row as it is read back.
pub fn record(
    row: &RowRef,
    with_payload: &PayloadSelection,
    with_vector: bool,
) -> Result<Record, QueryError> {
    let payload = match with_payload {
        PayloadSelection::Nothing => None,
        selection => Some(select(payload(row)?, selection)),
    };
    let vector = match with_vector {
        true => Some(row.vector()?.to_vec()),
        false => None,
    };
    Ok(Record { id: row.id(), version: row.born(), payload, vector })
}

/// A row's whole payload.
pub fn payload(row: &RowRef) -> Result<Map<String, Value>, QueryError> {
    let text = row.payload()?;
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(text).map_err(|source| QueryError::BadPayload { id: row.id(), source })
}

fn select(mut payload: Map<String, Value>, selection: &PayloadSelection) -> Map<String, Value> {
    match selection {
        PayloadSelection::Nothing => Map::new(),
        PayloadSelection::Everything => payload,
        PayloadSelection::Include(fields) => {
            payload.retain(|field, _| fields.contains(field));
            payload
        }
        PayloadSelection::Exclude(fields) => {
            payload.retain(|field, _| !fields.contains(field));
            payload
        }
    }
}

/// The row of a point as of a snapshot, if it exists then.
///
/// Looks newest first. A row that apply has added but not published yet belongs to a later snapshot; its
/// older version may be hidden behind it in the same memtable, so such rows are searched for backwards.
pub fn find(snapshot: &Snapshot, id: &PointId) -> Option<RowRef> {
    let hash = IdHash::of(id.as_str());
    for memtable in snapshot.view.memtables() {
        let Some((block, row)) = memtable.latest(id.as_str(), hash).and_then(|row| memtable.locate(row))
        else {
            continue;
        };
        if block.is_visible(row, snapshot.lsn) {
            return Some(RowRef::Memory { block, row });
        }
        if block.born(row) <= snapshot.lsn {
            return None;
        }
        let older = memtable.blocks().into_iter().rev().find_map(|block| {
            let mut rows = (0..block.len()).rev();
            let row = rows.find(|row| block.id(*row) == id && block.is_visible(*row, snapshot.lsn))?;
            Some(RowRef::Memory { block, row })
        });
        if older.is_some() {
            return older;
        }
    }
    snapshot.view.segments.iter().rev().find_map(|segment| {
        let row = segment.find(id.as_str(), hash)?;
        segment.is_visible(row, snapshot.lsn).then(|| RowRef::Segment { segment: segment.clone(), row })
    })
}
