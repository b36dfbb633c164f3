//! The nearest neighbours of all rows, by brute force, on a GPU.
//!
//! ```text
//!   points ──centre, pad──▶ slots ──▶ dots (cuBLAS, or our kernel) ──▶ select: k keys per point ──▶ found
//!            host memory     device memory, tile by tile: queries × rows
//! ```
//! G1 a list holds the k nearest other points, nearest first, up to rounding; equal distances by position.
//! G2 what does not fit the device's memory is streamed through it, with the same result. G3 nothing of
//! CUDA or OpenCL is needed to build or to start the program: libraries are looked for when [`detect`] is
//! called. G4 whatever a driver does, short of ending the process, comes back as a [`GpuError`].
//!
//! Distances are squared l2 by `|q|² + |r|² - 2 q·r`, after the points' mean was subtracted, which keeps what
//! cancels small. All that is no call of a driver ([`tiles`]) runs above the [`KnnBackend`]s, so what tests
//! show of it with one of them holds for the others.
//!
//! Besides `crates/kernels` this is the only crate with `unsafe`: calls into drivers.
#![deny(unsafe_op_in_unsafe_fn)]
#![warn(clippy::undocumented_unsafe_blocks)]

mod backend;
mod cuda;
mod detect;
#[cfg(test)]
mod device_tests;
mod error;
mod gpu;
mod opencl;
mod quiet;
mod reference;
mod source;
pub mod tiles;

pub use backend::{KnnBackend, Limits, Products, Shape, Tile};
pub use detect::{Device, Found, Kind, detect};
pub use error::GpuError;
pub use gpu::Gpu;
pub use reference::Reference;
pub use tiles::Points;

/// Neighbours per point at most: what the kernel that selects has local memory for.
pub const K_MAX: usize = 256;

/// In a list where there are fewer neighbours than were asked for.
pub const NONE: u32 = u32::MAX;
