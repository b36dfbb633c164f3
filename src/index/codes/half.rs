//! Half-precision floats, scaled by a power of two per vector.
//!
//! `v` is `r` times that power, rounded: eleven bits of each component. Without the scale components beyond
//! 65,504 would be infinite and those below 6·10⁻⁵ lose digits.
use proximadb_kernels::map::as_u16s;
use proximadb_kernels::rows::half;

use super::CodedQuery;
use super::coder::Coder;
use super::rabitq::greatest_and_square;

/// Components that a code is padded to a multiple of: 32 bytes.
const STEP: usize = 16;

/// The greatest component is brought below two to this power.
const GREATEST: i32 = 8;

/// Two bytes per component.
pub(in crate::index) struct Half {
    padded: usize,
}

impl Half {
    pub(super) fn new(dim: usize) -> Half {
        Half { padded: dim.next_multiple_of(STEP) }
    }
}

impl Coder for Half {
    fn padded(&self) -> usize {
        self.padded
    }

    fn stride(&self) -> usize {
        2 * self.padded
    }

    fn encode(&self, residual: &[f32], code: &mut [u8], _levels: &mut Vec<u8>) -> f32 {
        let (greatest, _) = greatest_and_square(residual);
        if !(greatest.is_normal()) {
            // Nothing but zeros, or what isn't numbers or so small that it might be: any code will do at scale 0.
            code.fill(0);
            return 0.0;
        }
        let scale = power_below(greatest);
        let mut product = 0.0;
        for (x, bytes) in residual.iter().zip(code.as_chunks_mut::<2>().0) {
            let half = half::to_half(x * scale);
            *bytes = half.to_le_bytes();
            product += half::from_half(half) * x;
        }
        product
    }

    fn prepare(&self, _query: &mut CodedQuery) {
        // What products are taken with is what stands there already.
    }

    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery) {
        let halves = as_u16s(code).expect("codes are whole words, on a little-endian machine");
        query.rotated.resize(self.padded, 0.0);
        half::widen(halves, &mut query.rotated);
        query.rotated.iter_mut().for_each(|x| *x *= scale);
    }

    #[inline]
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]) {
        let rows = as_u16s(packed).expect("codes start on a cache line, on a little-endian machine");
        half::active().dot.ids(&query.rotated, rows, ids, out);
    }
}

/// The power of two that brings a normal number between `2^(GREATEST - 1)` and `2^GREATEST`, as near as there is one.
fn power_below(greatest: f32) -> f32 {
    let exponent = (greatest.to_bits() >> 23) as i32 - 126;
    f32::from_bits(((GREATEST - exponent + 127).clamp(1, 254) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_normal_number_is_brought_below_a_power() {
        for greatest in [f32::MIN_POSITIVE, 1e-30, 0.3, 0.5, 1.0, 255.0, 65_504.0, 1e18, f32::MAX] {
            let scaled = greatest * power_below(greatest);
            assert!((1e-3..256.0).contains(&scaled), "{greatest}: {scaled}");
        }
    }
}
