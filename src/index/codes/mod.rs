//! Vectors in a few bits per component, to walk on.
//!
//! ```text
//!   row ──rotate, minus the centre──▶ r ──▶ u: bits per component │ |r|², scale
//!   query ─────────────the same────▶ q ──▶ i8 per component
//!   |r - q|² ≈ |r|² + |q|² - 2 scale · ⟨2u - (2^bits - 1), q⟩        one integer dot product
//! ```
//! C1 the estimate is unbiased: `scale = |r|² / ⟨2u - (2^bits - 1), r⟩`. C2 its error is a small multiple of
//! `|r| |q|`, measured when the codes are made and kept with them. C3 the same rows, seed and SIMD
//! level give the same codes, whatever the number of threads.
//!
//! Distances are squared l2 in the space that graphs are built in (see `space`).
//!
//! Sources: *RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search*, Gao and Long (SIGMOD 2024, arXiv:2405.12497); *Practical and Asymptotically
//! Optimal Quantization of High-Dimensional Vectors in Euclidean Space for Approximate Nearest Neighbor
//! Search*, Gao et al. (SIGMOD 2025, arXiv:2409.09913) for more than one bit.
mod choose;
mod encode;
mod rotation;
#[cfg(test)]
mod tests;

pub(super) use choose::choose;

use proximadb_kernels::codes::{self, Bits};
use proximadb_kernels::prefetch;

use rotation::Rotation;

/// Turns vectors into codes and queries into what codes are compared with.
pub(super) struct Quantizer {
    pub(super) bits: Bits,
    /// Components of a vector in the space of the build.
    pub(super) dim: usize,
    pub(super) seed: u64,
    rotation: Rotation,
    /// Rotated: what is subtracted from every vector.
    pub(super) centre: Vec<f32>,
    /// Standard deviation of an estimate's error in units of `2 |r| |q|`.
    pub(super) error: f32,
}

/// A query, or a row, in the form that codes are compared with.
#[derive(Default)]
pub(super) struct CodedQuery {
    /// Integers, `padded` of them.
    values: Vec<i8>,
    /// Of all values.
    sum: i32,
    /// What an integer stands for.
    scale: f32,
    /// `|q|²`.
    square: f32,
    rotated: Vec<f32>,
}

/// Numbers kept beside each row's code: `|r|²` and the scale.
pub(super) const FACTORS: usize = 2;

/// The codes of a segment's rows.
#[derive(Clone, Copy)]
pub(super) struct Codes<'a> {
    pub(super) quantizer: &'a Quantizer,
    /// `rows × FACTORS`.
    pub(super) factors: &'a [f32],
    /// `rows × stride` bytes.
    pub(super) packed: &'a [u8],
}

impl Quantizer {
    /// With a centre that is rotated already.
    pub(super) fn new(bits: Bits, dim: usize, seed: u64, centre: Vec<f32>, error: f32) -> Quantizer {
        let rotation = Rotation::new(bits.padded_dim(dim), seed);
        Quantizer { bits, dim, seed, rotation, centre, error }
    }

    /// Components of a code: `dim` and zeros.
    pub(super) fn padded(&self) -> usize {
        self.bits.padded_dim(self.dim)
    }

    /// Bytes of a code.
    pub(super) fn stride(&self) -> usize {
        self.bits.stride(self.dim)
    }

    /// Rotates a vector (and its lift, if the space has one) into `out`, and subtracts the centre.
    pub(super) fn residual(&self, vector: &[f32], lift: Option<f32>, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(vector);
        out.extend(lift);
        out.resize(self.padded(), 0.0);
        self.rotation.apply(out);
        out.iter_mut().zip(&self.centre).for_each(|(x, centre)| *x -= centre);
    }

    /// Encodes a vector: `stride` bytes into `code`, and the factors.
    pub(super) fn encode(
        &self,
        vector: &[f32],
        lift: Option<f32>,
        code: &mut [u8],
        work: &mut EncodeWork,
    ) -> [f32; FACTORS] {
        self.residual(vector, lift, &mut work.residual);
        let factors = encode::encode(self.bits, &work.residual, &mut work.levels);
        codes::pack(self.bits, &work.levels, code);
        factors
    }

    /// Encodes what is left of a rotated vector after subtracting a centre of the caller's.
    pub(super) fn encode_residual(
        &self,
        residual: &[f32],
        code: &mut [u8],
        work: &mut EncodeWork,
    ) -> [f32; FACTORS] {
        let factors = encode::encode(self.bits, residual, &mut work.levels);
        codes::pack(self.bits, &work.levels, code);
        factors
    }

    /// Prepares a vector for comparisons.
    pub(super) fn prepare(&self, vector: &[f32], lift: Option<f32>, query: &mut CodedQuery) {
        let mut rotated = std::mem::take(&mut query.rotated);
        self.residual(vector, lift, &mut rotated);
        query.set(rotated);
    }

    /// Prepares a rotated vector for comparisons with rows that were encoded around `centre`.
    pub(super) fn prepare_around(&self, rotated: &[f32], centre: &[f32], query: &mut CodedQuery) {
        let mut residual = std::mem::take(&mut query.rotated);
        residual.clear();
        residual.extend(rotated.iter().zip(centre).map(|(x, centre)| x - centre));
        query.set(residual);
    }
}

impl CodedQuery {
    /// `|q|²`.
    pub(super) fn square(&self) -> f32 {
        self.square
    }

    /// Makes integers of a rotated residual.
    fn set(&mut self, rotated: Vec<f32>) {
        let query = self;
        let (greatest, square) = encode::greatest_and_square(&rotated);
        query.square = square;
        query.scale = greatest / 127.0;
        let inverse = if query.scale > 0.0 { 1.0 / query.scale } else { 0.0 };
        query.values.clear();
        // Adding 1.5 · 2^23 leaves the nearest integer in the lowest bits; rounding would be a call.
        query.values.extend(rotated.iter().map(|x| (x * inverse + 12_582_912.0).to_bits() as i8));
        query.sum = query.values.iter().map(|&value| i32::from(value)).sum();
        query.rotated = rotated;
    }
}

/// Memory that encoding needs.
#[derive(Default)]
pub(super) struct EncodeWork {
    residual: Vec<f32>,
    levels: Vec<u8>,
}

impl Codes<'_> {
    /// Estimates of the squared distances from a query to rows. Panics if a row isn't there.
    #[inline]
    pub(super) fn distances(&self, query: &CodedQuery, ids: &[u32], out: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut dots = [0; AT_ONCE];
        let (bits, middle) = (self.quantizer.bits, middle(self.quantizer.bits));
        let offset = middle * query.sum;
        for (ids, out) in ids.chunks(AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
            for &id in ids {
                prefetch::read(self.factors_of(id));
            }
            let dots = &mut dots[..ids.len()];
            codes::dot_ids(bits, &query.values, self.packed, ids, dots);
            for ((out, &dot), &id) in out.iter_mut().zip(dots.iter()).zip(ids) {
                let &[square, scale] = self.factors_of(id);
                let product = (2 * dot - offset) as f32 * query.scale;
                *out = query.square + square - 2.0 * scale * product;
            }
        }
    }

    /// The same for rows that lie one behind the other, from `first` on.
    #[inline]
    pub(super) fn distances_run(&self, query: &CodedQuery, first: u32, out: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut dots = [0; AT_ONCE];
        let (bits, stride) = (self.quantizer.bits, self.quantizer.stride());
        let offset = middle(bits) * query.sum;
        let first = first as usize;
        let rows = self.packed[first * stride..].chunks(AT_ONCE * stride);
        let factors = self.factors.as_chunks::<FACTORS>().0[first..].chunks(AT_ONCE);
        for ((out, rows), factors) in out.chunks_mut(AT_ONCE).zip(rows).zip(factors) {
            let dots = &mut dots[..out.len()];
            codes::dot_many(bits, &query.values, &rows[..out.len() * stride], dots);
            for ((out, &dot), &[square, scale]) in out.iter_mut().zip(dots.iter()).zip(factors) {
                let product = (2 * dot - offset) as f32 * query.scale;
                *out = query.square + square - 2.0 * scale * product;
            }
        }
    }

    /// Makes a query of a row's code.
    pub(super) fn decode(&self, row: u32, query: &mut CodedQuery) {
        let stride = self.quantizer.stride();
        let start = row as usize * stride;
        let &[square, scale] = self.factors_of(row);
        query.values.resize(self.quantizer.padded(), 0);
        let code = &self.packed[start..start + stride];
        query.sum = codes::unpack_centred(self.quantizer.bits, code, &mut query.values);
        (query.scale, query.square) = (scale, square);
    }

    /// How far below its estimate a row's distance from the query may well be.
    #[inline]
    pub(super) fn slack(&self, query: &CodedQuery, row: u32) -> f32 {
        /// Of an estimate's error; one row in a thousand lies beyond.
        const DEVIATIONS: f32 = 3.0;
        DEVIATIONS * self.quantizer.error * self.unit(query, row)
    }

    /// What the error of a row's estimate is a multiple of: `2 |r| |q|`.
    #[inline]
    pub(super) fn unit(&self, query: &CodedQuery, row: u32) -> f32 {
        2.0 * (query.square * self.factors_of(row)[0]).sqrt()
    }

    #[inline]
    fn factors_of(&self, row: u32) -> &[f32; FACTORS] {
        &self.factors.as_chunks::<FACTORS>().0[row as usize]
    }
}

/// Levels `u` stand for `2u - middle`: odd numbers around zero.
fn middle(bits: Bits) -> i32 {
    i32::from(bits.max())
}
