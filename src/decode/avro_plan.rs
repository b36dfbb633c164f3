//! A decode plan: writer schema × mapping, compiled once per schema id.
//!
//! ```text
//!   writer schema ─┐
//!                  ├─▶ steps in the order of the fields: skip · emit as JSON · capture · vector · walk into
//!   mapping ───────┘
//! ```
//! I1 a record is read front to back once. I2 it must take exactly its bytes: a record that ends early or
//! goes on is refused, so a torn message never becomes a point. I3 nothing is allocated that the record's own
//! bytes don't pay for. I4 floats are copied by the block.
use super::avro_cursor::{Block, Cursor};
use super::avro_schema::{AvroSchema, Node, NodeId};
use super::avro_text::{decimal, emit};
use super::mapping::{Mapping, Roles, Selection, name_prefix};
use super::row::{Row, Scalar};
use super::validate::Fault;

/// How records of one writer schema are read.
#[derive(Debug)]
pub(super) struct Plan {
    schema: AvroSchema,
    root: Walk,
}

/// The fields of a record, or of each record that a union may hold.
#[derive(Debug)]
struct Walk {
    records: Vec<(NodeId, Vec<Step>)>,
}

/// One field.
#[derive(Debug)]
struct Step {
    node: NodeId,
    /// `"name":` in the payload; `None` leaves it out.
    name: Option<Vec<u8>>,
    action: Action,
}

#[derive(Debug)]
enum Action {
    /// Nothing but the payload wants it.
    Plain,
    /// It is id, time or delete mark.
    Capture { is_id: bool, is_time: bool, is_delete: bool },
    /// It is the vector.
    Vector,
    /// Something inside it has a role.
    Into(Walk),
}

impl Plan {
    /// Compiles a plan; paths that the schema lacks are no error: a record then misses its id or vector, and
    /// says so.
    pub fn compile(schema: AvroSchema, mapping: &Mapping) -> Result<Self, String> {
        let root =
            walk(&schema, schema.root(), &mapping.roles, &|name| match mapping.payload.select(name) {
                Selection::Drop => None,
                Selection::Keep => Some(name_prefix(name)),
                Selection::Rename(prefix) => Some(prefix.to_vec()),
            })?;
        if root.records.is_empty() {
            return Err("the Avro schema is not a record".to_string());
        }
        Ok(Self { schema, root })
    }

    /// Reads one record.
    pub fn read(&self, bytes: &[u8], row: &mut Row, vectors: &mut Vec<f32>) -> Result<(), Fault> {
        let mut cursor = Cursor::new(bytes);
        let node = self.schema.resolve(self.schema.root(), &mut cursor)?;
        match self.root.steps(node) {
            Some(steps) => self.fields(steps, &mut cursor, row, vectors)?,
            None => return Err(cursor.wrong("the record is null or of a type that is not a record")),
        }
        cursor.end()
    }

    fn fields(
        &self,
        steps: &[Step],
        cursor: &mut Cursor<'_>,
        row: &mut Row,
        vectors: &mut Vec<f32>,
    ) -> Result<(), Fault> {
        for step in steps {
            match &step.action {
                Action::Plain => self.plain(step, cursor, row)?,
                Action::Capture { is_id, is_time, is_delete } => {
                    let mut ahead = *cursor;
                    let value = scalar(&self.schema, step.node, &mut ahead)?;
                    if *is_time {
                        row.time = Some(value.clone());
                    }
                    if *is_delete {
                        row.delete = Some(value.clone());
                    }
                    if *is_id {
                        row.id = Some(value);
                    }
                    match step.name {
                        Some(_) => self.plain(step, cursor, row)?,
                        None => *cursor = ahead,
                    }
                }
                Action::Vector => row.has_vector = vector(&self.schema, step.node, cursor, vectors)?,
                Action::Into(walk) => {
                    let mut ahead = *cursor;
                    let node = self.schema.resolve(step.node, &mut ahead)?;
                    let Some(steps) = walk.steps(node) else {
                        self.plain(step, cursor, row)?;
                        continue;
                    };
                    *cursor = ahead;
                    match &step.name {
                        None => self.fields(steps, cursor, row, vectors)?,
                        Some(name) => {
                            begin(name, &mut row.payload);
                            row.payload.push(b'{');
                            self.fields(steps, cursor, row, vectors)?;
                            row.payload.push(b'}');
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn plain(&self, step: &Step, cursor: &mut Cursor<'_>, row: &mut Row) -> Result<(), Fault> {
        match &step.name {
            None => self.schema.skip(step.node, cursor),
            Some(name) => {
                begin(name, &mut row.payload);
                emit(&self.schema, step.node, cursor, &mut row.payload)
            }
        }
    }
}

impl Walk {
    fn steps(&self, node: NodeId) -> Option<&[Step]> {
        self.records.iter().find(|(record, _)| *record == node).map(|(_, steps)| steps.as_slice())
    }
}

/// A comma where a field precedes in the same object, and the name.
fn begin(name: &[u8], payload: &mut Vec<u8>) {
    if payload.last().is_some_and(|byte| *byte != b'{') {
        payload.push(b',');
    }
    payload.extend_from_slice(name);
}

type Naming<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

fn walk(schema: &AvroSchema, node: NodeId, roles: &Roles, naming: Naming<'_>) -> Result<Walk, String> {
    let candidates = match schema.node(node) {
        Node::Union(branches) => branches.clone(),
        _ => vec![node],
    };
    let mut records = Vec::new();
    for candidate in candidates {
        match schema.node(candidate) {
            Node::Record(fields) => {
                let steps: Result<Vec<_>, String> =
                    fields.iter().map(|field| step(schema, &field.name, field.node, roles, naming)).collect();
                records.push((candidate, steps?));
            }
            Node::Map(_) => {
                let inside: Vec<_> = roles.below.keys().map(String::as_str).collect();
                return Err(format!(
                    "a path of the pipeline's map leads into an Avro map, to {}; only records have fields",
                    inside.join(", ")
                ));
            }
            _ => {}
        }
    }
    Ok(Walk { records })
}

fn step(
    schema: &AvroSchema,
    name: &str,
    node: NodeId,
    roles: &Roles,
    naming: Naming<'_>,
) -> Result<Step, String> {
    let Some(roles) = roles.below.get(name) else {
        return Ok(Step { node, name: naming(name), action: Action::Plain });
    };
    if roles.is_vector {
        return Ok(Step { node, name: None, action: Action::Vector });
    }
    let action = if roles.below.is_empty() {
        Action::Capture { is_id: roles.is_id, is_time: roles.is_time, is_delete: roles.is_delete }
    } else {
        Action::Into(walk(schema, node, roles, &|name| Some(name_prefix(name)))?)
    };
    Ok(Step { node, name: naming(name), action })
}

/// The value at the cursor as id, time or delete mark.
pub(super) fn scalar(schema: &AvroSchema, id: NodeId, cursor: &mut Cursor<'_>) -> Result<Scalar, Fault> {
    let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => Scalar::Text(text.to_string()),
        Err(_) => Scalar::Other("bytes that are not UTF-8"),
    };
    let id = schema.resolve(id, cursor)?;
    Ok(match schema.node(id) {
        Node::Null | Node::Union(_) => Scalar::Null,
        Node::Bool => Scalar::Bool(cursor.boolean()?),
        Node::Int => Scalar::Int(cursor.int("an int")?.into()),
        Node::Long => Scalar::Int(cursor.long("a long")?),
        Node::Float => Scalar::Float(cursor.float()?.into()),
        Node::Double => Scalar::Float(cursor.double()?),
        Node::String => Scalar::Text(cursor.string()?.to_string()),
        Node::Bytes => text(cursor.bytes("bytes")?),
        Node::Fixed(size) => text(cursor.take(*size, "a fixed")?),
        Node::Uuid => Scalar::Text(uuid::Uuid::from_bytes(cursor.array("a uuid")?).to_string()),
        Node::Enum(symbols) => {
            Scalar::Text(symbols[cursor.index(symbols.len(), "an enum's symbol")?].clone())
        }
        Node::Date => Scalar::TimeMs(i64::from(cursor.int("a date")?) * 86_400_000),
        Node::Timestamp(unit) => match unit.to_ms(cursor.long("a timestamp")?) {
            Some(ms) => Scalar::TimeMs(ms),
            None => Scalar::Other("a time out of range"),
        },
        Node::Decimal { scale, fixed } => {
            let bytes = match fixed {
                Some(size) => cursor.take(*size, "a decimal")?,
                None => cursor.bytes("a decimal")?,
            };
            Scalar::Text(decimal(bytes, *scale)?)
        }
        node @ (Node::Array(_) | Node::Map(_) | Node::Record(_)) => {
            let words = match node {
                Node::Array(_) => "an array",
                Node::Map(_) => "a map",
                _ => "a record",
            };
            schema.skip(id, cursor)?;
            Scalar::Other(words)
        }
    })
}

/// Appends the vector at the cursor; false where it is null.
fn vector(
    schema: &AvroSchema,
    id: NodeId,
    cursor: &mut Cursor<'_>,
    out: &mut Vec<f32>,
) -> Result<bool, Fault> {
    let id = schema.resolve(id, cursor)?;
    match schema.node(id) {
        Node::Null => return Ok(false),
        Node::Bytes => floats(cursor.bytes("a vector")?, cursor, out)?,
        Node::Fixed(size) => floats(cursor.take(*size, "a vector")?, cursor, out)?,
        Node::Array(item) => loop {
            let block = cursor.block(schema.bytes_min(*item).max(1))?;
            let start = cursor.position();
            components(schema, *item, block, cursor, out)?;
            cursor.end_block(block, start)?;
            if block.count == 0 {
                break;
            }
        },
        _ => return Err(cursor.wrong("the vector's field is no array of numbers, bytes or fixed")),
    }
    Ok(true)
}

/// One block of a vector.
fn components(
    schema: &AvroSchema,
    item: NodeId,
    block: Block,
    cursor: &mut Cursor<'_>,
    out: &mut Vec<f32>,
) -> Result<(), Fault> {
    // The block's head was checked: count × the item's size fits what is left.
    let count = usize::try_from(block.count).map_err(|_| cursor.wrong("a vector is too long"))?;
    match schema.node(item) {
        Node::Float => floats(cursor.take(count.saturating_mul(4), "a vector")?, cursor, out)?,
        Node::Double => {
            let bytes = cursor.take(count.saturating_mul(8), "a vector")?;
            out.extend(bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk) as f32));
        }
        _ => {
            for _ in 0..count {
                out.push(component(schema, item, cursor)?);
            }
        }
    }
    Ok(())
}

fn component(schema: &AvroSchema, item: NodeId, cursor: &mut Cursor<'_>) -> Result<f32, Fault> {
    let item = schema.resolve(item, cursor)?;
    match schema.node(item) {
        Node::Float => cursor.float(),
        Node::Double => Ok(cursor.double()? as f32),
        Node::Int => Ok(cursor.int("a component")? as f32),
        Node::Long => Ok(cursor.long("a component")? as f32),
        _ => Err(cursor.wrong("a component of the vector is no number")),
    }
}

/// Appends little-endian 32-bit floats.
fn floats(bytes: &[u8], cursor: &Cursor<'_>, out: &mut Vec<f32>) -> Result<(), Fault> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(cursor.wrong(&format!("a vector of {} bytes is not made of 32-bit floats", bytes.len())));
    }
    out.extend(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)));
    Ok(())
}

#[cfg(test)]
#[path = "avro_plan_tests.rs"]
mod tests;
