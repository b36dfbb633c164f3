//! Points on their way to the device: centred, padded, with the squares of their lengths.
use std::ops::Range;
use std::thread;

use proximadb_kernels::distance;

use crate::tiles::Points;

/// Points looked at for the mean.
const SAMPLE: usize = 4096;

/// Fills buffers that are uploaded.
pub(crate) struct Staging<'a> {
    points: &'a Points<'a>,
    dim: usize,
    mean: Vec<f32>,
    pub(crate) rows: Vec<f32>,
    pub(crate) squares: Vec<f32>,
}

impl<'a> Staging<'a> {
    /// `dim`: components with padding.
    pub(crate) fn new(points: &'a Points<'a>, dim: usize) -> Staging<'a> {
        Staging { points, dim, mean: mean(points), rows: Vec::new(), squares: Vec::new() }
    }

    /// Puts points into `rows` and `squares`.
    pub(crate) fn fill(&mut self, positions: Range<usize>) {
        let (count, dim) = (positions.len(), self.dim);
        self.rows.resize(count * dim, 0.0);
        self.squares.resize(count, 0.0);
        let each = count.div_ceil(self.points.threads.max(1)).max(1);
        let (points, mean) = (self.points, &self.mean);
        thread::scope(|scope| {
            let parts = self.rows.chunks_mut(each * dim).zip(self.squares.chunks_mut(each));
            for ((rows, squares), first) in parts.zip(positions.step_by(each)) {
                scope.spawn(move || {
                    for (at, (row, square)) in rows.chunks_exact_mut(dim).zip(squares).enumerate() {
                        let (own, padding) = row.split_at_mut(points.dim);
                        (points.copy)(first + at, own);
                        own.iter_mut().zip(mean).for_each(|(x, mean)| *x -= mean);
                        padding.fill(0.0);
                        *square = distance::dot(row, row);
                    }
                });
            }
        });
    }
}

/// The mean of a sample of the points, but for those that are no numbers.
fn mean(points: &Points<'_>) -> Vec<f32> {
    let mut sum = vec![0.0f64; points.dim];
    let mut point = vec![0.0f32; points.dim];
    let mut count = 0u32;
    for position in (0..points.count).step_by(points.count.div_ceil(SAMPLE).max(1)) {
        (points.copy)(position, &mut point);
        if distance::dot(&point, &point).is_finite() {
            sum.iter_mut().zip(&point).for_each(|(sum, &x)| *sum += f64::from(x));
            count += 1;
        }
    }
    sum.into_iter().map(|sum| (sum / f64::from(count.max(1))) as f32).collect()
}
