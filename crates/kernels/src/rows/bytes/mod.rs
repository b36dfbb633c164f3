//! Rows of signed bytes, exact in whole numbers.
//!
//! Sums have room for 32,768 dimensions of the greatest values; beyond that they may wrap, at all levels alike.
use crate::rows::forms::{Distances, choose_level, distances};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(target_arch = "x86_64")]
compiled!(sse4, [i8, i8, i32], #[target_feature(enable = "sse4.1,ssse3")]);
#[cfg(target_arch = "aarch64")]
compiled!(neon, [i8, i8, i32], #[target_feature(enable = "neon")]);
compiled!(scalar, [i8, i8, i32],);

/// Best first.
static LEVELS: &[Distances<i8, i8, i32>] = &[
    #[cfg(target_arch = "x86_64")]
    distances!("avx512vnni", Avx512, vnni, "avx512vnni"),
    #[cfg(target_arch = "x86_64")]
    distances!("avx2", Avx2, avx2),
    #[cfg(target_arch = "x86_64")]
    distances!("sse4", Sse4, sse4),
    #[cfg(target_arch = "aarch64")]
    distances!("neon", Neon, neon),
    distances!("scalar", Scalar, scalar),
];

choose_level!(Distances<i8, i8, i32>);

#[inline(always)]
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}

#[inline(always)]
fn l2_squared(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).fold(0i32, |sum, (&a, &b)| {
        let difference = i16::from(a) - i16::from(b);
        sum.wrapping_add(i32::from(difference) * i32::from(difference))
    })
}
