//! Half floats from floats and back.
#[cfg(target_arch = "x86_64")]
use crate::simd::Tier;

/// The nearest half float, ties to even; beyond 65,519 infinity. A NaN stays one.
#[inline(always)]
pub fn to_half(value: f32) -> u16 {
    const INFINITY: u32 = 0x7f80_0000;
    const OVERFLOW: u32 = (127 + 16) << 23; // 2¹⁶: infinity, however it is rounded
    const NORMAL: u32 = (127 - 14) << 23; // 2⁻¹⁴: the least that isn't subnormal
    let bits = value.to_bits();
    let (sign, size) = ((bits >> 16) & 0x8000, bits & 0x7fff_ffff);
    let half = if size > INFINITY {
        0x7e00 | ((size >> 13) & 0x3ff) // quiet
    } else if size >= OVERFLOW {
        0x7c00
    } else if size >= NORMAL {
        // A carry out of the fraction belongs into the exponent, up to infinity.
        (size + 0xfff + ((size >> 13) & 1) - ((127 - 15) << 23)) >> 13
    } else {
        // The last bit of 0.5 is worth the least half: the addition rounds.
        (f32::from_bits(size) + 0.5).to_bits() - 0.5f32.to_bits()
    };
    (sign | half) as u16
}

/// The same number as a float.
#[inline(always)]
pub fn from_half(half: u16) -> f32 {
    let (sign, size) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    let size = if size >= 0x7c00 {
        (0xff << 23) | (size << 13) | if size > 0x7c00 { 1 << 22 } else { 0 } // quiet
    } else {
        // Exponents are biased by 15 and by 127; the product makes subnormals normal, too.
        const SCALE: f32 = f32::from_bits((127 + 112) << 23);
        (f32::from_bits(size << 13) * SCALE).to_bits()
    };
    f32::from_bits(sign | size)
}

/// [`to_half`] of each. Panics if the lengths differ.
pub fn narrow(values: &[f32], halves: &mut [u16]) {
    assert_eq!(values.len(), halves.len(), "floats and half floats differ in number");
    #[cfg(target_arch = "x86_64")]
    if Tier::allowed() >= Tier::Avx && is_x86_feature_detected!("f16c") {
        // SAFETY: just detected.
        return unsafe { f16c::narrow(values, halves) };
    }
    values.iter().zip(halves).for_each(|(&value, half)| *half = to_half(value));
}

/// [`from_half`] of each. Panics if the lengths differ.
pub fn widen(halves: &[u16], values: &mut [f32]) {
    assert_eq!(values.len(), halves.len(), "floats and half floats differ in number");
    #[cfg(target_arch = "x86_64")]
    if Tier::allowed() >= Tier::Avx && is_x86_feature_detected!("f16c") {
        // SAFETY: just detected.
        return unsafe { f16c::widen(halves, values) };
    }
    halves.iter().zip(values).for_each(|(&half, value)| *value = from_half(half));
}

#[cfg(target_arch = "x86_64")]
mod f16c {
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn narrow(values: &[f32], halves: &mut [u16]) {
        let ((blocks, rest), (out, out_rest)) = (values.as_chunks::<8>(), halves.as_chunks_mut::<8>());
        for (block, out) in blocks.iter().zip(out) {
            // SAFETY: the references cover the 32 bytes read and the 16 written, which need no alignment.
            unsafe {
                let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(block.as_ptr()));
                _mm_storeu_si128(out.as_mut_ptr().cast(), halves);
            }
        }
        rest.iter().zip(out_rest).for_each(|(&value, half)| *half = super::to_half(value));
    }

    #[target_feature(enable = "avx,f16c")]
    pub(super) fn widen(halves: &[u16], values: &mut [f32]) {
        let ((blocks, rest), (out, out_rest)) = (halves.as_chunks::<8>(), values.as_chunks_mut::<8>());
        for (block, out) in blocks.iter().zip(out) {
            // SAFETY: the references cover the 16 bytes read and the 32 written, which need no alignment.
            unsafe {
                let values = _mm256_cvtph_ps(_mm_loadu_si128(block.as_ptr().cast()));
                _mm256_storeu_ps(out.as_mut_ptr(), values);
            }
        }
        rest.iter().zip(out_rest).for_each(|(&half, value)| *value = super::from_half(half));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Same number, or both NaN: hardware may choose its own NaN.
    fn same(a: f32, b: f32) -> bool {
        a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
    }

    /// The definition: sign, exponent, fraction.
    fn defined(half: u16) -> f32 {
        let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f32::from(half & 0x3ff) / 1024.0);
        match exponent {
            0 => sign * fraction * 2f32.powi(-14),
            31 if fraction == 0.0 => sign * f32::INFINITY,
            31 => f32::NAN,
            _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
        }
    }

    #[test]
    fn every_half_is_the_defined_number_and_comes_back() {
        let halves: Vec<u16> = (0..=u16::MAX).collect();
        let (mut values, mut back) = (vec![0.0; halves.len()], vec![0; halves.len()]);
        widen(&halves, &mut values);
        narrow(&values, &mut back);
        for ((&half, &value), &back) in halves.iter().zip(&values).zip(&back) {
            assert!(same(value, defined(half)) && same(from_half(half), value), "{half:#x}");
            assert!(back == half || (value.is_nan() && defined(back).is_nan()), "{half:#x} {back:#x}");
            assert!(to_half(value) == half || value.is_nan(), "{half:#x}");
        }
    }

    /// Around every half float and every middle between two of them, where rounding changes its mind.
    #[test]
    fn values_between_two_halves_go_to_the_nearest_and_ties_to_even() {
        let mut values = Vec::new();
        for half in 0..0x7bff {
            let (low, high) = (defined(half), defined(half + 1));
            let middle = (low + high) / 2.0; // exact in f32
            for value in [middle.next_down(), middle, middle.next_up()] {
                let nearest = match value.total_cmp(&middle) {
                    std::cmp::Ordering::Less => half,
                    std::cmp::Ordering::Greater => half + 1,
                    std::cmp::Ordering::Equal => half + (half & 1),
                };
                assert_eq!(to_half(value), nearest, "{value}");
                assert_eq!(to_half(-value), nearest | 0x8000, "-{value}");
                values.push(value);
            }
        }
        values.extend([
            65_519.0,
            65_520.0,
            65_536.0,
            1e30,
            f32::INFINITY,
            1e-8,
            0.0,
            -0.0,
            f32::MIN_POSITIVE,
        ]);
        let mut halves = vec![0; values.len()];
        narrow(&values, &mut halves);
        assert!(values.iter().zip(&halves).all(|(&value, &half)| to_half(value) == half));
        assert_eq!([to_half(65_519.0), to_half(65_520.0), to_half(1e30)], [0x7bff, 0x7c00, 0x7c00]);
    }
}
