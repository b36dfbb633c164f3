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

/// The smallest type that holds every value seen of a field; see the variants of [`Column`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// [`Column::Bool`]
    Bool,
    /// [`Column::Int`]
    Int,
    /// [`Column::Float`]
    Float,
    /// [`Column::Text`]
    Text,
    /// [`Column::Json`]
    Json,
}

impl FieldType {
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

fn is_large(integer: i64) -> bool {
    integer.unsigned_abs() > EXACT_F64_MAX
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    kind: FieldType,
    has_large_integer: bool,
    rows: u64,
}

impl Seen {
    fn of(value: &Value) -> Self {
        let has_large_integer = value.as_i64().is_some_and(is_large);
        Self { kind: FieldType::of(value), has_large_integer, rows: 1 }
    }

    fn join(self, other: Self) -> Self {
        Self {
            kind: self.kind.join(other.kind),
            has_large_integer: self.has_large_integer || other.has_large_integer,
            rows: self.rows + other.rows,
        }
    }

    fn field_type(self) -> FieldType {
        match self.kind {
            FieldType::Float if self.has_large_integer => FieldType::Json,
            kind => kind,
        }
    }
}

/// The types of all fields over any number of rows, gathered before columns are built from parts of them.
#[derive(Debug, Clone, Default)]
pub struct FieldTypes {
    seen: BTreeMap<String, Seen>,
}

impl FieldTypes {
    /// Takes one row's payload into account.
    pub fn observe(&mut self, payload: &Map<String, Value>) {
        payload.iter().for_each(|(field, value)| self.observe_value(field, value));
    }

    /// Takes one row's value of a field into account.
    pub fn observe_value(&mut self, field: &str, value: &Value) {
        self.join(field, Seen::of(value));
    }

    /// Takes `rows` values of one type into account; `integers` are those among them.
    pub fn observe_all(&mut self, field: &str, kind: FieldType, rows: u64, integers: &[i64]) {
        let has_large_integer = integers.iter().any(|integer| is_large(*integer));
        self.join(field, Seen { kind, has_large_integer, rows });
    }

    fn join(&mut self, field: &str, more: Seen) {
        match self.seen.get_mut(field) {
            Some(seen) => *seen = seen.join(more),
            None => _ = self.seen.insert(field.to_string(), more),
        }
    }

    /// The type of a field; `None` if it was never seen.
    pub fn kind(&self, field: &str) -> Option<FieldType> {
        self.seen.get(field).map(|seen| seen.field_type())
    }

    /// Every field seen, its type, and how many rows have it; in order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldType, u64)> {
        self.seen.iter().map(|(field, seen)| (field.as_str(), seen.field_type(), seen.rows))
    }

    /// One field of `payloads`, as the type it has over *all* rows observed; `None` if it was never seen.
    pub fn column(&self, payloads: &[Option<Map<String, Value>>], field: &str) -> Option<Column> {
        let seen = self.seen.get(field)?;
        let values = payloads.iter().map(|payload| payload.as_ref().and_then(|payload| payload.get(field)));
        Some(column(values, seen.field_type()))
    }
}

/// Splits payloads (JSON objects; `None` or an empty map where a row has none) into columns, one per field.
///
/// Each column has one entry per row.
pub fn columns_of(payloads: &[Option<Map<String, Value>>]) -> BTreeMap<String, Column> {
    let mut types = FieldTypes::default();
    payloads.iter().flatten().for_each(|payload| types.observe(payload));
    let column = |field: &String| types.column(payloads, field).map(|column| (field.clone(), column));
    types.seen.keys().filter_map(column).collect()
}

/// The column of one field, given its value in each row; `None` if no row has it.
///
/// The same column as that of [`columns_of`] over whole payloads.
pub fn column_of(values: &[Option<Value>]) -> Option<Column> {
    let seen = values.iter().flatten().map(Seen::of).reduce(Seen::join)?;
    Some(column(values.iter().map(Option::as_ref), seen.field_type()))
}

fn column<'a>(values: impl ExactSizeIterator<Item = Option<&'a Value>>, kind: FieldType) -> Column {
    match kind {
        FieldType::Bool => {
            let mut builder = BooleanBuilder::with_capacity(values.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_bool)));
            Column::Bool(builder.finish())
        }
        FieldType::Int => {
            let mut builder = Int64Builder::with_capacity(values.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_i64)));
            Column::Int(builder.finish())
        }
        FieldType::Float => {
            let mut builder = Float64Builder::with_capacity(values.len());
            values.for_each(|value| builder.append_option(value.and_then(Value::as_f64)));
            Column::Float(builder.finish())
        }
        FieldType::Text => {
            let mut builder = StringBuilder::new();
            values.for_each(|value| builder.append_option(value.and_then(Value::as_str)));
            Column::Text(builder.finish())
        }
        FieldType::Json => {
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

    #[test]
    fn a_part_gets_the_type_of_the_whole_and_one_field_alone_the_same_column() {
        let payloads = rows(&[json!({"price": 3}), json!({"price": 2.5}), json!({"tags": [1]})]);
        let mut types = FieldTypes::default();
        payloads.iter().flatten().for_each(|payload| types.observe(payload));
        assert!(matches!(types.column(&payloads[..1], "price"), Some(Column::Float(a)) if a.value(0) == 3.0));
        assert!(types.column(&payloads, "absent").is_none());
        for (field, column) in columns_of(&payloads) {
            let values: Vec<_> =
                payloads.iter().flatten().map(|payload| payload.get(&field).cloned()).collect();
            let alone = column_of(&values).unwrap();
            assert_eq!(alone.array().to_data(), column.array().to_data(), "{field}");
        }
        assert!(column_of(&[None, None]).is_none());
    }
}
