//! Memory that a walk needs and the next walk can use again.
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};

use parking_lot::Mutex;

use super::beam::Beam;
use super::codes::CodedQuery;
use super::near::Near;

/// Scratches kept for later: more walks than this at once allocate.
const POOLED_MAX: usize = 64;

static POOL: Mutex<Vec<Scratch>> = Mutex::new(Vec::new());

/// Working memory of one walk; fits any graph.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) visited: Visited,
    pub(super) coded: CodedQuery,
    pub(super) beam: Beam,
    pub(super) frontier: BinaryHeap<Reverse<Near>>,
    pub(super) ids: Vec<u32>,
    /// Neighbours that a filter refuses, on whose lists the next ones are looked for.
    pub(super) refused: Vec<u32>,
    pub(super) doors: Vec<u32>,
    pub(super) near: Vec<Near>,
    pub(super) distances: Vec<f32>,
}

/// A scratch that goes back to the pool when dropped.
pub(super) struct Pooled(Option<Scratch>);

impl Scratch {
    /// One from the pool, or a new one.
    pub(super) fn pooled() -> Pooled {
        let pooled = POOL.lock().pop();
        Pooled(Some(pooled.unwrap_or_default()))
    }
}

impl Deref for Pooled {
    type Target = Scratch;
    fn deref(&self) -> &Scratch {
        self.0.as_ref().expect("a pooled scratch is there until it is dropped")
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut Scratch {
        self.0.as_mut().expect("a pooled scratch is there until it is dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        if pool.len() < POOLED_MAX {
            pool.extend(self.0.take());
        }
    }
}

/// The rows seen by one walk. Starting the next costs nothing: marks of older walks have another number.
#[derive(Default)]
pub(super) struct Visited {
    walk: u16,
    marks: Vec<u16>,
}

impl Visited {
    /// Forgets everything; makes room for `rows`.
    pub(super) fn start(&mut self, rows: usize) {
        if self.marks.len() < rows {
            self.marks.resize(rows, 0);
        }
        self.walk = self.walk.wrapping_add(1);
        if self.walk == 0 {
            self.marks.fill(0);
            self.walk = 1;
        }
    }

    /// Marks a row; was it new? Rows that don't exist are never new.
    #[inline]
    pub(super) fn insert(&mut self, row: u32) -> bool {
        let Some(mark) = self.marks.get_mut(row as usize) else { return false };
        let new = *mark != self.walk;
        *mark = self.walk;
        new
    }

    /// Marks a row if it is `wanted`; was it, and new? Compiles to no jump, which would be a coin's toss.
    #[inline]
    pub(super) fn insert_if(&mut self, row: u32, wanted: bool) -> bool {
        let Some(mark) = self.marks.get_mut(row as usize) else { return false };
        let new = wanted & (*mark != self.walk);
        *mark = if wanted { self.walk } else { *mark };
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_last_one_walk_even_when_the_numbers_run_out() {
        let mut visited = Visited::default();
        for _ in 0..70_000 {
            visited.start(3);
            assert!(visited.insert(2) && !visited.insert(2));
            assert!(!visited.insert(3), "no such row");
            assert!(
                !visited.insert_if(1, false) && visited.insert_if(1, true) && !visited.insert_if(1, true)
            );
            assert!(!visited.insert_if(3, true), "no such row");
        }
    }
}
