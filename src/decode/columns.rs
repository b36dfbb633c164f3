//! Columns of a Parquet file: vectors are copied by the block, the other columns become JSON text row by row.
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::DataType;

use super::circuit::Circuit;
use super::columns_rare::without_dictionary;
use super::columns_text::{scalar, write_cell};
use super::mapping::{Mapping, Roles, Selection, name_prefix};
use super::row::{Place, Row};
use super::tally::{Failed, Tally};
use super::validate::{Fault, FaultCode, PAYLOAD_BYTES_MAX};
use super::{DecodeError, Decoded, Decoder};
use crate::config::pipeline::{ErrorsSpec, FieldPath, IdSpec};
use crate::types::{Position, RawBatch, RawRows};

/// A [`Decoder`] for batches of columns.
pub(super) struct ColumnDecoder {
    mapping: Mapping,
    errors: ErrorsSpec,
    circuit: Circuit,
    row: Row,
}

/// A batch's columns by what they are for.
struct Columns {
    id: Option<ArrayRef>,
    time: Option<ArrayRef>,
    delete: Option<ArrayRef>,
    vector: Option<ArrayRef>,
    payload: Vec<PayloadColumn>,
}

struct PayloadColumn {
    /// `"name":`.
    prefix: Vec<u8>,
    array: ArrayRef,
    /// Where the vector hides inside this column, the way to it.
    hidden: Vec<String>,
}

impl ColumnDecoder {
    pub fn new(mapping: Mapping, errors: ErrorsSpec) -> Self {
        let circuit = Circuit::new(errors.circuit);
        Self { mapping, errors, circuit, row: Row::default() }
    }
}

impl Decoder for ColumnDecoder {
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, DecodeError> {
        let RawRows::Columns { rows, first } = &batch.rows else {
            return Err(DecodeError::WrongRows {
                partition: batch.partition.to_string(),
                expected: "columns",
            });
        };
        let errors = self.errors.clone();
        let mut tally = Tally::new(&errors, batch, self.mapping.dim);
        tally.decoded.batch.vectors.reserve(rows.num_rows().saturating_mul(self.mapping.dim));
        let columns = Columns::of(rows, &self.mapping);
        for index in 0..rows.num_rows() {
            let position = Position(first.0 + index as u128);
            let place =
                Place { partition: &batch.partition, epoch: batch.epoch, position, timestamp_ms: None };
            let out = &mut tally.decoded.batch;
            let start = out.vectors.len();
            self.row.clear();
            let result = columns
                .read(index, &mut self.row, &mut out.vectors)
                .and_then(|()| self.row.finish(&self.mapping, place, start, out));
            match result {
                Ok(()) => tally.succeed(),
                Err(fault) => {
                    out.vectors.truncate(start);
                    let value = self.row_text();
                    let failed = Failed { position, key: None, value: value.as_deref(), timestamp_ms: None };
                    tally.fail(failed, fault)?;
                }
            }
        }
        tally.finish(&mut self.circuit)
    }
}

impl ColumnDecoder {
    /// The failed row's payload, as the nearest thing to the record that a table has.
    fn row_text(&self) -> Option<Vec<u8>> {
        let fields = &self.row.payload;
        (fields.len() <= PAYLOAD_BYTES_MAX).then(|| [b"{", fields.as_slice(), b"}"].concat())
    }
}

impl Columns {
    fn of(rows: &RecordBatch, mapping: &Mapping) -> Self {
        let id = match &mapping.id {
            IdSpec::Field(path) => find(rows, path),
            _ => None,
        };
        let schema = rows.schema();
        let payload = schema.fields().iter().zip(rows.columns()).filter_map(|(field, array)| {
            let prefix = match mapping.payload.select(field.name()) {
                Selection::Drop => return None,
                Selection::Keep => name_prefix(field.name()),
                Selection::Rename(prefix) => prefix.to_vec(),
            };
            let hidden = match mapping.vector.segments() {
                [root, inside @ ..] if root == field.name() => inside.to_vec(),
                _ => Vec::new(),
            };
            Some(PayloadColumn { prefix, array: plain(array), hidden })
        });
        Self {
            id,
            time: mapping.event_time.as_ref().and_then(|time| find(rows, &time.field)),
            delete: delete_path(&mapping.roles, Vec::new()).and_then(|path| find_segments(rows, &path)),
            vector: find(rows, &mapping.vector),
            payload: payload.collect(),
        }
    }

    fn read(&self, index: usize, row: &mut Row, vectors: &mut Vec<f32>) -> Result<(), Fault> {
        for column in &self.payload {
            if !row.payload.is_empty() {
                row.payload.push(b',');
            }
            row.payload.extend_from_slice(&column.prefix);
            write_cell(column.array.as_ref(), index, &column.hidden, &mut row.payload)?;
            row.check_size()?;
        }
        let cell = |array: &Option<ArrayRef>| array.as_ref().map(|array| scalar(array.as_ref(), index));
        row.id = cell(&self.id);
        row.time = cell(&self.time);
        row.delete = cell(&self.delete);
        if let Some(array) = &self.vector {
            row.has_vector = append_vector(array.as_ref(), index, vectors)?;
        }
        Ok(())
    }
}

/// The path of the field that marks deletes.
fn delete_path(roles: &Roles, path: Vec<String>) -> Option<Vec<String>> {
    if roles.is_delete {
        return Some(path);
    }
    roles.below.iter().find_map(|(name, below)| {
        let mut longer = path.clone();
        longer.push(name.clone());
        delete_path(below, longer)
    })
}

fn find(rows: &RecordBatch, path: &FieldPath) -> Option<ArrayRef> {
    find_segments(rows, path.segments())
}

fn find_segments(rows: &RecordBatch, segments: &[String]) -> Option<ArrayRef> {
    let (root, inside) = segments.split_first()?;
    let mut array = rows.column_by_name(root)?.clone();
    for name in inside {
        let outer = array.as_struct_opt()?;
        let inner = outer.column_by_name(name)?;
        // A null struct hides its fields.
        array = match outer.nulls() {
            None => inner.clone(),
            Some(nulls) => {
                let nulls = arrow_buffer::NullBuffer::union(Some(nulls), inner.nulls());
                arrow_array::make_array(inner.to_data().into_builder().nulls(nulls).build().ok()?)
            }
        };
    }
    Some(plain(&array))
}

/// A dictionary's values in place of its keys; other arrays as they are.
fn plain(array: &ArrayRef) -> ArrayRef {
    without_dictionary(array).unwrap_or_else(|| array.clone())
}

/// Appends a row's vector; false where it is null.
fn append_vector(array: &dyn Array, index: usize, out: &mut Vec<f32>) -> Result<bool, Fault> {
    if array.is_null(index) {
        return Ok(false);
    }
    let (items, start, end) = match array.data_type() {
        DataType::FixedSizeList(_, size) => {
            let size = usize::try_from(*size).unwrap_or_default();
            let list = array.as_fixed_size_list();
            let start = usize::try_from(list.value_offset(index)).unwrap_or_default();
            (list.values(), start, start + size)
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets();
            (list.values(), offsets[index] as usize, offsets[index + 1] as usize)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets();
            (list.values(), offsets[index] as usize, offsets[index + 1] as usize)
        }
        DataType::FixedSizeBinary(_) => {
            floats(array.as_fixed_size_binary().value(index), out)?;
            return Ok(true);
        }
        DataType::Binary => {
            floats(array.as_binary::<i32>().value(index), out)?;
            return Ok(true);
        }
        DataType::LargeBinary => {
            floats(array.as_binary::<i64>().value(index), out)?;
            return Ok(true);
        }
        other => {
            let reason = format!("the vector's column is {other}; a list of numbers or bytes are read");
            return Err(Fault::decode(reason));
        }
    };
    if items.nulls().is_some_and(|nulls| nulls.slice(start, end - start).null_count() > 0) {
        return Err(Fault::new(FaultCode::NotFinite, "a component of the vector is null"));
    }
    macro_rules! convert {
        ($type:ty) => {
            out.extend(items.as_primitive::<$type>().values()[start..end].iter().map(|&value| value as f32))
        };
    }
    match items.data_type() {
        DataType::Float32 => out.extend_from_slice(&items.as_primitive::<Float32Type>().values()[start..end]),
        DataType::Float64 => convert!(Float64Type),
        DataType::UInt8 => convert!(UInt8Type),
        DataType::UInt16 => convert!(UInt16Type),
        DataType::UInt32 => convert!(UInt32Type),
        DataType::UInt64 => convert!(UInt64Type),
        DataType::Int8 => convert!(Int8Type),
        DataType::Int16 => convert!(Int16Type),
        DataType::Int32 => convert!(Int32Type),
        DataType::Int64 => convert!(Int64Type),
        DataType::Float16 => {
            let halves = items.as_primitive::<arrow_array::types::Float16Type>().values();
            out.extend(halves[start..end].iter().map(|value| value.to_f32()));
        }
        other => return Err(Fault::decode(format!("the vector's components are {other}; numbers are read"))),
    }
    Ok(true)
}

/// Appends little-endian 32-bit floats.
fn floats(bytes: &[u8], out: &mut Vec<f32>) -> Result<(), Fault> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Fault::decode(format!("a vector of {} bytes is not made of 32-bit floats", bytes.len())));
    }
    out.extend(chunks.iter().map(|chunk| f32::from_le_bytes(*chunk)));
    Ok(())
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
