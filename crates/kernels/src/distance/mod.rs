//! Distances between `f32` vectors, at the machine's best level.
//!
//! ```text
//!   dot · l2_squared            one pair
//!   dot_many · l2_squared_many  one query against contiguous rows (exact scans)
//!   dot_ids · l2_squared_ids    one query against rows by number, prefetched (graph walks)
//!   dot_block · l2_squared_block   many queries against contiguous rows (batches, builds)
//! ```
//! K1 a level is called only after its CPU features were detected. K2 the four forms give the same
//! bits for the same pair at one level, so scores from scans and from walks agree. K3 levels differ
//! from each other in rounding only.
//!
//! The level is chosen once: AVX-512, AVX2 with FMA, AVX, SSE2, scalar on x86-64; NEON, scalar on aarch64.
//! `PROXIMADB_SIMD=scalar|sse2|sse4|avx|avx2|avx512|neon` overrides it, here and in every other family.
#[macro_use]
mod block_kernels;

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod level;
pub(crate) mod scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) mod sse2;
#[cfg(test)]
mod tests;
mod vector;

pub use level::Kernels;
pub use vector::{all_finite, normalize};

/// Sum of products. Panics if the lengths differ.
#[inline]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    Kernels::active().dot(a, b)
}

/// Sum of squared differences. Panics if the lengths differ.
#[inline]
pub fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    Kernels::active().l2_squared(a, b)
}

/// `out[i] = dot(query, row i)`. Panics unless `rows` holds `out.len()` rows of `query.len()`.
#[inline]
pub fn dot_many(query: &[f32], rows: &[f32], out: &mut [f32]) {
    Kernels::active().dot_many(query, rows, out);
}

/// `out[i] = l2_squared(query, row i)`. Panics unless `rows` holds `out.len()` rows of `query.len()`.
#[inline]
pub fn l2_squared_many(query: &[f32], rows: &[f32], out: &mut [f32]) {
    Kernels::active().l2_squared_many(query, rows, out);
}

/// `out[i] = dot(query, row ids[i])`. Panics if `ids` and `out` differ in length or a row isn't there.
#[inline]
pub fn dot_ids(query: &[f32], rows: &[f32], ids: &[u32], out: &mut [f32]) {
    Kernels::active().dot_ids(query, rows, ids, out);
}

/// `out[i] = l2_squared(query, row ids[i])`. Panics if `ids` and `out` differ in length or a row isn't
/// there.
#[inline]
pub fn l2_squared_ids(query: &[f32], rows: &[f32], ids: &[u32], out: &mut [f32]) {
    Kernels::active().l2_squared_ids(query, rows, ids, out);
}

/// `out[q · count + r] = dot(query q, row r)`, where `rows` are `count` rows of `dim`. Panics unless `queries` and
/// `rows` are whole vectors and `out` has a place for each pair.
#[inline]
pub fn dot_block(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
    Kernels::active().dot_block(queries, rows, dim, out);
}

/// `out[q · count + r] = l2_squared(query q, row r)`; otherwise as [`dot_block`].
#[inline]
pub fn l2_squared_block(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
    Kernels::active().l2_squared_block(queries, rows, dim, out);
}

/// The level in use: `avx512`, `avx2`, `avx`, `sse2`, `neon` or `scalar`.
pub fn level() -> &'static str {
    Kernels::active().name()
}
