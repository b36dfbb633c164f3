//! Payloads to columns: a run of JSON objects is read once, straight into one list of cells per field.
//!
//! A tree per row would cost a map node, a key and often a text per field, all to be thrown away: building them
//! was a quarter of a flush.
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, PrimitiveBuilder, StringBuilder};
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int64Type};
use arrow_array::{ArrayRef, PrimitiveArray, StringArray};
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::types::{FieldType, FieldTypes};

/// The fields of a run of rows.
#[derive(Default)]
pub(super) struct PayloadCells {
    rows: u32,
    fields: Vec<Field>,
    places: HashMap<String, usize>,
}

/// One field: its values, and the rows that have it, rising.
struct Field {
    name: String,
    rows: Vec<u32>,
    values: Values,
}

/// As narrow as what came so far allows.
enum Values {
    Empty,
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Text(Texts),
    Mixed(Vec<Value>),
}

#[derive(Default)]
struct Texts {
    ends: Vec<usize>,
    text: String,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.text.get(*start..*end).unwrap_or_default())
    }
}

impl PayloadCells {
    /// Adds a row: a JSON object as text, or nothing.
    pub fn push(&mut self, payload: &[u8]) -> Result<(), serde_json::Error> {
        let row = self.rows;
        self.rows += 1;
        if payload.is_empty() {
            return Ok(());
        }
        let mut text = serde_json::Deserializer::from_slice(payload);
        let is_plain = text.deserialize_map(RowVisitor { cells: self, row })?;
        if is_plain {
            return text.end();
        }
        // A name came twice: the last one counts, as in a tree.
        let payload: Map<String, Value> = serde_json::from_slice(payload)?;
        for field in &mut self.fields {
            if field.rows.last() == Some(&row) {
                field.rows.pop();
                field.values.pop();
            }
        }
        for (name, value) in payload {
            let place = self.place(&name, usize::MAX);
            if let Some(field) = self.fields.get_mut(place) {
                field.push(row, Cell::Value(value));
            }
        }
        Ok(())
    }

    /// Takes all of it into account.
    pub fn observe(&self, types: &mut FieldTypes) {
        for field in self.fields.iter().filter(|field| !field.rows.is_empty()) {
            let rows = field.rows.len() as u64;
            match &field.values {
                Values::Empty => {}
                Values::Bool(_) => types.observe_all(&field.name, FieldType::Bool, rows, &[]),
                Values::Int(values) => types.observe_all(&field.name, FieldType::Int, rows, values),
                Values::Float(_) => types.observe_all(&field.name, FieldType::Float, rows, &[]),
                Values::Text(_) => types.observe_all(&field.name, FieldType::Text, rows, &[]),
                Values::Mixed(values) => {
                    values.iter().for_each(|value| types.observe_value(&field.name, value))
                }
            }
        }
    }

    /// One field over all rows, as the type that it has over these and perhaps more.
    pub fn column(&self, name: &str, kind: FieldType) -> ArrayRef {
        let empty = Field { name: String::new(), rows: Vec::new(), values: Values::Empty };
        let field = self.places.get(name).and_then(|place| self.fields.get(*place)).unwrap_or(&empty);
        field.column(self.rows, kind)
    }

    /// The fields of each row that `is_rest` admits, as one object, in order of names; null where there are none.
    pub fn objects(&self, is_rest: impl Fn(&str) -> bool) -> StringArray {
        let mut rest: Vec<&Field> = self.fields.iter().filter(|field| is_rest(&field.name)).collect();
        rest.sort_by(|a, b| a.name.cmp(&b.name));
        let mut cells: Vec<(u32, usize, usize)> = Vec::new();
        for (order, field) in rest.iter().enumerate() {
            cells.extend(field.rows.iter().enumerate().map(|(at, row)| (*row, order, at)));
        }
        cells.sort_unstable();
        let mut texts: Vec<Vec<String>> = rest.iter().map(|field| field.values.as_json()).collect();
        let mut builder = StringBuilder::new();
        let mut cells = cells.into_iter().peekable();
        for row in 0..self.rows {
            let mut object = String::new();
            while let Some((_, order, at)) = cells.next_if(|(at, ..)| *at == row) {
                object.push(if object.is_empty() { '{' } else { ',' });
                if let (Some(field), Some(text)) =
                    (rest.get(order), texts.get_mut(order).and_then(|texts| texts.get_mut(at)))
                {
                    object.push_str(&Value::from(field.name.as_str()).to_string());
                    object.push(':');
                    object.push_str(&std::mem::take(text));
                }
            }
            match object.is_empty() {
                true => builder.append_null(),
                false => builder.append_value(object + "}"),
            }
        }
        builder.finish()
    }

    /// The field's place; `guess` is where it was in the row before.
    fn place(&mut self, name: &str, guess: usize) -> usize {
        if self.fields.get(guess).is_some_and(|field| field.name == name) {
            return guess;
        }
        if let Some(place) = self.places.get(name) {
            return *place;
        }
        let place = self.fields.len();
        self.fields.push(Field { name: name.to_string(), rows: Vec::new(), values: Values::Empty });
        self.places.insert(name.to_string(), place);
        place
    }
}

impl Field {
    fn push(&mut self, row: u32, cell: Cell<'_>) {
        self.rows.push(row);
        self.values.push(cell);
    }

    fn column(&self, rows: u32, kind: FieldType) -> ArrayRef {
        let at = &self.rows;
        match (&self.values, kind) {
            (Values::Int(values), FieldType::Int) => primitive::<Int64Type>(at, values.iter().copied(), rows),
            (Values::Float(values), FieldType::Float) => {
                primitive::<Float64Type>(at, values.iter().copied(), rows)
            }
            (Values::Int(values), FieldType::Float) => {
                primitive::<Float64Type>(at, values.iter().map(|value| *value as f64), rows)
            }
            (Values::Text(values), FieldType::Text) => texts(at, values.iter(), rows),
            (Values::Bool(values), FieldType::Bool) => booleans(at, values.iter().copied(), rows),
            // Narrow types that came about by way of mixed ones: a name that came twice, a type of other rows.
            (values, FieldType::Bool) => {
                booleans(at, values.to_json().iter().map(|value| value.as_bool().unwrap_or_default()), rows)
            }
            (values, FieldType::Int) => {
                let values = values.to_json();
                primitive::<Int64Type>(
                    at,
                    values.iter().map(|value| value.as_i64().unwrap_or_default()),
                    rows,
                )
            }
            (values, FieldType::Float) => {
                let values = values.to_json();
                primitive::<Float64Type>(
                    at,
                    values.iter().map(|value| value.as_f64().unwrap_or_default()),
                    rows,
                )
            }
            (values, FieldType::Text) => {
                let values = values.to_json();
                texts(at, values.iter().map(|value| value.as_str().unwrap_or_default()), rows)
            }
            (values, FieldType::Json) => texts(at, values.as_json().iter().map(String::as_str), rows),
        }
    }
}

/// Gives `take` the value of each row, `None` where it has none.
fn scatter<T>(at: &[u32], values: impl IntoIterator<Item = T>, rows: u32, mut take: impl FnMut(Option<T>)) {
    let mut next = 0;
    for (row, value) in at.iter().zip(values) {
        (next..*row).for_each(|_| take(None));
        take(Some(value));
        next = row + 1;
    }
    (next..rows).for_each(|_| take(None));
}

fn primitive<T: ArrowPrimitiveType>(
    at: &[u32],
    values: impl Iterator<Item = T::Native>,
    rows: u32,
) -> ArrayRef {
    if at.len() == rows as usize {
        return Arc::new(PrimitiveArray::<T>::from_iter_values(values));
    }
    let mut builder = PrimitiveBuilder::<T>::with_capacity(rows as usize);
    scatter(at, values, rows, |value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn booleans(at: &[u32], values: impl Iterator<Item = bool>, rows: u32) -> ArrayRef {
    let mut builder = BooleanBuilder::with_capacity(rows as usize);
    scatter(at, values, rows, |value| builder.append_option(value));
    Arc::new(builder.finish())
}

fn texts<'a>(at: &[u32], values: impl Iterator<Item = &'a str>, rows: u32) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows as usize, 0);
    scatter(at, values, rows, |value| builder.append_option(value));
    Arc::new(builder.finish())
}

/// One value on its way to its field.
enum Cell<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Value(Value),
}

impl Cell<'_> {
    fn into_json(self) -> Value {
        match self {
            Self::Bool(value) => value.into(),
            Self::Int(value) => value.into(),
            Self::Float(value) => value.into(),
            Self::Text(value) => value.into(),
            Self::Value(value) => value,
        }
    }
}

impl Values {
    fn push(&mut self, cell: Cell<'_>) {
        match (&mut *self, cell) {
            (Self::Bool(values), Cell::Bool(value)) => values.push(value),
            (Self::Int(values), Cell::Int(value)) => values.push(value),
            (Self::Float(values), Cell::Float(value)) => values.push(value),
            (Self::Text(values), Cell::Text(value)) => values.push(value),
            (Self::Mixed(values), cell) => values.push(cell.into_json()),
            (Self::Empty, cell) => {
                *self = match cell {
                    Cell::Bool(value) => Self::Bool(vec![value]),
                    Cell::Int(value) => Self::Int(vec![value]),
                    Cell::Float(value) => Self::Float(vec![value]),
                    Cell::Text(value) => {
                        let mut texts = Texts::default();
                        texts.push(value);
                        Self::Text(texts)
                    }
                    Cell::Value(value) => Self::Mixed(vec![value]),
                }
            }
            (narrower, cell) => {
                let mut values = narrower.to_json();
                values.push(cell.into_json());
                *self = Self::Mixed(values);
            }
        }
    }

    fn pop(&mut self) {
        match self {
            Self::Empty => {}
            Self::Bool(values) => _ = values.pop(),
            Self::Int(values) => _ = values.pop(),
            Self::Float(values) => _ = values.pop(),
            Self::Mixed(values) => _ = values.pop(),
            Self::Text(values) => {
                values.ends.pop();
                values.text.truncate(values.ends.last().copied().unwrap_or(0));
            }
        }
    }

    fn to_json(&self) -> Vec<Value> {
        match self {
            Self::Empty => Vec::new(),
            Self::Bool(values) => values.iter().map(|value| Value::from(*value)).collect(),
            Self::Int(values) => values.iter().map(|value| Value::from(*value)).collect(),
            Self::Float(values) => values.iter().map(|value| Value::from(*value)).collect(),
            Self::Text(values) => values.iter().map(Value::from).collect(),
            Self::Mixed(values) => values.clone(),
        }
    }

    /// Each value as JSON text.
    fn as_json(&self) -> Vec<String> {
        match self {
            Self::Mixed(values) => values.iter().map(Value::to_string).collect(),
            narrower => narrower.to_json().iter().map(Value::to_string).collect(),
        }
    }
}

/// Reads one row; says whether every name came once. If not, the row is left half read.
struct RowVisitor<'c> {
    cells: &'c mut PayloadCells,
    row: u32,
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut guess = 0;
        while let Some(place) = map.next_key_seed(KeySeed { cells: &mut *self.cells, guess })? {
            let field = self.cells.fields.get_mut(place);
            let Some(field) = field.filter(|field| field.rows.last() != Some(&self.row)) else {
                map.next_value::<IgnoredAny>()?;
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                return Ok(false);
            };
            map.next_value_seed(CellSeed { field, row: self.row })?;
            guess = place + 1;
        }
        Ok(true)
    }
}

struct KeySeed<'c> {
    cells: &'c mut PayloadCells,
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<usize, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, name: &str) -> Result<usize, E> {
        Ok(self.cells.place(name, self.guess))
    }
}

struct CellSeed<'c> {
    field: &'c mut Field,
    row: u32,
}

impl CellSeed<'_> {
    fn take<E>(self, cell: Cell<'_>) -> Result<(), E> {
        self.field.push(self.row, cell);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for CellSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.take(Cell::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.take(Cell::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.take(i64::try_from(value).map_or_else(|_| Cell::Value(value.into()), Cell::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.take(Cell::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.take(Cell::Text(value))
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.take(Cell::Value(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<(), A::Error> {
        let value = Value::deserialize(SeqAccessDeserializer::new(values))?;
        self.take(Cell::Value(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, values: A) -> Result<(), A::Error> {
        let value = Value::deserialize(MapAccessDeserializer::new(values))?;
        self.take(Cell::Value(value))
    }
}

#[cfg(test)]
#[path = "payload_cells_tests.rs"]
mod tests;
