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
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(index as u32 * 64 + bit)
            })
        })
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
            if rows > 0 {
                let mut set = RowSet::none(rows);
                set.insert(rows as u32 - 1);
                check(&set, &|row| row == rows - 1);
                set.remove(rows as u32 - 1);
                check(&set, &|_| false);
            }
        }
    }
}
