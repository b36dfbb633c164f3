//! No SIMD: every machine, and what the other levels are tested against.
const LANES: usize = 1;

#[inline(always)]
fn zero() -> f32 {
    0.0
}

#[inline(always)]
fn load(block: &[f32; LANES]) -> f32 {
    block[0]
}

#[inline(always)]
fn subtract(a: f32, b: f32) -> f32 {
    a - b
}

#[inline(always)]
fn multiply_add(a: f32, b: f32, sum: f32) -> f32 {
    a * b + sum // not `mul_add`, which is a library call where the machine has no FMA
}

#[inline(always)]
fn sum(sums: [f32; 4]) -> f32 {
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

row_kernels!();
