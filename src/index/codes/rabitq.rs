//! Extended RaBitQ: levels `u` of few bits per component, compared with bytes.
//!
//! `v = 2u - (2^bits - 1)`, odd numbers around zero; a product is one of whole numbers. Seven bits take a
//! byte, which two products of bytes summed in 16 bits have room for; for an eighth there is [`Bytes`](super::Bytes).
use proximadb_kernels::codes::{self, Bits};

use super::CodedQuery;
use super::coder::Coder;

/// So many bits per component.
pub(in crate::index) struct Rabitq {
    bits: Bits,
    dim: usize,
}

impl Rabitq {
    pub(super) fn new(bits: Bits, dim: usize) -> Rabitq {
        Rabitq { bits, dim }
    }

    pub(super) fn bits(&self) -> Bits {
        self.bits
    }
}

/// Width of a level in standard deviations: the best uniform quantizer of normally distributed values,
/// which a rotation makes of any. Source: *Quantizing for Minimum Distortion*, Max (IRE Trans. 1960),
/// table II; 7 bits extrapolated.
fn step_of(bits: Bits) -> f32 {
    match bits {
        Bits::One => 1.596,
        Bits::Two => 0.9957,
        Bits::Four => 0.3352,
        Bits::Seven => 0.0575,
    }
}

/// Levels `u` stand for `2u - middle`.
pub(super) fn middle(bits: Bits) -> i32 {
    i32::from(bits.max())
}

impl Coder for Rabitq {
    fn padded(&self) -> usize {
        self.bits.padded_dim(self.dim)
    }

    fn stride(&self) -> usize {
        self.bits.stride(self.dim)
    }

    fn encode(&self, residual: &[f32], code: &mut [u8], levels: &mut Vec<u8>) -> f32 {
        let (_, square) = greatest_and_square(residual);
        levels.clear();
        let deviation = (square / residual.len().max(1) as f32).sqrt();
        if !(deviation > 0.0 && deviation.is_finite()) {
            // The centre itself, or what isn't numbers: any code will do at scale 0.
            code.fill(0);
            return 0.0;
        }
        let (inverse, half) = (1.0 / (deviation * step_of(self.bits)), f32::from(self.bits.max() / 2) + 1.0);
        let greatest = f32::from(self.bits.max());
        // A float below zero becomes 0 as an integer: that is the clamp at the lower end.
        levels.extend(residual.iter().map(|x| (x * inverse + half).min(greatest) as u8));
        codes::pack(self.bits, levels, code);
        let middle = greatest;
        let mut product = [0.0f32; 8];
        let (levels, residual) = (levels.as_chunks::<8>().0, residual.as_chunks::<8>().0);
        for (levels, residual) in levels.iter().zip(residual) {
            for lane in 0..8 {
                product[lane] += (2.0 * f32::from(levels[lane]) - middle) * residual[lane];
            }
        }
        product.iter().sum()
    }

    fn prepare(&self, query: &mut CodedQuery) {
        query.round_to_bytes();
        query.sum = query.values.iter().map(|&value| i32::from(value)).sum();
    }

    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery) {
        query.values.resize(self.padded(), 0);
        query.sum = codes::unpack_centred(self.bits, code, &mut query.values);
        query.scale = scale;
    }

    #[inline]
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut dots = [0; AT_ONCE];
        let offset = middle(self.bits) * query.sum;
        for (ids, out) in ids.chunks(AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
            let dots = &mut dots[..ids.len()];
            codes::dot_ids(self.bits, &query.values, packed, ids, dots);
            for (out, &dot) in out.iter_mut().zip(dots.iter()) {
                *out = (2 * dot - offset) as f32 * query.scale;
            }
        }
    }
}

/// The greatest absolute component and the sum of squares. The length is a multiple of 8.
pub(super) fn greatest_and_square(values: &[f32]) -> (f32, f32) {
    let (mut greatest, mut square) = ([0.0f32; 8], [0.0f32; 8]);
    for values in values.as_chunks::<8>().0 {
        for lane in 0..8 {
            greatest[lane] = greatest[lane].max(values[lane].abs());
            square[lane] += values[lane] * values[lane];
        }
    }
    (greatest.iter().copied().fold(0.0, f32::max), square.iter().sum())
}
