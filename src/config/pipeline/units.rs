//! Durations and sizes as people write them: `10ms`, `512KiB`.
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration with its unit: `250us`, `10ms`, `1s`, `1.5s`, `5m`, `2h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A size in bytes: `4096`, `512KiB`, `64MiB`, `1GiB`; also `kB`, `MB`, `GB` for powers of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size for buffers in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a number with a known unit.
    #[error("{text:?} is not {expected}")]
    Malformed {
        /// What was given.
        text: String,
        /// What is accepted.
        expected: &'static str,
    },
    /// Does not fit.
    #[error("{text:?} is too large")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

const SPAN_FORM: &str = "a duration with a unit, such as 10ms, 1s, 5m or 2h";
const SIZE_FORM: &str = "a size in bytes, such as 4096, 512KiB or 64MiB";

/// Units in nanoseconds, longest first so that a value is printed in the largest unit that holds it exactly.
const SPAN_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

const SIZE_UNITS: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

/// `text` as number × unit, exact: the fraction is taken as digits, not as a float.
fn parse(
    text: &str,
    units: &[(&str, u64)],
    bare: Option<u64>,
    expected: &'static str,
) -> Result<u64, UnitError> {
    let malformed = || UnitError::Malformed { text: text.to_string(), expected };
    let trimmed = text.trim();
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = (&trimmed[..split], trimmed[split..].trim_start());
    let scale = match unit {
        "" => bare.ok_or_else(malformed)?,
        _ => units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(malformed)?,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty()
        || fraction.len() > 9
        || fraction.contains('.')
        || (number.contains('.') && fraction.is_empty())
    {
        return Err(malformed());
    }
    let too_large = || UnitError::TooLarge { text: text.to_string() };
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let mut total = u128::from(whole) * u128::from(scale);
    if !fraction.is_empty() {
        let digits: u64 = fraction.parse().map_err(|_| malformed())?;
        let divisor = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
        total += u128::from(digits) * u128::from(scale) / divisor;
    }
    u64::try_from(total).map_err(|_| too_large())
}

/// `value` in the largest of `units` that holds it exactly.
fn print(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let exact = units.iter().find(|(_, scale)| value != 0 && value.is_multiple_of(*scale));
    match exact.or(units.last()) {
        Some((name, scale)) => write!(f, "{}{name}", value / scale),
        None => write!(f, "{value}"),
    }
}

impl FromStr for Span {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SPAN_UNITS, None, SPAN_FORM).map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}
impl FromStr for ByteSize {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse(text, &SIZE_UNITS, Some(1), SIZE_FORM).map(Self)
    }
}
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(f, u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX), &SPAN_UNITS)
    }
}
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let binary: Vec<_> =
            SIZE_UNITS.iter().copied().filter(|(name, _)| name.contains('i') || *name == "B").collect();
        print(f, self.0, &binary)
    }
}
impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

struct SpanVisitor;
impl Visitor<'_> for SpanVisitor {
    type Value = Span;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SPAN_FORM)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(E::custom)
    }
}
impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanVisitor)
    }
}

struct SizeVisitor;
impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SIZE_FORM)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }
}
impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": SPAN_FORM,
            "pattern": r"^\d+(\.\d{1,9})? *(ns|us|ms|s|m|h|d)$",
        })
    }
}
impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": SIZE_FORM,
            "oneOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^\d+(\.\d{1,9})? *(B|kB|KB|MB|GB|KiB|MiB|GiB)?$"},
            ],
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_read_and_print_as_people_write_them() {
        for (text, nanos) in
            [("10ms", 10_000_000), ("1s", 1_000_000_000), ("1.5s", 1_500_000_000), ("2 h", 7_200_000_000_000)]
        {
            assert_eq!(text.parse::<Span>().unwrap().0.as_nanos(), nanos, "{text}");
        }
        for (text, bytes) in
            [("512KiB", 524_288), ("64MiB", 67_108_864), ("4096", 4096), ("1kB", 1000), ("0.5KiB", 512)]
        {
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        assert_eq!("1500ms".parse::<Span>().unwrap().to_string(), "1500ms");
        assert_eq!("1048576".parse::<ByteSize>().unwrap().to_string(), "1MiB");
        assert_eq!(ByteSize(0).to_string(), "0B");
    }

    #[test]
    fn bad_units_say_what_is_accepted() {
        for text in ["10", "ms", "1.s", "1..2s", "-1s", "1 fortnight", "999999999999d", ""] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        let error = "10".parse::<Span>().unwrap_err().to_string();
        assert_eq!(error, "\"10\" is not a duration with a unit, such as 10ms, 1s, 5m or 2h");
    }
}
