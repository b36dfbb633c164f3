//! Avro schemas as an arena of nodes: names resolved, recursion refused, sizes known.
use std::collections::HashMap;

use serde_json::{Map, Value};

use super::avro_cursor::Cursor;
use super::validate::Fault;
use crate::config::pipeline::TimeUnit;

/// Deepest nesting: the readers recurse.
const DEPTH_MAX: u32 = 64;
/// Most values in a record whose arrays are empty: named types that are used again and again can multiply
/// without bytes to bound them.
const WEIGHT_MAX: u64 = 100_000;

/// A node's place in [`AvroSchema::node`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(usize);

/// A type, with logical types where they change how a value is written as JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Null,
    Bool,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// Days since the Unix epoch.
    Date,
    /// An `int` or `long` since the Unix epoch.
    Timestamp(TimeUnit),
    /// Unscaled two's complement, big-endian; in `fixed` bytes where given.
    Decimal {
        scale: u32,
        fixed: Option<usize>,
    },
    Fixed(usize),
    /// 16 bytes.
    Uuid,
    Enum(Vec<String>),
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record(Vec<Field>),
}

/// A record's field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub node: NodeId,
}

/// A parsed schema.
#[derive(Debug, Clone)]
pub(crate) struct AvroSchema {
    nodes: Vec<Node>,
    bytes_min: Vec<u64>,
    root: NodeId,
}

/// Why a schema cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AvroSchemaError {
    #[error("the Avro schema is not JSON: {0}")]
    Json(String),
    #[error("the Avro schema names the unknown type {0:?}")]
    UnknownType(String),
    #[error("the Avro schema is recursive in {0:?}; recursive types cannot become a payload")]
    Recursive(String),
    #[error("the Avro schema is wrong: {0}")]
    Malformed(String),
    #[error("the Avro schema is too large: {0}")]
    TooLarge(&'static str),
}

impl AvroSchema {
    /// Parses a schema; `references` are the schemas of types that it names, in order of use.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, AvroSchemaError> {
        let mut parser = Parser::default();
        for reference in references {
            parser.text(reference)?;
        }
        let root = parser.text(text)?;
        let bytes_min = parser.costs.iter().map(|cost| cost.bytes_min).collect();
        Ok(Self { nodes: parser.nodes, bytes_min, root })
    }

    pub fn root(&self) -> NodeId {
        self.root
    }

    pub fn node(&self, id: NodeId) -> &Node {
        // Ids come from the parser of this very arena.
        self.nodes.get(id.0).unwrap_or(&Node::Null)
    }

    /// Fewest bytes of a value.
    pub fn bytes_min(&self, id: NodeId) -> u64 {
        self.bytes_min.get(id.0).copied().unwrap_or(0)
    }

    /// The type of the value at the cursor: steps into a union's branch.
    pub fn resolve(&self, mut id: NodeId, cursor: &mut Cursor<'_>) -> Result<NodeId, Fault> {
        // A union holds no union directly, so this loop runs once or twice.
        while let Node::Union(branches) = self.node(id) {
            id = branches[cursor.index(branches.len(), "a union's branch")?];
        }
        Ok(id)
    }

    /// Steps over a value.
    pub fn skip(&self, id: NodeId, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        match self.node(id) {
            Node::Null => {}
            Node::Bool => {
                cursor.boolean()?;
            }
            Node::Int | Node::Date => {
                cursor.int("an int")?;
            }
            Node::Long | Node::Timestamp(_) => {
                cursor.long("a long")?;
            }
            Node::Float => {
                cursor.take(4, "a float")?;
            }
            Node::Double => {
                cursor.take(8, "a double")?;
            }
            Node::Bytes | Node::String | Node::Decimal { fixed: None, .. } => {
                cursor.bytes("bytes")?;
            }
            Node::Fixed(size) | Node::Decimal { fixed: Some(size), .. } => {
                cursor.take(*size, "a fixed")?;
            }
            Node::Uuid => {
                cursor.take(16, "a uuid")?;
            }
            Node::Enum(symbols) => {
                cursor.index(symbols.len(), "an enum's symbol")?;
            }
            Node::Union(_) => {
                let branch = self.resolve(id, cursor)?;
                self.skip(branch, cursor)?;
            }
            Node::Record(fields) => {
                for field in fields {
                    self.skip(field.node, cursor)?;
                }
            }
            Node::Array(item) => self.skip_blocks(*item, false, cursor)?,
            Node::Map(value) => self.skip_blocks(*value, true, cursor)?,
        }
        Ok(())
    }

    fn skip_blocks(&self, item: NodeId, is_map: bool, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let bytes_min = self.bytes_min(item) + u64::from(is_map);
        loop {
            let block = cursor.block(bytes_min)?;
            match (block.count, block.bytes) {
                (0, None | Some(0)) => return Ok(()),
                (_, Some(bytes)) => {
                    cursor.take(bytes, "a block")?;
                }
                // Nothing to step over, however many.
                (_, None) if bytes_min == 0 && matches!(self.node(item), Node::Null) => {}
                (count, None) => {
                    for _ in 0..count {
                        if is_map {
                            cursor.bytes("a map's key")?;
                        }
                        self.skip(item, cursor)?;
                    }
                }
            }
        }
    }
}

/// What a node costs at least; kept while parsing so that limits hold before anything is read.
#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    bytes_min: u64,
    weight: u64,
    depth: u32,
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    costs: Vec<Cost>,
    /// Full names; `None` while the type is being parsed.
    names: HashMap<String, Option<NodeId>>,
}

fn malformed(words: impl Into<String>) -> AvroSchemaError {
    AvroSchemaError::Malformed(words.into())
}

impl Parser {
    fn text(&mut self, text: &str) -> Result<NodeId, AvroSchemaError> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| AvroSchemaError::Json(error.to_string()))?;
        self.schema(&json, "")
    }

    fn add(&mut self, node: Node) -> Result<NodeId, AvroSchemaError> {
        let cost = self.cost(&node);
        if cost.depth > DEPTH_MAX {
            return Err(AvroSchemaError::TooLarge("types are nested more than 64 levels deep"));
        }
        if cost.weight > WEIGHT_MAX {
            return Err(AvroSchemaError::TooLarge("a record would hold more than 100,000 values"));
        }
        self.nodes.push(node);
        self.costs.push(cost);
        Ok(NodeId(self.nodes.len() - 1))
    }

    fn cost(&self, node: &Node) -> Cost {
        let of = |id: &NodeId| self.costs.get(id.0).copied().unwrap_or_default();
        let leaf = |bytes_min: u64| Cost { bytes_min, weight: 1, depth: 1 };
        match node {
            Node::Null => leaf(0),
            Node::Bool | Node::Int | Node::Long | Node::Date | Node::Timestamp(_) | Node::Enum(_) => leaf(1),
            Node::Bytes | Node::String | Node::Decimal { fixed: None, .. } => leaf(1),
            Node::Float => leaf(4),
            Node::Double => leaf(8),
            Node::Fixed(size) | Node::Decimal { fixed: Some(size), .. } => leaf(*size as u64),
            Node::Uuid => leaf(16),
            Node::Array(item) | Node::Map(item) => {
                let item = of(item);
                Cost { bytes_min: 1, weight: item.weight.saturating_add(1), depth: item.depth + 1 }
            }
            Node::Union(branches) => branches.iter().map(of).fold(leaf(u64::MAX), |sum, branch| Cost {
                bytes_min: sum.bytes_min.min(branch.bytes_min.saturating_add(1)),
                weight: sum.weight.max(branch.weight),
                depth: sum.depth.max(branch.depth + 1),
            }),
            Node::Record(fields) => {
                fields.iter().map(|field| of(&field.node)).fold(leaf(0), |sum, field| Cost {
                    bytes_min: sum.bytes_min.saturating_add(field.bytes_min),
                    weight: sum.weight.saturating_add(field.weight),
                    depth: sum.depth.max(field.depth + 1),
                })
            }
        }
    }

    fn schema(&mut self, json: &Value, namespace: &str) -> Result<NodeId, AvroSchemaError> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                if branches.is_empty() {
                    return Err(malformed("a union has no branch"));
                }
                let ids: Result<Vec<_>, _> =
                    branches.iter().map(|branch| self.schema(branch, namespace)).collect();
                let ids = ids?;
                if ids.iter().any(|id| matches!(self.nodes.get(id.0), Some(Node::Union(_)))) {
                    return Err(malformed("a union holds a union"));
                }
                self.add(Node::Union(ids))
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(malformed(format!("{other} is no type"))),
        }
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, AvroSchemaError> {
        let primitive = match name {
            "null" => Node::Null,
            "boolean" => Node::Bool,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            _ => {
                let full = full_name(name, namespace);
                // A name without a namespace of its own may also stand for one in the null namespace.
                let found = self.names.get(&full).or_else(|| self.names.get(name));
                return match found {
                    Some(Some(id)) => Ok(*id),
                    Some(None) => Err(AvroSchemaError::Recursive(full)),
                    None => Err(AvroSchemaError::UnknownType(full)),
                };
            }
        };
        self.add(primitive)
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<NodeId, AvroSchemaError> {
        let kind = match object.get("type") {
            Some(Value::String(kind)) => kind.as_str(),
            // {"type": {"type": …}} and {"type": [..]}: a wrapped type.
            Some(inner) => return self.schema(inner, namespace),
            None => return Err(malformed("a type has no \"type\"")),
        };
        let logical = object.get("logicalType").and_then(Value::as_str).unwrap_or("");
        let inner =
            |key: &str| object.get(key).ok_or_else(|| malformed(format!("a type {kind} has no \"{key}\"")));
        match kind {
            "array" => {
                let item = self.schema(inner("items")?, namespace)?;
                self.add(Node::Array(item))
            }
            "map" => {
                let value = self.schema(inner("values")?, namespace)?;
                self.add(Node::Map(value))
            }
            "record" | "error" => {
                let fields = inner("fields")?.as_array().ok_or_else(|| malformed("\"fields\" is no list"))?;
                let (full, namespace) = self.open(object, namespace)?;
                let mut parsed = Vec::with_capacity(fields.len());
                for field in fields {
                    let name = field.get("name").and_then(Value::as_str);
                    let name =
                        name.ok_or_else(|| malformed(format!("a field of {full} has no name")))?.to_string();
                    let kind =
                        field.get("type").ok_or_else(|| malformed(format!("field {name} has no type")))?;
                    parsed.push(Field { name, node: self.schema(kind, &namespace)? });
                }
                self.close(full, Node::Record(parsed))
            }
            "enum" => {
                let symbols =
                    inner("symbols")?.as_array().ok_or_else(|| malformed("\"symbols\" is no list"))?;
                let symbols: Option<Vec<_>> =
                    symbols.iter().map(|symbol| symbol.as_str().map(str::to_string)).collect();
                let symbols = symbols.ok_or_else(|| malformed("a symbol is no text"))?;
                let (full, _) = self.open(object, namespace)?;
                self.close(full, Node::Enum(symbols))
            }
            "fixed" => {
                let size = inner("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| malformed("a fixed's size is no number"))?;
                let (full, _) = self.open(object, namespace)?;
                let node = match logical {
                    "decimal" => Node::Decimal { scale: scale(object)?, fixed: Some(size) },
                    "uuid" if size == 16 => Node::Uuid,
                    _ => Node::Fixed(size),
                };
                self.close(full, node)
            }
            _ => {
                let node = match (kind, logical) {
                    ("int", "date") => Node::Date,
                    ("long", "timestamp-millis" | "local-timestamp-millis") => Node::Timestamp(TimeUnit::Ms),
                    ("long", "timestamp-micros" | "local-timestamp-micros") => Node::Timestamp(TimeUnit::Us),
                    ("long", "timestamp-nanos" | "local-timestamp-nanos") => Node::Timestamp(TimeUnit::Ns),
                    ("bytes", "decimal") => Node::Decimal { scale: scale(object)?, fixed: None },
                    _ => return self.named(kind, namespace),
                };
                self.add(node)
            }
        }
    }

    /// Marks a named type as being parsed; its full name, and the namespace inside it.
    fn open(
        &mut self,
        object: &Map<String, Value>,
        outer: &str,
    ) -> Result<(String, String), AvroSchemaError> {
        let name = object
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| malformed("a named type has no name"))?;
        let given = object.get("namespace").and_then(Value::as_str);
        let full = full_name(name, given.unwrap_or(outer));
        let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_string();
        if self.names.insert(full.clone(), None).is_some() {
            return Err(malformed(format!("{full} is defined twice")));
        }
        Ok((full, namespace))
    }

    fn close(&mut self, full: String, node: Node) -> Result<NodeId, AvroSchemaError> {
        let id = self.add(node)?;
        self.names.insert(full, Some(id));
        Ok(id)
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_string() } else { format!("{namespace}.{name}") }
}

fn scale(object: &Map<String, Value>) -> Result<u32, AvroSchemaError> {
    match object.get("scale") {
        None => Ok(0),
        Some(scale) => scale
            .as_u64()
            .and_then(|scale| u32::try_from(scale).ok())
            .filter(|scale| *scale <= 1000)
            .ok_or_else(|| malformed(format!("a decimal's scale is {scale}"))),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        AvroSchema::parse(text, &[]).unwrap_err().to_string()
    }

    #[test]
    fn names_are_resolved_in_their_namespaces_and_references() {
        let schema = AvroSchema::parse(
            r#"{"type":"record","name":"a.R","fields":[
                {"name":"x","type":{"type":"fixed","name":"F","size":8}},
                {"name":"y","type":["null","F","a.F2"]},
                {"name":"z","type":{"type":"array","items":"b.Color"}}]}"#
                .replace("\"a.F2\"", "{\"type\":\"enum\",\"name\":\"E\",\"symbols\":[\"A\"]}")
                .as_str(),
            &[r#"{"type":"enum","name":"Color","namespace":"b","symbols":["RED"]}"#.to_string()],
        )
        .unwrap();
        assert!(matches!(schema.node(schema.root()), Node::Record(fields) if fields.len() == 3));
        assert_eq!(schema.bytes_min(schema.root()), 8 + 1 + 1);
    }

    #[test]
    fn schemas_that_cannot_be_bounded_are_refused() {
        let recursive = r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#;
        assert!(error(recursive).contains("recursive in \"N\""));
        assert!(error("\"Nope\"").contains("unknown type \"Nope\""));
        assert!(error("{").contains("not JSON"));
        assert!(error("[[\"null\"]]").contains("union holds a union"));
        let mut fields =
            vec![r#"{"name":"f0","type":{"type":"record","name":"R0","fields":[]}}"#.to_string()];
        for level in 1..40 {
            let below = format!("R{}", level - 1);
            fields.push(format!(
                r#"{{"name":"f{level}","type":{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":"{below}"}},{{"name":"b","type":"{below}"}}]}}}}"#
            ));
        }
        let bomb = format!(r#"{{"type":"record","name":"T","fields":[{}]}}"#, fields.join(","));
        assert!(error(&bomb).contains("too large"));
    }
}
