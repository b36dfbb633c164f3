//! The fast Walsh–Hadamard transform, which mixes every component into every other one.
//!
//! A random rotation of a vector is some rounds of random signs and this transform: `n·log n` additions
//! instead of the `n²` products of a matrix.
//!
//! One body, compiled for each tier: the additions and their order are the same at all of them, and so
//! are the bits of the result.
use std::sync::OnceLock;

use crate::simd::Tier;

type Transform = unsafe fn(&mut [f32]);

/// Transforms `values` in place, unnormalised: a second transform gives them back times their number.
/// Panics unless that number is a power of two.
#[inline]
pub fn hadamard(values: &mut [f32]) {
    assert!(values.len().is_power_of_two(), "a Hadamard transform takes a power of two of values");
    static ACTIVE: OnceLock<Transform> = OnceLock::new();
    let transform = ACTIVE.get_or_init(|| at(Tier::allowed()));
    // SAFETY: `at` gives what its tier is enough for, and that tier is here.
    unsafe { transform(values) }
}

/// The transform for `tier`.
fn at(tier: Tier) -> Transform {
    match tier {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => avx512,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 | Tier::Avx => avx,
        _ => body, // SSE2 and NEON are what the compiler uses anyway
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn avx512(values: &mut [f32]) {
    body(values);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn avx(values: &mut [f32]) {
    body(values);
}

/// Values whose first steps are taken together, in registers.
const SMALL: usize = 16;

#[inline(always)]
fn body(values: &mut [f32]) {
    let (small, rest) = values.as_chunks_mut::<SMALL>();
    small.iter_mut().for_each(transform_small);
    if !rest.is_empty() {
        steps(rest, 1); // fewer than SMALL in all
    }
    steps(values, SMALL);
}

/// The steps that pair values `SMALL / 2` apart or less.
#[inline(always)]
fn transform_small(values: &mut [f32; SMALL]) {
    for apart in [1, 2, 4, 8] {
        let before = *values;
        for (i, value) in values.iter_mut().enumerate() {
            let other = before[i ^ apart];
            *value = if i & apart == 0 { before[i] + other } else { other - before[i] };
        }
    }
}

/// The steps that pair values `apart`, twice that, and so on. Two steps are one pass where both are left.
#[inline(always)]
fn steps(values: &mut [f32], apart: usize) {
    let mut apart = apart;
    while apart * 2 < values.len() {
        for group in values.chunks_exact_mut(4 * apart) {
            let (first, second) = group.split_at_mut(2 * apart);
            let ((a, b), (c, d)) = (first.split_at_mut(apart), second.split_at_mut(apart));
            for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
                let (sum, difference, sum_2, difference_2) = (*a + *b, *a - *b, *c + *d, *c - *d);
                (*a, *b) = (sum + sum_2, difference + difference_2);
                (*c, *d) = (sum - sum_2, difference - difference_2);
            }
        }
        apart *= 4;
    }
    if apart < values.len() {
        let (a, b) = values.split_at_mut(apart);
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = (*a + *b, *a - *b);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tiers() -> impl Iterator<Item = Tier> {
        Tier::ALL.into_iter().filter(|tier| tier.is_here())
    }

    /// The definition: the sign of a pair is the parity of the bits that both indexes have.
    fn expected(values: &[f32]) -> Vec<f32> {
        let term = |i: usize, j: usize| {
            let sign = if (i & j).count_ones().is_multiple_of(2) { 1.0 } else { -1.0 };
            sign * f64::from(values[j])
        };
        (0..values.len()).map(|i| (0..values.len()).map(|j| term(i, j)).sum::<f64>() as f32).collect()
    }

    fn steps_one_by_one(values: &[f32]) -> Vec<f32> {
        let mut values = values.to_vec();
        let mut apart = 1;
        while apart < values.len() {
            for i in (0..values.len()).filter(|i| i & apart == 0) {
                let (a, b) = (values[i], values[i + apart]);
                (values[i], values[i + apart]) = (a + b, a - b);
            }
            apart *= 2;
        }
        values
    }

    proptest! {
        #[test]
        fn every_tier_gives_the_same_bits(
            values in (0u32..12).prop_flat_map(|log| prop::collection::vec(-100f32..100.0, 1usize << log))
        ) {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            let wanted = steps_one_by_one(&values);
            for tier in tiers() {
                let mut got = values.clone();
                // SAFETY: the tier is here.
                unsafe { at(tier)(&mut got) };
                prop_assert_eq!(bits(&got), bits(&wanted), "{}", tier.name());
            }
        }

        #[test]
        fn it_is_the_defined_sum(
            values in (0u32..9).prop_flat_map(|log| prop::collection::vec(-1f32..1.0, 1usize << log))
        ) {
            let mut got = values.clone();
            hadamard(&mut got);
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * values.len() as f32;
            prop_assert!(got.iter().zip(&expected(&values)).all(close));
        }
    }

    #[test]
    fn twice_gives_the_values_times_their_number() {
        let values: Vec<f32> = (0..512).map(|i| (i % 23) as f32).collect();
        let mut twice = values.clone();
        hadamard(&mut twice);
        hadamard(&mut twice);
        assert!(twice.iter().zip(&values).all(|(got, value)| *got == value * 512.0));
    }

    #[test]
    #[should_panic(expected = "power of two")]
    fn another_number_of_values_is_refused() {
        hadamard(&mut [0.0; 48]);
    }
}
