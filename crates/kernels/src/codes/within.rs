//! Which rows may lie within a bound, by the products of a query with the fronts of their codes.
//!
//! W1 factors are read only of rows that have them. W2 what isn't a number isn't beyond anything.
use crate::sets::tier;
use crate::simd::Tier;

/// A test of squared distances, estimated from whole numbers.
///
/// Of a row with factors `[square, scale]` and the product `dot`, `own + square + factor · scale · (2 dot -
/// offset)` is the estimate. The row is beyond `bound` if its estimate is, by more than the root of `unread · (u -
/// a²) + coded · u`, none of the terms below 0, for `u = 4 own square` and `a = own + square - bound`, at least 0.
#[derive(Debug, Clone, Copy)]
pub struct Within {
    /// The query's square.
    pub own: f32,
    /// What a whole number stands for.
    pub factor: f32,
    /// Subtracted from twice the product.
    pub offset: i32,
    /// Of what the front doesn't tell.
    pub unread: f32,
    /// Of what codes are off.
    pub coded: f32,
}

impl Within {
    /// Moves those of `ids` that may lie within `bound` to its front, in order, and returns how many they are.
    /// `dots[i]` is that of row `ids[i]`, whose factors are `factors[ids[i]]`.
    ///
    /// Panics if `ids` and `dots` differ in length or a row isn't there.
    #[inline]
    pub fn keep(&self, ids: &mut [u32], dots: &[i32], factors: &[[f32; 2]], bound: f32) -> usize {
        assert_eq!(ids.len(), dots.len(), "ids and products differ in number");
        if tier() == Tier::Avx512 {
            let farthest = ids.iter().copied().max().unwrap_or(0);
            assert!(ids.is_empty() || (farthest as usize) < factors.len(), "no such row");
            // SAFETY: the tier is here, and by W1 so are the factors.
            #[cfg(target_arch = "x86_64")]
            return unsafe { avx512(self, ids, dots, factors, bound) };
        }
        self.scalar(ids, dots, factors, bound)
    }

    fn scalar(&self, ids: &mut [u32], dots: &[i32], factors: &[[f32; 2]], bound: f32) -> usize {
        let mut kept = 0;
        for (at, &dot) in dots.iter().enumerate() {
            let row = ids[at];
            let [square, scale] = factors[row as usize];
            let sum = self.own + square;
            let beyond =
                sum + self.factor * scale * (dot.wrapping_mul(2).wrapping_sub(self.offset)) as f32 - bound;
            let (unit, along) = (4.0 * self.own * square, (sum - bound).max(0.0));
            let most = self.unread * (unit - along * along).max(0.0) + self.coded * unit;
            // Written anyway and counted if it stays: a wrong guess of the processor costs more.
            ids[kept] = row;
            kept += usize::from(!(beyond > 0.0 && beyond * beyond > most));
        }
        kept
    }
}

/// # Safety
/// `factors` has every row of `ids`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,popcnt")]
unsafe fn avx512(test: &Within, ids: &mut [u32], dots: &[i32], factors: &[[f32; 2]], bound: f32) -> usize {
    use std::arch::x86_64::*;
    const LANES: usize = 16;
    let zero = _mm512_setzero_ps();
    let (own, bound) = (_mm512_set1_ps(test.own), _mm512_set1_ps(bound));
    let (unread, coded) = (_mm512_set1_ps(test.unread), _mm512_set1_ps(test.coded));
    let (offset, factor) = (_mm512_set1_epi32(test.offset), _mm512_set1_ps(test.factor));
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    let mut kept = 0;
    for at in (0..ids.len()).step_by(LANES) {
        let lanes = (ids.len() - at).min(LANES);
        let here = (u32::MAX >> (32 - lanes)) as __mmask16;
        // SAFETY: lanes beyond the ids are masked out; the others' factors are there, as promised, 8 bytes each.
        let (rows, dots, pairs) = unsafe {
            let rows = _mm512_maskz_loadu_epi32(here, ids.as_ptr().add(at).cast());
            let dots = _mm512_maskz_loadu_epi32(here, dots.as_ptr().add(at));
            let (low, high) = (_mm512_castsi512_si256(rows), _mm512_extracti64x4_epi64::<1>(rows));
            let (zero, from) = (_mm512_setzero_pd(), factors.as_ptr().cast());
            let low = _mm512_mask_i32gather_pd::<8>(zero, here as __mmask8, low, from);
            let high = _mm512_mask_i32gather_pd::<8>(zero, (here >> 8) as __mmask8, high, from);
            (rows, dots, (_mm512_castpd_ps(low), _mm512_castpd_ps(high)))
        };
        let square = _mm512_permutex2var_ps(pairs.0, even, pairs.1);
        let scale = _mm512_permutex2var_ps(pairs.0, odd, pairs.1);
        let product = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_add_epi32(dots, dots), offset));
        let sum = _mm512_add_ps(own, square);
        let beyond =
            _mm512_sub_ps(_mm512_add_ps(sum, _mm512_mul_ps(_mm512_mul_ps(factor, scale), product)), bound);
        let unit = _mm512_mul_ps(_mm512_set1_ps(4.0), _mm512_mul_ps(own, square));
        // The second operand is what comes of a maximum with what isn't a number.
        let along = _mm512_max_ps(_mm512_sub_ps(sum, bound), zero);
        let across = _mm512_max_ps(_mm512_sub_ps(unit, _mm512_mul_ps(along, along)), zero);
        let most = _mm512_add_ps(_mm512_mul_ps(unread, across), _mm512_mul_ps(coded, unit));
        let outside = _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(here, beyond, zero);
        let outside = _mm512_mask_cmp_ps_mask::<_CMP_GT_OQ>(outside, _mm512_mul_ps(beyond, beyond), most);
        let stay = here & !outside;
        // SAFETY: no more were kept than went before these, and so many lanes are written as stay.
        unsafe {
            let end = (u32::MAX.checked_shr(32 - stay.count_ones()).unwrap_or(0)) as __mmask16;
            let stayed = _mm512_maskz_compress_epi32(stay, rows);
            _mm512_mask_storeu_epi32(ids.as_mut_ptr().add(kept).cast(), end, stayed);
        }
        kept += stay.count_ones() as usize;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_level_keeps_the_same_rows(
            rows in prop::collection::vec((0u32..90, -4000i32..4000), 0..60),
            factors in prop::collection::vec((0.0f32..3.0, 0.0f32..0.01), 90),
            special in 0usize..90, bound in -1.0f32..4.0,
        ) {
            let mut factors: Vec<[f32; 2]> = factors.into_iter().map(|(square, scale)| [square, scale]).collect();
            factors[special] = [f32::NAN, 1.0];
            factors[(special + 1) % 90] = [1.0, f32::INFINITY];
            let test = Within { own: 1.2, factor: -0.05, offset: 33, unread: 0.02, coded: 0.001 };
            let (ids, dots): (Vec<u32>, Vec<i32>) = rows.into_iter().unzip();
            for bound in [bound, f32::INFINITY, f32::NAN] {
                let (mut one, mut other) = (ids.clone(), ids.clone());
                let kept = test.keep(&mut one, &dots, &factors, bound);
                let wanted = test.scalar(&mut other, &dots, &factors, bound);
                prop_assert_eq!(&one[..kept], &other[..wanted]);
                if !bound.is_finite() {
                    prop_assert_eq!(kept, ids.len());
                }
            }
        }
    }

    #[test]
    fn what_is_far_goes_and_what_is_near_stays() {
        let test = Within { own: 1.0, factor: -1.0, offset: 0, unread: 0.0, coded: 0.01 };
        // Estimates of 2 - dot / 5, which may be off by 0.2.
        let (factors, mut ids) = ([[1.0, 0.1]; 3], [0, 1, 2]);
        assert_eq!(test.keep(&mut ids, &[8, 5, 6], &factors, 0.75), 2);
        assert_eq!(ids[..2], [0, 2]);
    }

    #[test]
    #[should_panic]
    fn a_row_without_factors_is_refused() {
        let test = Within { own: 1.0, factor: 1.0, offset: 0, unread: 0.0, coded: 0.0 };
        test.keep(&mut [0, 2], &[1, 1], &[[1.0, 1.0]; 2], 1.0);
    }
}
