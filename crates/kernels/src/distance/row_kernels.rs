//! The loops, written once for every level.
//!
//! A function gets a CPU feature by attribute, not by a type parameter, so what differs between levels
//! (the attribute, the width, the vector operations) is a macro's argument. The calling module defines
//! `LANES`, `zero`, `load`, `multiply_add`, `subtract` and `sum` (of four accumulators).

/// Bytes asked for ahead of the row being computed. Fewer leaves the memory idle; more evicts rows that
/// wait. Measured by walking graphs over 384 and 784 components, where 2 rows ahead beat 4, 8 and 16.
const BYTES_AHEAD: usize = 4096;

/// Rows asked for ahead of the one being computed.
#[inline(always)]
pub(super) fn rows_ahead(dim: usize) -> usize {
    (BYTES_AHEAD / 4 / dim.max(1)).clamp(2, 16)
}

/// One row of a block. Panics if it isn't there.
#[inline(always)]
pub(super) fn row(rows: &[f32], dim: usize, id: u32) -> &[f32] {
    let start = id as usize * dim;
    &rows[start..start + dim]
}

/// Asks for one row, if it is there.
#[inline(always)]
pub(super) fn prefetch_row(rows: &[f32], dim: usize, id: u32) {
    let start = id as usize * dim;
    if let Some(row) = rows.get(start..start + dim) {
        crate::prefetch::read(row);
    }
}

macro_rules! row_kernels {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        #[inline]
        pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
            // Four sums hide the latency of the multiply-add (4 cycles, two a cycle).
            let mut sums = [zero(); 4];
            let ((a_blocks, a_rest), (b_blocks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            let ((a_quads, a_blocks), (b_quads, b_blocks)) =
                (a_blocks.as_chunks::<4>(), b_blocks.as_chunks::<4>());
            for (x, y) in a_quads.iter().zip(b_quads) {
                for i in 0..4 {
                    sums[i] = multiply_add(load(&x[i]), load(&y[i]), sums[i]);
                }
            }
            for (i, (x, y)) in a_blocks.iter().zip(b_blocks).enumerate() {
                sums[i] = multiply_add(load(x), load(y), sums[i]);
            }
            if !a_rest.is_empty() {
                sums[3] = multiply_add(load(&padded(a_rest)), load(&padded(b_rest)), sums[3]);
            }
            sum(sums)
        }

        $(#[$feature])*
        #[inline]
        pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
            let mut sums = [zero(); 4];
            let ((a_blocks, a_rest), (b_blocks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            let ((a_quads, a_blocks), (b_quads, b_blocks)) =
                (a_blocks.as_chunks::<4>(), b_blocks.as_chunks::<4>());
            for (x, y) in a_quads.iter().zip(b_quads) {
                for i in 0..4 {
                    let difference = subtract(load(&x[i]), load(&y[i]));
                    sums[i] = multiply_add(difference, difference, sums[i]);
                }
            }
            for (i, (x, y)) in a_blocks.iter().zip(b_blocks).enumerate() {
                let difference = subtract(load(x), load(y));
                sums[i] = multiply_add(difference, difference, sums[i]);
            }
            if !a_rest.is_empty() {
                let difference = subtract(load(&padded(a_rest)), load(&padded(b_rest)));
                sums[3] = multiply_add(difference, difference, sums[3]);
            }
            sum(sums)
        }

        /// The last components, and zeros, which add nothing to either distance.
        #[inline(always)]
        fn padded(rest: &[f32]) -> [f32; LANES] {
            let mut block = [0.0; LANES];
            block[..rest.len()].copy_from_slice(rest);
            block
        }

        row_kernels!(@many dot_many, dot, $(#[$feature])*);
        row_kernels!(@many l2_squared_many, l2_squared, $(#[$feature])*);
        row_kernels!(@ids dot_ids, dot, $(#[$feature])*);
        row_kernels!(@ids l2_squared_ids, l2_squared, $(#[$feature])*);
    };
    (@many $name:ident, $pair:ident, $(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn $name(query: &[f32], rows: &[f32], out: &mut [f32]) {
            for (row, out) in rows.chunks_exact(query.len()).zip(out) {
                *out = $pair(query, row);
            }
        }
    };
    (@ids $name:ident, $pair:ident, $(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn $name(query: &[f32], rows: &[f32], ids: &[u32], out: &mut [f32]) {
            use super::row_kernels::{prefetch_row, row, rows_ahead};
            let dim = query.len();
            let rows_ahead = rows_ahead(dim);
            for &id in ids.iter().take(rows_ahead) {
                prefetch_row(rows, dim, id);
            }
            for (at, (&id, out)) in ids.iter().zip(out).enumerate() {
                if let Some(&ahead) = ids.get(at + rows_ahead) {
                    prefetch_row(rows, dim, ahead);
                }
                *out = $pair(query, row(rows, dim, id));
            }
        }
    };
}
