//! A device that finds near rows, as graph builds see it.
use std::ops::ControlFlow;

/// In a list where there are fewer neighbours than were asked for.
pub const NO_NEIGHBOUR: u32 = u32::MAX;

/// Points in the space that graphs are built in: squared l2.
pub struct Points<'a> {
    /// How many.
    pub count: usize,
    /// Neighbours are looked for among so many, the first ones.
    pub among: usize,
    /// Components of each.
    pub dim: usize,
    /// Threads that copy.
    pub threads: usize,
    /// Copies the point at a position: `dim` components.
    pub copy: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// Finds the nearest neighbours of many points at once.
///
/// Contract
/// * `nearest` hands to `found`, in order, the position of the first of some points and for each of them a list of `k`
///   positions of other points below `among`, nearest first, [`NO_NEIGHBOUR`] where there are fewer.
/// * Which of nearly equal distances comes first is not said; a list without a near point now and then does no harm.
/// * `go_on` is told the part of the comparisons that is done, again and again, 0 while it waits for the device. Once
///   one of the two breaks, nothing more is computed, and the outcome is `Cancelled`.
/// * It may fail after some points were reported, and must not panic.
pub trait Neighbours: Send + Sync {
    /// What does it, for logs.
    fn name(&self) -> &str;

    /// How many neighbours it can find.
    fn k_max(&self) -> usize;

    /// Finds them. Waits while another build has the device.
    fn nearest(
        &self,
        points: &Points<'_>,
        k: usize,
        go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
        found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), NeighboursError>;
}

/// Why there are no neighbours.
#[derive(Debug, thiserror::Error)]
pub enum NeighboursError {
    /// The caller asked for it.
    #[error("cancelled")]
    Cancelled,
    /// The device, its driver, or its memory.
    #[error(transparent)]
    Failed(#[from] Box<dyn std::error::Error + Send + Sync>),
}
