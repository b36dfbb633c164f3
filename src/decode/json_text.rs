//! JSON text, copied and written without trees in between.
use super::validate::Fault;

/// Deepest nesting of a payload value: readers of the payload stop at 128, and the payload is one level
/// itself.
const DEPTH_MAX: usize = 100;

/// Appends `raw`, one JSON value of correct syntax, without insignificant blanks. Numbers keep their digits.
///
/// Syntax alone does not promise that the text can be read again: half a surrogate pair, numbers beyond every
/// float and deep nesting are refused here, before they are stored.
pub(super) fn append_compact(raw: &str, out: &mut Vec<u8>) -> Result<(), Fault> {
    let bytes = raw.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => at += 1,
            b'"' => {
                let end = string_end(bytes, at)?;
                out.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let end = at + length.count();
                let is_long = end - at > 300 || bytes[at..end].iter().any(|byte| matches!(byte, b'e' | b'E'));
                if is_long && !raw[at..end].parse::<f64>().is_ok_and(f64::is_finite) {
                    return Err(Fault::decode(format!("the number {:.32}… is out of range", &raw[at..end])));
                }
                out.extend_from_slice(&bytes[at..end]);
                at = end;
            }
            _ => {
                depth = match byte {
                    b'{' | b'[' => depth + 1,
                    b'}' | b']' => depth.saturating_sub(1),
                    _ => depth,
                };
                if depth > DEPTH_MAX {
                    return Err(Fault::decode(format!(
                        "a payload value is nested more than {DEPTH_MAX} levels deep"
                    )));
                }
                out.push(byte);
                at += 1;
            }
        }
    }
    Ok(())
}

/// The index after the closing quote of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> Result<usize, Fault> {
    let broken = || Fault::decode("a string holds half of a surrogate pair (\\ud800 to \\udfff)");
    let mut at = start + 1;
    let mut high_surrogate = false;
    while let Some(&byte) = bytes.get(at) {
        let unit = match (byte, bytes.get(at + 1)) {
            (b'\\', Some(b'u')) => bytes.get(at + 2..at + 6).and_then(hex),
            _ => None,
        };
        let is_low = unit.is_some_and(|unit| (0xdc00..0xe000).contains(&unit));
        if is_low != high_surrogate {
            return Err(broken());
        }
        high_surrogate = unit.is_some_and(|unit| (0xd800..0xdc00).contains(&unit));
        at += match byte {
            b'"' => return Ok(at + 1),
            b'\\' if unit.is_some() => 6,
            b'\\' => 2,
            _ => 1,
        };
    }
    Err(Fault::decode("a string is not closed"))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, &digit| char::from(digit).to_digit(16).map(|digit| value * 16 + digit))
}

/// Appends `text` as a JSON string.
pub(super) fn write_string(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut clean = 0;
    for (index, &byte) in text.as_bytes().iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => &[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]],
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[clean..index]);
        out.extend_from_slice(escape);
        clean = index + 1;
    }
    out.extend_from_slice(&text.as_bytes()[clean..]);
    out.push(b'"');
}

/// Appends an integer.
pub(super) fn write_integer(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// Appends a float, in the fewest digits that read back as the same `f64`; JSON has no NaN and no infinities:
/// they become null.
pub(super) fn write_f64(value: f64, out: &mut Vec<u8>) {
    match serde_json::Number::from_f64(value) {
        Some(number) => write_integer(number, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Like [`write_f64`], in the fewest digits that read back as the same `f32`: 0.1 stays 0.1.
pub(super) fn write_f32(value: f32, out: &mut Vec<u8>) {
    match serde_json::to_string(&value) {
        Ok(text) => out.extend_from_slice(text.as_bytes()),
        Err(_) => out.extend_from_slice(b"null"),
    }
}

/// Appends bytes as a JSON string in base64.
pub(super) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    super::base64::append(bytes, out);
    out.push(b'"');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn compact(raw: &str) -> Result<String, Fault> {
        let mut out = Vec::new();
        append_compact(raw, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn text_is_copied_without_blanks_and_numbers_keep_their_digits() {
        let raw =
            "{ \"a b\" : [ 1.10 , -2e3, 12345678901234567890123 ],\n\t\"c\\\"\": \"x \\\\\" , \"d\": true }";
        let expected = "{\"a b\":[1.10,-2e3,12345678901234567890123],\"c\\\"\":\"x \\\\\",\"d\":true}";
        assert_eq!(compact(raw).unwrap(), expected);
    }

    #[test]
    fn text_that_could_not_be_read_again_is_refused() {
        for raw in [
            "\"\\ud800\"",
            "\"\\ud800x\"",
            "\"\\udc00\"",
            "\"\\ud800\\ud800\"",
            "\"\\ud83d\\n\"",
            "1e999",
            "-1e999",
        ] {
            assert!(compact(raw).is_err(), "{raw}");
            assert!(serde_json::from_str::<Value>(raw).is_err(), "{raw}");
        }
        assert!(compact("\"\\ud83d\\ude00\"").is_ok());
        assert!(compact(&format!("{}{}", "[".repeat(101), "]".repeat(101))).is_err());
        assert!(compact(&format!("{}{}", "[".repeat(100), "]".repeat(100))).is_ok());
        assert!(compact(&"9".repeat(400)).is_err());
    }

    #[test]
    fn strings_and_floats_are_written_as_json() {
        let text: String = (0..0x80_u8).map(char::from).chain("é😀".chars()).collect();
        let mut out = Vec::new();
        write_string(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        let mut out = Vec::new();
        for value in [0.1_f32, f32::NAN, 3.0] {
            write_f32(value, &mut out);
            out.push(b' ');
        }
        write_f64(f64::INFINITY, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "0.1 null 3.0 null");
    }
}
