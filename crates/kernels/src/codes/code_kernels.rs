//! The loops, written once for every level.
//!
//! A function gets a CPU feature by attribute, not by a type parameter, so what differs between levels
//! is what the calling module defines:
//!
//! ```text
//!   UNIT                  bytes of a row taken at once: 16, 32 or 64
//!   NARROW_MAX            what one lane of the narrow sum holds
//!   Codes, Query          UNIT unpacked codes, and the query values they meet
//!   Narrow, Wide          sums: cheap ones of few products, and 32-bit ones of all
//!   load, load_query      the last argument is UNIT; or 32 at a row's odd end, where UNIT is 64
//!   low_bits, shift       a field's codes, and the next field
//!   accumulate, widen     narrow += codes · query; wide += narrow
//!   sum, sums             the lanes of one row, of four rows
//! ```
use super::BLOCK;

/// Bytes asked for ahead of the row being computed. Fewer leaves the memory idle: a list of 32 rows of 192
/// bytes out of 2 GiB takes 27 ns a row with 4 rows ahead, 23 with 8, 18 with 16 and 15 with 24. Rows of
/// 768 bytes gain nothing beyond 8.
const BYTES_AHEAD: usize = 6144;

/// Blocks asked for ahead in a scan: 4 KiB.
pub(super) const SCAN_BLOCKS_AHEAD: usize = 128;

/// Rows asked for ahead of the one being computed.
#[inline(always)]
pub(super) fn rows_ahead(blocks: usize) -> usize {
    (BYTES_AHEAD / BLOCK / blocks.max(1)).clamp(4, 32)
}

/// Units whose products a narrow sum has room for. A lane takes two products for each field: with 4 bits
/// 2 · 15 · 128 = 3,840, and eight of those are 30,720.
pub(super) const fn units_narrow(bits: i32, narrow_max: usize) -> usize {
    let two_products = 2 * ((1 << bits) - 1) * 128;
    let units = narrow_max / two_products / super::layout::fields(bits);
    assert!(units > 0 && units * super::layout::fields(bits) * two_products <= narrow_max);
    units
}

/// The first `blocks` of a row of `stride`. Panics if they aren't there.
#[inline(always)]
pub(super) fn row(codes: &[[u8; BLOCK]], stride: usize, blocks: usize, id: u32) -> *const u8 {
    let start = id as usize * stride;
    codes[start..start + blocks].as_ptr().cast()
}

/// Asks for the first `blocks` of a row, if they are there.
#[inline(always)]
pub(super) fn prefetch_row(codes: &[[u8; BLOCK]], stride: usize, blocks: usize, id: u32) {
    let start = id as usize * stride;
    if let Some(row) = codes.get(start..start + blocks) {
        crate::prefetch::read(row);
    }
}

macro_rules! code_kernels {
    ($(#[$feature:meta])*) => {
        /// Sums of `R` rows at once, which share the loads of the query.
        ///
        /// # Safety
        /// Each row has `blocks` blocks, and the query as many for each field.
        $(#[$feature])*
        #[inline]
        unsafe fn rows<const BITS: i32, const R: usize>(
            query: *const i8,
            rows: [*const u8; R],
            blocks: usize,
        ) -> [Wide; R] {
            use super::BLOCK;
            let units = blocks * BLOCK / UNIT;
            let mut wide = [zero_wide(); R];
            let mut unit = 0;
            while unit < units {
                let end = units.min(unit + const { super::code_kernels::units_narrow(BITS, NARROW_MAX) });
                let mut narrow = [zero_narrow(); R];
                while unit < end {
                    // SAFETY: `unit` is one of those that fit into `blocks`.
                    narrow = unsafe { add_unit::<BITS, R, UNIT>(query, rows, unit, narrow) };
                    unit += 1;
                }
                for r in 0..R {
                    wide[r] = widen(wide[r], narrow[r]);
                }
            }
            if units * UNIT < blocks * BLOCK {
                // SAFETY: UNIT is two blocks, and one is left.
                let narrow = unsafe { add_unit::<BITS, R, BLOCK>(query, rows, units, [zero_narrow(); R]) };
                for r in 0..R {
                    wide[r] = widen(wide[r], narrow[r]);
                }
            }
            wide
        }

        /// Adds the products of one unit.
        ///
        /// # Safety
        /// `BYTES` can be read of each row from `unit · UNIT` on, and of the query what they meet.
        $(#[$feature])*
        #[inline]
        unsafe fn add_unit<const BITS: i32, const R: usize, const BYTES: usize>(
            query: *const i8,
            rows: [*const u8; R],
            unit: usize,
            mut narrow: [Narrow; R],
        ) -> [Narrow; R] {
            use super::BLOCK;
            let fields = const { super::layout::fields(BITS) };
            let at = unit * UNIT;
            // SAFETY: within the row, as promised.
            let mut codes = unsafe {
                let mut codes = [load(rows[0].add(at), BYTES); R];
                for r in 1..R {
                    codes[r] = load(rows[r].add(at), BYTES);
                }
                codes
            };
            for field in 0..fields {
                // SAFETY: each of a row's blocks meets `fields` blocks of the query. A unit is part of one
                // block, or one, or two, and then its second half meets what stands `fields` further on.
                let values = unsafe {
                    let block = at / BLOCK * fields + field;
                    load_query(query.add(block * BLOCK + at % BLOCK), fields * BLOCK, BYTES)
                };
                for r in 0..R {
                    narrow[r] = accumulate(narrow[r], low_bits::<BITS>(codes[r]), values);
                    codes[r] = shift::<BITS>(codes[r]);
                }
            }
            narrow
        }

        $(#[$feature])*
        pub(super) fn dot_many<const BITS: i32>(
            query: &[[i8; super::BLOCK]],
            codes: &[[u8; super::BLOCK]],
            out: &mut [i32],
        ) {
            let blocks = query.len() / const { super::layout::fields(BITS) };
            let row = |at: usize| super::code_kernels::row(codes, blocks, blocks, at as u32);
            let query = query.as_ptr().cast();
            let (quads, rest) = out.as_chunks_mut::<4>();
            let first_of_rest = 4 * quads.len();
            for (at, out) in quads.iter_mut().enumerate() {
                // Four rows at once are four streams, which the hardware's own prefetching loses track of.
                let ahead = (4 * at * blocks).saturating_add(super::code_kernels::SCAN_BLOCKS_AHEAD);
                if let Some(rows) = codes.get(ahead..ahead + 4 * blocks) {
                    crate::prefetch::read(rows);
                }
                let four = [row(4 * at), row(4 * at + 1), row(4 * at + 2), row(4 * at + 3)];
                // SAFETY: C1, `row` found the rows, and `blocks` is what the query is good for.
                *out = sums(unsafe { rows::<BITS, 4>(query, four, blocks) });
            }
            for (at, out) in rest.iter_mut().enumerate() {
                // SAFETY: as above.
                let [one] = unsafe { rows::<BITS, 1>(query, [row(first_of_rest + at)], blocks) };
                *out = sum(one);
            }
        }

        $(#[$feature])*
        pub(super) fn dot_ids<const BITS: i32>(
            query: &[[i8; super::BLOCK]],
            codes: &[[u8; super::BLOCK]],
            stride: usize,
            ids: &[u32],
            out: &mut [i32],
        ) {
            use super::code_kernels::{prefetch_row, rows_ahead};
            let blocks = query.len() / const { super::layout::fields(BITS) };
            let ahead = rows_ahead(blocks);
            let row = |id: u32| super::code_kernels::row(codes, stride, blocks, id);
            let query = query.as_ptr().cast();
            for &id in ids.iter().take(ahead) {
                prefetch_row(codes, stride, blocks, id);
            }
            let ((quads, rest), (out_quads, out_rest)) = (ids.as_chunks::<4>(), out.as_chunks_mut::<4>());
            for (at, (four, out)) in quads.iter().zip(out_quads).enumerate() {
                for &id in ids.iter().skip(4 * at + ahead).take(4) {
                    prefetch_row(codes, stride, blocks, id);
                }
                let four = [row(four[0]), row(four[1]), row(four[2]), row(four[3])];
                // SAFETY: C1, `row` found the rows, and `blocks` is what the query is good for.
                *out = sums(unsafe { rows::<BITS, 4>(query, four, blocks) });
            }
            for (&id, out) in rest.iter().zip(out_rest) {
                // SAFETY: as above.
                let [one] = unsafe { rows::<BITS, 1>(query, [row(id)], blocks) };
                *out = sum(one);
            }
        }
    };
}
