//! Which points are compared when: the loops above a device.
//!
//! ```text
//!   for each block of queries (slot 0):
//!     for each block of rows (slot 0 itself, or slot 1):     uploaded once per block of queries
//!       for each tile of queries: for each tile of rows: dots, select
//! ```
//! Where all points fit a slot there is one block, and they are uploaded once.
use std::ops::{ControlFlow, Range};

use crate::backend::{Limits, Shape, Tile};
use crate::source::Staging;
use crate::{GpuError, K_MAX, KnnBackend, NONE};

/// Points in host memory.
pub struct Points<'a> {
    /// How many; positions are below 2^31.
    pub count: usize,
    /// Neighbours are looked for among so many, the first ones.
    pub among: usize,
    /// Components of each.
    pub dim: usize,
    /// Threads that copy.
    pub threads: usize,
    /// Copies the point at a position.
    pub copy: &'a (dyn Fn(usize, &mut [f32]) + Sync),
}

/// Queries of a tile at most. The kernel that selects runs one group per query, so thousands keep a device
/// busy; more are only reported later.
const TILE_QUERIES: usize = 8_192;

/// Rows of a tile at most: with so many the product of a tile takes as long as it should, and half a gigabyte. Lists
/// are read and written once per tile, so more rows are better than more queries.
const TILE_ROWS: usize = 16_384;

/// Rows of the first tile, each of which is waited for until they are as many as may be, doubling: it shows early how
/// fast the device is.
const TILE_ROWS_FIRST: usize = 1024;

/// Tiles that are asked for before the first is waited for, doubling, too: a device needn't idle between them, and
/// cancelling takes as long as they do.
const TILES_ASKED_MAX: usize = 8;

/// A tile's sides are multiples of this but for the last ones.
const TILE_STEP: usize = 64;

/// Bytes staged at once.
const STAGED_BYTES: usize = 64 << 20;

/// The part of device memory that a tile of products may take.
const TILE_SHARE: usize = 4;

/// Finds the `k` nearest other points of every point, among the first `among`.
///
/// `found` gets the position of the first of some points and a list of `k` positions for each of them, nearest
/// first, [`NONE`] where there are fewer; points come in order. An error may come after some were reported. `go_on` is
/// told the part of the comparisons that is done, again and again; once one of the two breaks, nothing more is
/// computed, and the outcome is [`GpuError::Cancelled`].
pub fn nearest(
    backend: &mut dyn KnnBackend,
    points: &Points<'_>,
    k: usize,
    limits: Limits,
    go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
    found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
) -> Result<(), GpuError> {
    if points.count == 0 {
        return Ok(());
    }
    let among = points.among.clamp(1, points.count);
    let shape = shape(points.count, points.dim, k, limits)?;
    backend.begin(shape)?;
    let work = Work {
        backend,
        shape,
        staging: Staging::new(points, shape.dim),
        go_on,
        pairs: points.count as f64 * among as f64,
        pairs_asked: 0.0,
        pairs_done: 0.0,
        tile_rows: shape.tile_rows.min(TILE_ROWS_FIRST),
        tiles_asked: 0,
        tiles_asked_max: 1,
    };
    let outcome = work.all(points.count, among, found);
    backend.end();
    outcome
}

struct Work<'a> {
    backend: &'a mut dyn KnnBackend,
    shape: Shape,
    staging: Staging<'a>,
    go_on: &'a mut dyn FnMut(f64) -> ControlFlow<()>,
    /// Comparisons: all of them, those that the device was asked for, those that it has done.
    pairs: f64,
    pairs_asked: f64,
    pairs_done: f64,
    /// Rows of a tile by now.
    tile_rows: usize,
    /// Tiles that were asked for since the last wait, and how many may be.
    tiles_asked: usize,
    tiles_asked_max: usize,
}

impl Work<'_> {
    fn all(
        mut self,
        count: usize,
        among: usize,
        found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), GpuError> {
        let row_blocks: Vec<Range<usize>> = chunks(0..among, self.shape.slot_points).collect();
        let mut keys = Vec::new();
        let mut lists = Vec::new();
        for queries in chunks(0..count, self.shape.slot_points) {
            self.upload(0, queries.clone())?;
            self.backend.clear()?;
            // Its own rows first: they are there. Blocks that start together are the same, or one a part of the other.
            let own = row_blocks.iter().filter(|rows| rows.start == queries.start);
            let others = row_blocks.iter().filter(|rows| rows.start != queries.start);
            let mut rest = own.chain(others).peekable();
            while let Some(rows) = rest.next() {
                let row_slot = usize::from(rows.start != queries.start);
                if row_slot == 1 {
                    self.upload(row_slot, rows.clone())?;
                }
                for places in chunks(0..queries.len(), self.shape.tile_queries) {
                    self.compare(places.clone(), queries.start, row_slot, rows)?;
                    if rest.peek().is_some() {
                        continue;
                    }
                    keys.resize(places.len() * self.shape.k, 0);
                    self.backend.read(places.clone(), &mut keys)?;
                    self.all_done();
                    lists.clear();
                    lists.extend(keys.iter().map(|&key| key as u32)); // the lower half; all ones is `NONE`
                    debug_assert!(lists.iter().all(|&at| at == NONE || (at as usize) < among));
                    if found(queries.start + places.start, &lists).is_break() {
                        return Err(GpuError::Cancelled);
                    }
                }
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        queries: Range<usize>,
        queries_first: usize,
        row_slot: usize,
        rows: &Range<usize>,
    ) -> Result<(), GpuError> {
        let mut start = 0;
        while start < rows.len() {
            self.check()?;
            let places = start..rows.len().min(start + self.tile_rows);
            start = places.end;
            let tile = Tile {
                queries: queries.clone(),
                queries_first,
                row_slot,
                rows: places,
                rows_first: rows.start,
            };
            self.backend.compare(&tile)?;
            self.pairs_asked += tile.queries.len() as f64 * tile.rows.len() as f64;
            self.tiles_asked += 1;
            if self.tiles_asked >= self.tiles_asked_max {
                self.backend.wait()?;
                self.all_done();
                match self.tile_rows == self.shape.tile_rows {
                    true => self.tiles_asked_max = TILES_ASKED_MAX.min(2 * self.tiles_asked_max),
                    false => self.tile_rows = self.shape.tile_rows.min(2 * self.tile_rows),
                }
            }
        }
        Ok(())
    }

    fn all_done(&mut self) {
        self.pairs_done = self.pairs_asked;
        self.tiles_asked = 0;
    }

    fn upload(&mut self, slot: usize, positions: Range<usize>) -> Result<(), GpuError> {
        let first = positions.start;
        for part in chunks(positions, (STAGED_BYTES / (4 * self.shape.dim)).max(1)) {
            self.check()?;
            let at = part.start - first;
            self.staging.fill(part);
            self.backend.upload(slot, at, &self.staging.rows, &self.staging.squares)?;
        }
        Ok(())
    }

    fn check(&mut self) -> Result<(), GpuError> {
        match (self.go_on)(self.pairs_done / self.pairs) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(GpuError::Cancelled),
        }
    }
}

fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(size).map(move |start| start..end.min(start + size))
}

/// How large slots and tiles are, so that all fits.
fn shape(count: usize, dim: usize, k: usize, limits: Limits) -> Result<Shape, GpuError> {
    if !(1..=K_MAX).contains(&k) {
        return Err(GpuError::Count { k });
    }
    let no_memory = || GpuError::NoMemory { bytes: limits.bytes, dim };
    let padded = dim.next_multiple_of(Shape::DIM_STEP).max(Shape::DIM_STEP);
    let whole = count.next_multiple_of(TILE_STEP);
    let (mut tile_queries, mut tile_rows) = (whole.min(TILE_QUERIES), whole.min(TILE_ROWS));
    let tile_bytes_max = (limits.bytes / TILE_SHARE).min(limits.buffer_bytes);
    while tile_queries * tile_rows * 4 > tile_bytes_max {
        let longer = if tile_queries >= tile_rows { &mut tile_queries } else { &mut tile_rows };
        if *longer == TILE_STEP {
            return Err(no_memory());
        }
        *longer = (*longer / 2).next_multiple_of(TILE_STEP);
    }
    let left = limits.bytes - tile_queries * tile_rows * 4;
    let (point, list) = (padded * 4 + 4, k * 8);
    let most = limits.buffer_bytes / (padded * 4).max(list);
    let (slots, slot_points) = match (left / (point + list)).min(most) {
        fits if fits >= count => (1, count),
        _ => (2, (left / (2 * point + list)).min(most)),
    };
    if slot_points == 0 {
        return Err(no_memory());
    }
    Ok(Shape { dim: padded, k, slots, slot_points, tile_queries, tile_rows })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Reference;

    fn random_points(count: usize, dim: usize, seed: u64) -> Vec<f32> {
        let mut state = seed | 1;
        (0..count * dim)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                // Few different values, so that there are ties.
                ((state >> 40) % 16) as f32
            })
            .collect()
    }

    fn lists(rows: &[f32], dim: usize, k: usize, among: usize, limits: Limits) -> Vec<Vec<u32>> {
        let copy = |at: usize, out: &mut [f32]| out.copy_from_slice(&rows[at * dim..][..dim]);
        let points = Points { count: rows.len() / dim, among, dim, threads: 2, copy: &copy };
        let mut all = Vec::new();
        nearest(
            &mut Reference::new(limits),
            &points,
            k,
            limits,
            &mut |_| ControlFlow::Continue(()),
            &mut |first, found| {
                assert_eq!(first, all.len());
                all.extend(found.chunks(k).map(<[u32]>::to_vec));
                ControlFlow::Continue(())
            },
        )
        .unwrap();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// G1, G2: however little fits, each point gets what sorting all others gives.
        #[test]
        fn every_point_gets_its_nearest_however_small_the_device(
            count in 1usize..300, share in 1usize..5, dim in 1usize..20, k in 1usize..20, kib in 72usize..600,
            seed: u64,
        ) {
            let rows = random_points(count, dim, seed);
            let limits = Limits { bytes: kib << 10, buffer_bytes: kib << 9 };
            // Exact in f32 and f64: small integers, and a mean that is subtracted from both sides.
            let distance = |a: usize, b: usize| -> f64 {
                let pairs = rows[a * dim..][..dim].iter().zip(&rows[b * dim..][..dim]);
                pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            let among = count.div_ceil(share);
            let found = lists(&rows, dim, k, among, limits);
            prop_assert_eq!(found.len(), count);
            for (query, list) in found.iter().enumerate() {
                let mut expected: Vec<f64> =
                    (0..among).filter(|&row| row != query).map(|row| distance(query, row)).collect();
                expected.sort_by(f64::total_cmp);
                expected.truncate(k);
                let real: Vec<usize> =
                    list.iter().filter(|&&row| row != NONE).map(|&row| row as usize).collect();
                prop_assert_eq!(real.len(), expected.len());
                prop_assert!(!real.contains(&query));
                for (&row, expected) in real.iter().zip(&expected) {
                    prop_assert!((distance(query, row) - expected).abs() <= 1e-3 * (1.0 + expected));
                }
            }
        }

        #[test]
        fn what_is_allocated_fits(
            count in 1usize..20_000_000, dim in 1usize..5000, k in 1usize..=K_MAX, mib in 1usize..90_000,
            share in 1usize..5,
        ) {
            let limits = Limits { bytes: mib << 20, buffer_bytes: (mib << 20) / share };
            let Ok(shape) = shape(count, dim, k, limits) else { return Ok(()) };
            let buffers = [
                shape.slot_points * shape.dim * 4,
                shape.slot_points * k * 8,
                shape.tile_queries * shape.tile_rows * 4,
            ];
            let all = shape.slots * (buffers[0] + shape.slot_points * 4) + buffers[1] + buffers[2];
            prop_assert!(all <= limits.bytes && buffers.iter().all(|&bytes| bytes <= limits.buffer_bytes));
            prop_assert!(shape.slots == 2 || shape.slot_points >= count);
        }
    }

    #[test]
    fn too_little_memory_and_too_many_neighbours_are_refused() {
        let limits = Limits { bytes: 20 << 10, buffer_bytes: 20 << 10 };
        assert!(matches!(shape(1000, 16, 10, limits), Err(GpuError::NoMemory { .. })));
        let limits = Limits { bytes: 1 << 30, buffer_bytes: 1 << 30 };
        assert!(matches!(shape(1000, 16, K_MAX + 1, limits), Err(GpuError::Count { .. })));
        assert!(matches!(shape(1000, 16, 0, limits), Err(GpuError::Count { .. })));
    }

    #[test]
    fn a_million_points_stay_on_a_large_device_and_stream_through_a_small_one() {
        let large = Limits { bytes: 64 << 30, buffer_bytes: 64 << 30 };
        assert_eq!(shape(1_000_000, 768, 64, large).unwrap().slots, 1);
        let small = Limits { bytes: 2 << 30, buffer_bytes: 1 << 30 };
        let shape = shape(1_000_000, 768, 64, small).unwrap();
        assert_eq!(shape.slots, 2);
        assert!(shape.slot_points > 200_000, "{shape:?}");
    }

    #[test]
    fn rows_that_are_no_numbers_are_nobodys_neighbours() {
        let mut rows = random_points(40, 4, 3);
        rows[8] = f32::NAN;
        rows[20] = f32::INFINITY;
        let limits = Limits { bytes: 1 << 20, buffer_bytes: 1 << 20 };
        let found = lists(&rows, 4, 39, 40, limits);
        assert!(found.iter().all(|list| !list.contains(&2) && !list.contains(&5)));
        assert!(found[2].iter().chain(&found[5]).all(|&row| row == NONE));
        assert_eq!(found[0].iter().filter(|&&row| row != NONE).count(), 37);
    }

    /// Both are told what they should be, and heard.
    #[test]
    fn what_is_done_is_told_and_a_break_ends_it() {
        let copy = |at: usize, out: &mut [f32]| out.fill(at as f32);
        let points = Points { count: 1000, among: 1000, dim: 3, threads: 1, copy: &copy };
        let limits = Limits { bytes: 72 << 10, buffer_bytes: 72 << 10 };
        let run = |parts_most: usize, found_most: usize| {
            let (mut parts, mut found) = (Vec::new(), 0);
            let until = |over: bool| if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
            let outcome = nearest(
                &mut Reference::new(limits),
                &points,
                2,
                limits,
                &mut |part| {
                    parts.push(part);
                    until(parts.len() >= parts_most)
                },
                &mut |_, _| {
                    found += 1;
                    until(found >= found_most)
                },
            );
            (outcome, parts, found)
        };
        let (outcome, parts, all) = run(usize::MAX, usize::MAX);
        assert!(outcome.is_ok() && all > 2);
        assert!(parts.is_sorted() && parts[0] <= 0.0 && *parts.last().unwrap() < 1.0);
        // The first tile alone, as soon as it is there; all that remains at the end are those of one wait.
        let tiles = (1000f64 / 64.0).powi(2);
        let told: Vec<f64> = parts.iter().copied().filter(|&part| part > 0.0).collect();
        assert!(told[0] < 2.0 / tiles && *told.last().unwrap() > 1.0 - 10.0 / tiles, "{told:?}");
        let (outcome, parts, found) = run(1, usize::MAX);
        assert!(matches!(outcome, Err(GpuError::Cancelled)) && parts.len() == 1 && found == 0);
        let (outcome, parts, found) = run(20, usize::MAX);
        assert!(matches!(outcome, Err(GpuError::Cancelled)) && parts.len() == 20 && found < all);
        let (outcome, .., found) = run(usize::MAX, 2);
        assert!(matches!(outcome, Err(GpuError::Cancelled)) && found == 2);
    }
}
