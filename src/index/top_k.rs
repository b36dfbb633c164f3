//! The k nearest of a stream of candidates.
use std::collections::BinaryHeap;

use super::near::Near;

/// Keeps the `k` nearest pushed so far: by distance, then by row; NaN is farther than everything.
#[derive(Debug)]
pub struct TopK {
    k: usize,
    heap: BinaryHeap<Near>, // the farthest on top
}

impl TopK {
    /// Room for `k`.
    pub fn new(k: usize) -> TopK {
        // A caller may ask for more than there is: the heap grows with what comes.
        TopK { k, heap: BinaryHeap::with_capacity(k.min(1024)) }
    }

    /// Offers a candidate; tells whether it was kept.
    #[inline]
    pub fn push(&mut self, distance: f32, row: u32) -> bool {
        self.push_near(Near::new(distance, row))
    }

    /// Offers a candidate; returns the one that there is no room for, perhaps this one.
    pub(super) fn offer(&mut self, near: Near) -> Option<Near> {
        if self.heap.len() < self.k {
            self.heap.push(near);
            return None;
        }
        match self.heap.peek_mut() {
            Some(mut farthest) if near < *farthest => Some(std::mem::replace(&mut *farthest, near)),
            _ => Some(near),
        }
    }

    #[inline]
    pub(super) fn push_near(&mut self, near: Near) -> bool {
        if self.heap.len() < self.k {
            self.heap.push(near);
            return true;
        }
        match self.heap.peek_mut() {
            Some(mut farthest) if near < *farthest => {
                *farthest = near;
                true
            }
            _ => false,
        }
    }

    /// Candidates farther than this are of no use: infinity while there is room, the k-th distance then.
    #[inline]
    pub fn bound(&self) -> f32 {
        match self.heap.peek() {
            Some(farthest) if self.heap.len() == self.k => farthest.distance(),
            Some(_) => f32::INFINITY,
            None if self.k == 0 => f32::NEG_INFINITY,
            None => f32::INFINITY,
        }
    }

    /// Candidates kept.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// None kept?
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// As many as there is room for?
    #[inline]
    pub fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// `(distance, row)`, nearest first.
    pub fn into_sorted(self) -> Vec<(f32, u32)> {
        self.heap.into_sorted_vec().into_iter().map(|near| (near.distance(), near.row())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keeps_what_sorting_would(
            k in 0usize..20, distances in prop::collection::vec(-5i8..5, 0..60), nan_every in 1usize..9,
        ) {
            let distance = |row: usize| {
                if row % nan_every == 3 { f32::NAN } else { f32::from(distances[row]) }
            };
            let mut top = TopK::new(k);
            let mut all: Vec<(f32, u32)> = Vec::new();
            // From the back, so that ties come in the wrong order.
            for row in (0..distances.len()).rev() {
                top.push(distance(row), row as u32);
                all.push((distance(row), row as u32));
            }
            all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            all.truncate(k);
            let rows = |hits: &[(f32, u32)]| hits.iter().map(|hit| hit.1).collect::<Vec<_>>();
            prop_assert_eq!(rows(&top.into_sorted()), rows(&all));
        }
    }

    #[test]
    fn the_bound_is_infinite_until_full() {
        let mut top = TopK::new(2);
        assert_eq!(top.bound(), f32::INFINITY);
        top.push(1.0, 0);
        assert_eq!(top.bound(), f32::INFINITY);
        top.push(3.0, 1);
        assert_eq!(top.bound(), 3.0);
        assert!(top.push(2.0, 2) && !top.push(5.0, 3));
        assert_eq!(top.bound(), 2.0);
        assert!(!TopK::new(0).push(0.0, 0));
    }
}
