//! Vectors in few bits per component, to walk on.
//!
//! ```text
//!   row ──(rotate,) minus the centre──▶ r ──▶ code: a vector v that points nearly where r does │ |r|², scale
//!   query ─────────the same───────────▶ q ──▶ what the kind of code asks for
//!   |r - q|² ≈ |r|² + |q|² - 2 scale · ⟨v, q⟩
//! ```
//! C1 the estimate is unbiased: `scale = |r|² / ⟨v, r⟩`, whatever the code. C2 its error is a small multiple
//! of `|r| |q|`, measured when the codes are made and kept with them. C3 the same rows, seed and SIMD
//! level give the same codes, whatever the number of threads.
//!
//! | kind | v | ⟨v, q⟩ | rotated |
//! |---|---|---|---|
//! | `rabitq` | odd numbers around zero, of 1, 2, 4 or 7 bits | whole numbers, q in bytes | yes |
//! | `bytes` | signed bytes, the greatest component 127 | whole numbers, q in bytes | no |
//! | `half` | half floats | floats | no |
//! | `product` | a codeword of 256 per group of components | a look-up per group | if that helps |
//!
//! Distances are squared l2 in the space that graphs are built in (see `space`).
//!
//! Sources: *RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical Error Bound for Approximate
//! Nearest Neighbor Search*, Gao and Long (SIGMOD 2024, arXiv:2405.12497), whose scale serves all kinds;
//! *Practical and Asymptotically Optimal Quantization of High-Dimensional Vectors in Euclidean Space for
//! Approximate Nearest Neighbor Search*, Gao et al. (SIGMOD 2025, arXiv:2409.09913) for more than one bit.
mod bytes;
mod choose;
mod coder;
mod half;
mod kind;
mod product;
mod rabitq;
mod rotation;
mod sieve;
#[cfg(test)]
mod tests;

pub(super) use choose::{still_fits, to_build_on, to_walk_on};
pub(super) use kind::Kind;
pub(super) use sieve::Sieve;

use proximadb_kernels::prefetch;

use bytes::Bytes;
use coder::{AnyCoder, Coder};
use half::Half;
use product::Product;
use rabitq::Rabitq;
use rotation::Rotation;

/// Turns vectors into codes and queries into what codes are compared with.
pub(super) struct Quantizer {
    coder: AnyCoder,
    pub(super) seed: u64,
    rotation: Option<Rotation>,
    /// Subtracted from every vector, once it is rotated.
    pub(super) centre: Vec<f32>,
    /// Standard deviation of an estimate's error in units of `2 |r| |q|`.
    pub(super) error: f32,
    /// Times more candidates that a walk on these codes keeps than one on vectors; at least 1.
    pub(super) widening: f32,
}

/// A query, or a row, in the form that codes are compared with.
#[derive(Default)]
pub(super) struct CodedQuery {
    /// `q` in whole numbers, `padded` of them.
    values: Vec<i8>,
    /// Of all values.
    sum: i32,
    /// What a whole number stands for.
    scale: f32,
    /// `|q|²`.
    square: f32,
    /// `q`.
    rotated: Vec<f32>,
    /// Per sub-space: products of `q` with each codeword.
    table: Vec<f32>,
}

impl CodedQuery {
    /// `|q|²`.
    pub(super) fn square(&self) -> f32 {
        self.square
    }

    /// Fills `values` and `scale` from `rotated`, whose length is a multiple of 8.
    fn round_to_bytes(&mut self) {
        let (greatest, _) = rabitq::greatest_and_square(&self.rotated);
        self.scale = greatest / 127.0;
        let inverse = if self.scale > 0.0 { 1.0 / self.scale } else { 0.0 };
        self.values.clear();
        self.values.extend(self.rotated.iter().map(|x| bytes::nearest_byte(x * inverse)));
    }
}

/// Deviations of an estimate's error that a row may well be off; one in a thousand lies beyond on either side.
const DEVIATIONS: f32 = 3.0;

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
    /// A kind of codes for vectors of `dim` components, with what it needs: a centre that is rotated already if
    /// `rotated`, and codebooks if it has any.
    pub(super) fn new(
        kind: Kind,
        dim: usize,
        seed: u64,
        rotated: bool,
        centre: Vec<f32>,
        codebooks: Vec<f32>,
    ) -> Quantizer {
        let coder = match kind {
            Kind::Rabitq(bits) => AnyCoder::Rabitq(Rabitq::new(bits, dim)),
            Kind::Half => AnyCoder::Half(Half::new(dim)),
            Kind::Bytes => AnyCoder::Bytes(Bytes::new(dim)),
            Kind::Product { width } => AnyCoder::Product(Product::new(dim, width, codebooks)),
        };
        Quantizer::of(coder, seed, rotated, centre)
    }

    fn of(coder: AnyCoder, seed: u64, rotated: bool, centre: Vec<f32>) -> Quantizer {
        let rotation = rotated.then(|| Rotation::new(coder.padded(), seed));
        Quantizer { coder, seed, rotation, centre, error: 0.0, widening: 1.0 }
    }

    /// What kind of codes it makes.
    pub(super) fn kind(&self) -> Kind {
        match &self.coder {
            AnyCoder::Rabitq(coder) => Kind::Rabitq(coder.bits()),
            AnyCoder::Half(_) => Kind::Half,
            AnyCoder::Bytes(_) => Kind::Bytes,
            AnyCoder::Product(coder) => Kind::Product { width: coder.width() },
        }
    }

    /// Are vectors rotated?
    pub(super) fn is_rotated(&self) -> bool {
        self.rotation.is_some()
    }

    /// The codebooks, if the kind has any.
    pub(super) fn codebooks(&self) -> &[f32] {
        match &self.coder {
            AnyCoder::Product(coder) => coder.codebooks(),
            _ => &[],
        }
    }

    /// Components of a code's vector: `dim` and zeros.
    pub(super) fn padded(&self) -> usize {
        self.coder.padded()
    }

    /// Bytes of a code.
    pub(super) fn stride(&self) -> usize {
        self.coder.stride()
    }

    /// Rotates a vector (and its lift, if the space has one) into `out`, and subtracts the centre.
    pub(super) fn residual(&self, vector: &[f32], lift: Option<f32>, out: &mut Vec<f32>) {
        out.clear();
        out.extend_from_slice(vector);
        out.extend(lift);
        out.resize(self.padded(), 0.0);
        if let Some(rotation) = &self.rotation {
            rotation.apply(out);
        }
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
        self.encode_residual(&work.residual, code, &mut work.levels)
    }

    /// Encodes what is left of a (rotated) vector after subtracting a centre. `levels`: memory.
    pub(super) fn encode_residual(
        &self,
        residual: &[f32],
        code: &mut [u8],
        levels: &mut Vec<u8>,
    ) -> [f32; FACTORS] {
        let product = self.coder.encode(residual, code, levels);
        let square = square(residual);
        [square, if product > 0.0 { square / product } else { 0.0 }]
    }

    /// Prepares a vector for comparisons.
    pub(super) fn prepare(&self, vector: &[f32], lift: Option<f32>, query: &mut CodedQuery) {
        let mut rotated = std::mem::take(&mut query.rotated);
        self.residual(vector, lift, &mut rotated);
        query.square = square(&rotated);
        query.rotated = rotated;
        self.coder.prepare(query);
    }

    /// Prepares a vector, rotated if vectors are, for comparisons with rows that were encoded around `centre`.
    pub(super) fn prepare_around(&self, rotated: &[f32], centre: &[f32], query: &mut CodedQuery) {
        query.rotated.clear();
        query.rotated.extend(rotated.iter().zip(centre).map(|(x, centre)| x - centre));
        query.square = square(&query.rotated);
        self.coder.prepare(query);
    }
}

/// Memory that encoding needs.
#[derive(Default)]
pub(super) struct EncodeWork {
    residual: Vec<f32>,
    levels: Vec<u8>,
}

impl<'a> Codes<'a> {
    /// Estimates of the squared distances from a query to rows. Panics if a row isn't there.
    #[inline]
    pub(super) fn distances(&self, query: &CodedQuery, ids: &[u32], out: &mut [f32]) {
        for &id in ids {
            prefetch::read(self.factors_of(id));
        }
        self.quantizer.coder.products(query, self.packed, ids, out);
        for (out, &id) in out.iter_mut().zip(ids) {
            let &[square, scale] = self.factors_of(id);
            *out = query.square + square - 2.0 * scale * *out;
        }
    }

    /// Makes a query of a row's code.
    pub(super) fn decode(&self, row: u32, query: &mut CodedQuery) {
        let stride = self.quantizer.stride();
        let start = row as usize * stride;
        let &[square, scale] = self.factors_of(row);
        self.quantizer.coder.decode(&self.packed[start..start + stride], scale, query);
        query.square = square;
    }

    /// A row's code and factors, as they are stored.
    pub(super) fn stored(&self, row: u32) -> (&'a [u8], [f32; FACTORS]) {
        let stride = self.quantizer.stride();
        (&self.packed[row as usize * stride..][..stride], *self.factors_of(row))
    }

    /// How far below its estimate a row's distance from the query may well be.
    #[inline]
    pub(super) fn slack(&self, query: &CodedQuery, row: u32) -> f32 {
        DEVIATIONS * self.quantizer.error * self.unit(query, row)
    }

    /// What the error of a row's estimate is a multiple of: `2 |r| |q|`.
    #[inline]
    pub(super) fn unit(&self, query: &CodedQuery, row: u32) -> f32 {
        // Each root by itself: the product of squares may be too small or too large for a number.
        2.0 * query.square.sqrt() * self.factors_of(row)[0].sqrt()
    }

    #[inline]
    fn factors_of(&self, row: u32) -> &[f32; FACTORS] {
        &self.factors.as_chunks::<FACTORS>().0[row as usize]
    }
}

/// The sum of squares, in one order.
fn square(values: &[f32]) -> f32 {
    let (blocks, rest) = values.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for block in blocks {
        for lane in 0..8 {
            sums[lane] += block[lane] * block[lane];
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}
