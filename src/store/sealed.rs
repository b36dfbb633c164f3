//! Text files with a checksum as their last line: `#crc32c 0123abcd`.
use std::fmt::Write;

const MARK: &str = "#crc32c ";
const TRAILER_BYTES: usize = MARK.len() + 8 + 1;

/// Ends a text, which must end with a line feed, with its checksum; returns that too.
pub(crate) fn seal(mut text: String) -> (String, u32) {
    let crc = crc32c::crc32c(text.as_bytes());
    // Writing to a `String` cannot fail.
    let _ = writeln!(text, "{MARK}{crc:08x}");
    (text, crc)
}

/// The text before the checksum, and the checksum; what does not fit is said in words.
pub(crate) fn unseal(bytes: &[u8]) -> Result<(&[u8], u32), String> {
    let cut = bytes.len().checked_sub(TRAILER_BYTES).ok_or("it is cut short")?;
    let (text, trailer) = bytes.split_at(cut);
    let crc = crc32c::crc32c(text);
    let expected = format!("{MARK}{crc:08x}\n");
    match trailer == expected.as_bytes() {
        true => Ok((text, crc)),
        false if trailer.starts_with(MARK.as_bytes()) => Err(format!("it fails its checksum ({crc:08x})")),
        false => Err("it does not end with its checksum".to_string()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let (text, crc) = seal("{}\n".to_string());
        assert_eq!(unseal(text.as_bytes()).unwrap(), (&b"{}\n"[..], crc));
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&bytes).is_err(), "bit {bit}");
        }
        for length in 0..text.len() {
            assert!(unseal(&text.as_bytes()[..length]).is_err(), "length {length}");
        }
    }
}
