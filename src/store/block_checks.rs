//! Remembers which blocks of a map have passed their checksum.
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::block_format::BLOCK_BYTES;

/// Checksums of consecutive 1 MiB blocks, each compared when it is first touched.
///
/// What has passed once is not read again by [`BlockChecks::range`]: pages may be dropped and read anew,
/// but checking each access would cost more than the access. The scrub uses [`BlockChecks::every`].
pub(crate) struct BlockChecks {
    crcs: Vec<u32>,
    /// One bit per block. Relaxed is enough: the bytes never change, so a thread that misses a bit only
    /// computes the same checksum once more.
    passed: Vec<AtomicU64>,
    /// All of them: what makes a check of the whole file free.
    all_passed: AtomicBool,
}

/// A block that fails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadBlock {
    pub block: usize,
    pub expected: u32,
    pub actual: u32,
}

impl BadBlock {
    /// In words; `start` is where block 0 lies in the file.
    pub(crate) fn describe(&self, start: usize) -> String {
        let Self { block, expected, actual } = self;
        let at = start + block * BLOCK_BYTES;
        format!("the block at byte {at} has crc32c {actual:08x}, written was {expected:08x}")
    }
}

impl BlockChecks {
    pub(crate) fn new(crcs: Vec<u32>) -> Self {
        let passed = (0..crcs.len().div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { crcs, passed, all_passed: AtomicBool::new(false) }
    }

    /// Checks the blocks that `range` of `data` touches, unless they have passed before.
    pub(crate) fn range(&self, data: &[u8], range: Range<usize>) -> Result<(), BadBlock> {
        if range.is_empty() || self.all_passed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let whole = range == (0..data.len());
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            let bit = 1u64 << (block % 64);
            let word = self.passed.get(block / 64);
            if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0) {
                continue;
            }
            self.check(data, block)?;
            word.map(|word| word.fetch_or(bit, Ordering::Relaxed));
        }
        if whole {
            self.all_passed.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Checks all blocks, passed or not.
    pub(crate) fn every(&self, data: &[u8]) -> Result<(), BadBlock> {
        (0..data.len().div_ceil(BLOCK_BYTES)).try_for_each(|block| self.check(data, block))
    }

    fn check(&self, data: &[u8], block: usize) -> Result<(), BadBlock> {
        let start = block * BLOCK_BYTES;
        let bytes = data.get(start..data.len().min(start + BLOCK_BYTES)).unwrap_or_default();
        let (actual, expected) = (crc32c::crc32c(bytes), self.crcs.get(block).copied());
        match expected {
            Some(expected) if expected == actual => Ok(()),
            _ => Err(BadBlock { block, expected: expected.unwrap_or_default(), actual }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_touched_blocks_are_checked_and_only_once() {
        let mut data = vec![7u8; 2 * BLOCK_BYTES + 5];
        let crcs = data.chunks(BLOCK_BYTES).map(crc32c::crc32c).collect();
        let checks = BlockChecks::new(crcs);
        data[BLOCK_BYTES] ^= 1;
        let len = data.len();
        assert_eq!(checks.range(&data, 0..BLOCK_BYTES), Ok(()));
        assert_eq!(checks.range(&data, 2 * BLOCK_BYTES..len), Ok(()));
        assert_eq!(checks.range(&data, BLOCK_BYTES - 1..BLOCK_BYTES + 1).map_err(|bad| bad.block), Err(1));
        data[0] ^= 1;
        assert_eq!(checks.range(&data, 0..1), Ok(()), "passed before");
        assert_eq!(checks.every(&data).map_err(|bad| bad.block), Err(0));
        assert_eq!(checks.range(&data, 9..9), Ok(()), "an empty range touches nothing");
    }
}
