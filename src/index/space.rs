//! The space a graph is built in: always squared l2, in which pruning's triangles mean something.
//!
//! * l2: the rows as they are.
//! * cosine: unit vectors, where squared l2 is `2 (1 - cos)`: the same order.
//! * dot: rows lifted by one coordinate `sqrt(max|x|² - |x|²)`, which gives all the same length; a query
//!   lifted by 0 then has its nearest row where its dot product is greatest.
//!   Source: *Speeding Up the Xbox Recommender System Using a Euclidean Transformation for Inner-Product
//!   Spaces*, Bachrach et al. (RecSys 2014).
//!
//! Distances are exact, or estimates from the rows' codes.
use std::{io, thread};

use parking_lot::Mutex;
use proximadb_kernels::distance;
use proximadb_kernels::huge::HugeBuffer;

use super::VectorBlock;
use super::codes::{CodedQuery, Codes, EncodeWork, FACTORS, Quantizer};
use crate::types::Distance;

/// Distances between rows while building.
pub(super) struct Space<'a> {
    pub(super) block: VectorBlock<'a>,
    /// Per row, for dot alone.
    lift: Vec<f32>,
    /// The square of the length that all lifted rows have; 0 but for dot.
    pub(super) lifted_square: f32,
    coded: Option<Coded>,
}

/// A row's code and factors, if they are known.
pub(super) type Stored<'a> = dyn Fn(u32) -> Option<(&'a [u8], [f32; FACTORS])> + Sync + 'a;

/// The codes of all rows.
pub(super) struct Coded {
    pub(super) quantizer: Quantizer,
    pub(super) factors: Vec<f32>,
    pub(super) packed: HugeBuffer,
}

impl Coded {
    pub(super) fn codes(&self) -> Codes<'_> {
        Codes { quantizer: &self.quantizer, factors: &self.factors, packed: self.packed.as_slice() }
    }
}

/// A row that others are compared with.
#[derive(Default)]
pub(super) struct Probe {
    row: u32,
    coded: CodedQuery,
}

impl<'a> Space<'a> {
    pub(super) fn new(block: VectorBlock<'a>) -> Space<'a> {
        Space::lifted_to(block, 0.0)
    }

    /// With rows lifted to the length of the longest, or to one whose square is given if that is greater.
    pub(super) fn lifted_to(block: VectorBlock<'a>, least_square: f32) -> Space<'a> {
        let (lift, lifted_square) = match block.distance {
            Distance::L2 | Distance::Cosine => (Vec::new(), 0.0),
            Distance::Dot => lift(block, least_square),
        };
        Space { block, lift, lifted_square, coded: None }
    }

    pub(super) fn len(&self) -> usize {
        self.block.len()
    }

    /// Components, with the lift.
    pub(super) fn dim(&self) -> usize {
        self.block.dim + usize::from(!self.lift.is_empty())
    }

    /// The coordinate that dot adds.
    #[inline]
    pub(super) fn lift_of(&self, row: u32) -> Option<f32> {
        self.lift.get(row as usize).copied()
    }

    /// The square of a row's length, with its lift.
    pub(super) fn square(&self, row: u32) -> f32 {
        let vector = self.block.row(row);
        distance::dot(vector, vector) + self.lift_of(row).map_or(0.0, |lift| lift * lift)
    }

    /// Codes every row; distances are estimates from then on.
    pub(super) fn encode(&mut self, quantizer: Quantizer, threads: usize) -> io::Result<()> {
        self.encode_rest(quantizer, threads, &|_| None)
    }

    /// The same but for rows that have codes already: `stored` are those that such a quantizer has made of the same
    /// vectors before.
    pub(super) fn encode_rest(
        &mut self,
        quantizer: Quantizer,
        threads: usize,
        stored: &Stored<'_>,
    ) -> io::Result<()> {
        /// Rows that a thread takes at once.
        const ROWS: usize = 1024;
        let stride = quantizer.stride();
        let mut packed = HugeBuffer::zeroed(self.len() * stride)?;
        let mut factors = vec![0.0; self.len() * FACTORS];
        {
            let jobs =
                packed.as_mut_slice().chunks_mut(stride * ROWS).zip(factors.chunks_mut(FACTORS * ROWS));
            let jobs = Mutex::new(jobs.zip((0u32..).step_by(ROWS)));
            let next = || jobs.lock().next();
            let work = || {
                let mut work = EncodeWork::default();
                while let Some(((packed, factors), first)) = next() {
                    let rows = packed.chunks_mut(stride).zip(factors.as_chunks_mut::<FACTORS>().0);
                    for ((code, factors), row) in rows.zip(first..) {
                        if let Some((before, of_before)) = stored(row) {
                            code.copy_from_slice(before);
                            *factors = of_before;
                            continue;
                        }
                        *factors = quantizer.encode(self.block.row(row), self.lift_of(row), code, &mut work);
                    }
                }
            };
            thread::scope(|scope| {
                (1..threads).for_each(|_| {
                    scope.spawn(work);
                });
                work();
            });
        }
        self.coded = Some(Coded { quantizer, factors, packed });
        Ok(())
    }

    /// The codes, if rows have any.
    #[cfg(test)]
    pub(super) fn coded(&self) -> Option<&Coded> {
        self.coded.as_ref()
    }

    /// Takes the codes out.
    pub(super) fn into_coded(self) -> Option<Coded> {
        self.coded
    }

    /// Sets the probe to a row as it is: for many comparisons.
    pub(super) fn aim(&self, probe: &mut Probe, row: u32) {
        probe.row = row;
        if let Some(coded) = &self.coded {
            coded.quantizer.prepare(self.block.row(row), self.lift_of(row), &mut probe.coded);
        }
    }

    /// Sets the probe to a row's code: for few.
    #[inline]
    pub(super) fn aim_by_code(&self, probe: &mut Probe, row: u32) {
        probe.row = row;
        if let Some(coded) = &self.coded {
            coded.codes().decode(row, &mut probe.coded);
        }
    }

    /// From the probe to rows.
    #[inline]
    pub(super) fn distances(&self, probe: &Probe, ids: &[u32], out: &mut [f32]) {
        match &self.coded {
            Some(coded) => coded.codes().distances(&probe.coded, ids, out),
            None => self.exact_distances(probe.row, ids, out),
        }
    }

    /// The lift of a query: none, which is what makes the nearest row that of the greatest product.
    pub(super) fn query_lift(&self) -> Option<f32> {
        (!self.lift.is_empty()).then_some(0.0)
    }

    /// From a query, which has no lift, to rows.
    pub(super) fn distances_from_query(&self, query: &[f32], ids: &[u32], out: &mut [f32]) {
        distance::l2_squared_ids(query, self.block.rows, ids, out);
        if !self.lift.is_empty() {
            for (&id, out) in ids.iter().zip(out) {
                *out += self.lift[id as usize].powi(2);
            }
        }
    }

    /// From one row to others.
    pub(super) fn exact_distances(&self, from: u32, ids: &[u32], out: &mut [f32]) {
        distance::l2_squared_ids(self.block.row(from), self.block.rows, ids, out);
        if !self.lift.is_empty() {
            let from = self.lift[from as usize];
            for (&id, out) in ids.iter().zip(out) {
                *out += (from - self.lift[id as usize]).powi(2);
            }
        }
    }

    /// Sorts rows by falling length, for dot; leaves them as they are otherwise.
    ///
    /// Long rows are most queries' answers but far from everything once lifted. Inserted first they are
    /// linked to each other, and later rows find them; inserted at random they end up with links that
    /// nobody takes (recall@10 of 0.34 instead of 0.98 for lengths e^N(0, 0.5), at the same `ef_search`).
    pub(super) fn longest_first(&self, rows: &mut [u32]) {
        if let Some(lift) = (!self.lift.is_empty()).then_some(&self.lift) {
            rows.sort_by(|&a, &b| lift[a as usize].total_cmp(&lift[b as usize]));
        }
    }

    /// The row of the greatest length, for dot: most queries' best rows are near it.
    pub(super) fn longest(&self) -> Option<u32> {
        let lifted = self.lift.iter().zip(0u32..);
        lifted.min_by(|a, b| a.0.total_cmp(b.0)).map(|(_, row)| row)
    }
}

/// Each row's lift, and the square of the length that all have then: that of the longest, if no more is asked.
fn lift(block: VectorBlock<'_>, least_square: f32) -> (Vec<f32>, f32) {
    let squared = |row: u32| {
        let row = block.row(row);
        f64::from(distance::dot(row, row))
    };
    let lengths: Vec<f64> = (0..block.len() as u32).map(squared).collect();
    // One row whose length floats can't hold must not lift all others to infinity: it stays as long as it is.
    let finite = lengths.iter().copied().filter(|length| length.is_finite());
    let greatest = finite.fold(f64::from(least_square), f64::max);
    let lift =
        |length: f64| if length.is_finite() { (greatest - length).max(0.0).sqrt() as f32 } else { 0.0 };
    let lift = lengths.into_iter().map(lift).collect();
    (lift, greatest as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::test_data::clustered;

    #[test]
    fn lifted_rows_are_ordered_by_dot_product_from_a_flat_query() {
        let data = clustered(300, 16, Distance::Dot, 5);
        let (block, space) = (data.block(), Space::new(data.block()));
        let query = [0.3; 16];
        let lifted =
            |row: u32| distance::l2_squared(&query, block.row(row)) + space.lift[row as usize].powi(2);
        let mut by_lift: Vec<u32> = (0..300).collect();
        let mut by_dot = by_lift.clone();
        by_lift.sort_by(|&a, &b| lifted(a).total_cmp(&lifted(b)));
        by_dot.sort_by(|&a, &b| {
            distance::dot(&query, block.row(b)).total_cmp(&distance::dot(&query, block.row(a)))
        });
        assert_eq!(by_lift[..50], by_dot[..50]);
        let longest = space.longest().expect("dot has one");
        let length = |row: u32| distance::dot(block.row(row), block.row(row));
        assert!((0..300).all(|row| length(row) <= length(longest)));
    }
}
