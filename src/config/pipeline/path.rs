//! Paths into a record: `$.sku`, `$.meta.lang`, `$["odd name"]`.
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Fields from the record inwards; at least one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FieldPath {
    segments: Vec<String>,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a field path; write $.field, $.outer.inner or $[\"odd name\"]{hint}")]
pub struct FieldPathError {
    text: String,
    hint: String,
}

impl FieldPath {
    /// A path to a top-level field.
    pub fn field(name: impl Into<String>) -> Self {
        Self { segments: vec![name.into()] }
    }

    /// Field names from the record inwards.
    pub fn segments(&self) -> &[String] {
        &self.segments
    }

    /// The top-level field the path starts at.
    pub fn root(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }

    /// Does it name a top-level field?
    pub fn is_top_level(&self) -> bool {
        self.segments.len() == 1
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;
    fn from_str(text: &str) -> Result<Self, FieldPathError> {
        let bad = |hint: String| FieldPathError { text: text.to_string(), hint };
        let Some(mut rest) = text.strip_prefix('$') else {
            let is_plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c));
            return Err(bad(if is_plain { format!("; did you mean $.{text}?") } else { String::new() }));
        };
        let mut segments = Vec::new();
        while !rest.is_empty() {
            let (segment, tail) = if let Some(quoted) = rest.strip_prefix("[\"") {
                quoted.split_once("\"]").ok_or_else(|| bad("; [\" is not closed by \"]".to_string()))?
            } else if let Some(name) = rest.strip_prefix('.') {
                name.split_at(name.find(['.', '[']).unwrap_or(name.len()))
            } else {
                return Err(bad(String::new()));
            };
            if segment.is_empty() {
                return Err(bad("; a field name is empty".to_string()));
            }
            if segment == "*" || segment.contains(['(', ')']) {
                return Err(bad("; it must name one field".to_string()));
            }
            segments.push(segment.to_string());
            rest = tail;
        }
        if segments.is_empty() { Err(bad(String::new())) } else { Ok(Self { segments }) }
    }
}
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("$")?;
        self.segments.iter().try_for_each(|segment| match segment.contains(['.', '[', '"', '(', ')', '*']) {
            true => write!(f, "[\"{segment}\"]"),
            false => write!(f, ".{segment}"),
        })
    }
}
impl Serialize for FieldPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for FieldPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for FieldPath {
    fn schema_name() -> Cow<'static, str> {
        "FieldPath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A path into a record: $.field, $.outer.inner or $[\"odd name\"].",
            "pattern": r#"^\$(\.[^.\[]+|\["[^"]+"\])+$"#,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_and_print() {
        for (text, segments) in [
            ("$.sku", vec!["sku"]),
            ("$.a.b.c", vec!["a", "b", "c"]),
            ("$[\"odd.name\"].x", vec!["odd.name", "x"]),
        ] {
            let path: FieldPath = text.parse().unwrap();
            assert_eq!(path.segments(), segments);
            assert_eq!(path.to_string(), text);
        }
    }

    #[test]
    fn bad_paths_say_what_to_write() {
        let plain = "sku".parse::<FieldPath>().unwrap_err().to_string();
        assert!(plain.ends_with("did you mean $.sku?"), "{plain}");
        for text in ["", "$", "$.", "$..a", "$.a.", "$.*", "$.a[0]", "$[\"a"] {
            assert!(text.parse::<FieldPath>().is_err(), "{text}");
        }
    }
}
