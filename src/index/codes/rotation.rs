//! A seeded random rotation in `O(d log d)`.
//!
//! Low-bit codes need coordinates that look alike; real ones don't (pixels are all positive, some text
//! dimensions are ten times the others). After a rotation each coordinate is a mix of all.
//!
//! Rounds of random signs and a Walsh–Hadamard transform. Lengths that are no power of two take turns:
//! the transform covers the longest power of two from the front, then from the back.
//! Source: *The Fast Johnson–Lindenstrauss Transform*, Ailon and Chazelle (SIAM J. Comput. 2009); the
//! alternation of front and back is that of RaBitQ's library (Gao et al.).
use proximadb_kernels::hadamard::hadamard;

use crate::index::random::Random;

/// Rounds where one transform covers everything.
const ROUNDS_WHOLE: usize = 3;

/// Rounds where front and back take turns.
const ROUNDS_SPLIT: usize = 4;

/// An orthogonal map of `len` coordinates.
pub(in crate::index) struct Rotation {
    len: usize,
    /// Coordinates that one transform covers: the greatest power of two up to `len`.
    window: usize,
    /// Per round and coordinate: ±1, times what keeps lengths where the window lies.
    signs: Vec<f32>,
}

impl Rotation {
    /// The same `len` and seed give the same map.
    pub(super) fn new(len: usize, seed: u64) -> Rotation {
        assert!(len > 0, "nothing to rotate");
        let window = 1 << len.ilog2();
        let rounds = if window == len { ROUNDS_WHOLE } else { ROUNDS_SPLIT };
        let mut random = Random::new(seed);
        let mut signs = Vec::with_capacity(rounds * len);
        for round in 0..rounds {
            let covered = covered(round, len, window);
            for at in 0..len {
                let sign = if random.next() >> 63 == 0 { 1.0 } else { -1.0 };
                let keep = if covered.contains(&at) { 1.0 / (window as f32).sqrt() } else { 1.0 };
                signs.push(sign * keep);
            }
        }
        Rotation { len, window, signs }
    }

    /// Rotates in place. Panics if the length is another.
    pub(super) fn apply(&self, values: &mut [f32]) {
        assert_eq!(values.len(), self.len, "a rotation of another length");
        for (round, signs) in self.signs.chunks(self.len).enumerate() {
            values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
            hadamard(&mut values[covered(round, self.len, self.window)]);
        }
    }
}

fn covered(round: usize, len: usize, window: usize) -> std::ops::Range<usize> {
    if round.is_multiple_of(2) { 0..window } else { len - window..len }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(len: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(seed);
        (0..len).map(|_| random.normal()).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn lengths_and_angles_stay() {
        for len in [1, 2, 64, 192, 384, 832, 1024] {
            let (mut a, mut b) = (vector(len, 1), vector(len, 2));
            let before = [dot(&a, &a), dot(&a, &b), dot(&b, &b)];
            let rotation = Rotation::new(len, 9);
            rotation.apply(&mut a);
            rotation.apply(&mut b);
            for (before, after) in before.iter().zip([dot(&a, &a), dot(&a, &b), dot(&b, &b)]) {
                assert!((before - after).abs() < 1e-3 * len as f64, "{len}: {before} became {after}");
            }
        }
    }

    /// One coordinate's weight ends up on all of them, about evenly.
    #[test]
    fn a_single_coordinate_is_spread_over_all() {
        for len in [64, 384, 832, 1024] {
            for at in [0, len / 2, len - 1] {
                let mut values = vec![0.0; len];
                values[at] = 1.0;
                Rotation::new(len, 3).apply(&mut values);
                let mean = 1.0 / len as f32;
                for part in values.chunks(len / 4) {
                    let share = part.iter().map(|x| x * x).sum::<f32>() / part.len() as f32;
                    assert!((0.5 * mean..2.0 * mean).contains(&share), "{len} {at}: {share} of {mean}");
                }
                assert!(values.iter().all(|x| x * x < 40.0 * mean));
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let rotated = |seed| {
            let mut values = vector(96, 5);
            Rotation::new(96, seed).apply(&mut values);
            values
        };
        assert_eq!(rotated(1), rotated(1));
        assert_ne!(rotated(1), rotated(2));
    }
}
