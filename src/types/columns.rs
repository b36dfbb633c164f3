//! Payload fields as typed columns: what filters read, and what segments write.
use std::collections::BTreeMap;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{Array, BooleanArray, Float64Array, Int64Array, StringArray};
use serde_json::{Map, Value};

/// Integers beyond this lose digits as `f64`: such a field stays JSON rather than answer range filters wrongly.
const EXACT_F64_MAX: u64 = 1 << 53;

/// One top-level payload field over a run of rows; null where a row lacks it.
#[derive(Debug, Clone)]
pub enum Column {
    /// Every value present is a boolean.
    Bool(BooleanArray),
    /// Every value present is an integer that fits 64 signed bits.
    Int(Int64Array),
    /// Every value present is a number, and no integer among them loses digits as `f64`.
    Float(Float64Array),
    /// Every value present is a string.
    Text(StringArray),
    /// Anything else (arrays, objects, explicit nulls, mixed types): each value as JSON text.
    Json(StringArray),
}

impl Column {
    /// Rows.
    pub fn len(&self) -> usize {
        self.array().len()
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Heap bytes, for memory accounting.
    pub fn bytes(&self) -> usize {
        self.array().get_array_memory_size()
    }

    /// The Arrow array inside.
    pub fn array(&self) -> &dyn Array {
        match self {
            Self::Bool(array) => array,
            Self::Int(array) => array,
            Self::Float(array) => array,
            Self::Text(array) | Self::Json(array) => array,
        }
    }
}

/// The smallest type that holds every value seen of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bool,
    Int,
    Float,
    Text,
    Json,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Bool(_) => Self::Bool,
            Value::String(_) => Self::Text,
            Value::Number(number) if number.is_i64() => Self::Int,
            Value::Number(number) if number.is_f64() => Self::Float,
            _ => Self::Json,
        }
    }

    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Int, Self::Float) | (Self::Float, Self::Int) => Self::Float,
            _ => Self::Json,
        }
    }
}

#[derive(Clone, Copy)]
struct Seen {
    kind: Kind,
    has_large_integer: bool,
}

/// Splits payloads (JSON objects; `None` or an empty map where a row has none) into columns, one per field.
///
/// Each column has one entry per row.
pub fn columns_of(payloads: &[Option<Map<String, Value>>]) -> BTreeMap<String, Column> {
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    for (field, value) in payloads.iter().flatten().flatten() {
        let kind = Kind::of(value);
        let large = value.as_i64().is_some_and(|integer| integer.unsigned_abs() > EXACT_F64_MAX);
        seen.entry(field)
            .and_modify(|seen| {
                seen.kind = seen.kind.join(kind);
                seen.has_large_integer |= large;
            })
            .or_insert(Seen { kind, has_large_integer: large });
    }
    seen.into_iter()
        .map(|(field, seen)| {
            let kind = match seen.kind {
                Kind::Float if seen.has_large_integer => Kind::Json,
                kind => kind,
            };
            (field.to_string(), column(payloads, field, kind))
        })
        .collect()
}

fn column(payloads: &[Option<Map<String, Value>>], field: &str, kind: Kind) -> Column {
    let values = payloads.iter().map(|payload| payload.as_ref().and_then(|payload| payload.get(field)));
    match kind {
        Kind::Bool => {
            let mut builder = BooleanBuilder::with_capacity(payloads.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_bool)));
            Column::Bool(builder.finish())
        }
        Kind::Int => {
            let mut builder = Int64Builder::with_capacity(payloads.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_i64)));
            Column::Int(builder.finish())
        }
        Kind::Float => {
            let mut builder = Float64Builder::with_capacity(payloads.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_f64)));
            Column::Float(builder.finish())
        }
        Kind::Text => {
            let mut builder = StringBuilder::new();
            values.for_each(|value| builder.append_option(value.and_then(Value::as_str)));
            Column::Text(builder.finish())
        }
        Kind::Json => {
            let mut builder = StringBuilder::new();
            values.for_each(|value| builder.append_option(value.map(Value::to_string)));
            Column::Json(builder.finish())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(values: &[Value]) -> Vec<Option<Map<String, Value>>> {
        values.iter().map(|value| value.as_object().cloned()).collect()
    }

    #[test]
    fn each_field_gets_the_smallest_type_that_holds_it() {
        let columns = columns_of(&rows(&[
            json!({"lang": "en", "price": 3, "ok": true, "tags": ["a"], "big": 9_007_199_254_740_993_i64}),
            json!({"lang": "fr", "price": 2.5, "big": 0.5, "null": null}),
            json!({}),
        ]));
        assert!(matches!(&columns["lang"], Column::Text(a) if a.is_null(2) && a.value(1) == "fr"));
        assert!(matches!(&columns["price"], Column::Float(a) if a.value(0) == 3.0));
        assert!(matches!(&columns["ok"], Column::Bool(a) if a.value(0) && a.is_null(1)));
        assert!(matches!(&columns["tags"], Column::Json(a) if a.value(0) == "[\"a\"]"));
        assert!(matches!(&columns["big"], Column::Json(a) if a.value(0) == "9007199254740993"));
        assert!(matches!(&columns["null"], Column::Json(a) if a.value(1) == "null" && a.is_null(0)));
        assert!(columns.values().all(|column| column.len() == 3));
    }
}
