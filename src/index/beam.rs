//! The nearest candidates of a walk, sorted, with a mark on those already walked.
use super::near::Near;

/// Up to `capacity` candidates, nearest first.
///
/// A sorted array beats two heaps up to some hundreds of candidates: most insertions move few, and the
/// next one to walk is found without a pop.
#[derive(Debug, Default)]
pub(super) struct Beam {
    capacity: usize,
    /// Those that were walked are marked.
    nearest: Vec<Near>,
    /// No candidate before this one waits to be walked.
    waiting: usize,
}

impl Beam {
    /// Empties it.
    pub(super) fn start(&mut self, capacity: usize) {
        self.capacity = capacity;
        self.nearest.clear();
        self.waiting = 0;
    }

    /// The distance beyond which candidates are not kept.
    #[inline]
    pub(super) fn bound(&self) -> f32 {
        if self.nearest.len() < self.capacity {
            return f32::INFINITY;
        }
        self.nearest.last().map_or(f32::NEG_INFINITY, |near| near.distance())
    }

    /// Offers a candidate that was never offered before.
    #[inline]
    pub(super) fn insert(&mut self, near: Near) {
        if self.nearest.len() >= self.capacity {
            match self.nearest.last() {
                Some(&farthest) if near < farthest => self.nearest.pop(),
                _ => return,
            };
        }
        let at = self.nearest.partition_point(|&other| other < near);
        self.nearest.insert(at, near);
        self.waiting = self.waiting.min(at);
    }

    /// The nearest that was not walked yet; marks it.
    #[inline]
    pub(super) fn walk_next(&mut self) -> Option<Near> {
        let at = self.next_waiting()?;
        self.waiting = at + 1;
        let near = self.nearest[at];
        self.nearest[at] = near.marked();
        Some(near)
    }

    /// The nearest that was not walked yet.
    #[inline]
    pub(super) fn peek(&self) -> Option<Near> {
        self.next_waiting().map(|at| self.nearest[at])
    }

    /// Has it as many candidates as it keeps?
    pub(super) fn is_full(&self) -> bool {
        self.nearest.len() >= self.capacity
    }

    /// All candidates, nearest first, without marks.
    pub(super) fn finish(&mut self) -> &[Near] {
        self.nearest.iter_mut().for_each(|near| *near = near.unmarked());
        self.waiting = 0;
        &self.nearest
    }

    #[inline]
    fn next_waiting(&self) -> Option<usize> {
        let waits = self.nearest.get(self.waiting..)?;
        waits.iter().position(|near| !near.is_marked()).map(|after| self.waiting + after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set_with_marks(
            capacity in 1usize..9, steps in prop::collection::vec((0u8..20, any::<bool>()), 0..60),
        ) {
            let mut beam = Beam::default();
            beam.start(capacity);
            let mut model: BTreeSet<Near> = BTreeSet::new();
            let mut walked: BTreeSet<Near> = BTreeSet::new();
            for (row, (distance, walk)) in steps.into_iter().enumerate() {
                if walk {
                    let expected = model.iter().find(|near| !walked.contains(near)).copied();
                    prop_assert_eq!(beam.peek(), expected);
                    prop_assert_eq!(beam.walk_next(), expected);
                    walked.extend(expected);
                } else {
                    let near = Near::new(f32::from(distance), row as u32);
                    beam.insert(near);
                    model.insert(near);
                    if model.len() > capacity {
                        model.pop_last();
                    }
                }
                let kept: Vec<Near> = beam.nearest.iter().map(|near| near.unmarked()).collect();
                prop_assert_eq!(beam.is_full(), model.len() == capacity);
                prop_assert_eq!(kept, model.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
