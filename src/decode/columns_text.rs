//! One cell of a column, as JSON text or as a scalar.
//!
//! What JSON lacks is written as for Avro: bytes become base64, decimals text, dates text (`"2026-01-31"`),
//! timestamps integer milliseconds, NaN and infinities null. Types beyond that become text too.
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, TimeUnit as ArrowUnit};

use super::avro_text::date;
use super::columns_rare::{rare_text, without_dictionary};
use super::json_text::{write_base64, write_f32, write_f64, write_integer, write_string};
use super::row::Scalar;
use super::validate::Fault;
use crate::config::pipeline::TimeUnit;

const DAY_MS: i64 = 86_400_000;

/// The cell as id, time or delete mark.
pub(super) fn scalar(array: &dyn Array, index: usize) -> Scalar {
    if array.is_null(index) {
        return Scalar::Null;
    }
    if let Some(value) = integer(array, index) {
        return match i64::try_from(value) {
            Ok(value) => Scalar::Int(value),
            Err(_) => Scalar::UInt(value as u64),
        };
    }
    if let Some(text) = text(array, index) {
        return Scalar::Text(text.to_string());
    }
    match array.data_type() {
        DataType::Boolean => Scalar::Bool(array.as_boolean().value(index)),
        DataType::Float32 => Scalar::Float(array.as_primitive::<Float32Type>().value(index).into()),
        DataType::Float64 => Scalar::Float(array.as_primitive::<Float64Type>().value(index)),
        DataType::Timestamp(..) => match timestamp_ms(array, index) {
            Some(ms) => Scalar::TimeMs(ms),
            None => Scalar::Other("a time out of range"),
        },
        DataType::Date32 => {
            Scalar::TimeMs(i64::from(array.as_primitive::<Date32Type>().value(index)) * DAY_MS)
        }
        DataType::Date64 => Scalar::TimeMs(array.as_primitive::<Date64Type>().value(index)),
        DataType::Struct(_) => Scalar::Other("a struct"),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => Scalar::Other("a list"),
        _ => Scalar::Other("of a type that is neither text nor an integer"),
    }
}

/// Appends the cell. `hidden` is the way to a nested field that is left out; empty for none.
pub(super) fn write_cell(
    array: &dyn Array,
    index: usize,
    hidden: &[String],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if array.is_null(index) {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    if let Some(value) = integer(array, index) {
        write_integer(value, out);
        return Ok(());
    }
    if let Some(text) = text(array, index) {
        write_string(text, out);
        return Ok(());
    }
    match array.data_type() {
        DataType::Null => out.extend_from_slice(b"null"),
        DataType::Boolean => {
            out.extend_from_slice(if array.as_boolean().value(index) { b"true" } else { b"false" });
        }
        DataType::Float16 => write_f32(array.as_primitive::<Float16Type>().value(index).to_f32(), out),
        DataType::Float32 => write_f32(array.as_primitive::<Float32Type>().value(index), out),
        DataType::Float64 => write_f64(array.as_primitive::<Float64Type>().value(index), out),
        DataType::Binary => write_base64(array.as_binary::<i32>().value(index), out),
        DataType::LargeBinary => write_base64(array.as_binary::<i64>().value(index), out),
        DataType::BinaryView => write_base64(array.as_binary_view().value(index), out),
        DataType::FixedSizeBinary(_) => write_base64(array.as_fixed_size_binary().value(index), out),
        DataType::Date32 => write_string(&date(array.as_primitive::<Date32Type>().value(index)), out),
        DataType::Date64 => {
            let days = array.as_primitive::<Date64Type>().value(index).div_euclid(DAY_MS);
            write_string(&date(i32::try_from(days).map_err(|_| out_of_range())?), out);
        }
        DataType::Timestamp(..) => write_integer(timestamp_ms(array, index).ok_or_else(out_of_range)?, out),
        DataType::Struct(_) => write_struct(array.as_struct(), index, hidden, out)?,
        DataType::List(_) => write_list(array.as_list::<i32>().value(index).as_ref(), out)?,
        DataType::LargeList(_) => write_list(array.as_list::<i64>().value(index).as_ref(), out)?,
        DataType::FixedSizeList(..) => write_list(array.as_fixed_size_list().value(index).as_ref(), out)?,
        DataType::Map(..) => write_map(&array.as_map().value(index), out)?,
        DataType::Dictionary(..) => {
            let one = without_dictionary(array.slice(index, 1).as_ref())
                .ok_or_else(|| Fault::decode("a dictionary's key points nowhere"))?;
            write_cell(one.as_ref(), 0, hidden, out)?;
        }
        other => {
            let text = rare_text(array, index)
                .ok_or_else(|| Fault::decode(format!("a value of type {other} cannot be written as text")))?;
            write_string(&text, out);
        }
    }
    Ok(())
}

fn out_of_range() -> Fault {
    Fault::decode("a time is out of range")
}

fn write_list(items: &dyn Array, out: &mut Vec<u8>) -> Result<(), Fault> {
    out.push(b'[');
    for index in 0..items.len() {
        if index > 0 {
            out.push(b',');
        }
        write_cell(items, index, &[], out)?;
    }
    out.push(b']');
    Ok(())
}

fn write_struct(
    fields: &StructArray,
    index: usize,
    hidden: &[String],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.push(b'{');
    let mut is_first = true;
    for (name, array) in fields.column_names().into_iter().zip(fields.columns()) {
        let inside = match hidden {
            [last] if last == name => continue,
            [next, inside @ ..] if next == name => inside,
            _ => &[],
        };
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_string(name, out);
        out.push(b':');
        write_cell(array.as_ref(), index, inside, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// A map's entries as an object, where its keys are text; else as a list of entries. Of equal keys the last
/// one counts, as in JSON.
fn write_map(entries: &StructArray, out: &mut Vec<u8>) -> Result<(), Fault> {
    let [keys, values] = entries.columns() else { return write_list(entries, out) };
    let names: Option<Vec<&str>> = (0..keys.len()).map(|index| text(keys.as_ref(), index)).collect();
    let Some(names) = names else { return write_list(entries, out) };
    let last: std::collections::HashMap<&str, usize> = names.iter().copied().zip(0..).collect();
    out.push(b'{');
    let mut is_first = true;
    for (index, name) in names.iter().enumerate().filter(|(index, name)| last.get(*name) == Some(index)) {
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        write_string(name, out);
        out.push(b':');
        write_cell(values.as_ref(), index, &[], out)?;
    }
    out.push(b'}');
    Ok(())
}

/// A present value of an integer column.
fn integer(array: &dyn Array, index: usize) -> Option<i128> {
    Some(match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(index).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(index).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(index).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(index).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(index).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(index).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(index).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(index).into(),
        _ => return None,
    })
}

/// A present value of a text column.
fn text(array: &dyn Array, index: usize) -> Option<&str> {
    Some(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(index),
        DataType::LargeUtf8 => array.as_string::<i64>().value(index),
        DataType::Utf8View => array.as_string_view().value(index),
        _ => return None,
    })
}

fn timestamp_ms(array: &dyn Array, index: usize) -> Option<i64> {
    let DataType::Timestamp(unit, _) = array.data_type() else { return None };
    let (unit, value) = match unit {
        ArrowUnit::Second => (TimeUnit::S, array.as_primitive::<TimestampSecondType>().value(index)),
        ArrowUnit::Millisecond => {
            (TimeUnit::Ms, array.as_primitive::<TimestampMillisecondType>().value(index))
        }
        ArrowUnit::Microsecond => {
            (TimeUnit::Us, array.as_primitive::<TimestampMicrosecondType>().value(index))
        }
        ArrowUnit::Nanosecond => (TimeUnit::Ns, array.as_primitive::<TimestampNanosecondType>().value(index)),
    };
    unit.to_ms(value)
}
