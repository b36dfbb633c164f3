//! What is kept of a record that failed.
use super::base64;
use super::validate::Fault;
use crate::types::{Position, Reject};

/// Bytes of a key that are kept: enough for every id.
const KEY_BYTES_MAX: usize = 1 << 10;
/// Bytes of a value that are kept: enough to replay nearly every record, small enough that a thousand rejects
/// fit an entry.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The reject of one record: key and value are cut, and the reason says so.
pub(super) fn reject(
    partition: &str,
    position: Position,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    timestamp_ms: Option<i64>,
    fault: Fault,
) -> Reject {
    let cut = |bytes: &[u8], max: usize| bytes.get(..max).map_or_else(|| bytes.to_vec(), <[u8]>::to_vec);
    let mut reason = fault.reason;
    if let Some(bytes) = value.map(<[u8]>::len).filter(|bytes| *bytes > VALUE_BYTES_MAX) {
        reason.push_str(&format!(" (the value's first {VALUE_BYTES_MAX} of {bytes} bytes are kept)"));
    }
    Reject {
        partition: partition.to_string(),
        position,
        code: fault.code.as_str().to_string(),
        reason,
        key: key.map(|key| String::from_utf8_lossy(&cut(key, KEY_BYTES_MAX)).into_owned()),
        value: value.map(|value| base64::encode(&cut(value, VALUE_BYTES_MAX))),
        timestamp_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_records_are_cut_and_say_so() {
        let value = vec![b'x'; VALUE_BYTES_MAX + 1];
        let reject = reject("t/0", 7.into(), Some(b"k\xff"), Some(&value), None, Fault::decode("broken"));
        assert_eq!(reject.value.map(|text| text.len()), Some(VALUE_BYTES_MAX.div_ceil(3) * 4));
        assert_eq!(reject.key.as_deref(), Some("k\u{fffd}"));
        assert_eq!(reject.reason, "broken (the value's first 65536 of 65537 bytes are kept)");
    }
}
