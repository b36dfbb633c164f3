//! Anonymous memory in huge pages.
//!
//! Random reads over gigabytes miss the TLB as often as the cache. Where transparent huge pages are
//! "madvise" (most servers) only memory that asks gets them; file-backed maps never do on ext4.
use std::io;

use memmap2::{MmapMut, MmapOptions};

/// Zeroed memory, in 2 MiB pages where the system grants them.
#[derive(Debug)]
pub struct HugeBuffer {
    // `None` for a length of nothing, which cannot be mapped.
    map: Option<MmapMut>,
}

impl HugeBuffer {
    /// `bytes` zeroed bytes, page aligned. Fails when the system refuses the memory.
    pub fn zeroed(bytes: usize) -> io::Result<HugeBuffer> {
        if bytes == 0 {
            return Ok(HugeBuffer { map: None });
        }
        let map = MmapOptions::new().len(bytes).map_anon()?;
        // A kernel without transparent huge pages refuses the advice; the memory is good all the same.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(HugeBuffer { map: Some(map) })
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }

    /// The bytes, to write.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.map.as_deref_mut().unwrap_or_default()
    }

    /// Bytes asked for.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// No bytes?
    pub fn is_empty(&self) -> bool {
        self.map.is_none()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zeroed_aligned_and_writable() {
        let mut buffer = HugeBuffer::zeroed(5 << 20).unwrap();
        assert_eq!(buffer.len(), 5 << 20);
        assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
        assert_eq!(buffer.as_slice().as_ptr() as usize % 4096, 0);
        buffer.as_mut_slice()[4 << 20] = 7;
        assert_eq!(buffer.as_slice()[4 << 20], 7);
    }

    #[test]
    fn nothing_is_a_length_too() {
        let mut buffer = HugeBuffer::zeroed(0).unwrap();
        assert!(buffer.is_empty());
        assert!(buffer.as_mut_slice().is_empty());
    }
}
