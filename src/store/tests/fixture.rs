//! Rows that own their parts, and everything that can be read from a segment.
use std::path::Path;

use serde_json::{Map, Value};

use crate::store::{
    RowRef, Segment, SegmentId, SegmentInput, SegmentMeta, SegmentWriter, StoreError, Tombstone, VectorForm,
};
use crate::types::{Column, Distance, FieldType, Lsn, PointId};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OwnedRow {
    pub id: PointId,
    pub lsn: u64,
    pub event_time_ms: i64,
    pub vector: Vec<f32>,
    pub payload: String,
}

impl OwnedRow {
    pub(crate) fn new(row: u64, dim: usize, payload: &str) -> Self {
        let id = match row % 2 {
            0 => PointId::integer(row),
            _ => PointId::text(format!("point-{row:04}")).unwrap(),
        };
        let vector = (0..dim).map(|at| row as f32 + at as f32 / 8.0).collect();
        let event_time_ms = 1_700_000_000_000 + row as i64 * 250;
        Self { id, lsn: row + 10, event_time_ms, vector, payload: payload.to_string() }
    }

    pub(crate) fn borrowed(&self) -> RowRef<'_> {
        RowRef {
            id: self.id.as_str(),
            id_is_integer: self.id.is_integer(),
            lsn: Lsn(self.lsn),
            event_time_ms: self.event_time_ms,
            vector: &self.vector,
            payload: self.payload.as_bytes(),
        }
    }

    pub(crate) fn parsed(&self) -> Option<Map<String, Value>> {
        (!self.payload.is_empty()).then(|| serde_json::from_str(&self.payload).unwrap())
    }
}

pub(crate) fn write(
    dir: &Path,
    dim: u32,
    rows: &[OwnedRow],
    tombstones: &[Tombstone],
) -> Result<SegmentMeta, StoreError> {
    write_as(dir, dim, rows, tombstones, VectorForm::Packed)
}

pub(crate) fn write_as(
    dir: &Path,
    dim: u32,
    rows: &[OwnedRow],
    tombstones: &[Tombstone],
    vectors: VectorForm,
) -> Result<SegmentMeta, StoreError> {
    let rows: Vec<RowRef<'_>> = rows.iter().map(OwnedRow::borrowed).collect();
    let (id, distance) = (SegmentId::new(), Distance::L2);
    let clusters = &[];
    SegmentWriter::write(dir, &SegmentInput { id, dim, distance, rows: &rows, clusters, tombstones, vectors })
}

pub(crate) fn small_rows() -> Vec<OwnedRow> {
    [
        r#"{"lang": "en", "price": 3, "ok": true, "tags": ["a", {"b": null}], "id": "clash"}"#,
        r#"{"lang": "fr", "price": 2.5, "score": 7}"#,
        "",
        r#"{"score": -9223372036854775808, "mixed": 1}"#,
        r#"{"mixed": "one", "lang": "größe"}"#,
    ]
    .iter()
    .enumerate()
    .map(|(row, payload)| OwnedRow::new(row as u64, 3, payload))
    .collect()
}

pub(crate) fn small_tombstones() -> Vec<Tombstone> {
    let dead = |id, lsn| Tombstone { id, lsn: Lsn(lsn), event_time_ms: 1_700_000_000_000 };
    vec![dead(PointId::integer(77), 90), dead(PointId::text("gone").unwrap(), 91)]
}

/// A column as plain values, so that two can be compared with their types.
pub(crate) fn plain(column: &Column) -> (std::mem::Discriminant<Column>, String) {
    (
        std::mem::discriminant(column),
        format!("{:?}", column.array().to_data().buffers().len()) + &values(column),
    )
}

fn values(column: &Column) -> String {
    let array = column.array();
    let values = arrow_cast::display::ArrayFormatter::try_new(array, &Default::default()).unwrap();
    let value = |row| if array.is_null(row) { "∅".to_string() } else { values.value(row).to_string() };
    (0..array.len()).map(value).collect::<Vec<_>>().join("|")
}

/// Every answer that a segment can give.
#[derive(Debug, PartialEq)]
pub(crate) struct Everything {
    pub rows: Vec<OwnedRow>,
    pub found: Vec<Option<u32>>,
    pub fields: Vec<(String, FieldType)>,
    pub columns: Vec<Option<(std::mem::Discriminant<Column>, String)>>,
}

pub(crate) fn read_everything(dir: &Path, meta: &SegmentMeta) -> Result<Everything, StoreError> {
    let segment = Segment::open(dir, meta)?;
    let fields = segment.fields()?;
    let ids = segment.ids()?;
    let vectors = segment.vectors()?;
    let mut rows = Vec::new();
    for row in 0..segment.rows() {
        let at = row as usize * segment.dim();
        rows.push(OwnedRow {
            id: ids.id(row),
            lsn: ids.lsn(row).0,
            event_time_ms: ids.event_time_ms(row),
            vector: vectors[at..at + segment.dim()].to_vec(),
            payload: String::from_utf8(segment.payload(row)?.to_vec()).unwrap(),
        });
        assert_eq!(ids.is_integer(row), ids.id(row).is_integer());
        assert_eq!(segment.row(row)?, rows.last().unwrap().borrowed());
    }
    let known = rows.iter().map(|row| row.id.as_str().to_string());
    let found = known.chain(["absent".to_string(), String::new()]).map(|id| ids.find(&id)).collect();
    let names = fields.iter().map(|(field, _)| field.as_str()).chain(["absent"]);
    let columns = names
        .map(|field| segment.column(field).map(|column| column.as_ref().map(plain)))
        .collect::<Result<_, _>>()?;
    segment.verify()?;
    Ok(Everything { rows, found, fields, columns })
}
