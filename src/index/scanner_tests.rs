use std::cmp::Ordering;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::index::code_chunk::CodeChunk;
use crate::index::random::Random;
use crate::index::test_data::{ALL_DISTANCES, Data, adversarial, clustered};
use crate::memory::{MemoryBudget, Purpose};

/// All distances by the float kernels, sorted, ties by `name`.
fn by_sorting(
    data: &Data,
    query: &[f32],
    k: usize,
    admit: impl Fn(u32) -> bool,
    name: &[u32],
) -> Vec<(f32, u32)> {
    let block = data.block();
    let mut distances = vec![0.0; block.len()];
    distances_many(block.distance, query, block.rows, &mut distances);
    let mut all: Vec<(f32, u32)> = distances.into_iter().zip(0..).filter(|(_, row)| admit(*row)).collect();
    let key = |distance: f32| if distance.is_nan() { f32::NAN.abs() } else { distance + 0.0 };
    all.iter_mut().for_each(|(distance, _)| *distance = key(*distance));
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| name[a.1 as usize].cmp(&name[b.1 as usize])));
    all.truncate(k);
    all
}

/// Codes all chunks but those that `skip` names, however few rows and components they have.
fn coded(data: &Data, skip: impl Fn(usize) -> bool) -> ScanCodes {
    let codes = ScanCodes::default();
    let (block, len) = (data.block(), data.block().len());
    for (number, first) in (0..len).step_by(CHUNK_ROWS).enumerate().filter(|(number, _)| !skip(*number)) {
        let chunk = Chunk { first, len: CHUNK_ROWS.min(len - first), block };
        codes.code_anyway(len, number, chunk.vectors());
    }
    codes
}

/// A permutation, so that ties by id are not ties by row.
fn names(rows: usize, seed: u64) -> Vec<u32> {
    let mut random = Random::new(seed);
    let mut names: Vec<u32> = (0..rows as u32).collect();
    (1..rows).for_each(|at| names.swap(at, random.below(at + 1)));
    names
}

fn same(found: &[(f32, u32)], expected: &[(f32, u32)], names: &[u32]) -> Result<(), TestCaseError> {
    let plain = |hits: &[(f32, u32)]| hits.iter().map(|hit| (hit.0.to_bits(), hit.1)).collect::<Vec<_>>();
    let mut sorted = found.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| names[a.1 as usize].cmp(&names[b.1 as usize])));
    prop_assert!(found.is_sorted_by(|a, b| a.0.total_cmp(&b.0).is_le()));
    prop_assert_eq!(plain(&sorted), plain(expected));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn a_scan_by_bounds_finds_what_sorting_all_distances_does(
        dim in prop_oneof![8 => 1usize..130, 1 => Just(768)],
        rows in 1usize..1400, k in 1usize..30, seed in any::<u64>(),
        kind in 0usize..3, crowded in any::<bool>(), filter in 0usize..5, dead in 1u32..5, skip in 0usize..4,
    ) {
        let rows = if dim > 130 { rows.min(600) } else { rows };
        let kind = ALL_DISTANCES[kind];
        let data = if crowded { adversarial(rows, dim, kind, seed) } else { clustered(rows, dim, kind, seed) };
        let codes = coded(&data, |number| number == skip);
        let names = names(rows, seed);
        let share = [1.0, 1.0, 0.9, 0.3, 0.01][filter];
        let mut random = Random::new(seed ^ 3);
        let set = RowSet::from_fn(rows, |_| random.below(1_000) < (share * 1_000.0) as usize);
        let matching = (filter > 0).then_some(&set);
        let alive = |row: u32| row % dead != 3;
        let admit = |row: u32| alive(row) && matching.is_none_or(|matching| matching.contains(row));
        let by_id = |a: u32, b: u32| names[a as usize].cmp(&names[b as usize]);
        for at in [0, rows / 2] {
            let query = data.block().row(at as u32);
            let expected = by_sorting(&data, query, k, admit, &names);
            let run = Run { vectors: data.block(), codes: &codes, matching, alive: &alive, by_id: &by_id };
            let mut scanner = Scanner::new(query, kind, k, None);
            let found = scanner.scan(run).unwrap();
            same(&found.rows, &expected, &names)?;
            // With a bound from elsewhere: all that is no farther, as far as there is room.
            let Some(&(within, _)) = expected.get(k / 2) else { continue };
            let mut scanner = Scanner::new(query, kind, k, None);
            scanner.note(&vec![(within, 0); k]);
            let is_near = |hit: &&(f32, u32)| hit.0.partial_cmp(&within) != Some(Ordering::Greater);
            let nearer: Vec<_> = expected.iter().filter(is_near).copied().collect();
            same(&scanner.scan(run).unwrap().rows, &nearer, &names)?;
        }
    }
}

fn scan(data: &Data, codes: &ScanCodes, query: u32) -> Vec<(f32, u32)> {
    let run =
        Run { vectors: data.block(), codes, matching: None, alive: &|_| true, by_id: &|a, b| a.cmp(&b) };
    Scanner::new(data.block().row(query), data.distance, 10, None).scan(run).unwrap().rows
}

#[test]
fn the_first_scans_code_what_they_read_and_let_go_of_it_when_told() {
    let budget = MemoryBudget::new(64 << 20);
    let data = clustered(40 * CHUNK_ROWS + 100, 128, Distance::Cosine, 7);
    let names: Vec<u32> = (0..data.block().len() as u32).collect();
    let codes = ScanCodes::new(&budget);
    let expected = by_sorting(&data, data.block().row(9), 10, |_| true, &names);
    let mut held = vec![0];
    for _ in 0..8 {
        assert_eq!(scan(&data, &codes, 9), expected);
        held.push(codes.bytes());
    }
    let all = 40 * CodeChunk::bytes(CHUNK_ROWS, 128) + CodeChunk::bytes(100, 128);
    assert!(held.is_sorted() && held[1] > 0 && held[1] < all, "the first codes a part: {held:?}");
    assert_eq!((held[8], budget.held(Purpose::ScanCodes)), (all, all));
    assert_eq!(codes.forget(), all);
    assert_eq!((codes.bytes(), budget.total()), (0, 0));
    assert_eq!(scan(&data, &codes, 9), expected);
    assert!(codes.bytes() > 0);
    drop(codes);
    assert_eq!(budget.total(), 0);
}

#[test]
fn nothing_is_coded_while_memory_is_short_nor_where_it_saves_little() {
    let data = clustered(2 * CHUNK_ROWS, 128, Distance::L2, 7);
    let budget = MemoryBudget::new(1 << 20);
    let codes = ScanCodes::new(&budget);
    let others = budget.charge(Purpose::Memtables, 650 << 10);
    scan(&data, &codes, 0);
    assert_eq!(codes.bytes(), 0);
    others.set(0);
    scan(&data, &codes, 0);
    assert!(codes.bytes() > 0);
    for (rows, dim) in [(CHUNK_ROWS - 1, 128), (2 * CHUNK_ROWS, 16)] {
        let codes = ScanCodes::default();
        scan(&clustered(rows, dim, Distance::L2, 7), &codes, 0);
        assert_eq!(codes.bytes(), 0);
    }
}

#[test]
fn a_scan_past_its_deadline_ends() {
    let data = clustered(CHUNK_ROWS, 32, Distance::L2, 7);
    let codes = ScanCodes::default();
    let run = Run {
        vectors: data.block(),
        codes: &codes,
        matching: None,
        alive: &|_| true,
        by_id: &|a, b| a.cmp(&b),
    };
    let query = data.block().row(0);
    let mut late = Scanner::new(query, Distance::L2, 10, Some(Instant::now()));
    assert!(matches!(late.scan(run), Err(IndexError::Deadline)));
    let mut early = Scanner::new(query, Distance::L2, 10, Some(Instant::now() + Duration::from_secs(600)));
    assert_eq!(early.scan(run).unwrap().rows.len(), 10);
}

/// Searches that code, searches that use codes, and somebody who takes them away.
#[test]
fn scans_at_once_agree_while_codes_come_and_go() {
    let budget = MemoryBudget::new(64 << 20);
    let data = clustered(12 * CHUNK_ROWS, 64, Distance::Dot, 3);
    let codes = ScanCodes::new(&budget);
    let expected: Vec<_> = (0..4).map(|query| scan(&data, &ScanCodes::default(), query)).collect();
    std::thread::scope(|scope| {
        for query in 0..4 {
            let (data, codes, expected) = (&data, &codes, &expected[query as usize]);
            scope.spawn(move || (0..40).for_each(|_| assert_eq!(scan(data, codes, query), *expected)));
        }
        scope.spawn(|| {
            (0..200).for_each(|_| {
                codes.forget();
                std::thread::yield_now();
            })
        });
    });
    drop(codes);
    assert_eq!(budget.total(), 0);
}

/// Codes would be of no use if all rows were looked at in floats all the same.
#[test]
fn few_rows_are_looked_at_in_floats() {
    for kind in ALL_DISTANCES {
        let data = clustered(20 * CHUNK_ROWS, 96, kind, 11);
        let codes = coded(&data, |_| false);
        let looked = std::cell::Cell::new(0);
        let alive = |_| {
            looked.set(looked.get() + 1);
            true
        };
        let run = Run {
            vectors: data.block(),
            codes: &codes,
            matching: None,
            alive: &alive,
            by_id: &|a, b| a.cmp(&b),
        };
        for query in 0..10 {
            Scanner::new(data.block().row(query * 100), kind, 10, None).scan(run).unwrap();
        }
        // The first chunk has no bound to go by.
        let after = looked.get() / 10 - CHUNK_ROWS;
        assert!(after < 600, "{kind:?}: {after} of {}", data.block().len());
    }
}
