//! Read-only memory maps of immutable files.
use std::fs::File;
use std::io;
use std::path::Path;

/// A file's bytes, mapped.
#[derive(Debug)]
pub struct Map {
    map: memmap2::Mmap,
}

impl Map {
    /// Maps a whole file. The file must be immutable: unlinked perhaps, but never truncated.
    pub fn open(path: &Path) -> io::Result<Map> {
        let file = File::open(path)?;
        // SAFETY: the product's mapped files are written once, renamed into place and only ever unlinked.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(Map { map })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Reads will jump about.
    pub fn advise_random(&self) -> io::Result<()> {
        #[cfg(unix)]
        self.map.advise(memmap2::Advice::Random)?;
        Ok(())
    }

    /// Reads will go from start to end.
    pub fn advise_sequential(&self) -> io::Result<()> {
        #[cfg(unix)]
        self.map.advise(memmap2::Advice::Sequential)?;
        Ok(())
    }
}

/// Little-endian words at their natural alignment; `None` for any other length, place or machine.
fn words<T: Copy>(bytes: &[u8]) -> Option<&[T]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: called for u32, u64 and f32 alone, of which every bit pattern is a value.
    let (before, words, after) = unsafe { bytes.align_to::<T>() };
    (before.is_empty() && after.is_empty()).then_some(words)
}

/// The bytes as `f32`s, if aligned and of a fitting length.
pub fn as_f32s(bytes: &[u8]) -> Option<&[f32]> {
    words(bytes)
}

/// The bytes as `u32`s, if aligned and of a fitting length.
pub fn as_u32s(bytes: &[u8]) -> Option<&[u32]> {
    words(bytes)
}

/// The bytes as `u64`s, if aligned and of a fitting length.
pub fn as_u64s(bytes: &[u8]) -> Option<&[u64]> {
    words(bytes)
}
