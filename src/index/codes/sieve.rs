//! Rows ruled out by the front of their codes.
//!
//! A scan of rows that lie anywhere waits for memory, some nanoseconds for every cache line. So it reads a line or
//! two of each code, and the rest for those rows alone that may lie within its bound for all that is known by then.
//!
//! Let `r = c q + s u` be of unit length like `q`, with `u` at right angles to `q`. Over the components P that were
//! read `⟨r, q⟩_P = c |q|²_P + s ⟨u, q⟩_P`. All of them went through one random rotation, so the second term has
//! mean 0 and variance `s² a (1 - a) / (D - 1)` for `a = |q|²_P` and D components. Divided by `a` that is an
//! estimate of `c` like that of whole codes, of a greater error; and of a row within the bound, `c` is at least,
//! and `s` at most, what the bound says.
//!
//! Source: *High-Dimensional Approximate Nearest Neighbor Search: with Reliable and Efficient Distance Comparison
//! Operations*, Gao and Long (SIGMOD 2023, arXiv:2303.09855), which stops reading rotated vectors by such a test.
use proximadb_kernels::codes::{self, BLOCK, Bits, Within};
use proximadb_kernels::prefetch;

use super::coder::AnyCoder;
use super::rabitq::middle;
use super::{CodedQuery, Codes, DEVIATIONS, Quantizer};

/// Bytes of a line of cache.
const LINE: usize = 64;

/// The least components to read: of fewer the test leaves too many rows.
const COMPONENTS_MIN: usize = 128;

/// Codes are read as a whole unless they are so many times as long as what is read first.
const TIMES_MIN: usize = 3;

/// Rows whose fronts are asked for together.
const AT_ONCE: usize = 512;

/// One query's test.
pub(in crate::index) struct Sieve<'a> {
    codes: Codes<'a>,
    bits: Bits,
    /// Components read: whole lines of a code, or all.
    values: &'a [i8],
    test: Within,
}

impl Quantizer {
    /// Components that scans read first, if there is a test of rows by them: where codes are of rotated vectors in
    /// whole numbers.
    fn front(&self) -> Option<(Bits, usize)> {
        let AnyCoder::Rabitq(coder) = &self.coder else { return None };
        let (bits, padded) = (coder.bits(), self.padded());
        let front = COMPONENTS_MIN.next_multiple_of(LINE / BLOCK * bits.per_block());
        self.is_rotated().then_some((bits, if front * TIMES_MIN <= padded { front } else { padded }))
    }

    /// Bytes that scans read of every row: of most they read no more.
    pub(in crate::index) fn front_bytes(&self) -> usize {
        self.front().map_or(self.stride(), |(bits, front)| front / bits.per_block() * BLOCK)
    }
}

impl<'a> Codes<'a> {
    /// A test of rows by the front of their codes, if there is one.
    pub(in crate::index) fn sieve(self, query: &'a CodedQuery) -> Option<Sieve<'a>> {
        let (bits, front) = self.quantizer.front()?;
        let padded = self.quantizer.padded();
        let values = query.values.get(..front)?;
        let square: f32 = query.rotated.get(..front)?.iter().map(|x| x * x).sum();
        let share = square / query.square;
        if !(share > 0.0 && share.is_finite()) {
            return None;
        }
        let deviations = DEVIATIONS * DEVIATIONS / share;
        let sum: i32 = values.iter().map(|&value| i32::from(value)).sum();
        let test = Within {
            own: query.square,
            factor: -2.0 * query.scale / share,
            // Levels `u` stand for `2u - middle`.
            offset: middle(bits) * sum,
            unread: deviations * (1.0 - share).max(0.0) / padded.saturating_sub(1).max(1) as f32,
            coded: deviations * self.quantizer.error * self.quantizer.error,
        };
        Some(Sieve { codes: self, bits, values, test })
    }
}

impl Sieve<'_> {
    /// Did it take less time to read the fronts of so many rows and the rest of those kept than to read all as a
    /// whole?
    pub(in crate::index) fn pays(&self, kept: usize, rows: usize) -> bool {
        let quantizer = self.codes.quantizer;
        let (front, whole) = (quantizer.front_bytes() as f32, quantizer.stride() as f32);
        let most = if front < whole { 0.9 - front / whole } else { 0.5 };
        kept as f32 <= most * rows as f32
    }

    /// Keeps the rows that may lie within `bound`, a squared distance in the space of the build; leaves out one in a
    /// thousand of those that do.
    pub(in crate::index) fn keep_near(&self, ids: &mut Vec<u32>, bound: f32) {
        let stride = self.codes.quantizer.stride();
        let mut dots = [0; AT_ONCE];
        let mut kept = 0;
        for first in (0..ids.len()).step_by(AT_ONCE) {
            let end = ids.len().min(first + AT_ONCE);
            let (here, dots) = (&mut ids[first..end], &mut dots[..end - first]);
            here.iter().for_each(|&row| prefetch::read(self.codes.factors_of(row)));
            codes::dot_prefixes(self.bits, self.values, self.codes.packed, stride, here, dots);
            let near = self.test.keep(here, dots, self.codes.factors.as_chunks().0, bound);
            ids.copy_within(first..first + near, kept);
            kept += near;
        }
        ids.truncate(kept);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::index::codes::{EncodeWork, Kind};
    use crate::index::test_data::clustered;
    use crate::types::Distance;

    /// What lies within the bound stays, but for two in a thousand; most of what is far goes.
    #[test]
    fn what_may_be_near_is_kept_and_most_of_the_rest_is_not() {
        for (bits, dim, error) in
            [(Bits::Four, 384, 0.006), (Bits::Four, 700, 0.004), (Bits::One, 1600, 0.02)]
        {
            let data = clustered(2_000, dim, Distance::L2, 11);
            let block = data.block();
            let centre: Vec<f32> = vec![0.0; bits.padded_dim(dim)];
            let mut quantizer = Quantizer::new(Kind::Rabitq(bits), dim, 5, true, centre, Vec::new());
            quantizer.error = error;
            assert!(quantizer.front_bytes() < quantizer.stride(), "{bits:?} {dim}");
            let (mut packed, mut factors, mut work) = (Vec::new(), Vec::new(), EncodeWork::default());
            let mut code = vec![0; quantizer.stride()];
            for row in 0..2_000 {
                factors.extend(quantizer.encode(block.row(row), None, &mut code, &mut work));
                packed.extend(&code);
            }
            let codes = Codes { quantizer: &quantizer, factors: &factors, packed: &packed };
            let (mut lost, mut near, mut left) = (0, 0, 0);
            for row in (0..2_000).step_by(50) {
                let vector: Vec<f32> = block.row(row).iter().map(|x| x * 0.9 + 0.02).collect();
                let mut query = CodedQuery::default();
                quantizer.prepare(&vector, None, &mut query);
                let sieve = codes.sieve(&query).unwrap();
                let mut distances: Vec<(f32, u32)> = (0..2_000)
                    .map(|row| (proximadb_kernels::distance::l2_squared(&vector, block.row(row)), row))
                    .collect();
                distances.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut ids: Vec<u32> = (0..2_000).collect();
                sieve.keep_near(&mut ids, distances[19].0);
                assert!(ids.is_sorted());
                near += 20;
                lost += distances[..20].iter().filter(|(_, row)| !ids.contains(row)).count();
                left += ids.len();
                ids.truncate(3);
                let before = ids.clone();
                sieve.keep_near(&mut ids, f32::INFINITY);
                assert_eq!(ids, before);
            }
            assert!(lost * 200 <= near, "{bits:?} {dim}: {lost} of {near} lost");
            assert!(left < 40 * 1_000, "{bits:?} {dim}: {left} left");
        }
    }

    #[test]
    fn codes_without_a_random_rotation_have_none() {
        for (kind, rotated) in [(Kind::Bytes, false), (Kind::Half, false), (Kind::Rabitq(Bits::Four), false)]
        {
            let padded = kind.padded(512);
            let quantizer = Quantizer::new(kind, 512, 5, rotated, vec![0.0; padded], Vec::new());
            assert_eq!(quantizer.front_bytes(), quantizer.stride());
            let codes = Codes { quantizer: &quantizer, factors: &[], packed: &[] };
            assert!(codes.sieve(&CodedQuery::default()).is_none());
        }
    }
}
