//! The frame that `.vec`, `.ids` and `.payload` share: every byte is under a checksum, and a block can be
//! checked without reading the others.
//!
//! ```text
//! 0      header, 64 bytes: magic[8] version:u32 dim:u32 distance:u32 rows:u32 segment:uuid[16] zero[20] crc32c
//! 64     data: `data_bytes`, in blocks of 1 MiB (the last one shorter)
//!        table: crc32c:u32 of each block
//! end-36 footer: data_bytes:u64 block_bytes:u32 blocks:u32 table_crc:u32 header_crc:u32 magic[8] crc32c
//! ```
//! Numbers are little-endian. The footer's checksum covers those of the header and the table, so the one
//! number that the manifest holds pins the whole file. Data starts on a 64-byte line: rows of vectors whose
//! length is a multiple of 16 never straddle a cache line, and maps start on pages.
use uuid::Uuid;

use crate::types::Distance;

/// The version that this program writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const FOOTER_BYTES: usize = 36;
/// Smaller blocks cost table space, larger ones make the first touch of a cold file slower (0.1 ms per MiB).
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
const END_MAGIC: &[u8; 8] = b"PXDBEND\0";

/// Which file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Vectors,
    Ids,
    Payloads,
}

impl BlockKind {
    fn magic(self) -> &'static [u8; 8] {
        match self {
            Self::Vectors => b"PXDBVEC\0",
            Self::Ids => b"PXDBIDS\0",
            Self::Payloads => b"PXDBPAY\0",
        }
    }
}

/// The header's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub kind: BlockKind,
    pub dim: u32,
    pub distance: Distance,
    pub rows: u32,
    pub segment: Uuid,
}

pub(crate) fn distance_code(distance: Distance) -> u32 {
    match distance {
        Distance::Cosine => 1,
        Distance::Dot => 2,
        Distance::L2 => 3,
    }
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(self.kind.magic());
        for number in [VERSION, self.dim, distance_code(self.distance), self.rows] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.segment.as_bytes());
        bytes.resize(HEADER_BYTES - 4, 0);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        bytes.try_into().expect("the fields above make exactly 64 bytes")
    }
}

/// What a header on disk says, judged before it is compared with the manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Not what was written.
    Damaged(String),
    /// Whole, but of another version.
    Version(u32),
}

/// Checks that `bytes` is the header that `expected` encodes to, and says what differs.
pub(crate) fn check_header(bytes: &[u8; HEADER_BYTES], expected: &Header) -> Result<u32, HeaderFault> {
    let crc = read_u32(bytes, HEADER_BYTES - 4);
    let actual = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
    if crc != actual {
        let what = format!("its header has crc32c {actual:08x} and says {crc:08x}");
        return Err(HeaderFault::Damaged(what));
    }
    if bytes[..8] != expected.kind.magic()[..] {
        let what = format!("it begins with {:?}", String::from_utf8_lossy(&bytes[..8]));
        return Err(HeaderFault::Damaged(what));
    }
    let version = read_u32(bytes, 8);
    if version != VERSION {
        return Err(HeaderFault::Version(version));
    }
    if bytes != &expected.encode() {
        let what = format!("its header is of another segment than the manifest's ({expected:?})");
        return Err(HeaderFault::Damaged(what));
    }
    Ok(crc)
}

/// The footer's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub data_bytes: u64,
    pub table_crc: u32,
    pub header_crc: u32,
}

impl Footer {
    pub(crate) fn blocks(data_bytes: u64) -> u64 {
        data_bytes.div_ceil(BLOCK_BYTES as u64)
    }

    /// Length of a file with so much data; `None` beyond 64 bits.
    pub(crate) fn file_bytes(data_bytes: u64) -> Option<u64> {
        let table = Self::blocks(data_bytes).checked_mul(4)?;
        data_bytes.checked_add(table)?.checked_add((HEADER_BYTES + FOOTER_BYTES) as u64)
    }

    /// The bytes, and the checksum at their end.
    pub(crate) fn encode(&self) -> ([u8; FOOTER_BYTES], u32) {
        let mut bytes = Vec::with_capacity(FOOTER_BYTES);
        bytes.extend_from_slice(&self.data_bytes.to_le_bytes());
        let blocks = u32::try_from(Self::blocks(self.data_bytes)).unwrap_or(u32::MAX);
        for number in [BLOCK_BYTES as u32, blocks, self.table_crc, self.header_crc] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(END_MAGIC);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        (bytes.try_into().expect("the fields above make exactly 36 bytes"), crc)
    }

    /// Reads a footer; what does not fit is said in words.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES]) -> Result<Self, String> {
        let footer = Self {
            data_bytes: u64::from(read_u32(bytes, 0)) | u64::from(read_u32(bytes, 4)) << 32,
            table_crc: read_u32(bytes, 16),
            header_crc: read_u32(bytes, 20),
        };
        let (expected, _) = footer.encode();
        match bytes == &expected {
            true => Ok(footer),
            false => Err("its footer fails its checksum".to_string()),
        }
    }
}

/// The number at `at`. Panics past the end: callers hold arrays of known length.
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("a range of four bytes is four bytes");
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { kind: BlockKind::Ids, dim: 3, distance: Distance::L2, rows: 7, segment: Uuid::from_u128(9) }
    }

    #[test]
    fn headers_of_other_kinds_segments_and_versions_are_refused() {
        let bytes = header().encode();
        assert!(check_header(&bytes, &header()).is_ok());
        for other in [
            Header { kind: BlockKind::Vectors, ..header() },
            Header { segment: Uuid::from_u128(8), ..header() },
            Header { rows: 8, ..header() },
            Header { distance: Distance::Dot, ..header() },
        ] {
            assert!(matches!(check_header(&bytes, &other), Err(HeaderFault::Damaged(_))));
        }
        let mut newer = bytes;
        newer[8] = 2;
        let crc = crc32c::crc32c(&newer[..60]).to_le_bytes();
        newer[60..].copy_from_slice(&crc);
        assert_eq!(check_header(&newer, &header()), Err(HeaderFault::Version(2)));
    }

    #[test]
    fn no_flipped_bit_passes_header_or_footer() {
        let (footer, _) = Footer { data_bytes: 3 << 20, table_crc: 5, header_crc: 6 }.encode();
        assert!(Footer::decode(&footer).is_ok());
        for bit in 0..FOOTER_BYTES * 8 {
            let mut bytes = footer;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Footer::decode(&bytes).is_err(), "bit {bit}");
        }
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(check_header(&bytes, &header()).is_err(), "bit {bit}");
        }
    }
}
