//! Point ids: strings inside, given back in the form in which they came.
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest id in bytes of UTF-8. Ids are keys of several maps; a larger bound would let them outweigh vectors.
pub const POINT_ID_BYTES_MAX: usize = 512;

/// A point's id: 1–512 bytes of UTF-8.
///
/// An integer id is its decimal text plus a mark, so `42` and `"42"` name the same point and each
/// comes back in the form of the latest write. The mark takes no part in equality or order.
#[derive(Clone)]
pub struct PointId {
    text: Arc<str>,
    integer: bool,
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointIdError {
    /// The empty string names nothing.
    #[error("id is empty; give 1 to {POINT_ID_BYTES_MAX} bytes")]
    Empty,
    /// Longer than [`POINT_ID_BYTES_MAX`].
    #[error("id has {bytes} bytes; at most {POINT_ID_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Neither a string nor an unsigned integer.
    #[error("id must be a string or an unsigned integer, not {found}")]
    WrongType {
        /// What was given.
        found: String,
    },
}

impl PointId {
    /// An id given as text (UUIDs are text).
    pub fn text(text: impl AsRef<str>) -> Result<Self, PointIdError> {
        let text = text.as_ref();
        match text.len() {
            0 => Err(PointIdError::Empty),
            bytes if bytes > POINT_ID_BYTES_MAX => Err(PointIdError::TooLong { bytes }),
            _ => Ok(Self { text: Arc::from(text), integer: false }),
        }
    }

    /// An id given as an unsigned integer.
    pub fn integer(value: u64) -> Self {
        Self { text: Arc::from(value.to_string()), integer: true }
    }

    /// An id read back from disk: the text is trusted to have been valid when written.
    pub(crate) fn from_stored(text: &str, integer: bool) -> Self {
        Self { text: Arc::from(text), integer }
    }

    /// An id from a JSON value: a string or an unsigned integer.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, PointIdError> {
        match value {
            serde_json::Value::String(text) => Self::text(text),
            serde_json::Value::Number(number) => match number.as_u64() {
                Some(integer) => Ok(Self::integer(integer)),
                None => Err(PointIdError::WrongType { found: format!("the number {number}") }),
            },
            other => Err(PointIdError::WrongType { found: json_type(other).to_string() }),
        }
    }

    /// The text inside.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Was it given as an integer?
    pub fn is_integer(&self) -> bool {
        self.integer
    }

    /// The form in which it came.
    pub fn to_json(&self) -> serde_json::Value {
        match (self.integer, self.text.parse::<u64>()) {
            (true, Ok(value)) => value.into(),
            _ => self.text.as_ref().into(),
        }
    }
}

fn json_type(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "an array",
        serde_json::Value::Object(_) => "an object",
    }
}

impl PartialEq for PointId {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
impl Eq for PointId {}
impl Hash for PointId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}
impl PartialOrd for PointId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for PointId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}
/// Lets maps keyed by id be asked with a plain `&str`.
impl std::borrow::Borrow<str> for PointId {
    fn borrow(&self) -> &str {
        &self.text
    }
}
impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
impl fmt::Debug for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}
impl Serialize for PointId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}
impl<'de> Deserialize<'de> for PointId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PointIdVisitor)
    }
}

/// Refuses while the parser still stands at the id, so that the error is placed there.
struct PointIdVisitor;

impl serde::de::Visitor<'_> for PointIdVisitor {
    type Value = PointId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or an unsigned integer")
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<PointId, E> {
        PointId::text(text).map_err(E::custom)
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<PointId, E> {
        Ok(PointId::integer(value))
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<PointId, E> {
        PointId::from_json(&value.into()).map_err(E::custom)
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<PointId, E> {
        PointId::from_json(&value.into()).map_err(E::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn integer_and_text_forms_name_the_same_point_and_come_back_as_given() {
        let (integer, text) = (PointId::integer(42), PointId::text("42").unwrap());
        assert_eq!(integer, text);
        assert_eq!(serde_json::to_string(&integer).unwrap(), "42");
        assert_eq!(serde_json::to_string(&text).unwrap(), "\"42\"");
    }

    #[test]
    fn bad_ids_say_what_was_wrong() {
        assert_eq!(PointId::text(""), Err(PointIdError::Empty));
        assert_eq!(PointId::text("x".repeat(513)), Err(PointIdError::TooLong { bytes: 513 }));
        let negative = PointId::from_json(&serde_json::json!(-1)).unwrap_err();
        assert_eq!(negative.to_string(), "id must be a string or an unsigned integer, not the number -1");
    }
}
