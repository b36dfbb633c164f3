//! Rows of half floats (IEEE binary16 in a `u16`): half the memory of `f32`, three decimal digits.
//!
//! The query stays `f32`; rows are widened in registers, which is exact, and sums are `f32`.
use super::forms::{Distances, choose_level, distances};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod convert;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;

pub use convert::{from_half, narrow, to_half, widen};

/// Best first.
static LEVELS: &[Distances<f32, u16, f32>] = &[
    #[cfg(target_arch = "x86_64")]
    distances!("avx512", Avx512, avx512),
    #[cfg(target_arch = "x86_64")]
    distances!("avx2", Avx2, avx2, "f16c"),
    #[cfg(target_arch = "aarch64")]
    distances!("neon", Neon, neon),
    distances!("scalar", Scalar, scalar),
];

choose_level!(Distances<f32, u16, f32>);
