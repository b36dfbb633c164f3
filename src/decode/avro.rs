//! Avro records: Confluent's framing, or one schema for all, or a container file's own.
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::avro_container::{ContainerError, read_header};
use super::avro_cursor::Cursor;
use super::avro_plan::{Plan, scalar};
use super::avro_schema::{AvroSchema, Node};
use super::mapping::Mapping;
use super::records::{RecordFormat, text_key};
use super::registry::{SchemaFailure, SchemaSource};
use super::row::{Row, Scalar};
use super::tally::Trouble;
use super::validate::{Fault, FaultCode};
use super::{BuildError, DecodeError};
use crate::config::pipeline::{IdSpec, OnUnknownSchema};

/// Bytes before a framed record: a zero and the schema's id.
const FRAME_BYTES: usize = 5;
/// Schemas kept; a topic has a handful, so more means broken frames.
const SCHEMAS_MAX: usize = 1024;

/// Reads records framed with their schema's id.
pub(super) struct Framed {
    schemas: Arc<dyn SchemaSource>,
    on_unknown: OnUnknownSchema,
    /// Plans, or why there is none.
    plans: HashMap<u32, Result<Plan, String>>,
    keys: HashMap<u32, Result<AvroSchema, String>>,
}

impl Framed {
    pub fn new(schemas: Arc<dyn SchemaSource>, on_unknown: OnUnknownSchema) -> Self {
        Self { schemas, on_unknown, plans: HashMap::new(), keys: HashMap::new() }
    }

    /// The schema, or why it cannot be used. Trouble that may pass is not kept.
    fn schema(&self, id: u32) -> Result<Result<AvroSchema, String>, Trouble> {
        match self.schemas.schema(id) {
            Ok(text) => {
                Ok(AvroSchema::parse(&text.schema, &text.references).map_err(|error| error.to_string()))
            }
            Err(SchemaFailure::Unusable { reason }) => Ok(Err(reason)),
            Err(SchemaFailure::Unavailable { registry, reason }) => {
                Err(DecodeError::SchemaUnavailable { schema_id: id, registry, reason }.into())
            }
            Err(SchemaFailure::Unknown { registry }) => match self.on_unknown {
                OnUnknownSchema::Retry => {
                    let reason =
                        "it does not know this id, and errors.schema_unknown says to wait: register \
                                  the schema, or set `schema_unknown: quarantine`"
                            .to_string();
                    Err(DecodeError::SchemaUnavailable { schema_id: id, registry, reason }.into())
                }
                OnUnknownSchema::Quarantine => {
                    let reason = format!("the registry {registry} does not know schema {id}");
                    Err(Fault::new(FaultCode::UnknownSchema, reason).into())
                }
            },
        }
    }
}

impl RecordFormat for Framed {
    fn read(
        &mut self,
        value: &[u8],
        _partition: &str,
        mapping: &Mapping,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Trouble> {
        let (id, body) = unframe(value)?;
        if !self.plans.contains_key(&id) {
            let plan = self.schema(id)?.and_then(|schema| Plan::compile(schema, mapping));
            if self.plans.len() >= SCHEMAS_MAX {
                self.plans.clear();
            }
            self.plans.insert(id, plan);
        }
        match self.plans.get(&id) {
            Some(Ok(plan)) => plan.read(body, row, vectors).map_err(|fault| with_schema(fault, id).into()),
            Some(Err(reason)) => Err(Fault::decode(format!("schema {id}: {reason}")).into()),
            None => Err(Fault::decode(format!("schema {id} has no plan")).into()),
        }
    }

    /// A key that is framed is decoded by its schema: its own value, or its field at `map.id`. Any other is
    /// UTF-8 text.
    fn key(&mut self, key: &[u8], mapping: &Mapping) -> Result<Scalar, Trouble> {
        if key.first() != Some(&0) || key.len() < FRAME_BYTES {
            return Ok(text_key(key)?);
        }
        let (id, body) = unframe(key)?;
        if !self.keys.contains_key(&id) {
            let schema = self.schema(id)?;
            if self.keys.len() >= SCHEMAS_MAX {
                self.keys.clear();
            }
            self.keys.insert(id, schema);
        }
        match self.keys.get(&id) {
            Some(Ok(schema)) => {
                key_value(schema, body, mapping).map_err(|fault| with_schema(fault, id).into())
            }
            Some(Err(reason)) => Err(Fault::decode(format!("the key's schema {id}: {reason}")).into()),
            None => Err(Fault::decode(format!("the key's schema {id} is missing")).into()),
        }
    }
}

fn with_schema(fault: Fault, id: u32) -> Fault {
    Fault { reason: format!("schema {id}: {}", fault.reason), ..fault }
}

fn unframe(value: &[u8]) -> Result<(u32, &[u8]), Fault> {
    let bad = |reason: String| Fault::new(FaultCode::BadFraming, reason);
    match value {
        [0, a, b, c, d, body @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), body)),
        [0, ..] => Err(bad(format!("the record has {} bytes; a frame alone has {FRAME_BYTES}", value.len()))),
        [] => Err(bad("the record is empty; a frame was expected".to_string())),
        [b'{', ..] => {
            Err(bad("the record begins with '{': it looks like JSON, not like framed Avro".to_string()))
        }
        [first, ..] => Err(bad(format!("the record begins with byte {first:#04x}, not with a frame's zero"))),
    }
}

/// The id in an Avro key: the value itself, or the field that has the name of the id's field, or a record's
/// only field.
fn key_value(schema: &AvroSchema, body: &[u8], mapping: &Mapping) -> Result<Scalar, Fault> {
    let mut cursor = Cursor::new(body);
    let node = schema.resolve(schema.root(), &mut cursor)?;
    let Node::Record(fields) = schema.node(node) else {
        let value = scalar(schema, node, &mut cursor)?;
        cursor.end()?;
        return Ok(value);
    };
    let wanted = match &mapping.id {
        IdSpec::Field(path) => path.segments().last().map(String::as_str),
        _ => None,
    };
    let mut found = Scalar::Null;
    for field in fields {
        if fields.len() == 1 || Some(field.name.as_str()) == wanted {
            found = scalar(schema, field.node, &mut cursor)?;
        } else {
            schema.skip(field.node, &mut cursor)?;
        }
    }
    cursor.end()?;
    Ok(found)
}

/// Reads records that were all written with one schema.
pub(super) struct Unframed {
    plan: Plan,
}

impl Unframed {
    pub fn new(path: &Path, mapping: &Mapping) -> Result<Self, BuildError> {
        let schema = |reason: String| BuildError::Schema { path: path.to_path_buf(), reason };
        let text = std::fs::read_to_string(path).map_err(|error| schema(error.to_string()))?;
        let parsed = AvroSchema::parse(&text, &[]).map_err(|error| schema(error.to_string()))?;
        Ok(Self { plan: Plan::compile(parsed, mapping).map_err(schema)? })
    }
}

impl RecordFormat for Unframed {
    fn read(
        &mut self,
        value: &[u8],
        _partition: &str,
        _mapping: &Mapping,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Trouble> {
        Ok(self.plan.read(value, row, vectors)?)
    }

    fn key(&mut self, key: &[u8], _mapping: &Mapping) -> Result<Scalar, Trouble> {
        Ok(text_key(key)?)
    }
}

/// Reads records of container files; each file's header holds the schema of its records.
#[derive(Default)]
pub(super) struct Container {
    plans: HashMap<String, Result<Plan, String>>,
}

impl RecordFormat for Container {
    fn read(
        &mut self,
        value: &[u8],
        partition: &str,
        mapping: &Mapping,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Trouble> {
        if !self.plans.contains_key(partition) {
            let plan = match read_header(Path::new(partition)) {
                Ok(header) => Plan::compile(header.schema, mapping),
                // The file may be back in a moment: no reason to reject its records.
                Err(ContainerError::Io { source, .. }) => {
                    let (registry, reason) = (partition.to_string(), source.to_string());
                    return Err(DecodeError::SchemaUnavailable { schema_id: 0, registry, reason }.into());
                }
                Err(error) => Err(error.to_string()),
            };
            if self.plans.len() >= SCHEMAS_MAX {
                self.plans.clear();
            }
            self.plans.insert(partition.to_string(), plan);
        }
        match self.plans.get(partition) {
            Some(Ok(plan)) => Ok(plan.read(value, row, vectors)?),
            Some(Err(reason)) => Err(Fault::decode(reason.clone()).into()),
            None => Err(Fault::decode("the file has no plan").into()),
        }
    }

    fn key(&mut self, key: &[u8], _mapping: &Mapping) -> Result<Scalar, Trouble> {
        Ok(text_key(key)?)
    }
}

#[cfg(test)]
#[path = "avro_tests.rs"]
mod tests;
