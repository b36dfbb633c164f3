//! Merged segments whose rows lie cluster by cluster.
use std::collections::BTreeMap;
use std::path::Path;

use super::fixture::{id, open_as, settle, write};
use crate::index::{IndexQuery, Ivf, exact_scan};
use crate::query::{find, for_each_match};
use crate::shard::Shard;
use crate::types::{CodedSearch, Entry, IndexKind, Lsn, WriteBatch};
use crate::view::LiveSegment;

const PARTS: usize = 4;
const PART_ROWS: usize = 400;

fn vector(point: usize) -> [f32; 2] {
    [(point * 7_919 % 10_007) as f32, (point * 104_729 % 9_973) as f32]
}

/// Four flushes, which are merged after the last; with it, some of each that came before die and some are replaced.
fn fill(shard: &Shard) -> BTreeMap<String, (usize, Lsn)> {
    let mut model = BTreeMap::new();
    for part in 0..PARTS {
        let mut batch = WriteBatch::new(2);
        let mut points: Vec<(usize, usize)> =
            (part * PART_ROWS..(part + 1) * PART_ROWS).map(|point| (point, point)).collect();
        if part + 1 == PARTS {
            points.extend((0..PART_ROWS).step_by(9).map(|point| (point, point + 50_000)));
        }
        for &(point, at) in &points {
            batch.upsert(id(point), &vector(at), format!("{{\"n\":{at}}}").into(), at as i64);
        }
        let gone: Vec<usize> = (1..3 * PART_ROWS).filter(|point| part == 3 && point % 15 == 1).collect();
        gone.iter().for_each(|&point| batch.delete(id(point)));
        let lsn = Lsn(write(shard, Entry { batch, ..Entry::default() }));
        model.extend(points.into_iter().map(|(point, at)| (point.to_string(), (at, lsn))));
        for point in gone {
            model.remove(&point.to_string());
        }
        settle(shard);
    }
    model
}

/// Rows of each cluster of a segment's index, as its file has them.
fn clusters(dir: &Path, live: &LiveSegment) -> Vec<Vec<u32>> {
    let name = live.graph_origin().unwrap().name.clone();
    let index = Ivf::open(&dir.join("segments").join(name)).unwrap();
    index.rows_by_cluster().map(<[u32]>::to_vec).collect()
}

fn ids(live: &LiveSegment) -> Vec<String> {
    (0..live.rows()).map(|row| live.ids().text(row).to_owned()).collect()
}

fn check(shard: &Shard, dir: &Path, model: &BTreeMap<String, (usize, Lsn)>) -> Vec<String> {
    let live = shard.segments().pop().unwrap();
    assert_eq!((shard.info().segments, shard.info().indexed_points), (1, model.len() as u64));
    // Cluster by cluster, without a hole.
    let clusters = clusters(dir, &live);
    assert!(clusters.len() > 20 && clusters.concat().into_iter().eq(0..live.rows()), "{clusters:?}");
    // Each row is what was written.
    let snapshot = shard.snapshot();
    let mut count = 0;
    for_each_match(&snapshot, None, None, |row| {
        let (at, lsn) = model[&row.id().to_string()];
        assert_eq!((row.vector().unwrap(), row.born()), (&vector(at)[..], lsn));
        assert_eq!(row.payload().unwrap(), format!("{{\"n\":{at}}}").as_bytes());
        assert_eq!(row.event_time_ms(), at as i64);
        count += 1;
    })
    .unwrap();
    assert_eq!(count, model.len());
    assert!(find(&snapshot, &id(1)).is_none() && find(&snapshot, &id(2)).is_some());
    // All probes find what a scan finds.
    let block = live.vectors().unwrap();
    for query in 0..20 {
        let vector = vector(70_000 + query);
        let alive = |row: u32| live.dead(row).is_none();
        let query = IndexQuery {
            vector: &vector,
            k: 7,
            ef_search: 1 << 20,
            matching: None,
            alive: &alive,
            alive_rows: model.len(),
            codes: CodedSearch::default(),
            deadline: None,
        };
        let hits = live.graph.load_full().unwrap().search(block, &query).unwrap().rows;
        assert_eq!(hits, exact_scan(block, &vector, 7, alive).rows);
    }
    ids(&live)
}

#[test]
fn a_merge_puts_rows_into_the_order_of_their_clusters() {
    let orders: Vec<Vec<String>> = (0..2)
        .map(|_| {
            let dir = tempfile::tempdir().unwrap();
            let shard = open_as(dir.path(), IndexKind::Ivf);
            let mut model = fill(&shard);
            let order = check(&shard, dir.path(), &model);
            // Rows die where they lie now.
            let mut batch = WriteBatch::new(2);
            let gone: Vec<String> = model.keys().step_by(5).cloned().collect();
            for point in &gone {
                batch.delete(id(point));
                model.remove(point);
            }
            write(&shard, Entry { batch, ..Entry::default() });
            drop(shard);
            let shard = open_as(dir.path(), IndexKind::Ivf);
            settle(&shard);
            let live = shard.segments().remove(0);
            assert_eq!((ids(&live), shard.info().points), (order.clone(), model.len() as u64));
            let mut count = 0;
            for_each_match(&shard.snapshot(), None, None, |row| {
                assert!(model.contains_key(&row.id().to_string()));
                count += 1;
            })
            .unwrap();
            assert_eq!(count, model.len());
            order
        })
        .collect();
    assert_eq!(orders[0], orders[1], "the same rows give the same order");
    let arrival: Vec<String> = (0..orders[0].len()).map(|point| point.to_string()).collect();
    assert_ne!(orders[0], arrival);
}
