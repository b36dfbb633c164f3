//! `map`: which parts of a record become id, vector, time and payload.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::FieldPath;

/// Which parts of a record become id, vector, time and payload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MapSpec {
    /// The point's id.
    pub id: IdSpec,
    /// The point's vector.
    pub vector: VectorSpec,
    /// When the event happened. Default: the record's own timestamp, else the time of decoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_time: Option<EventTimeSpec>,
    /// Which fields become the payload. Default: every top-level field but those of id and vector.
    #[serde(default)]
    pub payload: PayloadSpec,
    /// Which records delete their point. Default: none, and a null value is a failed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_when: Option<DeleteWhen>,
}

/// The point's id: a field, the record's key, or the record's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdSpec {
    /// `$.sku`: a field that holds text or an unsigned integer.
    Field(FieldPath),
    /// `$key`: the record's key.
    Key,
    /// `{uuid5: position}`: a UUID made from pipeline, partition, epoch and position; the same record always
    /// gets the same id.
    Uuid5Position,
}

/// The point's vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VectorSpec {
    /// The field: an array of numbers, or in Avro also bytes or fixed that hold little-endian 32-bit floats,
    /// which are several times cheaper to read.
    pub field: FieldPath,
    /// Components. Records with another number fail.
    pub dim: u32,
}

/// When the event happened: `$.field`, or `{field: $.field, unit: s}`.
///
/// RFC 3339 text and typed timestamps (Avro, Parquet) are taken as they are. A plain integer is in `unit`,
/// never guessed from its size: a guess would be wrong for old and far events without anybody noticing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTimeSpec {
    /// The field.
    pub field: FieldPath,
    /// What a plain integer counts. Default `ms`.
    pub unit: TimeUnit,
}

/// What an integer time counts since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// Seconds.
    S,
    /// Milliseconds.
    #[default]
    Ms,
    /// Microseconds.
    Us,
    /// Nanoseconds.
    Ns,
}

impl TimeUnit {
    /// Milliseconds in one of it.
    pub fn ms(self) -> f64 {
        match self {
            Self::S => 1e3,
            Self::Ms => 1.0,
            Self::Us => 1e-3,
            Self::Ns => 1e-6,
        }
    }

    /// `value` of this unit as milliseconds, rounded down; `None` where it does not fit.
    pub fn to_ms(self, value: i64) -> Option<i64> {
        match self {
            Self::S => value.checked_mul(1000),
            Self::Ms => Some(value),
            Self::Us => Some(value.div_euclid(1000)),
            Self::Ns => Some(value.div_euclid(1_000_000)),
        }
    }
}

/// Which fields become the payload: names of top-level fields.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PayloadSpec {
    /// Only these, and those in `rename`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// All but these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Name in the record → name in the payload. A renamed field is included; a field that has the new name
    /// already gives way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<String, String>,
}

/// Which records delete their point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum DeleteWhen {
    /// A null value deletes the point that the record's key names.
    Tombstone,
    /// A field with a certain value deletes the point that the record's id names; a null value deletes by key
    /// as well.
    Equals {
        /// The field.
        field: FieldPath,
        /// Text, an integer or a boolean.
        value: serde_json::Value,
    },
}

/// A step between mapping and writing. A closed set: what is not listed is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum TransformSpec {
    /// Puts a constant into every payload, in place of a field of that name.
    Constant {
        /// The payload field.
        field: String,
        /// Any value.
        value: serde_json::Value,
    },
}

/// The name under which the record's key serves as id.
const KEY_WORD: &str = "$key";
const ID_FORM: &str = "a field path such as $.sku, $key, or {uuid5: position}";

impl Serialize for IdSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Field(path) => path.serialize(serializer),
            Self::Key => serializer.serialize_str(KEY_WORD),
            Self::Uuid5Position => BTreeMap::from([("uuid5", "position")]).serialize(serializer),
        }
    }
}
impl<'de> Deserialize<'de> for IdSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Made {
            uuid5: From,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum From {
            Position,
        }
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = IdSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(ID_FORM)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<IdSpec, E> {
                match text {
                    KEY_WORD => Ok(IdSpec::Key),
                    _ => text.parse().map(IdSpec::Field).map_err(E::custom),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<IdSpec, A::Error> {
                let Made { uuid5: From::Position } = Made::deserialize(MapAccessDeserializer::new(map))?;
                Ok(IdSpec::Uuid5Position)
            }
        }
        deserializer.deserialize_any(Form)
    }
}
impl JsonSchema for IdSpec {
    fn schema_name() -> Cow<'static, str> {
        "Id".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let path = generator.subschema_for::<FieldPath>();
        json_schema!({
            "description": "The point's id: a field path such as $.sku, $key (the record's key), or {uuid5: position}.",
            "oneOf": [
                path,
                {"const": KEY_WORD},
                {
                    "type": "object",
                    "properties": {"uuid5": {"const": "position"}},
                    "required": ["uuid5"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// The long form of [`EventTimeSpec`].
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EventTimeFields {
    /// The field.
    field: FieldPath,
    /// What a plain integer counts. Default `ms`.
    #[serde(default)]
    unit: TimeUnit,
}

impl Serialize for EventTimeSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.unit {
            TimeUnit::Ms => self.field.serialize(serializer),
            unit => EventTimeFields { field: self.field.clone(), unit }.serialize(serializer),
        }
    }
}
impl<'de> Deserialize<'de> for EventTimeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = EventTimeSpec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field path such as $.updated_at, or {field: $.updated_at, unit: s}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<EventTimeSpec, E> {
                let field = text.parse().map_err(E::custom)?;
                Ok(EventTimeSpec { field, unit: TimeUnit::Ms })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EventTimeSpec, A::Error> {
                let EventTimeFields { field, unit } =
                    EventTimeFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(EventTimeSpec { field, unit })
            }
        }
        deserializer.deserialize_any(Form)
    }
}
impl JsonSchema for EventTimeSpec {
    fn schema_name() -> Cow<'static, str> {
        "EventTime".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (path, fields) =
            (generator.subschema_for::<FieldPath>(), generator.subschema_for::<EventTimeFields>());
        json_schema!({
            "description": "When the event happened: a field path, or {field, unit} where plain integers don't count milliseconds.",
            "oneOf": [path, fields],
        })
    }
}
