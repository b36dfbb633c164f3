//! Bodies that change payloads.
use serde::Deserialize;
use serde_json::{Map, Value};

use super::points::Write;
use super::selection::{selector, within};
use crate::query::{PayloadEdit, top_level_field};
use crate::serve::error_map::ApiError;
use crate::serve::json::Unsupported;
use crate::types::PointId;

/// `POST` (set) and `PUT` (overwrite) `/collections/{c}/points/payload`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPayloadBody {
    payload: Map<String, Value>,
    points: Option<Vec<PointId>>,
    filter: Option<Value>,
    /// Setting fields below a key.
    #[serde(default, rename = "key")]
    _key: Unsupported,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

/// `POST /collections/{c}/points/payload/delete`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeletePayloadBody {
    keys: Vec<String>,
    points: Option<Vec<PointId>>,
    filter: Option<Value>,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

impl SetPayloadBody {
    /// Sets these fields, keeps the others.
    pub fn set(self, at: &str) -> Result<Write, ApiError> {
        Ok(Write::Edit(selector(self.points, self.filter, at)?, PayloadEdit::Set(self.payload)))
    }

    /// Replaces the whole payload.
    pub fn overwrite(self, at: &str) -> Result<Write, ApiError> {
        Ok(Write::Edit(selector(self.points, self.filter, at)?, PayloadEdit::Overwrite(self.payload)))
    }
}

impl DeletePayloadBody {
    /// Removes these fields.
    pub fn delete(self, at: &str) -> Result<Write, ApiError> {
        let edit = PayloadEdit::Delete(top_level_fields(&self.keys, &within(at, "keys"))?);
        Ok(Write::Edit(selector(self.points, self.filter, at)?, edit))
    }
}

/// Names of whole fields; `at` is the list that holds them.
pub fn top_level_fields(names: &[String], at: &str) -> Result<Vec<String>, ApiError> {
    let fields = names.iter().enumerate().map(|(index, name)| {
        top_level_field(name)
            .map_err(|problem| ApiError::invalid("invalid_request", &format!("{at}[{index}]"), problem))
    });
    fields.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::json::parse;

    #[test]
    fn whole_fields_are_set_and_deleted() {
        let set = parse::<SetPayloadBody>(br#"{"payload": {"a": {"b": 1}}, "points": [1]}"#)
            .unwrap()
            .set("")
            .unwrap();
        assert!(matches!(set, Write::Edit(_, PayloadEdit::Set(fields)) if fields["a"]["b"] == 1));
        let delete = |text: &str| parse::<DeletePayloadBody>(text.as_bytes()).unwrap().delete("");
        let deleted = delete(r#"{"keys": ["a", "\"b.c\""], "points": [1]}"#).unwrap();
        assert!(matches!(deleted, Write::Edit(_, PayloadEdit::Delete(keys)) if keys == ["a", "b.c"]));
        let error = delete(r#"{"keys": ["a", "b.c"], "points": [1]}"#).unwrap_err();
        assert!(
            error.message().starts_with("keys[1]: \"b.c\" leads into field \"b\""),
            "{}",
            error.message()
        );
        let below = parse::<SetPayloadBody>(br#"{"payload": {}, "points": [1], "key": "a.b"}"#).unwrap_err();
        assert_eq!(below.message(), "key: is not supported yet");
    }
}
