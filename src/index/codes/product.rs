//! Product quantization: per sub-space the number of the nearest codeword.
//!
//! `v` is the codewords of all sub-spaces together; a product with a query is a look-up per sub-space in
//! a table made for it. Codewords are taught by k-means over a sample, each sub-space by itself.
//!
//! Source: *Product Quantization for Nearest Neighbor Search*, Jégou, Douze and Schmid (PAMI 2011).
use std::thread;

use parking_lot::Mutex;
use proximadb_kernels::product::{self, CODEWORDS};

use super::CodedQuery;
use super::coder::Coder;
use crate::index::random::Random;

/// Rounds of k-means: the error falls by less than a hundredth in each that follows.
const ROUNDS: usize = 8;

/// A byte per sub-space.
pub(in crate::index) struct Product {
    /// Components of a sub-space.
    width: usize,
    /// Sub-spaces.
    spaces: usize,
    /// Per sub-space `width × 256`, one dimension after the other.
    codebooks: Vec<f32>,
    /// Per sub-space and codeword: half the square of its length.
    halves: Vec<f32>,
}

impl Product {
    /// Sub-spaces of `width` components for vectors of `dim`.
    pub(super) fn padded_dim(dim: usize, width: usize) -> usize {
        dim.next_multiple_of(width)
    }

    /// Numbers of all codebooks.
    pub(in crate::index) fn codebook_len(dim: usize, width: usize) -> usize {
        Product::padded_dim(dim, width) * CODEWORDS
    }

    /// With codebooks that were taught before. Panics if they are of another size.
    pub(super) fn new(dim: usize, width: usize, codebooks: Vec<f32>) -> Product {
        assert_eq!(codebooks.len(), Product::codebook_len(dim, width), "codebooks of another size");
        let spaces = dim.div_ceil(width);
        let mut halves = vec![0.0; spaces * CODEWORDS];
        for (codebook, halves) in codebooks.chunks(width * CODEWORDS).zip(halves.chunks_mut(CODEWORDS)) {
            square_halves(codebook, halves);
        }
        Product { width, spaces, codebooks, halves }
    }

    /// Teaches codebooks by `rows × padded_dim(dim, width)` components, at least one row. The number of threads
    /// changes nothing.
    pub(super) fn train(dim: usize, width: usize, rows: &[f32], seed: u64, threads: usize) -> Product {
        let padded = Product::padded_dim(dim, width);
        let mut codebooks = vec![0.0; Product::codebook_len(dim, width)];
        let jobs = Mutex::new(codebooks.chunks_mut(width * CODEWORDS).enumerate());
        let next = || jobs.lock().next();
        let work = || {
            let mut parts = Vec::new();
            while let Some((space, codebook)) = next() {
                parts.clear();
                let first = space * width;
                rows.chunks(padded).for_each(|row| parts.extend_from_slice(&row[first..first + width]));
                teach(codebook, &parts, width, seed ^ (space as u64 + 1).wrapping_mul(0x9e37_79b9));
            }
        };
        thread::scope(|scope| {
            (1..threads.min(dim.div_ceil(width))).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        Product::new(dim, width, codebooks)
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(in crate::index) fn codebooks(&self) -> &[f32] {
        &self.codebooks
    }

    /// Per sub-space: its codebook, and the halves of its codewords' squares.
    fn spaces(&self) -> impl Iterator<Item = (&[f32], &[f32; CODEWORDS])> {
        self.codebooks.chunks(self.width * CODEWORDS).zip(self.halves.as_chunks::<CODEWORDS>().0)
    }
}

impl Coder for Product {
    fn padded(&self) -> usize {
        self.width * self.spaces
    }

    fn stride(&self) -> usize {
        self.spaces
    }

    fn encode(&self, residual: &[f32], code: &mut [u8], _levels: &mut Vec<u8>) -> f32 {
        let mut product = 0.0;
        let parts = residual.chunks(self.width).zip(code.iter_mut());
        for ((part, byte), (codebook, halves)) in parts.zip(self.spaces()) {
            *byte = product::nearest(codebook, halves, part);
            let codeword = codebook.iter().skip(*byte as usize).step_by(CODEWORDS);
            product += codeword.zip(part).map(|(c, x)| c * x).sum::<f32>();
        }
        product
    }

    fn prepare(&self, query: &mut CodedQuery) {
        query.table.resize(self.spaces * CODEWORDS, 0.0);
        let tables = query.table.as_chunks_mut::<CODEWORDS>().0.iter_mut();
        for ((part, table), (codebook, _)) in query.rotated.chunks(self.width).zip(tables).zip(self.spaces())
        {
            product::products(codebook, part, table);
        }
    }

    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery) {
        query.rotated.clear();
        for (&byte, (codebook, _)) in code.iter().zip(self.spaces()) {
            query.rotated.extend(codebook.iter().skip(byte as usize).step_by(CODEWORDS).map(|c| c * scale));
        }
        self.prepare(query);
    }

    #[inline]
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]) {
        product::sums_ids(&query.table, packed, ids, out);
    }
}

fn square_halves(codebook: &[f32], halves: &mut [f32]) {
    halves.fill(0.0);
    for codewords in codebook.chunks(CODEWORDS) {
        halves.iter_mut().zip(codewords).for_each(|(half, x)| *half += 0.5 * x * x);
    }
}

/// k-means in one sub-space: from rows drawn at random, some rounds of Lloyd's.
fn teach(codebook: &mut [f32], parts: &[f32], width: usize, seed: u64) {
    let rows = parts.len() / width;
    let mut random = Random::new(seed);
    let mut order: Vec<u32> = (0..rows as u32).collect();
    random.shuffle(&mut order);
    let part = |row: u32| &parts[row as usize * width..][..width];
    for codeword in 0..CODEWORDS {
        set(codebook, codeword, part(order[codeword % rows]));
    }
    let mut halves = [0.0; CODEWORDS];
    for _ in 0..ROUNDS {
        square_halves(codebook, &mut halves);
        let mut sums = vec![0.0f64; CODEWORDS * width];
        let mut counts = [0u32; CODEWORDS];
        for part in parts.chunks(width) {
            let codeword = product::nearest(codebook, &halves, part) as usize;
            counts[codeword] += 1;
            let sum = &mut sums[codeword * width..][..width];
            sum.iter_mut().zip(part).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mut mean = vec![0.0; width];
        for (codeword, (sum, &count)) in sums.chunks(width).zip(&counts).enumerate() {
            if count == 0 {
                // Nobody's nearest: tried again elsewhere.
                set(codebook, codeword, part(order[random.below(rows)]));
                continue;
            }
            mean.iter_mut().zip(sum).for_each(|(mean, sum)| *mean = (sum / f64::from(count)) as f32);
            set(codebook, codeword, &mean);
        }
    }
}

fn set(codebook: &mut [f32], codeword: usize, to: &[f32]) {
    codebook.iter_mut().skip(codeword).step_by(CODEWORDS).zip(to).for_each(|(slot, &x)| *slot = x);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, dim: usize) -> Vec<f32> {
        let mut random = Random::new(5);
        (0..count * dim).map(|_| random.normal()).collect()
    }

    /// Mean square of what codes leave of a row.
    fn error(product: &Product, rows: &[f32]) -> f32 {
        let mut query = CodedQuery::default();
        let mut code = vec![0; product.stride()];
        let mut sum = 0.0;
        for row in rows.chunks(product.padded()) {
            product.encode(row, &mut code, &mut Vec::new());
            product.decode(&code, 1.0, &mut query);
            sum += row.iter().zip(&query.rotated).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        }
        sum / rows.len() as f32
    }

    #[test]
    fn narrower_sub_spaces_leave_less() {
        let rows = rows(2_000, 16);
        let left = [1, 2, 4, 8, 16].map(|width| error(&Product::train(16, width, &rows, 1, 2), &rows));
        assert!(left.is_sorted() && left[0] < 0.001 && left[4] < 0.8, "{left:?}");
    }

    #[test]
    fn few_rows_are_kept_as_they_are() {
        let rows = rows(200, 12);
        assert_eq!(error(&Product::train(12, 4, &rows, 1, 1), &rows), 0.0);
        let one = Product::train(12, 4, &rows[..12], 1, 1);
        assert_eq!(error(&one, &rows[..12]), 0.0);
    }

    #[test]
    fn training_is_the_same_on_any_number_of_threads_and_another_for_another_seed() {
        let rows = rows(600, 24);
        let of = |seed, threads| Product::train(24, 8, &rows, seed, threads).codebooks;
        assert!(of(1, 1) == of(1, 5));
        assert!(of(1, 1) != of(2, 1));
    }

    #[test]
    fn a_product_is_that_of_the_codewords() {
        let rows = rows(700, 10);
        let product = Product::train(9, 2, &rows, 1, 1);
        assert_eq!((product.padded(), product.stride()), (10, 5));
        let (mut code, mut query) = (vec![0; 5], CodedQuery::default());
        let told = product.encode(&rows[..10], &mut code, &mut Vec::new());
        product.decode(&code, 2.0, &mut query);
        let exact: f32 = query.rotated.iter().zip(&rows).map(|(v, x)| v * x / 2.0).sum();
        assert!((told - exact).abs() < 1e-4 * exact.abs().max(1.0), "{told} {exact}");
        query.rotated.clear();
        query.rotated.extend_from_slice(&rows[..10]);
        product.prepare(&mut query);
        let mut out = [0.0];
        product.products(&query, &code, &[0], &mut out);
        assert!((out[0] - exact).abs() < 1e-4 * exact.abs().max(1.0), "{out:?} {exact}");
    }
}
