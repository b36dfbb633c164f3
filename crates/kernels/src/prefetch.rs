//! Hints that memory will be read soon.
//!
//! A row that misses the cache costs 100 ns, as much as computing its distance; asked for a few rows
//! ahead it costs a third of that.

/// Bytes that a cache line holds on every machine we build for (Apple's 128 count as two).
const LINE_BYTES: usize = 64;

/// Lines fetched of one slice. The hardware's own stream detection takes over after the first few;
/// more than this evicts rows that wait for their turn.
const LINES_MAX: usize = 24;

/// Asks for the first lines of `slice`. Never faults and changes no result.
#[inline(always)]
pub fn read<T>(slice: &[T]) {
    let start = slice.as_ptr().cast::<u8>();
    let bytes = std::mem::size_of_val(slice);
    for line in 0..bytes.div_ceil(LINE_BYTES).min(LINES_MAX) {
        prefetch_line(start.wrapping_add(line * LINE_BYTES));
    }
    // A slice that begins inside a line may end in one more. Always asked for: a branch on where it begins is
    // mispredicted every other time, which costs more than the row.
    if bytes <= LINE_BYTES * LINES_MAX {
        prefetch_line(start.wrapping_add(bytes.saturating_sub(1)));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of every x86-64, and a prefetch is a hint: it faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(line: *const u8) {
    // SAFETY: PRFM is a hint: it faults on no address, writes nothing and leaves the flags alone.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{line}]", line = in(reg) line,
            options(nostack, preserves_flags, readonly));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_line: *const u8) {}
