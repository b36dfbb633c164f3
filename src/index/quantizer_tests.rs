//! Graphs with every kind of code, from building to searching.
#![allow(clippy::unwrap_used)]
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use super::choice::{Choice, Way, choose};
use super::levels::LevelParts;
use super::test_data::{ALL_DISTANCES, Data, clustered};
use super::*;
use crate::types::{CodedSearch, Compression, GraphParams, Levels, Quantization, RabitqBits, RowSet};

/// What a collection may ask for.
fn all() -> [Option<Quantization>; 10] {
    [
        None,
        Some(Quantization::None {}),
        Some(Quantization::F16 {}),
        Some(Quantization::INT8),
        Some(Quantization::rabitq(RabitqBits::Seven)),
        Some(Quantization::rabitq(RabitqBits::Four)),
        Some(Quantization::rabitq(RabitqBits::Two)),
        Some(Quantization::rabitq(RabitqBits::One)),
        Some(Quantization::product(Compression::X16)),
        Some(Quantization::product(Compression::X64)),
    ]
}

fn build(data: &Data, quantization: Option<Quantization>, threads: usize, path: &Path) {
    let params = GraphParams { m: 12, ef_construct: 60, quantization, ..GraphParams::default() };
    let builder = GraphBuilder { params, threads, seed: 7 };
    builder.build(data.block(), path, &BuildControl::default()).unwrap();
}

fn query(vector: &[f32], codes: CodedSearch, rows: usize) -> IndexQuery<'_> {
    IndexQuery {
        vector,
        k: 10,
        ef_search: 40,
        matching: None,
        alive: &|_| true,
        alive_rows: rows,
        codes,
        deadline: None,
    }
}

/// Share of the ten nearest that are found, and the greatest error of a distance told.
fn recall(data: &Data, graph: &Graph, queries: &[Vec<f32>], codes: CodedSearch) -> (f64, f32) {
    let (mut found, mut error) = (0, 0.0f32);
    for vector in queries {
        let truth = exact_scan(data.block(), vector, 10, |_| true).rows;
        let hits = graph.search(data.block(), &query(vector, codes, data.block().len())).unwrap();
        assert!(!hits.scanned && hits.rows.len() == 10);
        for (distance, row) in hits.rows {
            let exact = exact_rows(data.block(), vector, 1, [row].into_iter()).rows[0].0;
            error = error.max((exact - distance).abs() / exact.abs().max(1.0));
            found += usize::from(exact <= truth[9].0);
        }
    }
    (found as f64 / (10 * queries.len()) as f64, error)
}

#[test]
fn graphs_of_every_kind_find_what_a_scan_finds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    for distance in ALL_DISTANCES {
        let mut data = clustered(5_030, 48, distance, 41);
        let queries = data.split_off(30);
        for quantization in all() {
            build(&data, quantization, 2, &path);
            let graph = Graph::open(&path).unwrap();
            let (found, error) = recall(&data, &graph, &queries, CodedSearch::default());
            assert!(found >= 0.95, "{distance:?} {quantization:?}: {found}");
            assert_eq!(error, 0.0, "{distance:?} {quantization:?}: what is told was looked up");
        }
    }
}

#[test]
fn a_search_may_ignore_codes_or_believe_them_or_keep_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let mut data = clustered(5_030, 48, Distance::Cosine, 42);
    let queries = data.split_off(30);
    build(&data, Some(Quantization::rabitq(RabitqBits::One)), 2, &path);
    let graph = Graph::open(&path).unwrap();
    let base = CodedSearch::default();
    let (ignoring, error) = recall(&data, &graph, &queries, CodedSearch { ignore: true, ..base });
    assert!(ignoring >= 0.97 && error == 0.0, "{ignoring} {error}");
    let (believing, error) = recall(&data, &graph, &queries, CodedSearch { rescore: false, ..base });
    assert!((0.2..0.95).contains(&believing) && error > 1e-3, "{believing} {error}");
    let visited = |codes| graph.search(data.block(), &query(&queries[0], codes, 5_000)).unwrap().visited;
    assert!(visited(CodedSearch { oversampling: 60.0, ..base }) > visited(base));
    assert!(
        visited(CodedSearch { ignore: true, ..base }) < visited(base),
        "a walk on vectors need not be wide"
    );
}

#[test]
fn estimates_told_are_distances_as_users_know_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    for distance in ALL_DISTANCES {
        let mut data = clustered(2_010, 48, distance, 43);
        let queries = data.split_off(10);
        build(&data, Some(Quantization::F16 {}), 2, &path);
        let graph = Graph::open(&path).unwrap();
        let believing = CodedSearch { rescore: false, ..CodedSearch::default() };
        let (found, error) = recall(&data, &graph, &queries, believing);
        assert!(found >= 0.95 && error > 0.0 && error < 0.05, "{distance:?}: {found} {error}");
    }
}

#[test]
fn levels_are_kept_in_the_file_and_lead_to_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    for distance in ALL_DISTANCES {
        for (rows, dim) in [(4_000, 24), (300, 24), (40, 5), (1, 3), (0, 3)] {
            let mut data = clustered(rows + 20, dim, distance, 47);
            let queries = data.split_off(20);
            let params =
                GraphParams { m: 12, ef_construct: 60, levels: Levels::On, ..GraphParams::default() };
            let control = BuildControl::default();
            let build = |threads| {
                GraphBuilder { params, threads, seed: 7 }.build(data.block(), &path, &control).unwrap();
                fs::read(&path).unwrap()
            };
            assert!(build(1) == build(3), "threads change nothing");
            assert_eq!(control.done.load(std::sync::atomic::Ordering::Relaxed), 2 * rows as u64);
            let file = graph_format::open(&path).unwrap();
            assert_eq!(
                file.levels().map(|levels| levels.sizes.len()),
                match rows {
                    4_000 => Some(2),
                    300 => Some(1),
                    _ => None,
                }
            );
            let graph = Graph::open(&path).unwrap();
            for vector in &queries {
                let hits =
                    graph.search(data.block(), &query(vector, CodedSearch::default(), rows)).unwrap().rows;
                let truth = exact_scan(data.block(), vector, 10, |_| true).rows;
                let found = hits.iter().filter(|hit| truth.contains(hit)).count();
                assert!(found + 2 >= truth.len(), "{distance:?} {rows}: {found}");
            }
        }
    }
}

#[test]
fn a_walk_with_levels_keeps_recall() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    for distance in ALL_DISTANCES {
        let mut data = clustered(5_030, 48, distance, 48);
        let queries = data.split_off(30);
        let params = GraphParams { m: 12, ef_construct: 60, levels: Levels::On, ..GraphParams::default() };
        GraphBuilder { params, threads: 2, seed: 7 }
            .build(data.block(), &path, &BuildControl::default())
            .unwrap();
        let graph = Graph::open(&path).unwrap();
        let (found, _) = recall(&data, &graph, &queries, CodedSearch::default());
        assert!(found >= 0.97, "{distance:?}: {found}");
        // A filter that leaves one row in eight, by a walk.
        let matching = RowSet::from_fn(5_000, |row| row % 8 == 3);
        for vector in &queries {
            let query =
                IndexQuery { matching: Some(&matching), ..query(vector, CodedSearch::default(), 5_000) };
            let choice = Choice { way: Way::TwoHops, ..choose(&query, 5_000, 96, 96) };
            let hits = graph.search_by(data.block(), &query, choice).unwrap().rows;
            assert!(hits.len() == 10 && hits.iter().all(|hit| hit.1 % 8 == 3));
        }
    }
}

#[test]
fn levels_that_name_what_is_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let data = clustered(2_000, 6, Distance::L2, 49);
    let params = GraphParams { m: 4, ef_construct: 20, levels: Levels::On, ..GraphParams::default() };
    let builder = GraphBuilder { params, threads: 1, seed: 7 };
    let refused = |change: fn(&mut LevelParts)| {
        let mut parts = builder.parts(data.block(), &BuildControl::default()).unwrap();
        change(&mut parts.levels);
        graph_format::write(&path, &parts).unwrap();
        matches!(Graph::open(&path), Err(IndexError::Corrupt { .. }))
    };
    assert!(!refused(|_| ()));
    assert!(refused(|levels| levels.rows[3] = 2_000));
    assert!(refused(|levels| levels.links[0].set(1, &[levels.sizes[0] as u32])));
    assert!(refused(|levels| levels.sizes.swap(0, 1)));
}

#[test]
fn threads_change_nothing_for_any_kind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let data = clustered(4_200, 24, Distance::Dot, 44);
    for quantization in all() {
        let bytes = |threads| {
            build(&data, quantization, threads, &path);
            fs::read(&path).unwrap()
        };
        assert!(bytes(1) == bytes(4), "{quantization:?}");
    }
}

#[test]
fn every_flipped_byte_of_every_kind_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let data = clustered(4_100, 6, Distance::L2, 45);
    for quantization in all() {
        build(&data, quantization, 2, &path);
        let good = fs::read(&path).unwrap();
        let damaged = path.with_extension("damaged");
        fs::write(&damaged, &good).unwrap();
        let mut file = fs::File::options().write(true).open(&damaged).unwrap();
        let mut set = |at: usize, byte: u8| {
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[byte]).unwrap();
        };
        // The header, the footer, and so many places between that each section has some.
        let step = good.len() / 150;
        let places = (0..160).chain((160..good.len()).step_by(step)).chain(good.len() - 24..good.len());
        for at in places {
            set(at, good[at] ^ 0x10);
            assert!(
                matches!(Graph::open(&damaged), Err(IndexError::Corrupt { .. })),
                "{quantization:?} byte {at}"
            );
            set(at, good[at]);
        }
        assert!(Graph::open(&damaged).is_ok());
        assert!(Graph::open_mapped(&damaged).is_ok());
    }
}

/// As version 2 laid a file out: a shorter header, and the same sections but for codebooks.
fn as_version_2(file: &[u8]) -> Vec<u8> {
    let blocks_end = (128..file.len()).rev().find(|&end| {
        // The body ends where the table of its checksums begins.
        end % 64 == 0 && file.len() == end + end.div_ceil(1 << 20) * 4 + 12
    });
    let mut header = file[..60].to_vec();
    header[8..12].copy_from_slice(&2u32.to_le_bytes());
    // The bits stood where the kind is now.
    header[40..44].copy_from_slice(&file[60..64]);
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    let body = [&header[..], &file[128..blocks_end.unwrap()]].concat();
    let table: Vec<u8> = body.chunks(1 << 20).flat_map(|block| crc32c::crc32c(block).to_le_bytes()).collect();
    [&body[..], &table, &crc32c::crc32c(&table).to_le_bytes(), b"PXGRAPHE"].concat()
}

#[test]
fn files_of_version_2_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    let mut data = clustered(3_010, 48, Distance::L2, 46);
    let queries = data.split_off(10);
    for quantization in [None, Some(Quantization::None {}), Some(Quantization::rabitq(RabitqBits::Seven))] {
        build(&data, quantization, 2, &path);
        let new = Graph::open(&path).unwrap();
        let old = as_version_2(&fs::read(&path).unwrap());
        fs::write(&path, &old).unwrap();
        let old = Graph::open(&path).unwrap();
        for vector in &queries {
            let found = |graph: &Graph| {
                graph.search(data.block(), &query(vector, CodedSearch::default(), 3_000)).unwrap().rows
            };
            assert_eq!(found(&old), found(&new), "{quantization:?}");
        }
    }
}
