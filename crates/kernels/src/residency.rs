//! Is memory that files are mapped to there, and how to have it read before somebody waits for it.

/// Pages looked at, at most.
#[cfg(unix)]
const PAGES_MAX: usize = 16;

/// Are the first pages of `slice` in memory, so that nobody waits for a disk? `true` where the system doesn't tell.
pub fn is_resident<T>(slice: &[T]) -> bool {
    #[cfg(unix)]
    {
        let Some((start, length)) = pages(slice) else { return true };
        let length = length.min(PAGES_MAX * page_bytes());
        // What the system doesn't write stays as if it were there.
        let mut is_there = [1; PAGES_MAX];
        // SAFETY: `start` is the beginning of a page, and `length` bytes from there are pages of `slice`, which are
        // mapped as long as it is borrowed. For each of them, `PAGES_MAX` at most, one byte of `is_there` is written.
        let answer =
            unsafe { libc::mincore(start as *mut libc::c_void, length, is_there.as_mut_ptr().cast()) };
        answer != 0 || is_there.iter().all(|page: &u8| page & 1 == 1)
    }
    #[cfg(not(unix))]
    {
        let _ = slice;
        true
    }
}

/// Has the system begin to read `slice`, in the background, where it isn't in memory. A hint: nothing depends on it.
pub fn will_need<T>(slice: &[T]) {
    #[cfg(unix)]
    if let Some((start, length)) = pages(slice) {
        // SAFETY: the pages are those of `slice`, which are mapped as long as it is borrowed, and this advice changes
        // nothing that can be read from them. Whether it is taken doesn't matter.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_WILLNEED) };
    }
    #[cfg(not(unix))]
    let _ = slice;
}

/// Where the first page of `slice` begins, and bytes up to the end of `slice`. `None` if it is empty.
#[cfg(unix)]
fn pages<T>(slice: &[T]) -> Option<(usize, usize)> {
    let (start, bytes) = (slice.as_ptr() as usize, size_of_val(slice));
    let first = start - start % page_bytes();
    (bytes > 0).then(|| (first, start + bytes - first))
}

#[cfg(unix)]
fn page_bytes() -> usize {
    static BYTES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *BYTES.get_or_init(|| {
        // SAFETY: it takes no pointers and changes nothing.
        let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        usize::try_from(bytes).ok().filter(|bytes| bytes.is_power_of_two()).unwrap_or(4096)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::map::Map;

    #[test]
    fn what_was_touched_is_there_and_hints_change_nothing() {
        let numbers: Vec<u32> = (0..100_000).collect();
        for range in [0..0, 0..1, 5_000..5_001, 7..100_000] {
            assert!(is_resident(&numbers[range.clone()]));
            will_need(&numbers[range]);
        }
        assert!(numbers.iter().copied().eq(0..100_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_nobody_has_read_is_not_there() {
        let path = std::env::temp_dir().join(format!("proximadb-residency-{}", std::process::id()));
        // A hole: no page of it has ever been read or written.
        std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let map = Map::open(&path).unwrap();
        let far = &map.bytes()[32 << 20..(32 << 20) + 10];
        assert!(!is_resident(far));
        assert_eq!(far, [0; 10]);
        assert!(is_resident(far));
        let other = &map.bytes()[50 << 20..(50 << 20) + 10_000];
        assert!(!is_resident(other));
        will_need(other);
        // What runs other processors' programs (qemu-user) passes over hints.
        let begun = std::time::Instant::now();
        while cfg!(target_arch = "x86_64") && !is_resident(other) {
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "nothing comes");
            std::thread::yield_now();
        }
        std::fs::remove_file(path).unwrap();
    }
}
