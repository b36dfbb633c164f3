//! Products of a query of bytes with rows of packed codes, exact in whole numbers.
//!
//! ```text
//!   a row: blocks of 32 bytes             one block of 4-bit codes: 64 dimensions
//!   ┌────────┬────────┬────────┐          byte      0       1    …   31
//!   │ block 0│ block 1│   …    │          low    dim 0   dim 1    dim 31
//!   └────────┴────────┴────────┘          high   dim 32  dim 33   dim 63
//! ```
//! With B bits a code (1, 2 or 4), bits `i·B` to `i·B + B` of byte `j` in block `b` hold dimension
//! `256/B · b + 32·i + j`: a shift and a mask line 32 codes up with 32 neighbours of the query, at every
//! width of register. Codes of 7 bits take a byte each. Rows are padded to whole blocks, with zeros.
//!
//! C1 a kernel reads a row and a query only where they were found to be long enough. C2 all levels give
//! the same whole number. C3 no sum overflows: 16-bit sums are widened before they can (see
//! `code_kernels`), and 32-bit sums have room for [`DIM_MAX`] products.
//!
//! The level is chosen once: AVX-512 with VNNI, AVX-512BW, AVX-VNNI, AVX2, SSE4 on x86-64; NEON with and
//! without dot products on aarch64; scalar.
#[macro_use]
mod code_kernels;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_vnni;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod centred;
mod layout;
mod level;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(target_arch = "aarch64")]
mod neon_dot;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod sse4;
#[cfg(test)]
mod tests;
mod within;

pub use centred::unpack_centred;
pub use layout::{Bits, pack, unpack};
pub use level::Kernels;
pub use within::Within;

/// Bytes of a block.
pub const BLOCK: usize = 32;

/// The most dimensions of a query. The greatest product is 127 · 128: 2³⁰ in all.
pub const DIM_MAX: usize = 1 << 16;

/// `Σ query[d] · code[d]` of one row. Panics as [`dot_many`] does.
#[inline]
pub fn dot(bits: Bits, query: &[i8], row: &[u8]) -> i32 {
    let mut out = [0];
    Kernels::active().dot_many(bits, query, row, &mut out);
    out[0]
}

/// `out[i] = Σ query[d] · code[d]` of row `i`, for rows that lie one behind the other.
///
/// `query` has [`Bits::padded_dim`] values, 0 where there is no dimension; `codes` has `out.len()` rows of
/// [`Bits::stride`] bytes. Panics unless they do.
#[inline]
pub fn dot_many(bits: Bits, query: &[i8], codes: &[u8], out: &mut [i32]) {
    Kernels::active().dot_many(bits, query, codes, out);
}

/// `out[i] = Σ query[d] · code[d]` of row `ids[i]`, prefetched: rows may lie anywhere.
///
/// Panics if `ids` and `out` differ in length, a row isn't there, or lengths aren't whole blocks.
#[inline]
pub fn dot_ids(bits: Bits, query: &[i8], codes: &[u8], ids: &[u32], out: &mut [i32]) {
    Kernels::active().dot_ids(bits, query, codes, ids, out);
}

/// `out[i] = Σ query[d] · code[d]` of row `ids[i]` over its first dimensions alone, as many as `query` has.
/// Prefetched; rows are `stride` bytes long.
///
/// Panics as [`dot_ids`] does.
#[inline]
pub fn dot_prefixes(bits: Bits, query: &[i8], codes: &[u8], stride: usize, ids: &[u32], out: &mut [i32]) {
    Kernels::active().dot_prefixes(bits, query, codes, stride, ids, out);
}

/// The level in use, as [`Kernels::name`] says it.
pub fn level() -> &'static str {
    Kernels::active().name()
}
