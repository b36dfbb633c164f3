//! A signed byte per component, in steps of the vector's own size.
//!
//! `v` is the bytes. The greatest component is ±127, so a huge row coarsens no other, nor a single huge
//! component more than its own row.
use proximadb_kernels::map::as_i8s;
use proximadb_kernels::rows::bytes;

use super::CodedQuery;
use super::coder::Coder;
use super::rabitq::greatest_and_square;

/// Components that a code is padded to a multiple of: whole registers, and half a cache line.
const STEP: usize = 32;

/// A byte per component.
pub(in crate::index) struct Bytes {
    padded: usize,
}

impl Bytes {
    pub(super) fn new(dim: usize) -> Bytes {
        Bytes { padded: dim.next_multiple_of(STEP) }
    }
}

impl Coder for Bytes {
    fn padded(&self) -> usize {
        self.padded
    }

    fn stride(&self) -> usize {
        self.padded
    }

    fn encode(&self, residual: &[f32], code: &mut [u8], _levels: &mut Vec<u8>) -> f32 {
        let (greatest, _) = greatest_and_square(residual);
        let inverse = 127.0 / greatest;
        if !(inverse.is_finite() && inverse > 0.0) {
            // Nothing but zeros, or what isn't numbers or so small that it might be: any code will do at scale 0.
            code.fill(0);
            return 0.0;
        }
        let mut product = 0.0;
        for (x, byte) in residual.iter().zip(code) {
            let level = nearest_byte(x * inverse);
            *byte = level as u8;
            product += f32::from(level) * x;
        }
        product
    }

    fn prepare(&self, query: &mut CodedQuery) {
        query.round_to_bytes();
    }

    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery) {
        query.values.clear();
        query.values.extend_from_slice(as_i8s(code));
        query.scale = scale;
    }

    #[inline]
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut dots = [0; AT_ONCE];
        let (kernel, rows) = (&bytes::active().dot, as_i8s(packed));
        for (ids, out) in ids.chunks(AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
            let dots = &mut dots[..ids.len()];
            kernel.ids(&query.values, rows, ids, dots);
            out.iter_mut().zip(dots.iter()).for_each(|(out, &dot)| *out = dot as f32 * query.scale);
        }
    }
}

/// The nearest whole number to one from -127 to 127. NaN becomes some byte.
#[inline]
pub(super) fn nearest_byte(x: f32) -> i8 {
    // Adding 1.5 · 2^23 leaves the nearest integer in the lowest bits; rounding would be a call.
    (x + 12_582_912.0).to_bits() as i8
}
