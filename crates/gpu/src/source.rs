//! Points on their way to the device: centred, padded, with the squares of their lengths.
use std::ops::Range;
use std::thread;

use proximadb_kernels::distance;

use crate::tiles::Points;

/// Points looked at for the mean.
const SAMPLE: usize = 4096;

/// Points longer than so many times the median don't move the mean.
const FAR: f32 = 8.0;

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

/// The mean of those points of a sample that are of ordinary length: a huge one would put it where no other is, and
/// products would have no digits left for what tells the others apart.
fn mean(points: &Points<'_>) -> Vec<f32> {
    let mut point = vec![0.0f32; points.dim];
    let sample = || (0..points.count).step_by(points.count.div_ceil(SAMPLE).max(1));
    let square_of = |position: usize, point: &mut Vec<f32>| {
        (points.copy)(position, point);
        distance::dot(point, point)
    };
    let squares = sample().map(|position| square_of(position, &mut point));
    let mut finite: Vec<f32> = squares.filter(|square| square.is_finite()).collect();
    finite.sort_unstable_by(f32::total_cmp);
    let ordinary = finite.get(finite.len() / 2).map_or(0.0, |median| median * FAR * FAR);
    let mut sum = vec![0.0f64; points.dim];
    let mut count = 0u32;
    for position in sample() {
        if square_of(position, &mut point) <= ordinary {
            sum.iter_mut().zip(&point).for_each(|(sum, &x)| *sum += f64::from(x));
            count += 1;
        }
    }
    sum.into_iter().map(|sum| (sum / f64::from(count.max(1))) as f32).collect()
}
