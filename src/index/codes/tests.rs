//! Estimates beside exact distances.
#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use proximadb_kernels::codes::Bits;

use super::*;
use crate::index::VectorBlock;
use crate::index::space::{Probe, Space};
use crate::index::test_data::{ALL_DISTANCES, clustered};
use crate::types::{Compression, Distance, Quantization, RabitqBits};

/// Errors of estimates from each of `rows` rows to all, in the unit of [`Quantizer::error`].
fn errors(space: &Space<'_>, rows: u32, by_code: bool) -> Vec<f32> {
    let ids: Vec<u32> = (0..space.len() as u32).collect();
    let (mut exact, mut estimates) = (vec![0.0; ids.len()], vec![0.0; ids.len()]);
    let codes = space.coded().unwrap().codes();
    let mut probe = Probe::default();
    let mut errors = Vec::new();
    for row in 0..rows {
        if by_code {
            space.aim_by_code(&mut probe, row);
        } else {
            space.aim(&mut probe, row);
        }
        space.exact_distances(row, &ids, &mut exact);
        space.distances(&probe, &ids, &mut estimates);
        for ((&id, exact), estimate) in
            ids.iter().zip(&exact).zip(&estimates).filter(|((id, _), _)| **id != row)
        {
            let unit = 2.0 * (codes.factors_of(row)[0] * codes.factors_of(id)[0]).sqrt();
            errors.push((estimate - exact) / unit);
        }
    }
    errors
}

fn deviation(errors: &[f32]) -> f32 {
    (errors.iter().map(|error| error * error).sum::<f32>() / errors.len() as f32).sqrt()
}

fn quantizer(space: &Space<'_>, bits: Bits) -> Quantizer {
    of_kind(space, Kind::Rabitq(bits))
}

/// Around zero; codebooks are taught by the space's own rows.
fn of_kind(space: &Space<'_>, kind: Kind) -> Quantizer {
    let (dim, padded) = (space.dim(), kind.padded(space.dim()));
    let codebooks = match kind {
        Kind::Product { width } => {
            let mut rows = vec![0.0; space.len() * padded];
            for (row, taught) in (0..).zip(rows.chunks_mut(padded)) {
                let components = space.block.row(row).iter().copied().chain(space.lift_of(row));
                taught.iter_mut().zip(components).for_each(|(taught, x)| *taught = x);
            }
            Product::train(dim, width, &rows, 5, 1).codebooks().to_vec()
        }
        _ => Vec::new(),
    };
    let rotated = matches!(kind, Kind::Rabitq(_));
    Quantizer::new(kind, dim, 5, rotated, vec![0.0; padded], codebooks)
}

/// Every kind, and how large its errors may be in the unit of [`Quantizer::error`] for 100 components.
fn kinds() -> [(Kind, f32); 9] {
    [
        (Kind::Rabitq(Bits::One), 0.2),
        (Kind::Rabitq(Bits::Two), 0.07),
        (Kind::Rabitq(Bits::Four), 0.02),
        (Kind::Rabitq(Bits::Seven), 0.004),
        (Kind::Bytes, 0.004),
        (Kind::Half, 0.0002),
        (Kind::Product { width: 1 }, 0.004),
        (Kind::Product { width: 4 }, 0.05),
        (Kind::Product { width: 16 }, 0.12),
    ]
}

#[test]
fn estimates_are_unbiased_and_better_with_more_bits() {
    for distance in ALL_DISTANCES {
        let data = clustered(400, 100, distance, 31);
        for (kind, most) in kinds() {
            let mut space = Space::new(data.block());
            let quantizer = of_kind(&space, kind);
            space.encode(quantizer, 2).unwrap();
            let errors = errors(&space, 40, false);
            let (mean, deviation) = (errors.iter().sum::<f32>() / errors.len() as f32, deviation(&errors));
            assert!(deviation < most, "{distance:?} {kind:?}: {deviation}");
            // Codewords are taught by these very rows, and 256 of 400 are themselves.
            let part = if let Kind::Product { .. } = kind { 0.5 } else { 0.3 };
            assert!(mean.abs() < part * deviation.max(1e-5), "{distance:?} {kind:?}: {mean} ± {deviation}");
        }
    }
}

/// Few components and many, whole blocks and not.
#[test]
fn every_kind_takes_any_number_of_components() {
    for dim in (1..=17).chain([100, 1536]) {
        let data = clustered(30, dim, Distance::L2, 37);
        for (kind, _) in kinds() {
            let mut space = Space::new(data.block());
            let quantizer = of_kind(&space, kind);
            assert_eq!((quantizer.kind(), quantizer.stride()), (kind, kind.stride(dim)));
            assert_eq!(quantizer.padded(), kind.padded(dim));
            space.encode(quantizer, 1).unwrap();
            // 30 rows are 30 codewords: what is left is rounding, and the scale of one bit is no small thing.
            let most = if let Kind::Rabitq(Bits::One | Bits::Two) = kind { 0.5 } else { 0.06 };
            let deviation = deviation(&errors(&space, 10, false));
            assert!(deviation < most, "{dim} {kind:?}: {deviation}");
        }
    }
}

proptest! {
    /// Whatever the rows, as long as they are numbers whose squares are.
    #[test]
    fn estimates_are_near_the_exact_distances(
        dim in 1usize..40,
        kind in 0usize..9,
        magnitude in -12i32..13,
        components in prop::collection::vec(prop_oneof![4 => -1.0f32..1.0, 1 => Just(0.0), 1 => Just(1.0)], 40 * 6),
        huge in 0usize..240,
    ) {
        let (kind, _) = kinds()[kind];
        let size = 10f32.powi(magnitude);
        let mut rows: Vec<f32> = components[..dim * 6].iter().map(|x| x * size).collect();
        if let Some(x) = rows.get_mut(huge) {
            *x *= 1e3;
        }
        let block = VectorBlock { dim, rows: &rows, distance: Distance::L2 };
        let mut space = Space::new(block);
        let quantizer = of_kind(&space, kind);
        space.encode(quantizer, 1).unwrap();
        // The worst that rounding does in one direction, rather than its deviation.
        let most = match kind {
            Kind::Rabitq(bits) => [3.0, 1.5, 0.6, 0.2][bits as usize],
            Kind::Bytes => 0.06,
            Kind::Half | Kind::Product { .. } => 0.002,
        };
        for by_code in [false, true] {
            let mut space_probe = Probe::default();
            let ids: Vec<u32> = (0..6).collect();
            let (mut exact, mut estimates) = ([0.0; 6], [0.0; 6]);
            for row in 0..6 {
                if by_code { space.aim_by_code(&mut space_probe, row) } else { space.aim(&mut space_probe, row) }
                space.exact_distances(row, &ids, &mut exact);
                space.distances(&space_probe, &ids, &mut estimates);
                for id in 0..6 {
                    let unit = 2.0 * space.square(row).sqrt() * space.square(id as u32).sqrt();
                    let error = (exact[id] - estimates[id]).abs();
                    // A code stands for its row twice where both sides are codes.
                    let bound = if by_code { 3.0 * most } else { most };
                    let rounding = 1e-5 * (space.square(row) + space.square(id as u32));
                    prop_assert!(error <= bound * unit + rounding,
                        "{kind:?} {dim}: {} for {} (unit {unit})", estimates[id], exact[id]);
                }
            }
        }
    }
}

#[test]
fn a_row_may_be_compared_by_its_code() {
    let data = clustered(400, 100, Distance::L2, 32);
    let mut space = Space::new(data.block());
    let quantizer = quantizer(&space, Bits::Four);
    space.encode(quantizer, 1).unwrap();
    let (by_row, by_code) = (deviation(&errors(&space, 40, false)), deviation(&errors(&space, 40, true)));
    assert!(by_row < by_code && by_code < 2.0 * by_row, "{by_row} {by_code}");
}

#[test]
fn the_error_that_a_sample_tells_is_that_of_all_rows() {
    for kind in [Distance::L2, Distance::Cosine] {
        let data = clustered(6_000, 96, kind, 33);
        let mut space = Space::new(data.block());
        let quantizer = to_build_on(&space, None, 1).expect("so many components are worth coding");
        let told = quantizer.error;
        space.encode(quantizer, 2).unwrap();
        let errors = errors(&space, 50, false);
        let real = deviation(&errors);
        assert!((0.8..1.25).contains(&(real / told)), "{kind:?}: told {told}, is {real}");
        // The slack is what a search relies on.
        let beyond = errors.iter().filter(|error| error.abs() > 3.0 * told).count();
        assert!(beyond * 100 < errors.len(), "{beyond} of {}", errors.len());
    }
}

#[test]
fn few_components_are_left_as_they_are() {
    for dim in [1, 8, 16] {
        let data = clustered(300, dim, Distance::L2, 34);
        assert!(to_build_on(&Space::new(data.block()), None, 1).is_none(), "{dim}");
    }
    // More than the kernels' sums have room for.
    assert!(to_build_on(&Space::new(clustered(3, 1 << 16, Distance::Dot, 34).block()), None, 1).is_none());
    assert!(to_build_on(&Space::new(clustered(0, 64, Distance::L2, 34).block()), None, 1).is_none());
}

/// One row so long that the mean of all is nowhere near any other.
#[test]
fn a_huge_row_does_not_spoil_the_codes_of_the_others() {
    let mut data = clustered(1_000, 64, Distance::L2, 35);
    let space = Space::new(data.block());
    let before = to_build_on(&space, None, 1).unwrap().error;
    data.rows[64 * 500] = 1e18;
    data.rows[64 * 501] = f32::NAN;
    let space = Space::new(data.block());
    let after = to_build_on(&space, None, 1).expect("the others are as they were");
    assert!(after.centre.iter().all(|x| x.is_finite() && x.abs() < 1e6));
    assert!(after.error < 2.0 * before, "{before} became {}", after.error);
}

#[test]
fn rows_that_are_the_centre_or_no_numbers_get_a_code_all_the_same() {
    for (kind, _) in kinds() {
        let mut rows = vec![0.0; 64 * 6];
        rows[64] = f32::INFINITY;
        rows[128] = f32::NAN;
        rows[192] = 1.0;
        rows[256] = 1e-40;
        rows[320..].fill(1e25);
        let block = VectorBlock { dim: 64, rows: &rows, distance: Distance::L2 };
        let mut space = Space::new(block);
        let sound = VectorBlock { dim: 64, rows: &[&rows[..64], &rows[192..256]].concat(), ..block };
        let quantizer = of_kind(&Space::new(sound), kind);
        space.encode(quantizer, 1).unwrap();
        let (mut probe, mut out) = (Probe::default(), [0.0; 6]);
        space.aim(&mut probe, 3);
        space.distances(&probe, &[0, 1, 2, 3, 4, 5], &mut out);
        assert!((out[0] - 1.0).abs() < 0.2 && out[3].abs() < 0.2, "{kind:?} {out:?}");
        assert!((out[4] - 1.0).abs() < 0.2, "{kind:?} {out:?}");
        // Farther than everything.
        assert!(
            out.iter().enumerate().all(|(at, x)| x.is_finite() != [1, 2, 5].contains(&at)),
            "{kind:?} {out:?}"
        );
    }
}

#[test]
fn threads_change_nothing_and_the_seed_does() {
    let asked = [None, Some(Quantization::INT8), Some(Quantization::F16 {})];
    let coarse = [
        Quantization::rabitq(RabitqBits::One),
        Quantization::rabitq(RabitqBits::Two),
        Quantization::product(Compression::X16),
    ];
    let data = clustered(5_000, 64, Distance::Cosine, 36);
    let bytes = |quantizer: Quantizer, threads| {
        let mut space = Space::new(data.block());
        space.encode(quantizer, threads).unwrap();
        let coded = space.coded().unwrap();
        (coded.packed.as_slice().to_vec(), coded.factors.clone(), coded.quantizer.error)
    };
    let space = Space::new(data.block());
    for asked in asked {
        let packed = |seed, threads| bytes(to_build_on(&space, asked, seed).unwrap(), threads);
        assert!(packed(1, 1) == packed(1, 5), "{asked:?}");
        assert!(packed(1, 1) != packed(2, 1), "{asked:?}");
    }
    for asked in coarse {
        let packed = |seed, threads| bytes(to_walk_on(&space, Some(asked), seed, threads).unwrap(), threads);
        assert!(packed(1, 1) == packed(1, 5), "{asked:?}");
        assert!(packed(1, 1) != packed(2, 1), "{asked:?}");
    }
}

#[test]
fn what_is_asked_for_is_what_rows_get() {
    let data = clustered(5_000, 40, Distance::L2, 38);
    let space = Space::new(data.block());
    let built = |asked| to_build_on(&space, asked, 1).map(|quantizer| quantizer.kind());
    let walked = |asked| to_walk_on(&space, Some(asked), 1, 2).map(|quantizer| quantizer.kind());
    let four = Kind::Rabitq(Bits::Four);
    for (asked, kind) in [
        (Quantization::None {}, None),
        (Quantization::F16 {}, Some(Kind::Half)),
        (Quantization::INT8, Some(Kind::Bytes)),
        (Quantization::rabitq(RabitqBits::Four), Some(four)),
        (Quantization::rabitq(RabitqBits::Seven), Some(Kind::Rabitq(Bits::Seven))),
    ] {
        assert_eq!((built(Some(asked)), walked(asked)), (kind, None), "{asked:?}");
    }
    let auto = built(None);
    for (asked, kind) in [
        (Quantization::rabitq(RabitqBits::One), Kind::Rabitq(Bits::One)),
        (Quantization::rabitq(RabitqBits::Two), Kind::Rabitq(Bits::Two)),
        (Quantization::product(Compression::X4), Kind::Product { width: 1 }),
        (Quantization::product(Compression::X64), Kind::Product { width: 16 }),
    ] {
        assert_eq!((built(Some(asked)), walked(asked)), (auto, Some(kind)), "{asked:?}");
    }
    // Too few to teach codewords.
    let few = clustered(500, 40, Distance::L2, 38);
    let few = to_walk_on(&Space::new(few.block()), Some(Quantization::product(Compression::X16)), 1, 1);
    assert_eq!(few.map(|quantizer| quantizer.kind()), Some(Kind::Rabitq(Bits::Two)));
    let none = clustered(0, 40, Distance::L2, 38);
    let none = Space::new(none.block());
    assert!(to_build_on(&none, Some(Quantization::INT8), 1).is_none());
    assert!(to_walk_on(&none, Some(Quantization::product(Compression::X4)), 1, 1).is_none());
}

/// Lifted, rows of very different lengths differ from each other by less than a bit says.
#[test]
fn codes_too_coarse_for_a_segment_give_way_to_finer_ones() {
    let data = clustered(5_000, 48, Distance::Dot, 41);
    let space = Space::new(data.block());
    assert!(to_walk_on(&space, Some(Quantization::rabitq(RabitqBits::One)), 1, 1).is_none());
    let built = to_build_on(&space, Some(Quantization::rabitq(RabitqBits::Four)), 1);
    assert_eq!(built.map(|quantizer| quantizer.kind()), Some(Kind::Rabitq(Bits::Seven)));
}

/// The coarser, the more candidates a walk keeps.
#[test]
fn coarse_codes_widen_the_walk() {
    let data = clustered(5_000, 64, Distance::L2, 39);
    let space = Space::new(data.block());
    let bits = |bits| Quantization::rabitq(bits);
    let fine = to_build_on(&space, Some(bits(RabitqBits::Seven)), 1).unwrap().widening;
    let two = to_walk_on(&space, Some(bits(RabitqBits::Two)), 1, 1).unwrap().widening;
    let one = to_walk_on(&space, Some(bits(RabitqBits::One)), 1, 1).unwrap().widening;
    assert!(fine == 1.0 && two >= fine && one > two && one <= 8.0, "{fine} {two} {one}");
}
