//! A set of rows as bits.

/// A set of rows of one run, one bit a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    rows: usize,
}

impl RowSet {
    /// Every row.
    pub fn all(rows: usize) -> Self {
        let mut set = Self { words: vec![u64::MAX; rows.div_ceil(64)], rows };
        set.trim();
        set
    }

    /// No row.
    pub fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows }
    }

    /// The rows for which `matches` holds.
    pub fn from_fn(rows: usize, mut matches: impl FnMut(usize) -> bool) -> Self {
        let mut words = Vec::with_capacity(rows.div_ceil(64));
        for first in (0..rows).step_by(64) {
            let bits = (rows - first).min(64);
            words.push((0..bits).fold(0, |word, bit| word | u64::from(matches(first + bit)) << bit));
        }
        Self { words, rows }
    }

    /// Rows of the run: those in the set and those that aren't.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Is the row in the set?
    #[inline]
    pub fn contains(&self, row: u32) -> bool {
        self.words.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1)
    }

    /// Adds a row. Panics if the run has no such row.
    pub fn insert(&mut self, row: u32) {
        assert!((row as usize) < self.rows, "row {row} of a run of {} rows", self.rows);
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            *word |= 1 << (row % 64);
        }
    }

    /// Takes a row out, if it is in the set.
    pub fn remove(&mut self, row: u32) {
        if let Some(word) = self.words.get_mut(row as usize / 64) {
            *word &= !(1 << (row % 64));
        }
    }

    /// Keeps the rows that are in `other` too. Panics if the runs differ in length.
    pub fn and(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & theirs);
    }

    /// Adds the rows of `other`. Panics if the runs differ in length.
    pub fn or(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine | theirs);
    }

    /// Takes the rows of `other` out. Panics if the runs differ in length.
    pub fn and_not(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & !theirs);
    }

    /// Turns the set into the rows that were not in it.
    pub fn not(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
    }

    /// Rows in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// No row in the set?
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// The rows in the set, rising.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        // A loop that can be inlined: a scan of what matches asks for a row every few nanoseconds.
        let mut words = self.words.iter();
        let (mut rest, mut first) = (0_u64, 0_u32.wrapping_sub(64));
        std::iter::from_fn(move || {
            while rest == 0 {
                rest = *words.next()?;
                first = first.wrapping_add(64);
            }
            let bit = rest.trailing_zeros();
            rest &= rest - 1;
            Some(first + bit)
        })
    }

    /// Adds up to `wanted` rows of the set to `into`, taken from all over it; the same set and `seed` give the same
    /// rows. Some may come twice, and fewer may come than the set has.
    ///
    /// Words are probed in a golden-ratio sequence, which covers any stretch of them evenly. Rows with few of the
    /// set beside them come a little too often, which a sample can bear and a count of ranks couldn't pay for.
    pub fn sample(&self, wanted: usize, seed: u32, into: &mut Vec<u32>) {
        /// 2^64 divided by the golden ratio.
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        /// Where all that matches lies in a sixteenth of the words, a full sample comes still.
        const PROBES_PER_ROW: usize = 16;
        let end = into.len() + wanted;
        let mut at = u64::from(seed).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        for _ in 0..wanted * PROBES_PER_ROW {
            if into.len() >= end {
                return;
            }
            at = at.wrapping_add(STEP);
            let index = ((u128::from(at) * self.words.len() as u128) >> 64) as usize;
            let Some(&word) = self.words.get(index).filter(|word| **word != 0) else { continue };
            // The low bits of the sequence choose where in the word to begin.
            let turn = (at >> 7) as u32 % 64;
            let bit = (word.rotate_right(turn).trailing_zeros() + turn) % 64;
            into.push(index as u32 * 64 + bit);
        }
    }

    /// Bit `row % 64` of word `row / 64`, for scans that test many rows; bits past the last row are 0.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    fn combine(&mut self, other: &Self, operation: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.rows, other.rows, "sets of rows of different runs");
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine = operation(*mine, *theirs);
        }
    }

    /// Clears the bits past the last row.
    fn trim(&mut self) {
        let used = self.rows % 64;
        if let (true, Some(last)) = (used > 0, self.words.last_mut()) {
            *last &= (1 << used) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_agree_with_a_plain_list_of_booleans_at_every_length_around_a_word() {
        for rows in [0, 1, 63, 64, 65, 127, 128, 200] {
            let thirds = RowSet::from_fn(rows, |row| row % 3 == 0);
            let evens = RowSet::from_fn(rows, |row| row % 2 == 0);
            let check = |set: &RowSet, expected: &dyn Fn(usize) -> bool| {
                let list: Vec<u32> = (0..rows).filter(|row| expected(*row)).map(|row| row as u32).collect();
                assert_eq!(set.iter().collect::<Vec<_>>(), list);
                assert_eq!(set.count(), list.len());
                assert_eq!(set.is_empty(), list.is_empty());
                assert!((0..rows as u32).all(|row| set.contains(row) == list.contains(&row)));
                assert!(!set.contains(rows as u32));
            };
            let combined = |operation: fn(&mut RowSet, &RowSet)| {
                let mut set = thirds.clone();
                operation(&mut set, &evens);
                set
            };
            check(&combined(RowSet::and), &|row| row % 3 == 0 && row % 2 == 0);
            check(&combined(RowSet::or), &|row| row % 3 == 0 || row % 2 == 0);
            check(&combined(RowSet::and_not), &|row| row % 3 == 0 && row % 2 != 0);
            check(&combined(|set, _| set.not()), &|row| row % 3 != 0);
            check(&RowSet::all(rows), &|_| true);
            check(&RowSet::none(rows), &|_| false);
            for (set, seed) in [(&thirds, 0), (&evens, 7)] {
                let mut sample = vec![1];
                set.sample(20, seed, &mut sample);
                assert_eq!(sample.len(), 1 + if rows > 0 { 20 } else { 0 });
                assert!(sample[1..].iter().all(|row| set.contains(*row)));
            }
            if rows > 0 {
                let mut set = RowSet::none(rows);
                set.insert(rows as u32 - 1);
                check(&set, &|row| row == rows - 1);
                set.remove(rows as u32 - 1);
                check(&set, &|_| false);
            }
        }
    }
    #[test]
    fn a_sample_comes_from_all_over_the_set_wherever_it_lies() {
        for (from, to, step) in [(0, 100_000, 1), (0, 100_000, 20), (70_000, 80_000, 1), (99_000, 99_100, 3)]
        {
            let set = RowSet::from_fn(100_000, |row| (from..to).contains(&row) && row % step == 0);
            let mut sample = Vec::new();
            set.sample(64, 3, &mut sample);
            assert!(sample.iter().all(|row| set.contains(*row)));
            let wanted = if to - from < 1_000 { 1 } else { 64 };
            assert!(sample.len() >= wanted, "{} of {from}..{to} by {step}", sample.len());
            if wanted < 64 {
                continue;
            }
            for quarter in 0..4 {
                let part = from + (to - from) * quarter / 4..from + (to - from) * (quarter + 1) / 4;
                let inside = sample.iter().filter(|row| part.contains(&(**row as usize))).count();
                assert!((8..=24).contains(&inside), "{inside} in {part:?}");
            }
            let mut again = Vec::new();
            set.sample(64, 4, &mut again);
            assert_ne!(sample, again);
        }
    }
}
