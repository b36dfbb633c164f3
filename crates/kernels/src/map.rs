//! Read-only memory maps of immutable files, and checked views of their bytes as numbers.
//!
//! M1 a mapped file never changes and never shrinks while it is mapped: writers finish and fsync a file
//! before its name is published, and afterwards it is only ever unlinked, which leaves maps intact.
use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::{Advice, Mmap};

/// A file's bytes, mapped read-only. Empty files are allowed and hold no mapping.
#[derive(Debug)]
pub struct Map {
    mmap: Option<Mmap>,
}

impl Map {
    /// Maps the whole file. Nothing is read before its bytes are touched.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self { mmap: None });
        }
        // SAFETY: a map is undefined behaviour only if the file changes under it. By M1 (module doc) the
        // files opened here are complete before anybody knows their name and are unlinked, never
        // truncated or written to. The descriptor may be closed: the map keeps the file alive.
        let mmap = unsafe { Mmap::map(&file)? };
        Ok(Self { mmap: Some(mmap) })
    }

    /// All bytes; the first one lies at the start of a page, so offsets alone decide alignment.
    pub fn bytes(&self) -> &[u8] {
        self.mmap.as_deref().unwrap_or(&[])
    }

    /// Bytes mapped.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Is the file empty?
    pub fn is_empty(&self) -> bool {
        self.mmap.is_none()
    }

    /// Tells the system that reads will jump about: no read-ahead.
    pub fn advise_random(&self) -> io::Result<()> {
        self.advise(Advice::Random)
    }

    /// Tells the system that reads will run through the file: read ahead.
    pub fn advise_sequential(&self) -> io::Result<()> {
        self.advise(Advice::Sequential)
    }

    fn advise(&self, advice: Advice) -> io::Result<()> {
        self.mmap.as_ref().map_or(Ok(()), |mmap| mmap.advise(advice))
    }
}

impl AsRef<[u8]> for Map {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

/// Numbers of which every bit pattern is a value, stored little-endian in our files.
///
/// # Safety
/// The type must have no padding and no invalid bit pattern.
unsafe trait Number: Copy {}
// SAFETY: every bit pattern of these is a value, and none has padding.
unsafe impl Number for f32 {}
// SAFETY: as above.
unsafe impl Number for u16 {}
// SAFETY: as above.
unsafe impl Number for u32 {}
// SAFETY: as above.
unsafe impl Number for u64 {}
// SAFETY: as above.
unsafe impl Number for i64 {}

fn cast<T: Number>(bytes: &[u8]) -> Option<&[T]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: `Number` promises that any bytes make valid values of `T`; `align_to` itself keeps the
    // middle aligned, and a misfit shows as a non-empty head or tail, which is refused below.
    let (head, numbers, tail) = unsafe { bytes.align_to::<T>() };
    (head.is_empty() && tail.is_empty()).then_some(numbers)
}

/// The bytes as little-endian `f32`s; `None` if they are misaligned or not a whole number of them.
pub fn as_f32s(bytes: &[u8]) -> Option<&[f32]> {
    cast(bytes)
}

/// The bytes as little-endian `u16`s; `None` if they are misaligned or not a whole number of them.
pub fn as_u16s(bytes: &[u8]) -> Option<&[u16]> {
    cast(bytes)
}

/// The bytes as signed ones.
pub fn as_i8s(bytes: &[u8]) -> &[i8] {
    // SAFETY: `i8` has the size and alignment of `u8`, and every byte is one.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// The bytes as little-endian `u32`s; `None` if they are misaligned or not a whole number of them.
pub fn as_u32s(bytes: &[u8]) -> Option<&[u32]> {
    cast(bytes)
}

/// The bytes as little-endian `u64`s; `None` if they are misaligned or not a whole number of them.
pub fn as_u64s(bytes: &[u8]) -> Option<&[u64]> {
    cast(bytes)
}

/// The bytes as little-endian `i64`s; `None` if they are misaligned or not a whole number of them.
pub fn as_i64s(bytes: &[u8]) -> Option<&[i64]> {
    cast(bytes)
}

/// `f32`s as the bytes that [`as_f32s`] reads; `None` on a big-endian machine.
pub fn f32s_as_bytes(numbers: &[f32]) -> Option<&[u8]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: `f32` has no padding, so each of its bytes is initialised; bytes have alignment 1, and the
    // length is that of the slice in bytes.
    Some(unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn casts_refuse_misaligned_and_ragged_bytes() {
        let numbers = [1.5f32, -2.0, 3.25];
        let bytes = f32s_as_bytes(&numbers).unwrap();
        assert_eq!(as_f32s(bytes), Some(&numbers[..]));
        assert_eq!(as_f32s(&bytes[1..9]), None, "misaligned");
        assert_eq!(as_f32s(&bytes[..7]), None, "ragged");
        assert_eq!(as_u16s(&bytes[2..]).map(<[u16]>::len), Some(5));
        assert_eq!(as_u16s(&bytes[1..3]), None, "misaligned");
        assert_eq!(as_i8s(&[0, 127, 128, 255]), [0, 127, -128, -1]);
        let longs = [1u64, u64::MAX];
        let cast = as_u64s(as_bytes(&longs));
        assert_eq!(cast, Some(&longs[..]));
        assert_eq!(as_i64s(as_bytes(&longs)), Some(&[1, -1][..]));
        assert_eq!(as_u32s(as_bytes(&longs)), Some(&[1, 0, u32::MAX, u32::MAX][..]));
    }

    #[test]
    fn the_empty_slice_casts_whatever_its_address() {
        let page = [0u64; 2];
        assert_eq!(as_u64s(&as_bytes(&page)[..0]), Some(&[][..]));
    }

    #[test]
    fn files_are_mapped_and_empty_ones_too() {
        let dir = std::env::temp_dir().join(format!("proximadb-map-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (full, empty) = (dir.join("full"), dir.join("empty"));
        std::fs::write(&full, b"segment").unwrap();
        std::fs::write(&empty, b"").unwrap();
        let map = Map::open(&full).unwrap();
        map.advise_random().unwrap();
        map.advise_sequential().unwrap();
        std::fs::remove_file(&full).unwrap();
        assert_eq!(map.bytes(), b"segment", "unlinking leaves the map intact");
        let map = Map::open(&empty).unwrap();
        assert!(map.is_empty() && map.bytes().is_empty());
        map.advise_random().unwrap();
        assert_eq!(Map::open(&dir.join("absent")).unwrap_err().kind(), io::ErrorKind::NotFound);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    fn as_bytes(longs: &[u64]) -> &[u8] {
        // SAFETY: `u64` has no padding; bytes have alignment 1.
        unsafe { std::slice::from_raw_parts(longs.as_ptr().cast::<u8>(), size_of_val(longs)) }
    }
}
