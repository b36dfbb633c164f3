//! A distance, a row and a mark as one integer, so that ordering costs one comparison.

/// One candidate. Orders by distance, then by row; what isn't a number is farther than everything.
/// The mark in the lowest bit tells nothing apart, since a row is a candidate once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Near(u64);

impl Near {
    /// Packs a candidate. `row` is below [`super::links::ROWS_MAX`].
    #[inline]
    pub(super) fn new(distance: f32, row: u32) -> Near {
        // Adding zero turns -0 into 0. A NaN of either sign becomes the one that sorts last: x86 makes
        // negative ones, which would sort first.
        let distance = if distance.is_nan() { f32::NAN.abs() } else { distance + 0.0 };
        let bits = distance.to_bits();
        let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
        Near(u64::from(ordered) << 32 | u64::from(row) << 1)
    }

    /// The distance it was made of.
    #[inline]
    pub(super) fn distance(self) -> f32 {
        let ordered = (self.0 >> 32) as u32;
        f32::from_bits(if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered })
    }

    /// The row it was made of.
    #[inline]
    pub(super) fn row(self) -> u32 {
        self.0 as u32 >> 1
    }

    /// With a mark.
    #[inline]
    pub(super) fn marked(self) -> Near {
        Near(self.0 | 1)
    }

    /// Without one.
    #[inline]
    pub(super) fn unmarked(self) -> Near {
        Near(self.0 & !1)
    }

    #[inline]
    pub(super) fn is_marked(self) -> bool {
        self.0 & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::links::ROWS_MAX;

    #[test]
    fn order_is_distance_then_row_and_nan_is_last() {
        let distances =
            [f32::NEG_INFINITY, -3.5, -f32::MIN_POSITIVE, 0.0, 1e-40, 2.0, f32::MAX, f32::INFINITY, f32::NAN];
        for (i, &a) in distances.iter().enumerate() {
            let near = Near::new(a, 7);
            assert!(near.distance() == a || a.is_nan() && near.distance().is_nan());
            assert_eq!(near.row(), 7);
            assert!(near < Near::new(a, 8));
            assert!(near.marked() != near && near.marked().unmarked() == near && near.marked().row() == 7);
            assert!(near < near.marked() && near.marked() < Near::new(a, 8));
            let last = ROWS_MAX as u32 - 1;
            assert_eq!(Near::new(a, last).row(), last);
            assert!(distances[i + 1..].iter().all(|&b| Near::new(a, last).marked() < Near::new(b, 0)));
        }
        assert_eq!(Near::new(-f32::NAN, 1), Near::new(f32::NAN, 1));
        assert_eq!(Near::new(-0.0, 1), Near::new(0.0, 1));
    }
}
