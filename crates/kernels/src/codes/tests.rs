#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::{BLOCK, Bits, Kernels, dot, dot_ids, dot_many, dot_prefixes, pack, unpack};

/// Seeded bytes.
fn bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u8
    };
    (0..count).map(|_| next()).collect()
}

fn query(seed: u64, dim: usize, padded: usize) -> Vec<i8> {
    let mut query: Vec<i8> = bytes(seed, dim).iter().map(|&byte| byte as i8).collect();
    query.resize(padded, 0);
    query
}

/// The definition, from codes that were never packed.
fn expected(query: &[i8], codes: &[u8]) -> i32 {
    query.iter().zip(codes).map(|(&q, &c)| i32::from(q) * i32::from(c)).sum()
}

fn any_bits() -> impl Strategy<Value = Bits> {
    prop::sample::select(Bits::ALL.to_vec())
}

proptest! {
    #[test]
    fn every_level_gives_the_defined_number(
        bits in any_bits(), dim in 1usize..2100, count in 1usize..12, seed: u64,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 0..30), first_blocks: prop::sample::Index,
    ) {
        let (stride, padded) = (bits.stride(dim), bits.padded_dim(dim));
        let query = query(seed, dim, padded);
        let values: Vec<u8> = bytes(!seed, dim * count).iter().map(|byte| byte & bits.max()).collect();
        let mut codes = vec![0; stride * count];
        for (values, row) in values.chunks(dim).zip(codes.chunks_mut(stride)) {
            pack(bits, values, row);
        }
        let expected: Vec<i32> = values.chunks(dim).map(|values| expected(&query, values)).collect();
        let ids: Vec<u32> = picks.iter().map(|pick| pick.index(count) as u32).collect();
        let per_block = BLOCK * bits.fields();
        let front = first_blocks.index(padded / per_block + 1) * per_block;
        for level in Kernels::available() {
            let (mut many, mut some) = (vec![1; count], vec![1; ids.len()]);
            level.dot_prefixes(bits, &query[..front], &codes, stride, &ids, &mut some);
            for (&id, &value) in ids.iter().zip(&some) {
                let values = &values[id as usize * dim..][..dim.min(front)];
                let expected: i32 = values.iter().zip(&query).map(|(&c, &q)| i32::from(c) * i32::from(q)).sum();
                prop_assert_eq!(value, expected, "{} {:?} {}", level.name(), bits, front);
            }
            level.dot_many(bits, &query, &codes, &mut many);
            level.dot_ids(bits, &query, &codes, &ids, &mut some);
            prop_assert_eq!(&many, &expected, "{} {:?}", level.name(), bits);
            for (&id, &value) in ids.iter().zip(&some) {
                prop_assert_eq!(value, expected[id as usize], "{} {:?}", level.name(), bits);
            }
        }
    }

    #[test]
    fn what_was_packed_comes_back(bits in any_bits(), dim in 0usize..1000, seed: u64) {
        let values = bytes(seed, dim);
        let mut row = vec![0xff; bits.stride(dim)];
        pack(bits, &values, &mut row);
        let mut back = vec![0xff; bits.padded_dim(dim)];
        unpack(bits, &row, &mut back);
        prop_assert!(back[..dim].iter().zip(&values).all(|(&got, &put)| got == put & bits.max()));
        prop_assert!(back[dim..].iter().all(|&padding| padding == 0));
        let mut front = vec![0; dim];
        unpack(bits, &row, &mut front);
        prop_assert_eq!(&front, &back[..dim]);
    }

    /// The layout is on disk: a dimension never moves.
    #[test]
    fn every_dimension_lies_where_the_layout_says(bits in any_bits(), at in 0usize..1000) {
        let mut row = vec![0; bits.stride(at + 1)];
        let mut values = vec![0; at + 1];
        values[at] = bits.max();
        pack(bits, &values, &mut row);
        let (width, per_block) = (bits.count() as usize, BLOCK * bits.fields());
        let (block, field, byte) = (at / per_block, at % per_block / BLOCK, at % BLOCK);
        let mut wanted = vec![0; row.len()];
        wanted[block * BLOCK + byte] = bits.max() << (field * width);
        prop_assert_eq!(row, wanted);
    }
}

/// Sums of the greatest products in 16 bits wrap or saturate unless they are widened in time.
#[test]
fn the_greatest_values_do_not_overflow() {
    for bits in Bits::ALL {
        for (dim, value) in [(16_384, 127), (16_384, -128), (super::DIM_MAX, -128)] {
            let mut codes = vec![0; bits.stride(dim) * 5];
            let row = vec![bits.max(); dim];
            codes.chunks_mut(bits.stride(dim)).for_each(|codes| pack(bits, &row, codes));
            let (query, mut out) = (vec![value; dim], [0; 5]);
            for level in Kernels::available() {
                level.dot_many(bits, &query, &codes, &mut out);
                let expected = dim as i32 * i32::from(bits.max()) * i32::from(value);
                assert_eq!(out, [expected; 5], "{} {bits:?} {value}", level.name());
            }
        }
    }
}

#[test]
fn the_best_level_is_in_use_and_scalar_is_last() {
    let names: Vec<&str> = Kernels::available().map(Kernels::name).collect();
    assert_eq!(names.last(), Some(&"scalar"));
    #[cfg(target_arch = "aarch64")]
    assert!(names.contains(&"neon"));
    if std::env::var_os("PROXIMADB_SIMD").is_none() {
        assert_eq!(super::level(), names[0]);
    }
}

#[test]
fn rows_without_dimensions_give_zero() {
    let mut out = [1; 5];
    dot_many(Bits::Four, &[], &[], &mut out);
    assert_eq!(out, [0; 5]);
    dot_ids(Bits::Four, &[], &[], &[0, 1, 2, 3, 4], &mut out);
    assert_eq!(out, [0; 5]);
    assert_eq!(dot(Bits::One, &[], &[]), 0);
}

#[test]
#[should_panic]
fn a_row_beyond_the_codes_is_refused() {
    dot_ids(Bits::Four, &[0; 64], &[0; 64], &[2], &mut [0]);
}

#[test]
#[should_panic]
fn one_of_four_rows_beyond_the_codes_is_refused() {
    dot_ids(Bits::Four, &[0; 64], &[0; 64], &[0, 1, u32::MAX, 0], &mut [0; 4]);
}

#[test]
#[should_panic]
fn the_front_of_a_row_beyond_the_codes_is_refused() {
    dot_prefixes(Bits::Four, &[0; 64], &[0; 128], 64, &[2], &mut [0]);
}

#[test]
#[should_panic(expected = "whole blocks")]
fn a_query_of_half_a_block_is_refused() {
    dot_many(Bits::Four, &[0; 32], &[0; 32], &mut [0]);
}

#[test]
#[should_panic(expected = "differ in number")]
fn rows_without_a_place_for_their_result_are_refused() {
    dot_many(Bits::Four, &[0; 64], &[0; 96], &mut [0; 2]);
}
