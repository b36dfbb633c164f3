//! AVX2: products of bytes, two summed into 16 bits.
use std::arch::x86_64::*;

const UNIT: usize = 32;
const NARROW_MAX: usize = i16::MAX as usize;

type Codes = __m256i;
type Query = __m256i;
type Narrow = __m256i;
type Wide = __m256i;

#[inline]
#[target_feature(enable = "avx2")]
fn zero_narrow() -> Narrow {
    _mm256_setzero_si256()
}

#[inline]
#[target_feature(enable = "avx2")]
fn zero_wide() -> Wide {
    _mm256_setzero_si256()
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(at: *const u8, _bytes: usize) -> Codes {
    // SAFETY: the caller says that UNIT bytes can be read; the load needs no alignment.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load_query(at: *const i8, _apart: usize, _bytes: usize) -> Query {
    // SAFETY: as in `load`.
    unsafe { _mm256_loadu_si256(at.cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    if BITS == 7 { codes } else { _mm256_and_si256(codes, _mm256_set1_epi8((1 << BITS) - 1)) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn shift<const BITS: i32>(codes: Codes) -> Codes {
    // Bits of a neighbour come in from above, and `low_bits` cuts them off.
    _mm256_srli_epi16::<BITS>(codes)
}

#[inline]
#[target_feature(enable = "avx2")]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, query))
}

#[inline]
#[target_feature(enable = "avx2")]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    _mm256_add_epi32(sum, _mm256_madd_epi16(narrow, _mm256_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn four_lanes(wide: Wide) -> __m128i {
    _mm_add_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sum(wide: Wide) -> i32 {
    let four = four_lanes(wide);
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn sums([a, b, c, d]: [Wide; 4]) -> [i32; 4] {
    let (ab, cd) =
        (_mm_hadd_epi32(four_lanes(a), four_lanes(b)), _mm_hadd_epi32(four_lanes(c), four_lanes(d)));
    let four = _mm_hadd_epi32(ab, cd);
    let mut out = [0; 4];
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

code_kernels!(#[target_feature(enable = "avx2")]);
