//! Bodies that write points: `points` (a list) or `batch` (columns), and operations in a row.
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;
use serde_json::value::RawValue;

use super::payload::{DeletePayloadBody, SetPayloadBody};
use super::selection::{SelectorBody, within};
use crate::query::{PayloadEdit, PointSelector};
use crate::serve::batch::{BatchBuilder, DenseVector};
use crate::serve::error_map::ApiError;
use crate::serve::json::{NOT_SUPPORTED, Unsupported, checked};
use crate::types::{CollectionConfig, PointId, WriteBatch};

/// `PUT /collections/{c}/points`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpsertBody<'a> {
    #[serde(borrow)]
    points: Option<Vec<PointBody<'a>>>,
    #[serde(borrow)]
    batch: Option<ColumnsBody<'a>>,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
    #[serde(default, rename = "update_filter")]
    _update_filter: Unsupported,
    #[serde(default, rename = "update_mode")]
    _update_mode: OnlyUpsert,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PointBody<'a> {
    id: PointId,
    vector: DenseVector,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnsBody<'a> {
    ids: Vec<PointId>,
    vectors: Vec<DenseVector>,
    #[serde(borrow)]
    payloads: Option<Vec<Option<&'a RawValue>>>,
}

/// `update_mode`: of the three only `upsert` is here yet.
#[derive(Debug, Default)]
struct OnlyUpsert;

impl<'de> Deserialize<'de> for OnlyUpsert {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self),
            value if value == "upsert" => Ok(Self),
            other => Err(format!("{other} {NOT_SUPPORTED}; leave it out or give \"upsert\"")),
        })
    }
}

impl UpsertBody<'_> {
    /// The points, checked. `at`: where the body stands in the request, empty for all of it.
    pub fn build(self, config: &CollectionConfig, at: &str) -> Result<WriteBatch, ApiError> {
        let mut batch = BatchBuilder::new(config);
        match (self.points, self.batch) {
            (Some(points), None) => {
                let list = within(at, "points");
                for (index, point) in points.into_iter().enumerate() {
                    let payload = point.payload.map(RawValue::get);
                    batch.upsert(|| format!("{list}[{index}]"), point.id, &point.vector.0, payload)?;
                }
            }
            (None, Some(columns)) => columns.build(&mut batch, &within(at, "batch"))?,
            (Some(_), Some(_)) => {
                return Err(ApiError::invalid(
                    "invalid_request",
                    at,
                    "give \"points\" or \"batch\", not both",
                ));
            }
            (None, None) => return Err(ApiError::invalid("invalid_request", at, "missing field `points`")),
        }
        Ok(batch.finish())
    }
}

impl ColumnsBody<'_> {
    fn build(self, batch: &mut BatchBuilder<'_>, at: &str) -> Result<(), ApiError> {
        let count = self.ids.len();
        let payloads = self.payloads.unwrap_or_else(|| vec![None; count]);
        for (column, length) in [("vectors", self.vectors.len()), ("payloads", payloads.len())] {
            if length != count {
                let problem = format!("has {length} entries, \"ids\" has {count}");
                return Err(ApiError::invalid("invalid_request", &within(at, column), problem));
            }
        }
        for (index, ((id, vector), payload)) in
            self.ids.into_iter().zip(self.vectors).zip(payloads).enumerate()
        {
            let payload = payload.map(RawValue::get).filter(|text| *text != "null");
            batch.upsert(|| format!("{at}[{index}]"), id, &vector.0, payload)?;
        }
        Ok(())
    }
}

/// `POST /collections/{c}/points/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperationsBody<'a> {
    #[serde(borrow)]
    operations: Vec<OperationBody<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OperationBody<'a> {
    #[serde(borrow)]
    Upsert(UpsertBody<'a>),
    Delete(SelectorBody),
    SetPayload(SetPayloadBody),
    OverwritePayload(SetPayloadBody),
    DeletePayload(DeletePayloadBody),
    ClearPayload(SelectorBody),
    UpdateVectors(Unsupported),
    DeleteVectors(Unsupported),
}

/// One write, ready for the engine.
#[derive(Debug)]
pub enum Write {
    /// Points replaced and removed, atomically.
    Batch(WriteBatch),
    /// Whatever matches, removed.
    DeleteMatching(crate::query::Filter),
    /// Payloads changed.
    Edit(PointSelector, PayloadEdit),
}

impl Write {
    /// The removal of these points.
    pub fn delete(selector: PointSelector, config: &CollectionConfig) -> Self {
        match selector {
            PointSelector::Filter(filter) => Self::DeleteMatching(filter),
            PointSelector::Ids(ids) => {
                let mut batch = BatchBuilder::new(config);
                ids.into_iter().for_each(|id| batch.delete(id));
                Self::Batch(batch.finish())
            }
        }
    }

    /// Does it touch nothing, whatever is stored?
    pub fn is_nothing(&self) -> bool {
        match self {
            Self::Batch(batch) => batch.ops.is_empty(),
            Self::DeleteMatching(_) => false,
            Self::Edit(selector, _) => matches!(selector, PointSelector::Ids(ids) if ids.is_empty()),
        }
    }
}

impl OperationsBody<'_> {
    /// The operations, all of them checked before the first is carried out.
    pub fn build(self, config: &CollectionConfig) -> Result<Vec<Write>, ApiError> {
        let operations = self.operations.into_iter().enumerate();
        operations
            .map(|(index, operation)| operation.build(config, &format!("operations[{index}]")))
            .collect()
    }
}

impl OperationBody<'_> {
    fn build(self, config: &CollectionConfig, at: &str) -> Result<Write, ApiError> {
        match self {
            Self::Upsert(body) => body.build(config, &within(at, "upsert")).map(Write::Batch),
            Self::Delete(body) => Ok(Write::delete(body.selector(&within(at, "delete"))?, config)),
            Self::SetPayload(body) => body.set(&within(at, "set_payload")),
            Self::OverwritePayload(body) => body.overwrite(&within(at, "overwrite_payload")),
            Self::DeletePayload(body) => body.delete(&within(at, "delete_payload")),
            Self::ClearPayload(body) => {
                Ok(Write::Edit(body.selector(&within(at, "clear_payload"))?, PayloadEdit::Clear))
            }
            Self::UpdateVectors(_) | Self::DeleteVectors(_) => {
                Err(ApiError::unsupported(at, format!("changing vectors alone {NOT_SUPPORTED}")))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::batch::tests::collection;
    use crate::serve::json::parse;
    use crate::types::{Distance, OpKind};

    fn upsert(text: &str) -> Result<WriteBatch, ApiError> {
        parse::<UpsertBody>(text.as_bytes())?.build(&collection(Distance::Dot), "")
    }

    #[test]
    fn lists_and_columns_write_the_same() {
        let list = upsert(
            r#"{"points": [{"id": 1, "vector": [1, 2], "payload": {"a": 1}}, {"id": "x", "vector": [3, 4], "payload": null}]}"#,
        )
        .unwrap();
        let columns = upsert(
            r#"{"batch": {"ids": [1, "x"], "vectors": [[1, 2], [3, 4]], "payloads": [{"a": 1}, null]}}"#,
        )
        .unwrap();
        assert_eq!(list.vectors, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(list.vectors, columns.vectors);
        for batch in [&list, &columns] {
            assert_eq!(batch.ops[0].id.to_json(), 1);
            assert_eq!(batch.ops[1].id.to_json(), "x");
            assert!(matches!(&batch.ops[0].kind, OpKind::Upsert { payload, .. } if payload == "{\"a\": 1}"));
            assert!(matches!(&batch.ops[1].kind, OpKind::Upsert { payload, .. } if payload.is_empty()));
        }
    }

    #[test]
    fn mistakes_in_points_are_named() {
        let cases = [
            (
                r#"{"points": [{"id": 1, "vector": [1]}]}"#,
                "dimension_mismatch",
                "points[0].vector (id \"1\"): ",
            ),
            (
                r#"{"points": [{"id": 1, "vector": [1, 1e39]}]}"#,
                "not_finite",
                "points[0].vector (id \"1\"): ",
            ),
            (r#"{"points": [{"id": -1, "vector": [1, 2]}]}"#, "invalid_request", "points[0].id: id must be"),
            (r#"{"points": [{"vector": [1, 2]}]}"#, "invalid_request", "points[0]: missing field `id`"),
            (r#"{"points": [{"id": 1, "vector": {}}]}"#, "unsupported", "points[0].vector: must be a list"),
            (
                r#"{"points": [{"id": 1, "vector": [1, 2], "payload": [1]}]}"#,
                "invalid_payload",
                "points[0].payload (id \"1\"): must be an object",
            ),
            (
                r#"{"points": [{"id": 1, "vectors": [1, 2]}]}"#,
                "unknown_field",
                "points[0]: unknown key \"vectors\"; did you mean \"vector\"?",
            ),
            (
                r#"{"batch": {"ids": [1, 2], "vectors": [[1, 2]]}}"#,
                "invalid_request",
                "batch.vectors: has 1 entries, \"ids\" has 2",
            ),
            (
                r#"{"points": [], "update_mode": "insert_only"}"#,
                "unsupported",
                "update_mode: \"insert_only\" is not supported yet",
            ),
            ("{}", "invalid_request", "missing field `points`"),
        ];
        for (body, code, message) in cases {
            let error = upsert(body).unwrap_err();
            assert_eq!(error.code(), code, "{body}: {}", error.message());
            assert!(error.message().starts_with(message), "{body}: {}", error.message());
        }
    }

    #[test]
    fn operations_are_checked_all_together_and_named_by_index() {
        let build = |text: &str| {
            parse::<OperationsBody>(text.as_bytes()).and_then(|body| body.build(&collection(Distance::Dot)))
        };
        let writes = build(
            r#"{"operations": [
                {"upsert": {"points": [{"id": 1, "vector": [1, 2]}]}},
                {"delete": {"points": [2]}},
                {"delete": {"filter": {"must": []}}},
                {"set_payload": {"payload": {"a": 1}, "points": [1]}},
                {"overwrite_payload": {"payload": {"a": 1}, "filter": {}}},
                {"delete_payload": {"keys": ["a"], "points": [1]}},
                {"clear_payload": {"points": [1]}}
            ]}"#,
        )
        .unwrap();
        assert!(matches!(&writes[1], Write::Batch(batch) if batch.ops[0].kind == OpKind::Delete));
        assert!(matches!(&writes[2], Write::DeleteMatching(_)));
        assert!(matches!(&writes[6], Write::Edit(PointSelector::Ids(_), PayloadEdit::Clear)));
        let message = |text| build(text).unwrap_err().message().to_string();
        assert!(
            message(r#"{"operations": [{"delete": {"points": []}}, {"upsert": {"points": [{"id": 1, "vector": []}]}}]}"#)
                .starts_with("operations[1].upsert.points[0].vector")
        );
        assert_eq!(
            message(r#"{"operations": [{"upsrt": {"points": []}}]}"#),
            "operations[0]: unknown key \"upsrt\"; did you mean \"upsert\"?"
        );
        assert_eq!(
            message(r#"{"operations": [{"update_vectors": {"points": []}}]}"#),
            "operations[0].update_vectors: is not supported yet"
        );
    }
}
