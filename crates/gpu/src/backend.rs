//! What a device has to do; everything else is done above it.
use std::ops::Range;

use crate::{Device, GpuError};

/// A device that compares points, tile by tile.
///
/// Contract
/// * A slot holds points of `Shape::dim` components, queries always in slot 0. Each point of slot 0 has a list of
///   `Shape::k` keys, rising: squared distance (as the bits of an f32 that is not negative) in the upper half,
///   position in the lower; `u64::MAX` where there are fewer.
/// * `compare` puts into the lists of a tile's queries what is nearer among its rows; a point is not its own
///   neighbour. Distances that are no numbers, or infinite, count for nothing.
/// * What is asked for is done in that order. `compare` may return before it is done, and its failure be told by a
///   later call.
/// * After an error the device may be used again from `begin` on, or be given up.
pub trait KnnBackend: Send {
    /// Which device it is.
    fn device(&self) -> &Device;

    /// What computes products.
    fn products(&self) -> Products;

    /// What may be allocated now.
    fn limits(&self) -> Result<Limits, GpuError>;

    /// Allocates; frees what was allocated before.
    fn begin(&mut self, shape: Shape) -> Result<(), GpuError>;

    /// Writes points and the squares of their lengths into a slot, from place `at` on.
    fn upload(&mut self, slot: usize, at: usize, points: &[f32], squares: &[f32]) -> Result<(), GpuError>;

    /// Empties the lists.
    fn clear(&mut self) -> Result<(), GpuError>;

    /// Has all queries of a tile compared with all its rows.
    fn compare(&mut self, tile: &Tile) -> Result<(), GpuError>;

    /// Waits until all that was asked for is done.
    fn wait(&mut self) -> Result<(), GpuError>;

    /// Waits for what was asked for and reads the lists of places in slot 0.
    fn read(&mut self, queries: Range<usize>, lists: &mut [u64]) -> Result<(), GpuError>;

    /// Frees what was allocated.
    fn end(&mut self);
}

/// What computes products, which is most of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Products {
    /// A library or a kernel.
    pub by: &'static str,
    /// Why nothing faster does.
    pub slow_because: Option<String>,
}

/// Device memory that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// By all buffers together.
    pub bytes: usize,
    /// By one.
    pub buffer_bytes: usize,
}

/// What has to be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Components of a point, a multiple of [`Shape::DIM_STEP`].
    pub dim: usize,
    /// Keys of a list, 1 to [`crate::K_MAX`].
    pub k: usize,
    /// 1 or 2.
    pub slots: usize,
    /// Points of a slot at most.
    pub slot_points: usize,
    /// Queries of a tile at most.
    pub tile_queries: usize,
    /// Rows of a tile at most.
    pub tile_rows: usize,
}

impl Shape {
    /// Components are read so many at once.
    pub const DIM_STEP: usize = 16;
}

/// One step of the work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Places in slot 0.
    pub queries: Range<usize>,
    /// Position of slot 0's first point among all points.
    pub queries_first: usize,
    /// The slot of the rows: 0 where they are the queries' own.
    pub row_slot: usize,
    /// Places in it.
    pub rows: Range<usize>,
    /// Position of its first point.
    pub rows_first: usize,
}

/// A key that is farther than all others.
pub(crate) const EMPTY: u64 = u64::MAX;
