//! Estimates beside exact distances.
#![allow(clippy::unwrap_used)]
use proximadb_kernels::codes::Bits;

use super::*;
use crate::index::space::{Probe, Space};
use crate::index::test_data::{ALL_DISTANCES, clustered};
use crate::types::Distance;

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
    let centre = vec![0.0; bits.padded_dim(space.dim())];
    Quantizer::new(bits, space.dim(), 5, centre, 0.0)
}

#[test]
fn estimates_are_unbiased_and_better_with_more_bits() {
    for kind in ALL_DISTANCES {
        let data = clustered(400, 100, kind, 31);
        let mut last = f32::INFINITY;
        for (bits, most) in [(Bits::One, 0.2), (Bits::Two, 0.07), (Bits::Four, 0.02), (Bits::Seven, 0.004)] {
            let mut space = Space::new(data.block());
            let quantizer = quantizer(&space, bits);
            space.encode(quantizer, 2, &|_| None).unwrap();
            let errors = errors(&space, 40, false);
            let (mean, deviation) = (errors.iter().sum::<f32>() / errors.len() as f32, deviation(&errors));
            assert!(deviation < most && deviation < last, "{kind:?} {bits:?}: {deviation}");
            assert!(mean.abs() < 0.3 * deviation, "{kind:?} {bits:?}: {mean} ± {deviation}");
            last = deviation;
        }
    }
}

#[test]
fn a_row_may_be_compared_by_its_code() {
    let data = clustered(400, 100, Distance::L2, 32);
    let mut space = Space::new(data.block());
    let quantizer = quantizer(&space, Bits::Four);
    space.encode(quantizer, 1, &|_| None).unwrap();
    let (by_row, by_code) = (deviation(&errors(&space, 40, false)), deviation(&errors(&space, 40, true)));
    assert!(by_row < by_code && by_code < 2.0 * by_row, "{by_row} {by_code}");
}

#[test]
fn the_error_that_a_sample_tells_is_that_of_all_rows() {
    for kind in [Distance::L2, Distance::Cosine] {
        let data = clustered(6_000, 96, kind, 33);
        let mut space = Space::new(data.block());
        let quantizer = choose(&space, 1).expect("so many components are worth coding");
        let told = quantizer.error;
        space.encode(quantizer, 2, &|_| None).unwrap();
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
        assert!(choose(&Space::new(data.block()), 1).is_none(), "{dim}");
    }
    // More than the kernels' sums have room for.
    assert!(choose(&Space::new(clustered(3, 1 << 16, Distance::Dot, 34).block()), 1).is_none());
    assert!(choose(&Space::new(clustered(0, 64, Distance::L2, 34).block()), 1).is_none());
}

/// One row so long that the mean of all is nowhere near any other.
#[test]
fn a_huge_row_does_not_spoil_the_codes_of_the_others() {
    let mut data = clustered(1_000, 64, Distance::L2, 35);
    let space = Space::new(data.block());
    let before = choose(&space, 1).unwrap().error;
    data.rows[64 * 500] = 1e18;
    data.rows[64 * 501] = f32::NAN;
    let space = Space::new(data.block());
    let after = choose(&space, 1).expect("the others are as they were");
    assert!(after.centre.iter().all(|x| x.is_finite() && x.abs() < 1e6));
    assert!(after.error < 2.0 * before, "{before} became {}", after.error);
}

#[test]
fn rows_that_are_the_centre_or_no_numbers_get_a_code_all_the_same() {
    let mut rows = vec![0.0; 64 * 4];
    rows[64] = f32::INFINITY;
    rows[128] = f32::NAN;
    rows[192] = 1.0;
    let block = crate::index::VectorBlock { dim: 64, rows: &rows, distance: Distance::L2 };
    let mut space = Space::new(block);
    let quantizer = quantizer(&space, Bits::Four);
    space.encode(quantizer, 1, &|_| None).unwrap();
    let (mut probe, mut out) = (Probe::default(), [0.0; 4]);
    space.aim(&mut probe, 3);
    space.distances(&probe, &[0, 1, 2, 3], &mut out);
    assert!((out[0] - 1.0).abs() < 0.2 && out[3].abs() < 0.2, "{out:?}");
    assert!(!out[1].is_finite() && !out[2].is_finite(), "{out:?}");
}

#[test]
fn threads_and_seeds() {
    let data = clustered(3_000, 64, Distance::Cosine, 36);
    let packed = |seed, threads| {
        let mut space = Space::new(data.block());
        let quantizer = choose(&space, seed).unwrap();
        space.encode(quantizer, threads, &|_| None).unwrap();
        space.coded().unwrap().packed.as_slice().to_vec()
    };
    assert!(packed(1, 1) == packed(1, 5));
    assert!(packed(1, 1) != packed(2, 1));
}
