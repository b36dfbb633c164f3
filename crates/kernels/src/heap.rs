//! What the allocator keeps of memory that was let go of.

/// Gives free pages of the heap back to the system; says whether there were any.
///
/// glibc keeps an arena per few threads and, once large blocks have come and gone, tens of MiB in each. Takes the
/// lock of one arena after the other: some milliseconds for hundreds of MiB. Elsewhere it does nothing.
pub fn trim() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: `malloc_trim` takes no pointer, may be called from any thread at any time (MT-Safe, malloc_trim(3)),
    // and touches only pages that no allocation uses.
    return unsafe { libc::malloc_trim(0) == 1 };
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    return false;
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_use_stays() {
        let kept: Vec<Vec<u8>> = (0..64).map(|at| vec![at; 100_000]).collect();
        drop(vec![1_u8; 100_000]);
        super::trim();
        assert!(kept.iter().enumerate().all(|(at, block)| block.iter().all(|byte| usize::from(*byte) == at)));
    }
}
