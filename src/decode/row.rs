//! One record's row while it is read, and the step from there to an operation.
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::mapping::{DeleteRule, Mapping, Selection};
use super::validate::{Fault, FaultCode, PAYLOAD_BYTES_MAX, settle_vector};
use crate::config::pipeline::{IdSpec, parse_rfc3339_ms};
use crate::types::{Expect, Op, OpKind, PointId, Position, WriteBatch};

/// Namespace of the ids that are made from positions. Never change it: a record read again must get the id
/// that it got before.
const POSITION_NAMESPACE: Uuid = Uuid::from_u128(0x6d1a_1e0c_58f4_4c0b_9b52_7a1d_2f63_c0de);

/// A value that serves as id, time or delete mark.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Text(String),
    Int(i64),
    UInt(u64),
    Float(f64),
    Bool(bool),
    /// A value whose type says that it is a time, milliseconds since the Unix epoch.
    TimeMs(i64),
    /// Anything else, in words.
    Other(&'static str),
}

impl Scalar {
    pub fn of_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
                (Some(value), _, _) => Self::Int(value),
                (_, Some(value), _) => Self::UInt(value),
                (_, _, Some(value)) => Self::Float(value),
                _ => Self::Other("a number out of range"),
            },
            Value::Array(_) => Self::Other("an array"),
            Value::Object(_) => Self::Other("an object"),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Null => "null".to_string(),
            Self::Text(text) => format!("the text {:?}", text.chars().take(64).collect::<String>()),
            Self::Int(value) => format!("the number {value}"),
            Self::UInt(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Bool(value) => format!("{value}"),
            Self::TimeMs(_) => "a time".to_string(),
            Self::Other(words) => (*words).to_string(),
        }
    }
}

/// Where a record stands, for ids made from positions and for times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub partition: &'a str,
    pub epoch: u64,
    pub position: Position,
    pub timestamp_ms: Option<i64>,
}

/// What a format has read of one record. Its vector goes straight to the end of the batch's block.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub id: Option<Scalar>,
    pub time: Option<Scalar>,
    pub delete: Option<Scalar>,
    /// The vector's field was there and not null.
    pub has_vector: bool,
    /// The payload's fields as JSON text, with commas between, without braces.
    pub payload: Vec<u8>,
    /// Where finished payloads lie, those of many records in one piece of memory: they are kept, copied and
    /// dropped together, and a piece each would be asked of the system, and counted, several times per record.
    texts: BytesMut,
}

/// Bytes of such a piece. Whatever keeps one payload keeps all of its piece.
const TEXTS_BYTES: usize = 32 << 10;

impl Row {
    pub fn clear(&mut self) {
        self.id = None;
        self.time = None;
        self.delete = None;
        self.has_vector = false;
        self.payload.clear();
    }

    /// Keeps a captured value for every role it has.
    pub fn capture(&mut self, roles: &super::mapping::Roles, value: Scalar) {
        if roles.is_time {
            self.time = Some(value.clone());
        }
        if roles.is_delete {
            self.delete = Some(value.clone());
        }
        if roles.is_id {
            self.id = Some(value);
        }
    }

    /// Begins the payload field that `selection` asks for; false where the field is dropped.
    pub fn begin_field(&mut self, name: &str, selection: Selection<'_>) -> bool {
        if selection == Selection::Drop {
            return false;
        }
        if !self.payload.is_empty() {
            self.payload.push(b',');
        }
        match selection {
            Selection::Rename(prefix) => self.payload.extend_from_slice(prefix),
            _ => {
                super::json_text::write_string(name, &mut self.payload);
                self.payload.push(b':');
            }
        }
        true
    }

    /// Stops a record whose payload outgrows its limit while it is read, so that no record can make a decoder
    /// hold more.
    pub fn check_size(&self) -> Result<(), Fault> {
        if self.payload.len() > PAYLOAD_BYTES_MAX { Err(too_large(self.payload.len())) } else { Ok(()) }
    }

    /// Turns the row into an operation at the end of `batch`, whose vectors hold this record's from `start`
    /// on.
    ///
    /// After an error the caller cuts the vectors back to `start`.
    pub fn finish(
        &mut self,
        mapping: &Mapping,
        place: Place<'_>,
        start: usize,
        batch: &mut WriteBatch,
    ) -> Result<(), Fault> {
        let id = self.point_id(mapping, place)?;
        let is_delete = match (&mapping.delete, &self.delete) {
            (DeleteRule::NullValueOrEquals(mark), Some(found)) => same(mark, found),
            _ => false,
        };
        if is_delete {
            batch.vectors.truncate(start);
            push(batch, id, OpKind::Delete, place.position);
            return Ok(());
        }
        if !self.has_vector {
            let reason = format!("the record has no vector at {}", mapping.vector);
            return Err(Fault::new(FaultCode::MissingVector, reason));
        }
        settle_vector(batch.vectors.get_mut(start..).unwrap_or_default(), mapping.dim, mapping.distance)?;
        let event_time_ms = self.event_time(mapping, place)?;
        let payload = self.payload_text(mapping)?;
        push(batch, id, OpKind::Upsert { payload, event_time_ms }, place.position);
        Ok(())
    }

    fn point_id(&mut self, mapping: &Mapping, place: Place<'_>) -> Result<PointId, Fault> {
        if mapping.id == IdSpec::Uuid5Position {
            let name =
                format!("{}\0{}\0{}\0{}", mapping.pipeline, place.partition, place.epoch, place.position);
            let uuid = Uuid::new_v5(&POSITION_NAMESPACE, name.as_bytes());
            return point_id(Scalar::Text(uuid.to_string()), "uuid5");
        }
        let source = match &mapping.id {
            IdSpec::Field(path) => path.to_string(),
            _ => "the record's key".to_string(),
        };
        match self.id.take() {
            None | Some(Scalar::Null) => {
                Err(Fault::new(FaultCode::MissingId, format!("the record has no id at {source}")))
            }
            Some(value) => point_id(value, &source),
        }
    }

    fn event_time(&self, mapping: &Mapping, place: Place<'_>) -> Result<i64, Fault> {
        let bad = |value: &Scalar| {
            let field = mapping.event_time.as_ref().map_or_else(String::new, |time| time.field.to_string());
            let reason = format!(
                "event time {field} is {}; give RFC 3339 text with an offset, or an integer in the unit that the pipeline names",
                value.describe()
            );
            Fault::new(FaultCode::BadEventTime, reason)
        };
        let unit = mapping.time_unit();
        match &self.time {
            None | Some(Scalar::Null) => Ok(place.timestamp_ms.unwrap_or_else(now_ms)),
            Some(Scalar::TimeMs(ms)) => Ok(*ms),
            Some(value @ Scalar::Int(count)) => unit.to_ms(*count).ok_or_else(|| bad(value)),
            // Seconds with a fraction are what several languages' clocks give.
            Some(value @ Scalar::Float(count)) => {
                let ms = (count * unit.ms()).floor();
                if ms.abs() < 9e15 { Ok(ms as i64) } else { Err(bad(value)) }
            }
            Some(value @ Scalar::Text(text)) => parse_rfc3339_ms(text).ok_or_else(|| bad(value)),
            Some(value) => Err(bad(value)),
        }
    }

    fn payload_text(&mut self, mapping: &Mapping) -> Result<Bytes, Fault> {
        let constants = &mapping.payload.constants;
        if self.payload.is_empty() && constants.is_empty() {
            return Ok(Bytes::new());
        }
        let bytes = self.payload.len() + constants.len() + 3;
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(too_large(bytes));
        }
        if self.texts.capacity() < bytes {
            self.texts = BytesMut::with_capacity(bytes.max(TEXTS_BYTES));
        }
        self.texts.put_u8(b'{');
        self.texts.put_slice(&self.payload);
        if !self.payload.is_empty() && !constants.is_empty() {
            self.texts.put_u8(b',');
        }
        self.texts.put_slice(constants);
        self.texts.put_u8(b'}');
        Ok(self.texts.split().freeze())
    }
}

/// Adds a delete of the point that a tombstone's key names.
pub(super) fn push_delete(batch: &mut WriteBatch, key: Scalar, position: Position) -> Result<(), Fault> {
    let id = match key {
        Scalar::Null => {
            return Err(Fault::new(FaultCode::MissingId, "a null value without a key deletes nothing"));
        }
        key => point_id(key, "the record's key")?,
    };
    push(batch, id, OpKind::Delete, position);
    Ok(())
}

fn push(batch: &mut WriteBatch, id: PointId, kind: OpKind, position: Position) {
    batch.ops.push(Op { id, kind, expect: Expect::Any, position: Some(position) });
}

fn point_id(value: Scalar, source: &str) -> Result<PointId, Fault> {
    let bad = |reason: String| Fault::new(FaultCode::BadId, format!("{source}: {reason}"));
    match value {
        Scalar::Text(text) => PointId::text(text).map_err(|error| bad(error.to_string())),
        Scalar::UInt(value) => Ok(PointId::integer(value)),
        Scalar::Int(value) if value >= 0 => Ok(PointId::integer(value.unsigned_abs())),
        other => Err(bad(format!("id must be a string or an unsigned integer, not {}", other.describe()))),
    }
}

/// Equality across the integer forms.
fn same(mark: &Scalar, found: &Scalar) -> bool {
    let integer = |value: &Scalar| match value {
        Scalar::Int(value) => Some(i128::from(*value)),
        Scalar::UInt(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (integer(mark), integer(found)) {
        (Some(mark), Some(found)) => mark == found,
        _ => mark == found,
    }
}

fn too_large(bytes: usize) -> Fault {
    let reason = format!(
        "the payload has more than {PAYLOAD_BYTES_MAX} bytes as JSON (at least {bytes}); leave fields out with map.payload"
    );
    Fault::new(FaultCode::PayloadTooLarge, reason)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
