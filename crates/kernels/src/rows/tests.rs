#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::half::{from_half, to_half};
use super::{Forms, bits, bytes, half};

/// Seeded bytes.
fn seeded(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..count).map(|_| next()).collect()
}

/// All three forms at once: what each row gives as a pair, or a word on the form that differs.
fn forms<Q, T, O: Copy + Default + PartialEq>(
    forms: &Forms<Q, T, O>,
    query: &[Q],
    rows: &[T],
    ids: &[u32],
) -> Result<Vec<O>, &'static str> {
    let pairs: Vec<O> = rows.chunks(query.len()).map(|row| forms.pair(query, row)).collect();
    let mut many = vec![O::default(); pairs.len()];
    forms.many(query, rows, &mut many);
    let mut some = vec![O::default(); ids.len()];
    forms.ids(query, rows, ids, &mut some);
    if many != pairs {
        Err("many")
    } else if ids.iter().zip(&some).any(|(&id, value)| *value != pairs[id as usize]) {
        Err("ids")
    } else {
        Ok(pairs)
    }
}

fn near(value: f32, expected: f64, magnitude: f64) -> bool {
    (f64::from(value) - expected).abs() <= 1e-5 * magnitude + 1e-30
}

proptest! {
    #[test]
    fn every_level_gives_the_defined_number(
        dim in 1usize..400, count in 1usize..8, seed: u64,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (query, rows) = (seeded(seed, dim), seeded(!seed, dim * count));
        let ids: Vec<u32> = picks.iter().map(|pick| pick.index(count) as u32).collect();

        let of = |f: fn(u8, u8) -> u8| -> Vec<u32> {
            let one = |row: &[u8]| query.iter().zip(row).map(|(&a, &b)| f(a, b).count_ones()).sum();
            rows.chunks(dim).map(one).collect()
        };
        for level in bits::available() {
            prop_assert_eq!(forms(&level.dot, &query, &rows, &ids), Ok(of(|a, b| a & b)), "{}", level.name());
            let l2 = forms(&level.l2_squared, &query, &rows, &ids);
            prop_assert_eq!(l2, Ok(of(|a, b| a ^ b)), "{}", level.name());
        }

        let signed = |values: &[u8]| values.iter().map(|&value| value as i8).collect::<Vec<i8>>();
        let (query, rows) = (signed(&query), signed(&rows));
        let of = |f: fn(i32, i32) -> i32| -> Vec<i32> {
            let one = |row: &[i8]| query.iter().zip(row).map(|(&a, &b)| f(a.into(), b.into())).sum();
            rows.chunks(dim).map(one).collect()
        };
        for level in bytes::available() {
            prop_assert_eq!(forms(&level.dot, &query, &rows, &ids), Ok(of(|a, b| a * b)), "{}", level.name());
            let l2 = forms(&level.l2_squared, &query, &rows, &ids);
            prop_assert_eq!(l2, Ok(of(|a, b| (a - b) * (a - b))), "{}", level.name());
        }

        let query: Vec<f32> = query.iter().map(|&value| f32::from(value) / 7.0).collect();
        let rows: Vec<u16> = rows.iter().map(|&value| to_half(f32::from(value) / 11.0)).collect();
        for level in half::available() {
            let dot = forms(&level.dot, &query, &rows, &ids).unwrap();
            let l2 = forms(&level.l2_squared, &query, &rows, &ids).unwrap();
            for ((row, dot), l2) in rows.chunks(dim).zip(dot).zip(l2) {
                let pairs = || query.iter().zip(row).map(|(&a, &b)| (f64::from(a), f64::from(from_half(b))));
                let products = || pairs().map(|(a, b)| a * b);
                prop_assert!(near(dot, products().sum(), products().map(f64::abs).sum()), "{}", level.name());
                let squares: f64 = pairs().map(|(a, b)| (a - b) * (a - b)).sum();
                prop_assert!(near(l2, squares, squares), "{}", level.name());
            }
        }
    }
}

#[test]
fn the_greatest_bytes_do_not_overflow() {
    let (low, high) = (vec![-128; 32_768], vec![127; 32_768]);
    for level in bytes::available() {
        assert_eq!(level.dot.pair(&low, &low), 128 * 128 * 32_768, "{}", level.name());
        assert_eq!(level.dot.pair(&low, &high), -128 * 127 * 32_768, "{}", level.name());
        assert_eq!(level.l2_squared.pair(&low, &high), 255 * 255 * 32_768, "{}", level.name());
    }
}

#[test]
fn every_family_ends_with_scalar() {
    assert_eq!(bits::available().last().unwrap().name(), "scalar");
    assert_eq!(bytes::available().last().unwrap().name(), "scalar");
    assert_eq!(half::available().last().unwrap().name(), "scalar");
    if std::env::var_os("PROXIMADB_SIMD").is_none() {
        assert_eq!(bits::active().name(), bits::available().next().unwrap().name());
        assert_eq!(half::active().name(), half::available().next().unwrap().name());
    }
}

#[test]
fn vectors_without_components_are_at_distance_zero() {
    let mut out = [1; 2];
    bytes::active().dot.many(&[], &[], &mut out);
    assert_eq!(out, [0; 2]);
    bytes::active().l2_squared.ids(&[], &[], &[0, 9], &mut out);
    assert_eq!(out, [0; 2]);
}

#[test]
#[should_panic(expected = "differ in length")]
fn different_lengths_are_refused() {
    bytes::active().dot.pair(&[1], &[1, 2]);
}

#[test]
#[should_panic]
fn a_row_beyond_the_block_is_refused() {
    bits::active().dot.ids(&[1, 2], &[0; 4], &[2], &mut [0]);
}
