//! JSON objects: one pass over the text; the vector goes straight to floats, other values are copied as text.
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json_text::append_compact;
use super::mapping::{Mapping, Roles, Selection};
use super::records::{RecordFormat, text_key};
use super::row::{Row, Scalar};
use super::tally::Trouble;
use super::validate::Fault;
use crate::config::pipeline::IdSpec;

/// Reads records that are JSON objects.
#[derive(Default)]
pub(super) struct Json {
    seen: Seen,
}

/// Names met at one level of the record, as hashes: a field that is given twice has no single meaning.
#[derive(Default)]
struct Seen {
    hasher: std::hash::RandomState,
    names: HashSet<u64>,
}

impl RecordFormat for Json {
    fn read(
        &mut self,
        value: &[u8],
        _partition: &str,
        mapping: &Mapping,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Trouble> {
        self.seen.names.clear();
        let text = std::str::from_utf8(value).map_err(|_| Fault::decode("the record is not UTF-8 text"))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let mut fault = None;
        let walk =
            Walk { mapping, roles: &mapping.roles, seen: &mut self.seen, row, vectors, fault: &mut fault };
        let result = json.deserialize_map(walk).and_then(|()| json.end());
        match (fault, result) {
            (Some(fault), _) => Err(Trouble::Record(fault)),
            (None, Err(error)) => Err(Fault::decode(error.to_string()).into()),
            (None, Ok(())) => Ok(()),
        }
    }

    /// A key that is a JSON string gives its text, one that is an object gives the field at `map.id`,
    /// anything else is taken as UTF-8 text.
    fn key(&mut self, key: &[u8], mapping: &Mapping) -> Result<Scalar, Trouble> {
        if !matches!(key.first(), Some(b'"' | b'{')) {
            return Ok(text_key(key)?);
        }
        match (serde_json::from_slice::<serde_json::Value>(key), &mapping.id) {
            (Ok(serde_json::Value::String(text)), _) => Ok(Scalar::Text(text)),
            (Ok(object @ serde_json::Value::Object(_)), IdSpec::Field(path)) => {
                let found = path.segments().iter().try_fold(&object, |value, segment| value.get(segment));
                Ok(found.map_or(Scalar::Null, Scalar::of_json))
            }
            _ => Ok(text_key(key)?),
        }
    }
}

/// Walks the record's top level.
struct Walk<'a> {
    mapping: &'a Mapping,
    roles: &'a Roles,
    seen: &'a mut Seen,
    row: &'a mut Row,
    vectors: &'a mut Vec<f32>,
    /// What is wrong in our own words; serde only gets a stand-in that ends the parse.
    fault: &'a mut Option<Fault>,
}

impl Walk<'_> {
    fn refuse<E: de::Error>(&mut self, fault: Fault) -> E {
        *self.fault = Some(fault);
        E::custom("record refused")
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let hash = self.seen.hasher.hash_one(name.as_ref());
            if !self.seen.names.insert(hash) {
                return Err(self.refuse(Fault::decode(format!("field {name:?} is given twice"))));
            }
            let selection = self.mapping.payload.select(&name);
            match self.roles.below.get(name.as_ref()) {
                None if selection == Selection::Drop => {
                    map.next_value::<IgnoredAny>()?;
                }
                None => {
                    self.row.begin_field(&name, selection);
                    let raw: &RawValue = map.next_value()?;
                    if let Err(fault) =
                        append_compact(raw.get(), &mut self.row.payload).and_then(|()| self.row.check_size())
                    {
                        return Err(self.refuse(fault));
                    }
                }
                Some(roles) => {
                    let keep = self.row.begin_field(&name, selection);
                    let mut fault = None;
                    let seed = Field { roles, keep, row: self.row, vectors: self.vectors, fault: &mut fault };
                    let result = map.next_value_seed(seed);
                    if let Some(fault) = fault {
                        return Err(self.refuse(fault));
                    }
                    result?;
                    if let Err(fault) = self.row.check_size() {
                        return Err(self.refuse(fault));
                    }
                }
            }
        }
        Ok(())
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name;
impl<'de> DeserializeSeed<'de> for Name {
    type Value = std::borrow::Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = std::borrow::Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(text.into())
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(text.to_string().into())
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// One field that has a role, or fields with roles below it.
struct Field<'a> {
    roles: &'a Roles,
    /// Write it to the payload; its name is written already.
    keep: bool,
    row: &'a mut Row,
    vectors: &'a mut Vec<f32>,
    fault: &'a mut Option<Fault>,
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.roles.is_vector {
            self.row.has_vector = deserializer.deserialize_option(Floats(self.vectors))?;
            return Ok(());
        }
        if self.roles.below.is_empty() {
            let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?;
            return self.leaf(raw.get()).map_err(de::Error::custom);
        }
        deserializer.deserialize_any(self)
    }
}

impl Field<'_> {
    /// Captures a scalar from its text, which is copied to the payload where that keeps it.
    fn leaf(self, raw: &str) -> Result<(), serde_json::Error> {
        let is_container = matches!(raw.as_bytes().first(), Some(b'{' | b'['));
        let value = match is_container {
            true => Scalar::Other(if raw.starts_with('{') { "an object" } else { "an array" }),
            false => Scalar::of_json(&serde_json::from_str(raw)?),
        };
        self.row.capture(self.roles, value);
        if self.keep
            && let Err(fault) = append_compact(raw, &mut self.row.payload)
        {
            *self.fault = Some(fault);
        }
        Ok(())
    }

    fn scalar(self, value: &serde_json::Value) {
        self.row.capture(self.roles, Scalar::of_json(value));
        if self.keep {
            self.row.payload.extend_from_slice(value.to_string().as_bytes());
        }
    }
}

/// A field that should be an object, because paths lead into it. Where it is not, they lead nowhere.
impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(&serde_json::Value::Null);
        Ok(())
    }
    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.scalar(&value.into());
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.into());
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.into());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.scalar(&value.into());
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(&text.into());
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.row.capture(self.roles, Scalar::Other("an array"));
        if self.keep {
            self.row.payload.push(b'[');
        }
        let mut is_first = true;
        while let Some(raw) = items.next_element::<&RawValue>()? {
            if self.keep {
                if !is_first {
                    self.row.payload.push(b',');
                }
                append_compact(raw.get(), &mut self.row.payload)
                    .map_err(|fault| de::Error::custom(fault.reason))?;
            }
            is_first = false;
        }
        if self.keep {
            self.row.payload.push(b']');
        }
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.row.capture(self.roles, Scalar::Other("an object"));
        let mut names = HashSet::new();
        if self.keep {
            self.row.payload.push(b'{');
        }
        let mut is_first = true;
        while let Some(name) = map.next_key_seed(Name)? {
            if !names.insert(name.to_string()) {
                *self.fault = Some(Fault::decode(format!("field {name:?} is given twice")));
                return Err(de::Error::custom("record refused"));
            }
            let below = self.roles.below.get(name.as_ref());
            let keep = self.keep && !below.is_some_and(|roles| roles.is_vector);
            if keep {
                if !is_first {
                    self.row.payload.push(b',');
                }
                is_first = false;
                super::json_text::write_string(&name, &mut self.row.payload);
                self.row.payload.push(b':');
            }
            match below {
                Some(roles) => {
                    let seed = Field { roles, keep, row: self.row, vectors: self.vectors, fault: self.fault };
                    map.next_value_seed(seed)?;
                }
                None if keep => {
                    let raw: &RawValue = map.next_value()?;
                    append_compact(raw.get(), &mut self.row.payload)
                        .map_err(|fault| de::Error::custom(fault.reason))?;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if self.keep {
            self.row.payload.push(b'}');
        }
        Ok(())
    }
}

/// Appends an array of numbers; false for null.
struct Floats<'a>(&'a mut Vec<f32>);

impl<'de> Visitor<'de> for Floats<'_> {
    type Value = bool;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a vector as an array of numbers")
    }
    fn visit_none<E>(self) -> Result<bool, E> {
        Ok(false)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_seq(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<bool, A::Error> {
        // Parsed as f64 and rounded once; a number beyond f32 becomes infinite and is refused as such.
        while let Some(value) = items.next_element::<f64>()? {
            self.0.push(value as f32);
        }
        Ok(true)
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
