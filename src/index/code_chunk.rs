//! Some hundred rows in 8 bits per component, and how near a row can be at least.
//!
//! ```text
//!   row x ── minus the mean c ──▶ y = scale · u + r      u: a byte per component, |r| kept
//!   query q ──────▶ v ≈ step · w + e                     w: a byte per component, |e| known
//!   v·y = step · scale · (w·u)  +  e·(scale · u)  +  v·r
//!         one integer product      ≤ |e| |scale · u|  ≤ |v| |r|          (Cauchy and Schwarz)
//! ```
//! B1 no row's distance, as the float kernels compute it, is below its bound: what is passed over can't be among the
//! nearest. Not "hardly ever": the bound holds for every row and query, rounding included.
//!
//! v is q where rows are compared by their product with it (q·x = q·c + q·y), and q − c for l2
//! (|q − x|² = |v|² + |y|² − 2 v·y). Every rounding error is a part of `|v| |y|` and the like that grows with the
//! number of components; [`rounding`] is four times what they come to.
use proximadb_kernels::distance;
use proximadb_kernels::rows::bytes;

use super::VectorBlock;
use crate::types::Distance;

/// Rows coded together. Their centre and query take one pass each; a scan looks at the clock and at its bound between
/// chunks. A multiple of 64, so that sets of rows can be cut at chunks.
pub(super) const CHUNK_ROWS: usize = 512;

/// Components beyond which products of bytes may wrap.
const DIM_MAX: usize = 32_768;

/// Components that are greater, squared and summed, come near to what a float holds: such rows have no bound.
const COMPONENT_MAX: f32 = 1e15;

/// What squares too small for a float can hide of a length: the root of `DIM_MAX` of the least floats, and more.
const LENGTH_MIN: f32 = 1e-19;

/// Steps smaller than this are none: their inverse would be no number.
const STEP_MIN: f32 = 1e-30;

/// What products too small for a float can hide of a distance.
const DISTANCE_MIN: f32 = 1e-30;

/// The most that rounding adds to a sum of `dim` products, as a share of the lengths' product; four times that.
/// Source: *Accuracy and Stability of Numerical Algorithms*, Higham (2002), section 3.1: (dim + some) · 2^-24.
fn rounding(dim: usize) -> f32 {
    (dim + 16) as f32 / (1 << 22) as f32
}

/// May codes be made of rows so long?
pub(super) fn can_code(dim: usize) -> bool {
    (1..=DIM_MAX).contains(&dim)
}

/// The codes of up to [`CHUNK_ROWS`] rows.
#[derive(Debug)]
pub(super) struct CodeChunk {
    /// The rows' mean.
    centre: Vec<f32>,
    /// `rows × dim`.
    codes: Vec<i8>,
    rows: Vec<RowFactors>,
}

/// What a row's code doesn't say. All but `scale` are bounds, on the safe side of rounding.
#[derive(Debug, Clone, Copy)]
struct RowFactors {
    /// What one step of the code is worth.
    scale: f32,
    /// At least `|r|`; infinite where the row has no bound.
    residual: f32,
    /// At least `|y|` and `|scale · u|`.
    length: f32,
    /// At most `|y|²` less its part of the rounding; 0 but for l2.
    square: f32,
}

impl RowFactors {
    /// Of a row that is always looked at.
    const UNKNOWN: Self = Self { scale: 0.0, residual: f32::INFINITY, length: 0.0, square: 0.0 };
}

/// A query as a chunk's rows are compared with it: a bound is
/// `base + square - step · scale · product - length · residual - residual' · length'`.
#[derive(Debug, Default)]
pub(super) struct Aim {
    /// v.
    vector: Vec<f32>,
    /// w.
    values: Vec<i8>,
    /// Does `values` hold the query itself, which is the same for all chunks?
    is_ready: bool,
    step: f32,
    /// At least `|v|`, `|e|`.
    length: f32,
    residual: f32,
    /// All of it for the chunk aimed at; twice the above for l2.
    factors: AimFactors,
    products: Vec<i32>,
}

#[derive(Debug, Default, Clone, Copy)]
struct AimFactors {
    base: f32,
    step: f32,
    residual: f32,
    length: f32,
}

impl Aim {
    /// Codes `vector`. False if it is too long for bounds.
    fn code(&mut self) -> bool {
        let greatest = greatest(&self.vector);
        if greatest.is_nan() || greatest >= COMPONENT_MAX {
            return false;
        }
        self.values.resize(self.vector.len(), 0);
        let length = distance::dot(&self.vector, &self.vector).sqrt();
        (self.step, self.residual) = code(&mut self.vector, greatest, length, &mut self.values);
        self.length = length * (1.0 + rounding(self.vector.len())) + LENGTH_MIN;
        true
    }
}

impl CodeChunk {
    /// Codes rows.
    pub(super) fn new(block: VectorBlock<'_>) -> Self {
        let dim = block.dim;
        let centre = centre(block);
        let mut codes = vec![0; block.rows.len()];
        let mut work = vec![0.0; dim];
        let rows = block.rows.chunks_exact(dim).zip(codes.chunks_exact_mut(dim));
        let rows = rows.map(|(row, code)| code_row(row, &centre, block.distance, code, &mut work)).collect();
        Self { centre, codes, rows }
    }

    /// Bytes of memory that so many rows take.
    pub(super) fn bytes(rows: usize, dim: usize) -> usize {
        rows * (dim + size_of::<RowFactors>()) + dim * size_of::<f32>() + size_of::<Self>()
    }

    /// Makes `aim` the query for this chunk's rows. False if there are no bounds for it.
    pub(super) fn aim(&self, query: &[f32], kind: Distance, aim: &mut Aim) -> bool {
        let rounding = rounding(query.len());
        if kind == Distance::L2 {
            aim.vector.clear();
            aim.vector.extend(query.iter().zip(&self.centre).map(|(x, centre)| x - centre));
            // Before it is coded, which leaves what the code lacks.
            let square = distance::dot(&aim.vector, &aim.vector);
            if !aim.code() {
                return false;
            }
            aim.factors = AimFactors {
                base: square * (1.0 - 4.0 * rounding) - DISTANCE_MIN,
                step: 2.0 * aim.step,
                residual: 2.0 * aim.residual,
                length: 2.0 * aim.length,
            };
            return true;
        }
        if !aim.is_ready {
            aim.vector.clear();
            aim.vector.extend_from_slice(query);
            aim.is_ready = aim.code();
        }
        let base = if kind == Distance::Cosine { 1.0 } else { 0.0 };
        let centre_length = distance::dot(&self.centre, &self.centre).sqrt() * (1.0 + rounding) + LENGTH_MIN;
        let lost = rounding * (base + aim.length * centre_length) + DISTANCE_MIN;
        aim.factors = AimFactors {
            base: base - distance::dot(query, &self.centre) - lost,
            step: aim.step,
            residual: aim.residual + rounding * aim.length,
            length: aim.length,
        };
        aim.is_ready
    }

    /// What each row's distance from the query is at least, by internal distance.
    #[allow(clippy::indexing_slicing)]
    pub(super) fn bounds(&self, aim: &mut Aim, out: &mut Vec<f32>) {
        aim.products.resize(self.rows.len(), 0);
        bytes::active().dot.many(&aim.values, &self.codes, &mut aim.products);
        let factors = aim.factors;
        out.clear();
        out.extend(self.rows.iter().zip(&aim.products).map(|(row, &product)| factors.bound(row, product)));
    }

    /// The same for some rows. Panics if a row isn't there.
    #[allow(clippy::indexing_slicing)]
    pub(super) fn bounds_ids(&self, aim: &mut Aim, ids: &[u32], out: &mut Vec<f32>) {
        aim.products.resize(ids.len(), 0);
        bytes::active().dot.ids(&aim.values, &self.codes, ids, &mut aim.products);
        let factors = aim.factors;
        out.clear();
        let rows = ids.iter().zip(&aim.products);
        out.extend(rows.map(|(&id, &product)| factors.bound(&self.rows[id as usize], product)));
    }
}

impl AimFactors {
    #[inline]
    fn bound(&self, row: &RowFactors, product: i32) -> f32 {
        let estimate = self.base + row.square - self.step * row.scale * product as f32;
        estimate - self.length * row.residual - self.residual * row.length
    }
}

fn code_row(row: &[f32], centre: &[f32], kind: Distance, code_of: &mut [i8], work: &mut [f32]) -> RowFactors {
    for ((y, x), centre) in work.iter_mut().zip(row).zip(centre) {
        *y = x - centre;
    }
    let greatest = greatest(work);
    if greatest.is_nan() || greatest >= COMPONENT_MAX {
        return RowFactors::UNKNOWN;
    }
    let rounding = rounding(row.len());
    let square = distance::dot(work, work);
    let own = square.sqrt();
    let (scale, residual) = code(work, greatest, own, code_of);
    let length = (own + residual) * (1.0 + rounding) + LENGTH_MIN;
    let square = match kind {
        Distance::L2 => square * (1.0 - rounding) - 2.0 * rounding * length * length,
        Distance::Cosine | Distance::Dot => 0.0,
    };
    RowFactors { scale, residual, length, square }
}

/// Codes `vector`, whose greatest component and length are given, and leaves in it what the code lacks. Returns what
/// a step is worth, and at least the length of what lacks.
fn code(vector: &mut [f32], greatest: f32, length: f32, code: &mut [i8]) -> (f32, f32) {
    let step = greatest / 127.0;
    let (step, inverse) = if step > STEP_MIN { (step, 1.0 / step) } else { (0.0, 0.0) };
    for (x, code) in vector.iter_mut().zip(code) {
        // Adding 1.5 · 2^23 leaves the nearest integer in the lowest bits; rounding would be a call.
        *code = (*x * inverse + 12_582_912.0).to_bits() as i8;
        *x -= f32::from(*code) * step;
    }
    let residual = distance::dot(vector, vector).sqrt();
    // The differences themselves were rounded, each by a part of its component.
    let rounded = (2.0 * length + residual) / (1 << 20) as f32;
    (step, residual * (1.0 + rounding(vector.len())) + rounded + LENGTH_MIN)
}

/// The greatest size of a component; NaN if one is.
fn greatest(vector: &[f32]) -> f32 {
    // As bits sizes are in order, and NaN is above all.
    f32::from_bits(vector.iter().map(|x| x.to_bits() & (u32::MAX >> 1)).max().unwrap_or(0))
}

/// The rows' mean: any centre is right, this one makes the rest small. Zeros if it is no number or a huge one.
fn centre(block: VectorBlock<'_>) -> Vec<f32> {
    let mut centre = vec![0.0; block.dim];
    for row in block.rows.chunks_exact(block.dim) {
        centre.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let count = block.len().max(1) as f32;
    centre.iter_mut().for_each(|sum| *sum /= count);
    let greatest = greatest(&centre);
    if greatest.is_nan() || greatest >= COMPONENT_MAX {
        centre.fill(0.0);
    }
    centre
}

#[cfg(test)]
#[path = "code_chunk_tests.rs"]
mod tests;
