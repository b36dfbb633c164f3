//! AVX-512 with VNNI: products of bytes, four summed into 32 bits. A unit is two blocks.
use std::arch::x86_64::*;

const UNIT: usize = 64;
const NARROW_MAX: usize = i32::MAX as usize; // four products of bytes go straight into 32 bits

type Codes = __m512i;
type Query = __m512i;
type Narrow = __m512i;
type Wide = __m512i;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn zero_narrow() -> Narrow {
    _mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn zero_wide() -> Wide {
    _mm512_setzero_si512()
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn load(at: *const u8, bytes: usize) -> Codes {
    // SAFETY: the caller says that `bytes` can be read; the loads need no alignment.
    unsafe {
        if bytes == UNIT {
            _mm512_loadu_si512(at.cast())
        } else {
            _mm512_zextsi256_si512(_mm256_loadu_si256(at.cast()))
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn load_query(at: *const i8, apart: usize, bytes: usize) -> Query {
    // SAFETY: the caller says that a block can be read at `at`, and with `bytes` of two blocks another one
    // `apart` from it; the loads need no alignment.
    unsafe {
        let first = _mm512_zextsi256_si512(_mm256_loadu_si256(at.cast()));
        if bytes == UNIT {
            _mm512_inserti64x4::<1>(first, _mm256_loadu_si256(at.add(apart).cast()))
        } else {
            first
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    if BITS == 7 { codes } else { _mm512_and_si512(codes, _mm512_set1_epi8((1 << BITS) - 1)) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn shift<const BITS: i32>(codes: Codes) -> Codes {
    // Bits of a neighbour come in from above, and `low_bits` cuts them off.
    match BITS {
        1 => _mm512_srli_epi16::<1>(codes),
        2 => _mm512_srli_epi16::<2>(codes),
        4 => _mm512_srli_epi16::<4>(codes),
        _ => codes, // a byte is one field
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    _mm512_dpbusd_epi32(sum, codes, query)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    _mm512_add_epi32(sum, narrow)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn four_lanes(wide: Wide) -> __m128i {
    let wide = _mm256_add_epi32(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64::<1>(wide));
    _mm_add_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256::<1>(wide))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum(wide: Wide) -> i32 {
    let four = four_lanes(wide);
    let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums([a, b, c, d]: [Wide; 4]) -> [i32; 4] {
    let (ab, cd) =
        (_mm_hadd_epi32(four_lanes(a), four_lanes(b)), _mm_hadd_epi32(four_lanes(c), four_lanes(d)));
    let four = _mm_hadd_epi32(ab, cd);
    let mut out = [0; 4];
    // SAFETY: the reference covers the 16 bytes written; the store needs no alignment.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), four) };
    out
}

code_kernels!(#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
