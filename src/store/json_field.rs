//! One field out of a JSON object, without building the others.
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The value of `field`; of several with that name the last, as everywhere. Empty text means `{}`.
pub(crate) fn extract(object: &[u8], field: &str) -> Result<Option<Value>, serde_json::Error> {
    if object.is_empty() {
        return Ok(None);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(object);
    let value = Field(field).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Name(self.0))? {
            match is_it {
                true => found = Some(map.next_value()?),
                false => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(found)
    }
}

/// Compares a key with a name without keeping the key.
struct Name<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_of_equal_names_is_found_at_the_top_level_only() {
        let text = br#"{"a": {"b": 1}, "b": [2], "\u0062": 3, "c": null}"#;
        assert_eq!(extract(text, "b").unwrap(), Some(json!(3)));
        assert_eq!(extract(text, "c").unwrap(), Some(Value::Null));
        assert_eq!(extract(text, "d").unwrap(), None);
        assert_eq!(extract(b"", "d").unwrap(), None);
        assert!(extract(b"[1]", "d").is_err());
        assert!(extract(b"{} {}", "d").is_err());
    }
}
