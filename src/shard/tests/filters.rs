//! Filters that say the same in other words admit the same rows and give the same answers.
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{config, id, settle, tuning, write};
use crate::memory::MemoryBudget;
use crate::query::{
    Filter, Hit, Nearest, PayloadSelection, ReadOptions, Search, SearchRequest, for_each_match,
};
use crate::shard::{Shard, Tuning};
use crate::types::{CollectionConfig, Distance, Entry, GraphParams, WriteBatch};
use crate::view::Snapshot;
use crate::wal::LogOptions;

const DIM: usize = 8;
const ROWS: u32 = 4_000;
const GROUPS: u32 = 7;
const K: usize = 10;

fn vector(seed: u32) -> Vec<f32> {
    let component = |at: u32| (seed * 31 + at).wrapping_mul(2_654_435_761) >> 8;
    (0..DIM as u32).map(|at| component(at) as f32 / (1 << 24) as f32).collect()
}

fn admitted(snapshot: &Snapshot, filter: &Filter) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for_each_match(snapshot, Some(filter), None, |row| assert!(ids.insert(row.id().to_string()))).unwrap();
    ids
}

/// The hits, and whether all rows were scanned.
fn search(snapshot: &Snapshot, vector: &[f32], filter: Filter, exact: bool) -> (Vec<Hit>, bool) {
    let request = SearchRequest {
        nearest: Nearest::Vector(vector.to_vec()),
        limit: K,
        offset: 0,
        filter: Some(filter),
        with_payload: PayloadSelection::Everything,
        with_vector: false,
        score_threshold: None,
        exact,
        ef_search: Some(16),
        codes: Default::default(),
        read: ReadOptions::default(),
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let search = Search {
        request: &request,
        vector,
        distance: Distance::L2,
        except: None,
        deadline,
        ef_search_default: 64,
    };
    let found = search.run(snapshot).unwrap();
    (found.hits, found.scanned_fraction > 0.0)
}

#[test]
fn equality_any_of_and_range_give_the_same_rows_and_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let graph = GraphParams { m: 8, ef_construct: 40, full_scan_threshold: 100, ..GraphParams::default() };
    let config = CollectionConfig { dim: DIM as u32, graph, ..config() };
    let tuning = Tuning {
        memtable_bytes_max: 16 << 20,
        memtable_rows_max: ROWS as usize * 2,
        log: LogOptions::default(),
        ..tuning()
    };
    let shard = Shard::open(dir.path(), config, tuning, &MemoryBudget::unlimited()).unwrap();
    let mut batch = WriteBatch::new(DIM as u32);
    for row in 0..ROWS {
        let payload =
            json!({ "group": row * 5 % GROUPS, "name": format!("g{}", row * 5 % GROUPS) }).to_string();
        batch.upsert(id(row), &vector(row), payload.into(), 0);
    }
    write(&shard, Entry { batch, ..Entry::default() });
    settle(&shard);
    let snapshot = shard.snapshot();
    assert!(snapshot.view.segments.iter().all(|segment| segment.graph.load().is_some()));

    let is = |group: u32| json!({ "key": "group", "match": { "value": group } });
    let any = |groups: &[u32]| json!({ "key": "group", "match": { "any": groups } });
    let one_group = [
        json!({ "must": [is(3)] }),
        json!({ "must": [any(&[3])] }),
        json!({ "must": [{ "key": "group", "range": { "gte": 3, "lte": 3 } }] }),
        json!({ "must": [{ "key": "group", "range": { "gt": 2.5, "lt": 4 } }] }),
        json!({ "must_not": [any(&[0, 1, 2, 4, 5, 6])] }),
        json!({ "must": [{ "key": "name", "match": { "value": "g3" } }] }),
    ];
    let four_groups = [
        json!({ "should": [is(0), is(1), is(2), is(3)] }),
        json!({ "must": [any(&[0, 1, 2, 3])] }),
        json!({ "must": [{ "key": "group", "range": { "lte": 3 } }] }),
        json!({ "must_not": [{ "key": "group", "range": { "gt": 3 } }] }),
    ];
    let check = |filters: &[Value], count: usize, scans: bool| {
        let parse = |filter: &Value| Filter::parse(filter, "filter").unwrap();
        let rows = admitted(&snapshot, &parse(&filters[0]));
        assert!(rows.len().abs_diff(count) <= GROUPS as usize, "{}", rows.len());
        for query in 0..20 {
            let vector = vector(10_000 + query);
            let (hits, scanned) = search(&snapshot, &vector, parse(&filters[0]), false);
            assert_eq!((hits.len(), scanned), (K, scans));
            assert!(hits.iter().all(|hit| rows.contains(&hit.record.id.to_string())));
            let (exact, _) = search(&snapshot, &vector, parse(&filters[0]), true);
            let right = hits.iter().filter(|hit| exact.contains(hit)).count();
            assert!(right >= K - 2, "{right} of {K}");
            for other in &filters[1..] {
                assert_eq!(admitted(&snapshot, &parse(other)), rows, "{other}");
                assert_eq!(
                    search(&snapshot, &vector, parse(other), false),
                    (hits.clone(), scanned),
                    "{other}"
                );
            }
        }
    };
    check(&one_group, ROWS as usize / 7, true);
    check(&four_groups, ROWS as usize * 4 / 7, false);
}
