//! AVX-512 with VNNI, which multiplies unsigned bytes by signed ones: `a ⊕ 128` is `a + 128` unsigned.
use std::arch::x86_64::*;

use crate::rows::row_kernels::padded;

const LANES: usize = 64;

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn load(block: &[i8; LANES]) -> __m512i {
    // SAFETY: the reference covers the 64 bytes read; the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn dot(a: &[i8], b: &[i8]) -> i32 {
    let offset = _mm512_set1_epi8(-128);
    // Σ (b + 128) · a, and the Σ 128 · a that is too much.
    let mut sums = [_mm512_setzero_si512(); 2];
    let mut excess = [_mm512_setzero_si512(); 2];
    let mut add = |i: usize, a: __m512i, b: __m512i| {
        sums[i] = _mm512_dpbusd_epi32(sums[i], _mm512_xor_si512(b, offset), a);
        excess[i] = _mm512_dpbusd_epi32(excess[i], offset, a);
    };
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    let ((a_pairs, a_blocks), (b_pairs, b_blocks)) = (a_blocks.as_chunks::<2>(), b_blocks.as_chunks::<2>());
    for (a, b) in a_pairs.iter().zip(b_pairs) {
        add(0, load(&a[0]), load(&b[0]));
        add(1, load(&a[1]), load(&b[1]));
    }
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        add(0, load(a), load(b));
    }
    if !a_rest.is_empty() {
        add(1, load(&padded(a_rest)), load(&padded(b_rest)));
    }
    let sum = _mm512_add_epi32(sums[0], sums[1]);
    _mm512_reduce_add_epi32(_mm512_sub_epi32(sum, _mm512_add_epi32(excess[0], excess[1])))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) fn l2_squared(a: &[i8], b: &[i8]) -> i32 {
    let offset = _mm512_set1_epi8(-128);
    // With a' = a + 128 and b' alike, a'·a + b'·b − a'·b − b'·a is (a − b)².
    let mut squares = [_mm512_setzero_si512(); 2];
    let mut products = [_mm512_setzero_si512(); 2];
    let mut add = |a: __m512i, b: __m512i| {
        let (a_unsigned, b_unsigned) = (_mm512_xor_si512(a, offset), _mm512_xor_si512(b, offset));
        squares[0] = _mm512_dpbusd_epi32(squares[0], a_unsigned, a);
        squares[1] = _mm512_dpbusd_epi32(squares[1], b_unsigned, b);
        products[0] = _mm512_dpbusd_epi32(products[0], a_unsigned, b);
        products[1] = _mm512_dpbusd_epi32(products[1], b_unsigned, a);
    };
    let ((a_blocks, a_rest), (b_blocks, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        add(load(a), load(b));
    }
    if !a_rest.is_empty() {
        add(load(&padded(a_rest)), load(&padded(b_rest)));
    }
    let squares = _mm512_add_epi32(squares[0], squares[1]);
    _mm512_reduce_add_epi32(_mm512_sub_epi32(squares, _mm512_add_epi32(products[0], products[1])))
}

row_forms!(dot, dot_many, dot_ids, [i8, i8, i32], #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
row_forms!(l2_squared, l2_squared_many, l2_squared_ids, [i8, i8, i32],
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]);
