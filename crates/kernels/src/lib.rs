//! Every `unsafe` block of ProximaDB: SIMD kernels, memory maps, huge pages, thread priorities.
//!
//! The rest of the product is `#![forbid(unsafe_code)]`; what it needs of the machine it gets here,
//! behind safe functions that check their arguments.
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

#[macro_use]
mod feature;

// The macros of the loops come first.
#[macro_use]
pub mod rows;

pub mod codes;
pub mod distance;
pub mod heap;
pub mod hadamard;
pub mod huge;
pub mod links;
pub mod map;
pub mod prefetch;
pub mod priority;
pub mod product;
pub mod residency;
pub mod sets;
pub mod simd;
pub mod writeback;
