//! Avro values as JSON text, straight from their bytes.
//!
//! What JSON lacks: bytes and fixed become base64, decimals text (`"12.30"`), dates text (`"2026-01-31"`),
//! timestamps integer milliseconds, NaN and infinities null. Unions are their value, without the branch's
//! name.
use super::avro_cursor::Cursor;
use super::avro_schema::{AvroSchema, Node, NodeId};
use super::json_text::{write_base64, write_f32, write_f64, write_integer, write_string};
use super::validate::{Fault, FaultCode, PAYLOAD_BYTES_MAX};

/// Longest decimal in bytes: 2^2048 has 617 digits, and turning bytes into digits takes quadratic time.
const DECIMAL_BYTES_MAX: usize = 256;

/// Appends the value at the cursor.
pub(super) fn emit(
    schema: &AvroSchema,
    id: NodeId,
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    // A few bytes of input may stand for many of output (enums, empty records): bound it at every value.
    if out.len() > PAYLOAD_BYTES_MAX {
        let reason = format!(
            "the payload has more than {PAYLOAD_BYTES_MAX} bytes as JSON; leave fields out with map.payload"
        );
        return Err(Fault::new(FaultCode::PayloadTooLarge, reason));
    }
    match schema.node(id) {
        Node::Null => out.extend_from_slice(b"null"),
        Node::Bool => out.extend_from_slice(if cursor.boolean()? { b"true" } else { b"false" }),
        Node::Int => write_integer(cursor.int("an int")?, out),
        Node::Long => write_integer(cursor.long("a long")?, out),
        Node::Float => write_f32(cursor.float()?, out),
        Node::Double => write_f64(cursor.double()?, out),
        Node::Bytes => write_base64(cursor.bytes("bytes")?, out),
        Node::String => write_string(cursor.string()?, out),
        Node::Date => write_string(&date(cursor.int("a date")?), out),
        Node::Timestamp(unit) => {
            let value = cursor.long("a timestamp")?;
            let ms = unit.to_ms(value).ok_or_else(|| cursor.wrong("a timestamp is out of range"))?;
            write_integer(ms, out);
        }
        Node::Decimal { scale, fixed } => {
            let bytes = match fixed {
                Some(size) => cursor.take(*size, "a decimal")?,
                None => cursor.bytes("a decimal")?,
            };
            write_string(&decimal(bytes, *scale)?, out);
        }
        Node::Fixed(size) => write_base64(cursor.take(*size, "a fixed")?, out),
        Node::Uuid => write_string(&uuid::Uuid::from_bytes(cursor.array("a uuid")?).to_string(), out),
        Node::Enum(symbols) => write_string(&symbols[cursor.index(symbols.len(), "an enum's symbol")?], out),
        Node::Union(_) => {
            let branch = schema.resolve(id, cursor)?;
            emit(schema, branch, cursor, out)?;
        }
        Node::Record(fields) => {
            out.push(b'{');
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(&field.name, out);
                out.push(b':');
                emit(schema, field.node, cursor, out)?;
            }
            out.push(b'}');
        }
        Node::Array(item) => blocks(schema, *item, false, cursor, out)?,
        Node::Map(value) => blocks(schema, *value, true, cursor, out)?,
    }
    Ok(())
}

fn blocks(
    schema: &AvroSchema,
    item: NodeId,
    is_map: bool,
    cursor: &mut Cursor<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let bytes_min = schema.bytes_min(item) + u64::from(is_map);
    let mut names = std::collections::HashSet::new();
    out.push(if is_map { b'{' } else { b'[' });
    let mut is_first = true;
    loop {
        let block = cursor.block(bytes_min)?;
        let start = cursor.position();
        for _ in 0..block.count {
            if !is_first {
                out.push(b',');
            }
            is_first = false;
            if is_map {
                let name = cursor.string()?;
                if !names.insert(name) {
                    return Err(cursor.wrong(&format!("a map has the key {name:?} twice")));
                }
                write_string(name, out);
                out.push(b':');
            }
            emit(schema, item, cursor, out)?;
        }
        cursor.end_block(block, start)?;
        if block.count == 0 {
            break;
        }
    }
    out.push(if is_map { b'}' } else { b']' });
    Ok(())
}

/// Days since the Unix epoch as `YYYY-MM-DD`, in the Gregorian calendar, counted in eras of 400 years that
/// begin in March.
pub(super) fn date(days: i32) -> String {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// An unscaled two's-complement integer, big-endian, as decimal text.
pub(super) fn decimal(bytes: &[u8], scale: u32) -> Result<String, Fault> {
    if bytes.len() > DECIMAL_BYTES_MAX {
        return Err(Fault::decode(format!(
            "a decimal has {} bytes; at most {DECIMAL_BYTES_MAX} are read",
            bytes.len()
        )));
    }
    let is_negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let mut magnitude = bytes.to_vec();
    if is_negative {
        let mut carry = true;
        for byte in magnitude.iter_mut().rev() {
            (*byte, carry) = (!*byte).overflowing_add(u8::from(carry));
        }
    }
    let mut digits = Vec::new();
    while magnitude.iter().any(|byte| *byte != 0) {
        let remainder = magnitude.iter_mut().fold(0_u32, |remainder, byte| {
            let value = remainder << 8 | u32::from(*byte);
            *byte = (value / 10) as u8;
            value % 10
        });
        digits.push(char::from(b'0' + remainder as u8));
    }
    let scale = scale as usize;
    let missing = (scale + 1).saturating_sub(digits.len());
    digits.extend(std::iter::repeat_n('0', missing));
    let point = digits.len() - scale;
    let mut text: String = if is_negative { "-".to_string() } else { String::new() };
    for (index, digit) in digits.iter().rev().enumerate() {
        if index == point {
            text.push('.');
        }
        text.push(*digit);
    }
    Ok(text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn decimals_and_dates_are_text() {
        assert_eq!(decimal(&1234_i32.to_be_bytes(), 2).unwrap(), "12.34");
        assert_eq!(decimal(&(-5_i8).to_be_bytes(), 2).unwrap(), "-0.05");
        assert_eq!(decimal(&[], 0).unwrap(), "0");
        assert_eq!(decimal(&[0x80], 0).unwrap(), "-128");
        assert_eq!(decimal(&i128::MIN.to_be_bytes(), 0).unwrap(), i128::MIN.to_string());
        assert_eq!(decimal(&[0xff; 40], 3).unwrap(), "-0.001");
        assert!(decimal(&[1; 257], 0).is_err());
        for (days, text) in
            [(0, "1970-01-01"), (-1, "1969-12-31"), (11_016, "2000-02-29"), (20_484, "2026-01-31")]
        {
            assert_eq!(date(days), text);
        }
    }
}
