//! Distances to rows of other elements than `f32`, in the same three forms.
//!
//! | module | query | row | result | `dot` | `l2_squared` |
//! |---|---|---|---|---|---|
//! | [`half`] | `f32` | `f16` in a `u16` | `f32` | sum of products | sum of squared differences |
//! | [`bytes`] | `i8` | `i8` | `i32`, exact | the same | the same |
//! | [`bits`] | 8 in a `u8` | 8 in a `u8` | `u32`, exact | common ones | Hamming distance |
//!
//! ```
//! use proximadb_kernels::rows::bits;
//! let (query, rows, mut out) = ([0b1100], [0b1010, 0b1100], [0; 2]);
//! bits::active().l2_squared.many(&query, &rows, &mut out);
//! assert_eq!(out, [2, 0]);
//! ```
//! Cosine distance is `dot` of vectors brought to unit length when they were written; for bytes and bits it
//! is `dot` over the root of what `dot` says of each with itself.
//!
//! R1 a level is called only after its CPU features were detected. R2 the three forms give the same bits for
//! the same pair at one level. R3 levels of whole numbers agree exactly, of floats up to rounding.
#[macro_use]
pub(crate) mod row_kernels;

mod forms;
#[macro_use]
mod compiled;

pub mod bits;
pub mod bytes;
pub mod half;
#[cfg(test)]
mod tests;

pub use forms::{Distances, Forms};
