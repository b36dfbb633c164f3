//! The loops, written once for every level.
//!
//! A function gets a CPU feature by attribute, not by a type parameter, so what differs between levels
//! (the attribute, the width, the vector operations) is a macro's argument. The calling module defines
//! `LANES`, `zero`, `load` (of the query), `load_row`, `multiply_add`, `subtract` and `sum` (of four
//! accumulators).

/// Bytes asked for ahead of the row being computed. Fewer leaves the memory idle; more evicts rows that
/// wait. Measured by walking graphs over 384 and 784 components, where 2 rows ahead beat 4, 8 and 16.
const BYTES_AHEAD: usize = 4096;

/// Rows asked for ahead of the one being computed.
#[inline(always)]
pub(crate) fn rows_ahead<T>(dim: usize) -> usize {
    (BYTES_AHEAD / size_of::<T>() / dim.max(1)).clamp(2, 16)
}

/// One row of a block. Panics if it isn't there.
#[inline(always)]
pub(crate) fn row<T>(rows: &[T], dim: usize, id: u32) -> &[T] {
    let start = id as usize * dim;
    &rows[start..start + dim]
}

/// Asks for one row, if it is there.
#[inline(always)]
pub(crate) fn prefetch_row<T>(rows: &[T], dim: usize, id: u32) {
    let start = id as usize * dim;
    if let Some(row) = rows.get(start..start + dim) {
        crate::prefetch::read(row);
    }
}

/// The last components of a vector, and zeros, which add nothing to either distance.
#[inline(always)]
pub(crate) fn padded<T: Copy + Default, const LANES: usize>(rest: &[T]) -> [T; LANES] {
    let mut block = [T::default(); LANES];
    block[..rest.len()].copy_from_slice(rest);
    block
}

macro_rules! row_kernels {
    ($row:ty, $(#[$feature:meta])*) => {
        use crate::rows::row_kernels::padded;

        $(#[$feature])*
        #[inline]
        pub(super) fn dot(a: &[f32], b: &[$row]) -> f32 {
            // Four sums hide the latency of the multiply-add (4 cycles, two a cycle).
            let mut sums = [zero(); 4];
            let ((a_blocks, a_rest), (b_blocks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            let ((a_quads, a_blocks), (b_quads, b_blocks)) =
                (a_blocks.as_chunks::<4>(), b_blocks.as_chunks::<4>());
            for (x, y) in a_quads.iter().zip(b_quads) {
                for i in 0..4 {
                    sums[i] = multiply_add(load(&x[i]), load_row(&y[i]), sums[i]);
                }
            }
            for (i, (x, y)) in a_blocks.iter().zip(b_blocks).enumerate() {
                sums[i] = multiply_add(load(x), load_row(y), sums[i]);
            }
            if !a_rest.is_empty() {
                sums[3] = multiply_add(load(&padded(a_rest)), load_row(&padded(b_rest)), sums[3]);
            }
            sum(sums)
        }

        $(#[$feature])*
        #[inline]
        pub(super) fn l2_squared(a: &[f32], b: &[$row]) -> f32 {
            let mut sums = [zero(); 4];
            let ((a_blocks, a_rest), (b_blocks, b_rest)) =
                (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
            let ((a_quads, a_blocks), (b_quads, b_blocks)) =
                (a_blocks.as_chunks::<4>(), b_blocks.as_chunks::<4>());
            for (x, y) in a_quads.iter().zip(b_quads) {
                for i in 0..4 {
                    let difference = subtract(load(&x[i]), load_row(&y[i]));
                    sums[i] = multiply_add(difference, difference, sums[i]);
                }
            }
            for (i, (x, y)) in a_blocks.iter().zip(b_blocks).enumerate() {
                let difference = subtract(load(x), load_row(y));
                sums[i] = multiply_add(difference, difference, sums[i]);
            }
            if !a_rest.is_empty() {
                let difference = subtract(load(&padded(a_rest)), load_row(&padded(b_rest)));
                sums[3] = multiply_add(difference, difference, sums[3]);
            }
            sum(sums)
        }

        row_forms!(dot, dot_many, dot_ids, [f32, $row, f32], $(#[$feature])*);
        row_forms!(l2_squared, l2_squared_many, l2_squared_ids, [f32, $row, f32], $(#[$feature])*);
    };
}

/// The forms of one distance for many rows, from that for a pair.
macro_rules! row_forms {
    ($pair:ident, $many:ident, $ids:ident, [$query:ty, $row:ty, $out:ty], $(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn $many(query: &[$query], rows: &[$row], out: &mut [$out]) {
            for (row, out) in rows.chunks_exact(query.len()).zip(out) {
                *out = $pair(query, row);
            }
        }

        $(#[$feature])*
        pub(super) fn $ids(query: &[$query], rows: &[$row], ids: &[u32], out: &mut [$out]) {
            use crate::rows::row_kernels::{prefetch_row, row, rows_ahead};
            let dim = query.len();
            let rows_ahead = rows_ahead::<$row>(dim);
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
