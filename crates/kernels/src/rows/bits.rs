//! Rows of bits, eight in a byte: `l2_squared` is the Hamming distance, `dot` the number of common ones.
use super::forms::{Distances, choose_level, distances};

#[cfg(target_arch = "x86_64")]
compiled!(avx512, [u8, u8, u32],
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vpopcntdq,popcnt")]);
#[cfg(target_arch = "x86_64")]
compiled!(avx2, [u8, u8, u32], #[target_feature(enable = "avx2,popcnt")]);
#[cfg(target_arch = "x86_64")]
compiled!(sse4, [u8, u8, u32], #[target_feature(enable = "sse4.1,ssse3,popcnt")]);
#[cfg(target_arch = "aarch64")]
compiled!(neon, [u8, u8, u32], #[target_feature(enable = "neon")]);
compiled!(scalar, [u8, u8, u32],);

/// Best first.
static LEVELS: &[Distances<u8, u8, u32>] = &[
    #[cfg(target_arch = "x86_64")]
    distances!("avx512", Avx512, avx512, "avx512vpopcntdq", "avx512vl", "popcnt"),
    #[cfg(target_arch = "x86_64")]
    distances!("avx2", Avx2, avx2, "popcnt"),
    #[cfg(target_arch = "x86_64")]
    distances!("sse4", Sse4, sse4, "popcnt"),
    #[cfg(target_arch = "aarch64")]
    distances!("neon", Neon, neon),
    distances!("scalar", Scalar, scalar),
];

choose_level!(Distances<u8, u8, u32>);

#[inline(always)]
fn dot(a: &[u8], b: &[u8]) -> u32 {
    count(a, b, |a, b| a & b)
}

#[inline(always)]
fn l2_squared(a: &[u8], b: &[u8]) -> u32 {
    count(a, b, |a, b| a ^ b)
}

/// The ones of `of(a, b)`.
#[inline(always)]
fn count(a: &[u8], b: &[u8], of: impl Fn(u64, u64) -> u64) -> u32 {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    let words = a_words.iter().zip(b_words).map(|(a, b)| of(word(a), word(b)).count_ones()).sum::<u32>();
    let rest = a_rest.iter().zip(b_rest).map(|(&a, &b)| of(a.into(), b.into()).count_ones()).sum::<u32>();
    words + rest
}
