use std::cmp::Ordering;

use proptest::prelude::*;

use super::*;
use crate::index::flat::distances_many;
use crate::index::random::Random;
use crate::index::test_data::{ALL_DISTANCES, Data, adversarial, clustered};

/// Checks B1 for every row, by both forms; returns the greatest gap between distance and bound.
fn check(block: VectorBlock<'_>, query: &[f32]) -> f32 {
    let chunk = CodeChunk::new(block);
    let (mut aim, mut bounds, mut some) = (Aim::default(), Vec::new(), Vec::new());
    if !chunk.aim(query, block.distance, &mut aim) {
        return f32::INFINITY;
    }
    chunk.bounds(&mut aim, &mut bounds);
    let ids: Vec<u32> = (0..block.len() as u32).rev().step_by(3).collect();
    chunk.bounds_ids(&mut aim, &ids, &mut some);
    assert!(ids.iter().zip(&some).all(|(&id, bound)| bound.total_cmp(&bounds[id as usize]).is_eq()));
    let mut distances = vec![0.0; block.len()];
    distances_many(block.distance, query, block.rows, &mut distances);
    let mut widest = 0.0f32;
    for (row, (&distance, &bound)) in distances.iter().zip(&bounds).enumerate() {
        let kind = block.distance;
        assert!(
            bound.partial_cmp(&distance) != Some(Ordering::Greater),
            "{kind:?} {} row {row}: {bound} > {distance}",
            block.dim
        );
        widest = widest.max(distance - bound);
    }
    widest
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_distance_is_below_its_bound(
        dim in prop_oneof![1usize..130, Just(768), Just(1536)],
        rows in 1usize..40, seed in any::<u64>(), kind in 0usize..3,
    ) {
        let data = adversarial(rows, dim, ALL_DISTANCES[kind], seed);
        let mut random = Random::new(seed ^ 1);
        for query in data.rows.chunks(dim).take(6) {
            check(data.block(), query);
            // Near a row, so that what the bound loses is all there is.
            let near: Vec<f32> = query.iter().map(|x| x + x * 1e-5 * random.normal()).collect();
            check(data.block(), &near);
            let longer: Vec<f32> = query.iter().map(|x| x * 1e9).collect();
            check(data.block(), &longer);
        }
    }
}

/// The test above would pass if all bounds were minus infinity.
#[test]
fn bounds_of_ordinary_rows_are_near_their_distances() {
    for kind in ALL_DISTANCES {
        let data = clustered(300, 128, kind, 5);
        let longest = data.rows.chunks(128).map(|row| distance::dot(row, row)).fold(0.0, f32::max);
        for query in data.rows.chunks(128).step_by(37) {
            let gap = check(data.block(), query) / longest;
            assert!(gap < 0.06, "{kind:?}: {gap} of the greatest square");
        }
    }
}

#[test]
fn rows_that_are_no_numbers_or_too_long_are_never_ruled_out() {
    let mut rows = vec![1.0f32; 5 * 32];
    (rows[3], rows[32], rows[64], rows[96]) = (f32::NAN, f32::INFINITY, 1e30, -3e38);
    let block = VectorBlock { dim: 32, rows: &rows, distance: Distance::L2 };
    let chunk = CodeChunk::new(block);
    let (mut aim, mut bounds) = (Aim::default(), Vec::new());
    assert!(chunk.aim(&[1.0; 32], Distance::L2, &mut aim));
    chunk.bounds(&mut aim, &mut bounds);
    assert!(
        bounds[..4].iter().all(|bound| bound.partial_cmp(&-1.0) != Some(Ordering::Greater)),
        "{bounds:?}"
    );
    assert!(!chunk.aim(&[1e20; 32], Distance::L2, &mut aim));
    assert!(!chunk.aim(&[f32::NAN; 32], Distance::Dot, &mut aim));
}

#[test]
fn what_is_charged_is_what_a_chunk_holds() {
    let Data { dim, rows, distance } = clustered(100, 48, Distance::L2, 1);
    let chunk = CodeChunk::new(VectorBlock { dim, rows: &rows, distance });
    let held = chunk.codes.len() + chunk.rows.len() * size_of::<RowFactors>() + chunk.centre.len() * 4;
    assert_eq!(CodeChunk::bytes(100, 48), held + size_of::<CodeChunk>());
}
