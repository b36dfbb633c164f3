//! Many queries against many rows, written once for every level.
//!
//! A tile of `QUERIES × ROWS` pairs loads each block once for all of them, and its sums fill the registers:
//! four a pair, as in the other forms, since the same sums in the same order are what gives the same bits (K2).

/// Bytes of rows that all queries pass before the next ones are read: they stay in the second cache level.
pub(super) const PANEL_BYTES: usize = 128 << 10;

macro_rules! block_kernels {
    ($(#[$feature:meta])*) => {
        $(#[$feature])*
        pub(super) fn dot_block(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
            block::<false>(queries, rows, dim, out);
        }

        $(#[$feature])*
        pub(super) fn l2_squared_block(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
            block::<true>(queries, rows, dim, out);
        }

        /// `out` has `count` places for each query, in its order.
        $(#[$feature])*
        #[inline]
        fn block<const L2: bool>(queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
            let count = rows.len() / dim;
            let panel = (super::block_kernels::PANEL_BYTES / 4 / dim / ROWS).max(1) * ROWS;
            for first in (0..count).step_by(panel) {
                let last = count.min(first + panel);
                for (queries, out) in queries.chunks(QUERIES * dim).zip(out.chunks_mut(QUERIES * count)) {
                    if queries.len() == QUERIES * dim {
                        strip::<L2, QUERIES>(queries, rows, dim, out, first..last);
                    } else {
                        for (query, out) in queries.chunks(dim).zip(out.chunks_mut(count)) {
                            strip::<L2, 1>(query, rows, dim, out, first..last);
                        }
                    }
                }
            }
        }

        /// `Q` queries against some of the rows.
        $(#[$feature])*
        #[inline]
        fn strip<const L2: bool, const Q: usize>(
            queries: &[f32],
            rows: &[f32],
            dim: usize,
            out: &mut [f32],
            range: std::ops::Range<usize>,
        ) {
            let count = rows.len() / dim;
            let queries: [&[f32]; Q] = std::array::from_fn(|q| &queries[q * dim..][..dim]);
            let row = |at: usize| &rows[at * dim..][..dim];
            let mut at = range.start;
            while at + ROWS <= range.end {
                let values = tile::<L2, Q, ROWS>(queries, std::array::from_fn(|r| row(at + r)));
                for (q, values) in values.iter().enumerate() {
                    out[q * count + at..][..ROWS].copy_from_slice(values);
                }
                at += ROWS;
            }
            for at in at..range.end {
                let values = tile::<L2, Q, 1>(queries, [row(at)]);
                for (q, [value]) in values.into_iter().enumerate() {
                    out[q * count + at] = value;
                }
            }
        }

        $(#[$feature])*
        #[inline]
        fn tile<const L2: bool, const Q: usize, const R: usize>(
            queries: [&[f32]; Q],
            rows: [&[f32]; R],
        ) -> [[f32; R]; Q] {
            let (x, y) = (queries.map(|x| x.as_chunks::<LANES>()), rows.map(|y| y.as_chunks::<LANES>()));
            let blocks = x[0].0.len();
            let mut sums = [[[zero(); 4]; R]; Q];
            let mut at = 0;
            while at + 4 <= blocks {
                for i in 0..4 {
                    add::<L2, Q, R>(x.map(|x| &x.0[at + i]), y.map(|y| &y.0[at + i]), i, &mut sums);
                }
                at += 4;
            }
            // Not `0..blocks - at`: only constants can number registers.
            for i in 0..3 {
                if at + i < blocks {
                    add::<L2, Q, R>(x.map(|x| &x.0[at + i]), y.map(|y| &y.0[at + i]), i, &mut sums);
                }
            }
            if !x[0].1.is_empty() {
                let (x, y) = (x.map(|x| padded(x.1)), y.map(|y| padded(y.1)));
                add::<L2, Q, R>(x.each_ref(), y.each_ref(), 3, &mut sums);
            }
            let mut out = [[0.0; R]; Q];
            for q in 0..Q {
                for r in 0..R {
                    out[q][r] = sum(sums[q][r]);
                }
            }
            out
        }

        /// One block of each query and of each row, into sum `i` of each pair.
        $(#[$feature])*
        #[inline]
        fn add<const L2: bool, const Q: usize, const R: usize>(
            x: [&[f32; LANES]; Q],
            y: [&[f32; LANES]; R],
            i: usize,
            sums: &mut [[[Vector; 4]; R]; Q],
        ) {
            let mut values = [zero(); Q];
            for q in 0..Q {
                values[q] = load(x[q]);
            }
            for r in 0..R {
                let row = load(y[r]);
                for q in 0..Q {
                    sums[q][r][i] = if L2 {
                        let difference = subtract(values[q], row);
                        multiply_add(difference, difference, sums[q][r][i])
                    } else {
                        multiply_add(values[q], row, sums[q][r][i])
                    };
                }
            }
        }
    };
}
