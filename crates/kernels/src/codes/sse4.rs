//! SSE4.1 with SSSE3: products of bytes, two summed into 16 bits.
use std::arch::x86_64::*;

const UNIT: usize = 16;
const NARROW_MAX: usize = i16::MAX as usize;

type Codes = __m128i;
type Query = __m128i;
type Narrow = __m128i;
type Wide = __m128i;

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn zero_narrow() -> Narrow {
    _mm_setzero_si128()
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn zero_wide() -> Wide {
    _mm_setzero_si128()
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn load(at: *const u8, _bytes: usize) -> Codes {
    // SAFETY: the caller says that UNIT bytes can be read; the load needs no alignment.
    unsafe { _mm_loadu_si128(at.cast()) }
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
unsafe fn load_query(at: *const i8, _apart: usize, _bytes: usize) -> Query {
    // SAFETY: as in `load`.
    unsafe { _mm_loadu_si128(at.cast()) }
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    if BITS == 7 { codes } else { _mm_and_si128(codes, _mm_set1_epi8((1 << BITS) - 1)) }
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn shift<const BITS: i32>(codes: Codes) -> Codes {
    // Bits of a neighbour come in from above, and `low_bits` cuts them off.
    _mm_srli_epi16::<BITS>(codes)
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    _mm_add_epi16(sum, _mm_maddubs_epi16(codes, query))
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    _mm_add_epi32(sum, _mm_madd_epi16(narrow, _mm_set1_epi16(1)))
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn sum(wide: Wide) -> i32 {
    let two = _mm_add_epi32(wide, _mm_unpackhi_epi64(wide, wide));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

#[inline]
#[target_feature(enable = "sse4.1,ssse3")]
fn sums([a, b, c, d]: [Wide; 4]) -> [i32; 4] {
    let four = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
    let mut out = [0; 4];
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

code_kernels!(#[target_feature(enable = "sse4.1,ssse3")]);
