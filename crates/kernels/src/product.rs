//! Product quantization: a vector as one byte per sub-space, each the number of a codeword.
//!
//! ```text
//!   codebook of one sub-space of w dimensions: w × 256, one dimension after the other
//!   table of a query: per sub-space ⟨codeword, query⟩ of all 256     products
//!   a row: one byte per sub-space ──▶ the sum of what its bytes name   sums_ids
//! ```
//! P1 no product is fused with a sum, and sums have one order, so that all levels give the same bits.
//!
//! Source: *Product Quantization for Nearest Neighbor Search*, Jégou, Douze and Schmid (PAMI 2011).
use std::sync::OnceLock;

use crate::rows::row_kernels::{prefetch_row, row};
use crate::simd::Tier;

/// Codewords of a sub-space: as many as a byte names.
pub const CODEWORDS: usize = 256;

/// Bytes asked for ahead of the row being summed up.
const BYTES_AHEAD: usize = 2048;

/// Sums that are kept apart, so that one need not wait for the other.
const SUMS: usize = 8;

type Table = [f32; CODEWORDS];
type Products = unsafe fn(&[Table], &[f32], &mut Table);
type Nearest = unsafe fn(&[Table], &Table, &[f32]) -> u8;
type Sums = unsafe fn(&[Table], &[u8], &[u32], &mut [f32]);

/// The functions of one tier.
#[derive(Clone, Copy)]
struct Kernels {
    products: Products,
    nearest: Nearest,
    sums: Sums,
}

/// `out[c] = ⟨codeword c, part⟩`. `codebook`: `part.len() × 256`, one dimension after the other.
///
/// Panics unless it is.
#[inline]
pub fn products(codebook: &[f32], part: &[f32], out: &mut [f32; CODEWORDS]) {
    let codebook = tables(codebook, part.len());
    // SAFETY: `active` gives what its tier is enough for, and that tier is here.
    unsafe { (active().products)(codebook, part, out) }
}

/// The codeword nearest to `part`; of those equally near the first. `halves[c]` is half the square of
/// codeword `c`'s length. What isn't numbers is nearest to any.
///
/// Panics unless `codebook` holds `part.len() × 256`.
#[inline]
pub fn nearest(codebook: &[f32], halves: &[f32; CODEWORDS], part: &[f32]) -> u8 {
    let codebook = tables(codebook, part.len());
    // SAFETY: as in `products`.
    unsafe { (active().nearest)(codebook, halves, part) }
}

/// `out[i] = Σ table[s][code s]` of row `ids[i]`, prefetched. `table` holds 256 for each sub-space; a row is
/// one byte for each.
///
/// Panics if `ids` and `out` differ in length, a row isn't there, or the table isn't whole.
#[inline]
pub fn sums_ids(table: &[f32], rows: &[u8], ids: &[u32], out: &mut [f32]) {
    assert_eq!(ids.len(), out.len(), "ids and results differ in number");
    let table = tables(table, table.len() / CODEWORDS);
    // SAFETY: as in `products`.
    unsafe { (active().sums)(table, rows, ids, out) }
}

fn tables(numbers: &[f32], count: usize) -> &[Table] {
    let (tables, rest) = numbers.as_chunks::<CODEWORDS>();
    assert!(rest.is_empty() && tables.len() == count, "{CODEWORDS} numbers for each of {count}");
    tables
}

fn active() -> Kernels {
    static ACTIVE: OnceLock<Kernels> = OnceLock::new();
    *ACTIVE.get_or_init(|| at(Tier::allowed()))
}

/// The form for `tier`.
fn at(tier: Tier) -> Kernels {
    match tier {
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512 => Kernels { products: avx512::products, nearest: avx512::nearest, sums: avx512::sums },
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2 => Kernels { products: avx2::products, nearest: avx2::nearest, sums: avx2::sums },
        // SSE2 and NEON are what the compiler uses anyway.
        _ => Kernels { products: products_body, nearest: nearest_body, sums: sums_body },
    }
}

macro_rules! tier {
    ($module:ident, $features:literal) => {
        #[cfg(target_arch = "x86_64")]
        mod $module {
            use super::{Table, nearest_body, products_body, sums_body};

            #[target_feature(enable = $features)]
            pub(super) fn products(codebook: &[Table], part: &[f32], out: &mut Table) {
                products_body(codebook, part, out);
            }

            #[target_feature(enable = $features)]
            pub(super) fn nearest(codebook: &[Table], halves: &Table, part: &[f32]) -> u8 {
                nearest_body(codebook, halves, part)
            }

            #[target_feature(enable = $features)]
            pub(super) fn sums(table: &[Table], rows: &[u8], ids: &[u32], out: &mut [f32]) {
                sums_body(table, rows, ids, out);
            }
        }
    };
}

tier!(avx512, "avx512f,avx512bw,avx512vl,avx512dq");
tier!(avx2, "avx2");

#[inline(always)]
fn products_body(codebook: &[Table], part: &[f32], out: &mut Table) {
    *out = [0.0; CODEWORDS];
    for (codewords, &x) in codebook.iter().zip(part) {
        for (out, codeword) in out.iter_mut().zip(codewords) {
            *out += codeword * x;
        }
    }
}

#[inline(always)]
fn nearest_body(codebook: &[Table], halves: &Table, part: &[f32]) -> u8 {
    // |c - x|² / 2 is least where ⟨c, x⟩ - |c|² / 2 is greatest.
    let mut scores = [0.0; CODEWORDS];
    products_body(codebook, part, &mut scores);
    const LANES: usize = 16;
    let (mut best, mut best_at) = ([f32::NEG_INFINITY; LANES], [0u32; LANES]);
    let (scores, halves) = (scores.as_chunks::<LANES>().0, halves.as_chunks::<LANES>().0);
    for (at, (scores, halves)) in scores.iter().zip(halves).enumerate() {
        for lane in 0..LANES {
            let score = scores[lane] - halves[lane];
            let better = score > best[lane];
            best[lane] = if better { score } else { best[lane] };
            best_at[lane] = if better { at as u32 } else { best_at[lane] };
        }
    }
    let mut nearest = (f32::NEG_INFINITY, 0);
    for lane in 0..LANES {
        let at = best_at[lane] as usize * LANES + lane;
        if best[lane] > nearest.0 || best[lane] == nearest.0 && at < nearest.1 {
            nearest = (best[lane], at);
        }
    }
    nearest.1 as u8
}

#[inline(always)]
fn sums_body(table: &[Table], rows: &[u8], ids: &[u32], out: &mut [f32]) {
    let stride = table.len();
    let ahead = (BYTES_AHEAD / stride.max(1)).clamp(2, 16);
    for &id in ids.iter().take(ahead) {
        prefetch_row(rows, stride, id);
    }
    for (at, (&id, out)) in ids.iter().zip(out).enumerate() {
        if let Some(&next) = ids.get(at + ahead) {
            prefetch_row(rows, stride, next);
        }
        let mut sums = [0.0f32; SUMS];
        let ((codes, codes_rest), (tables, tables_rest)) =
            (row(rows, stride, id).as_chunks::<SUMS>(), table.as_chunks::<SUMS>());
        for (codes, tables) in codes.iter().zip(tables) {
            for lane in 0..SUMS {
                sums[lane] += tables[lane][codes[lane] as usize];
            }
        }
        for ((sum, &code), table) in sums.iter_mut().zip(codes_rest).zip(tables_rest) {
            *sum += table[code as usize];
        }
        *out = sums.iter().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn here() -> impl Iterator<Item = Kernels> {
        Tier::ALL.into_iter().filter(|tier| tier.is_here()).map(at)
    }

    /// Codeword `c` of a codebook of `width` dimensions.
    fn codeword(codebook: &[f32], width: usize, c: usize) -> Vec<f32> {
        (0..width).map(|d| codebook[d * CODEWORDS + c]).collect()
    }

    fn halves(codebook: &[f32], width: usize) -> [f32; CODEWORDS] {
        std::array::from_fn(|c| codeword(codebook, width, c).iter().map(|x| x * x).sum::<f32>() / 2.0)
    }

    proptest! {
        #[test]
        fn every_tier_agrees_with_the_definition(
            width in 1usize..9, numbers in prop::collection::vec(-4.0f32..4.0, 9 * CODEWORDS), seed in any::<u8>(),
        ) {
            let codebook = &numbers[..width * CODEWORDS];
            let part = &numbers[8 * CODEWORDS + usize::from(seed) / 2..][..width];
            let halves = halves(codebook, width);
            let dots: Vec<f32> = (0..CODEWORDS)
                .map(|c| codeword(codebook, width, c).iter().zip(part).fold(0.0, |sum, (a, b)| sum + a * b))
                .collect();
            let best = (0..CODEWORDS).rev().max_by(|&a, &b| (dots[a] - halves[a]).total_cmp(&(dots[b] - halves[b])));
            for kernels in here() {
                let mut out = [0.0; CODEWORDS];
                // SAFETY: the tier is here.
                let nearest = unsafe {
                    (kernels.products)(tables(codebook, width), part, &mut out);
                    (kernels.nearest)(tables(codebook, width), &halves, part)
                };
                prop_assert_eq!(&out[..], &dots[..]);
                prop_assert_eq!(Some(usize::from(nearest)), best);
            }
        }

        #[test]
        fn every_tier_sums_up_alike(
            stride in 1usize..40, rows in prop::collection::vec(any::<u8>(), 400), first in 0u32..5,
        ) {
            let table: Vec<f32> = (0..stride * CODEWORDS).map(|at| (at as f32 * 0.37).sin()).collect();
            let ids = [first, 9, 0, first];
            let expected: Vec<f64> = ids.iter().map(|&id| {
                let row = &rows[id as usize * stride..][..stride];
                row.iter().enumerate().map(|(s, &code)| f64::from(table[s * CODEWORDS + code as usize])).sum()
            }).collect();
            let mut before = None;
            for kernels in here() {
                let mut out = [0.0; 4];
                // SAFETY: the tier is here.
                unsafe { (kernels.sums)(tables(&table, stride), &rows, &ids, &mut out) };
                prop_assert!(out.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4));
                prop_assert_eq!(*before.get_or_insert(out), out, "P1");
            }
        }
    }

    #[test]
    #[should_panic(expected = "256 numbers for each")]
    fn a_codebook_of_another_width_is_refused() {
        products(&[0.0; 2 * CODEWORDS], &[1.0; 3], &mut [0.0; CODEWORDS]);
    }

    #[test]
    #[should_panic]
    fn a_row_that_is_not_there_is_refused() {
        sums_ids(&[0.0; CODEWORDS], &[1, 2, 3], &[3], &mut [0.0]);
    }

    #[test]
    fn what_is_no_number_is_nearest_to_something() {
        for x in [f32::NAN, f32::INFINITY, -1e38] {
            nearest(&[1e30; CODEWORDS], &[1e30; CODEWORDS], &[x]);
        }
    }
}
