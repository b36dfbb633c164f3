//! What is done to a vector when it is written.

/// Scales `v` to unit length and returns its old length. A length of 0, or one that isn't a number,
/// leaves it unchanged.
pub fn normalize(v: &mut [f32]) -> f32 {
    let squared = super::dot(v, v);
    // Squares of components beyond 1e19 overflow an f32, those below 1e-19 vanish: f64 holds both.
    let norm = if squared.is_finite() && squared > 1e-30 {
        f64::from(squared).sqrt()
    } else {
        v.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
    };
    if norm > 0.0 && norm.is_finite() {
        let scale = 1.0 / norm;
        if (f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&scale) {
            let scale = scale as f32;
            v.iter_mut().for_each(|x| *x *= scale);
        } else {
            v.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
        }
    }
    norm as f32
}

/// No NaN and no infinity?
pub fn all_finite(v: &[f32]) -> bool {
    // Blocks without an early exit inside: the compiler makes SIMD of them.
    const BLOCK: usize = 64;
    let (blocks, rest) = v.as_chunks::<BLOCK>();
    let finite = |x: &f32| x.abs() < f32::INFINITY; // false for NaN too
    blocks.iter().all(|block| block.iter().fold(true, |so_far, x| so_far & finite(x)))
        && rest.iter().all(finite)
}
