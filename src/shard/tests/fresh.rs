//! Searches of rows that are in no graph: exact whatever is coded already, wherever the rows lie.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::{config, flush, id, tuning, write};
use crate::memory::{MemoryBudget, Purpose};
use crate::query::{Filter, Nearest, PayloadSelection, QueryError, ReadOptions, Search, SearchRequest};
use crate::shard::{Shard, Tuning};
use crate::types::{CollectionConfig, Distance, Entry, GraphParams, WriteBatch};
use crate::view::Snapshot;

const DIM: usize = 32;

/// What an id has: a vector, and the number in its payload.
type Model = BTreeMap<String, (Vec<f32>, usize)>;

/// Whole numbers, so that sums are exact in any order and many rows are as near as each other.
fn vector(seed: usize) -> Vec<f32> {
    (0..DIM).map(|at| (((seed * DIM + at).wrapping_mul(2_654_435_761) >> 9) % 7) as f32).collect()
}

fn upsert(shard: &Shard, model: &mut Model, points: impl Iterator<Item = (String, usize)>) {
    let mut batch = WriteBatch::new(DIM as u32);
    for (name, seed) in points {
        batch.upsert(id(&name), &vector(seed), format!("{{\"n\":{}}}", seed % 10).into(), 0);
        model.insert(name, (vector(seed), seed % 10));
    }
    write(shard, Entry { batch, ..Entry::default() });
}

fn request(filter: Option<usize>, exact: bool) -> SearchRequest {
    let filter = filter.map(|n| json!({ "must": [{ "key": "n", "match": { "value": n } }] }));
    SearchRequest {
        nearest: Nearest::Vector(Vec::new()),
        limit: 25,
        offset: 0,
        filter: filter.map(|filter| Filter::parse(&filter, "filter").unwrap()),
        with_payload: PayloadSelection::Nothing,
        with_vector: false,
        score_threshold: None,
        exact,
        ef_search: None,
        codes: Default::default(),
        read: ReadOptions::default(),
    }
}

fn search(
    snapshot: &Snapshot,
    request: &SearchRequest,
    query: &[f32],
    deadline: Instant,
) -> Result<Vec<(String, f32)>, QueryError> {
    let search = Search {
        request,
        vector: query,
        distance: Distance::L2,
        except: None,
        deadline,
        ef_search_default: 16,
    };
    let hits = search.run(snapshot)?.hits;
    Ok(hits.into_iter().map(|hit| (hit.record.id.to_string(), hit.score)).collect())
}

fn by_sorting(model: &Model, filter: Option<usize>, query: &[f32]) -> Vec<(String, f32)> {
    let square = |row: &[f32]| row.iter().zip(query).map(|(a, b)| (a - b) * (a - b)).sum::<f32>();
    let matching = model.iter().filter(|(_, (_, n))| filter.is_none_or(|wanted| *n == wanted));
    let mut all: Vec<(String, f32)> =
        matching.map(|(name, (row, _))| (name.clone(), square(row).sqrt())).collect();
    // A map's order is that of ids, and sorting keeps it where distances are equal.
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    all.truncate(25);
    all
}

fn check(shard: &Shard, model: &Model) {
    let later = Instant::now() + Duration::from_secs(60);
    for seed in 0..6 {
        let query = vector(7_777 + seed);
        for (filter, exact) in [(None, false), (None, true), (Some(seed), false)] {
            let found = search(&shard.snapshot(), &request(filter, exact), &query, later).unwrap();
            assert_eq!(found, by_sorting(model, filter, &query), "filter {filter:?}, exact {exact}");
        }
    }
}

#[test]
fn rows_in_no_graph_are_searched_exactly_while_they_are_coded_flushed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let graph = GraphParams { full_scan_threshold: u32::MAX, ..GraphParams::default() };
    let config = CollectionConfig { dim: DIM as u32, graph, ..config() };
    let tuning = Tuning { memtable_rows_max: 100_000, memtable_bytes_max: 64 << 20, ..tuning() };
    let budget = MemoryBudget::new(512 << 20);
    let shard = Shard::open(dir.path(), config, tuning, &budget).unwrap();
    let mut model = Model::new();
    for entry in 0..6 {
        let points = (0..600).map(|row| (format!("{:05}", entry * 600 + row), entry * 600 + row));
        upsert(&shard, &mut model, points);
        check(&shard, &model);
    }
    let blocks = shard.snapshot().blocks();
    assert!(
        blocks.iter().all(|block| block.scan_codes().bytes() > 0),
        "searches have coded what they scanned"
    );
    let held: usize = blocks.iter().map(|block| block.scan_codes().bytes()).sum();
    assert_eq!(budget.held(Purpose::ScanCodes), held);
    drop(blocks);

    flush(&shard);
    check(&shard, &model);
    // Versions of coded rows end, and rows come that are in no code.
    upsert(&shard, &mut model, (0..600).map(|row| (format!("{:05}", row * 5), 10_000 + row)));
    upsert(&shard, &mut model, (0..40).map(|row| (format!("new-{row}"), 20_000 + row)));
    check(&shard, &model);
    let segments = shard.segments();
    assert!(segments.iter().any(|live| live.scan_codes().bytes() > 0));
    for live in &segments {
        live.scan_codes().forget();
    }
    check(&shard, &model);

    let past = search(&shard.snapshot(), &request(None, true), &vector(1), Instant::now());
    assert!(matches!(past, Err(QueryError::Timeout { .. })));
    drop((segments, shard));
    assert_eq!(budget.held(Purpose::ScanCodes), 0);
}
