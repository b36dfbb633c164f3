//! One rotated residual to levels `0..2^bits` and its factors.
use proximadb_kernels::codes::Bits;

use super::FACTORS;

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

/// Writes a level per component into `levels`; returns `|r|²` and the scale (see C1 of the module).
pub(super) fn encode(bits: Bits, residual: &[f32], levels: &mut Vec<u8>) -> [f32; FACTORS] {
    let (_, square) = greatest_and_square(residual);
    levels.clear();
    let deviation = (square / residual.len().max(1) as f32).sqrt();
    if !(deviation > 0.0 && deviation.is_finite()) {
        // The centre itself, or what isn't numbers: any code will do at scale 0.
        levels.resize(residual.len(), 0);
        return [square, 0.0];
    }
    let (inverse, half) = (1.0 / (deviation * step_of(bits)), f32::from(bits.max() / 2) + 1.0);
    let greatest = f32::from(bits.max());
    // A float below zero becomes 0 as an integer: that is the clamp at the lower end.
    levels.extend(residual.iter().map(|x| (x * inverse + half).min(greatest) as u8));
    let middle = greatest;
    let mut product = [0.0f32; 8];
    let (levels, residual) = (levels.as_chunks::<8>().0, residual.as_chunks::<8>().0);
    for (levels, residual) in levels.iter().zip(residual) {
        for lane in 0..8 {
            product[lane] += (2.0 * f32::from(levels[lane]) - middle) * residual[lane];
        }
    }
    let product: f32 = product.iter().sum();
    [square, if product > 0.0 { square / product } else { 0.0 }]
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
