#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::{Kernels, all_finite, dot, normalize};

fn dot_reference(a: &[f32], b: &[f32]) -> (f64, f64) {
    let products = || a.iter().zip(b).map(|(&x, &y)| f64::from(x) * f64::from(y));
    (products().sum(), products().map(f64::abs).sum())
}

fn l2_reference(a: &[f32], b: &[f32]) -> (f64, f64) {
    let sum: f64 = a.iter().zip(b).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    (sum, sum)
}

/// The f32 sum may be off by rounding of its terms, not by a term.
fn near(value: f32, (expected, magnitude): (f64, f64)) -> bool {
    (f64::from(value) - expected).abs() <= 1e-5 * magnitude + 1e-30
}

/// Seeded values in -1..1.
fn values(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32) / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

proptest! {
    #[test]
    fn every_level_agrees_with_f64(
        (a, b) in (0usize..300).prop_flat_map(|len| {
            let side = || prop::collection::vec(-1000f32..1000.0, len);
            (side(), side())
        })
    ) {
        for level in Kernels::available() {
            prop_assert!(near(level.dot(&a, &b), dot_reference(&a, &b)), "dot {}", level.name());
            prop_assert!(near(level.l2_squared(&a, &b), l2_reference(&a, &b)), "l2 {}", level.name());
        }
    }

    #[test]
    fn three_forms_give_the_same_bits(
        dim in 1usize..140, rows in 1usize..20, seed: u64,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let block = values(seed, dim * rows);
        let query = values(!seed, dim);
        let ids: Vec<u32> = picks.iter().map(|pick| pick.index(rows) as u32).collect();
        let row = |id: usize| &block[id * dim..][..dim];
        for level in Kernels::available() {
            let (mut many, mut some) = (vec![0.0; rows], vec![0.0; ids.len()]);
            level.dot_many(&query, &block, &mut many);
            level.dot_ids(&query, &block, &ids, &mut some);
            for (id, value) in many.iter().enumerate() {
                prop_assert_eq!(value.to_bits(), level.dot(&query, row(id)).to_bits());
            }
            for (&id, value) in ids.iter().zip(&some) {
                prop_assert_eq!(value.to_bits(), many[id as usize].to_bits());
            }
            level.l2_squared_many(&query, &block, &mut many);
            level.l2_squared_ids(&query, &block, &ids, &mut some);
            for (id, value) in many.iter().enumerate() {
                prop_assert_eq!(value.to_bits(), level.l2_squared(&query, row(id)).to_bits());
            }
            for (&id, value) in ids.iter().zip(&some) {
                prop_assert_eq!(value.to_bits(), many[id as usize].to_bits());
            }
        }
    }

    #[test]
    fn blocks_give_the_same_bits_as_pairs(dim in 1usize..300, counts in (0usize..6, 0usize..9), seed: u64) {
        let (queries, rows) = (values(seed, dim * counts.0), values(!seed, dim * counts.1));
        for level in Kernels::available() {
            let (mut dots, mut squares) = (vec![0.0; counts.0 * counts.1], vec![0.0; counts.0 * counts.1]);
            level.dot_block(&queries, &rows, dim, &mut dots);
            level.l2_squared_block(&queries, &rows, dim, &mut squares);
            let pairs = queries.chunks(dim).flat_map(|query| rows.chunks(dim).map(move |row| (query, row)));
            for (((query, row), dot), square) in pairs.zip(dots).zip(squares) {
                prop_assert_eq!(dot.to_bits(), level.dot(query, row).to_bits(), "{}", level.name());
                prop_assert_eq!(square.to_bits(), level.l2_squared(query, row).to_bits(), "{}", level.name());
            }
        }
    }

    #[test]
    fn one_bad_component_is_found(len in 1usize..300, at: prop::sample::Index, kind in 0usize..3) {
        let mut v = values(len as u64, len);
        prop_assert!(all_finite(&v));
        v[at.index(len)] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][kind];
        prop_assert!(!all_finite(&v));
    }
}

#[test]
fn every_length_up_to_two_blocks_is_right_at_every_level() {
    for len in 0..=130 {
        let (a, b) = (values(7, len), values(8, len));
        for level in Kernels::available() {
            assert!(near(level.dot(&a, &b), dot_reference(&a, &b)), "dot {} of {len}", level.name());
            assert!(near(level.l2_squared(&a, &b), l2_reference(&a, &b)), "l2 {} of {len}", level.name());
        }
    }
}

#[test]
fn a_block_of_several_panels_is_right() {
    let (dim, count) = (1024, 200); // 800 KiB
    let (queries, rows) = (values(1, dim * 3), values(2, dim * count));
    let (mut block, mut many) = (vec![0.0; 3 * count], vec![0.0; count]);
    for level in Kernels::available() {
        level.l2_squared_block(&queries, &rows, dim, &mut block);
        for (query, block) in queries.chunks(dim).zip(block.chunks(count)) {
            level.l2_squared_many(query, &rows, &mut many);
            assert_eq!(block, many, "{}", level.name());
        }
    }
}

#[test]
fn not_a_number_comes_through_at_every_level() {
    for len in [1, 5, 33, 64, 100] {
        for at in 0..len {
            let mut a = vec![1.0; len];
            a[at] = f32::NAN;
            let b = vec![1.0; len];
            for level in Kernels::available() {
                assert!(level.dot(&a, &b).is_nan() && level.l2_squared(&a, &b).is_nan());
            }
        }
    }
}

#[test]
fn the_best_level_is_first_and_scalar_last() {
    let names: Vec<&str> = Kernels::available().map(Kernels::name).collect();
    assert_eq!(names.last(), Some(&"scalar"));
    #[cfg(target_arch = "x86_64")]
    assert!(names.contains(&"sse2"));
    #[cfg(target_arch = "aarch64")]
    assert!(names.contains(&"neon"));
    if std::env::var_os("PROXIMADB_SIMD").is_none() {
        assert_eq!(super::level(), names[0]);
    }
}

#[test]
fn vectors_without_components_are_at_distance_zero() {
    let mut out = [1.0; 3];
    super::dot_many(&[], &[], &mut out);
    assert_eq!(out, [0.0; 3]);
    super::l2_squared_ids(&[], &[], &[0, 9], &mut out[..2]);
    assert_eq!(dot(&[], &[]), 0.0);
}

#[test]
#[should_panic(expected = "differ in length")]
fn different_lengths_are_refused() {
    dot(&[1.0], &[1.0, 2.0]);
}

#[test]
#[should_panic]
fn a_row_beyond_the_block_is_refused() {
    super::dot_ids(&[1.0, 2.0], &[0.0; 4], &[2], &mut [0.0]);
}

#[test]
fn normalizing_keeps_the_direction_and_tells_the_length() {
    for scale in [1.0f32, 1e-30, 1e30] {
        let mut v = vec![3.0 * scale, 0.0, 4.0 * scale];
        let norm = normalize(&mut v);
        assert!((norm / scale - 5.0).abs() < 1e-4, "{norm}");
        assert!((v[0] - 0.6).abs() < 1e-5 && (v[2] - 0.8).abs() < 1e-5, "{v:?}");
    }
    let mut long = values(3, 1000);
    normalize(&mut long);
    assert!((dot(&long, &long) - 1.0).abs() < 1e-5);
    let mut tiny = [f32::from_bits(1), 0.0]; // the least subnormal
    normalize(&mut tiny);
    assert_eq!(tiny, [1.0, 0.0]);
}

#[test]
fn what_has_no_direction_is_left_alone() {
    let mut zero = [0.0; 5];
    assert_eq!(normalize(&mut zero), 0.0);
    assert_eq!(zero, [0.0; 5]);
    let mut odd = [1.0, f32::NAN];
    assert!(normalize(&mut odd).is_nan());
    assert_eq!(odd[0], 1.0);
}
