//! Opening, closing and cleaning up.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::{config, flush, id, open, runtime, settle, tuning, upserts, write};
use crate::index::{BuildControl, GraphBuilder, IndexBuilder, IndexQuery, exact_scan};
use crate::memory::MemoryBudget;
use crate::query::{Deadline, Filter, QueryError, find, for_each_match};
use crate::shard::making::SEED;
use crate::shard::upkeep::collect;
use crate::shard::{Shard, ShardError, Tuning};
use crate::store::Manifest;
use crate::types::{CodedSearch, Entry, Expect, Outcome};

fn one(point: &str) -> Entry {
    upserts([(point, "{\"n\":1}".to_string())])
}

fn count(shard: &Shard) -> usize {
    let mut count = 0;
    for_each_match(&shard.snapshot(), None, None, |_| count += 1).unwrap();
    count
}

#[test]
fn a_refused_entry_is_flushed_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    write(&shard, one("a"));
    flush(&shard);
    let mut absent = one("a");
    absent.batch.ops[0].expect = Expect::Absent;
    let outcome = runtime().block_on(shard.propose(absent)).unwrap();
    assert!(matches!(outcome, Outcome::Conflict { .. }));
    flush(&shard);
    assert_eq!(shard.marks().flushed(), shard.marks().applied());
    drop(shard);
    let shard = open(dir.path());
    flush(&shard);
    assert_eq!((shard.marks().applied().0, count(&shard)), (2, 1));
}

#[test]
fn a_shard_that_cannot_flush_can_be_closed() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Arc::new(open(dir.path()));
    let (segments, away) = (dir.path().join("segments"), dir.path().join("away"));
    std::fs::rename(&segments, &away).unwrap();
    let runtime = runtime();
    let mut written = 0;
    // Two memtables' worth is applied; the rest waits, group behind group, for a flush that doesn't come.
    for number in 0..60 {
        let before = shard.info().durable_lsn;
        if runtime.block_on(shard.propose_detached(one(&number.to_string()))).is_err() {
            break;
        }
        written += 1;
        let since = Instant::now();
        while shard.info().durable_lsn == before && since.elapsed() < Duration::from_millis(100) {
            std::thread::yield_now();
        }
    }
    assert!(shard.marks().applied().0 < written, "apply should wait for the flush");
    let (done, is_done) = std::sync::mpsc::sync_channel(1);
    let closing = Arc::clone(&shard);
    std::thread::spawn(move || {
        closing.close();
        let _ = done.send(());
    });
    assert!(is_done.recv_timeout(Duration::from_secs(20)).is_ok(), "close does not end");
    drop(shard);
    std::fs::rename(&away, &segments).unwrap();
    assert_eq!(count(&open(dir.path())) as u64, written);
}

#[test]
fn entries_that_nothing_holds_are_missed() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    for point in ["a", "b", "c"] {
        write(&shard, one(point));
        flush(&shard);
    }
    // The thread that does so comes when it can, and not at all once the shard closes.
    shard.core.log.get().unwrap().purge(shard.marks().flushed()).unwrap();
    write(&shard, one("d"));
    drop(shard);
    let mut manifests: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    manifests.sort();
    std::fs::remove_file(manifests.pop().unwrap()).unwrap();
    let opened = Shard::open(
        dir.path(),
        super::fixture::config(),
        super::fixture::tuning(),
        &crate::memory::MemoryBudget::unlimited(),
    );
    let error = opened.err().expect("lsn 3 is gone");
    assert!(
        matches!(error, ShardError::LogBeginsLate { flushed, first, .. } if (flushed.0, first.0) == (2, 4))
    );
    // Without the log it is a copy of an earlier time.
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    let shard = open(dir.path());
    assert_eq!((shard.marks().applied().0, count(&shard)), (2, 2));
    assert_eq!(write(&shard, one("e")), 3);
}

#[test]
fn files_of_merged_segments_stay_while_somebody_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    for batch in 0..3 {
        let names: Vec<String> = (0..10).map(|row| format!("{batch}-{row}")).collect();
        write(&shard, upserts(names.iter().map(|name| (name.as_str(), "{\"n\":1}".to_string()))));
        flush(&shard);
    }
    let before = shard.snapshot();
    let old: Vec<_> = before.view.segments.iter().map(|live| live.id()).collect();
    assert_eq!(old.len(), 3);
    // Enough manifests that none of those that are kept names the old segments.
    for batch in 3..9 {
        write(&shard, upserts([(batch.to_string().as_str(), String::new())]));
        settle(&shard);
    }
    collect(&shard.core);
    let filter = Filter::parse(&json!({ "must": [{ "key": "n", "match": { "value": 1 } }] }), "").unwrap();
    let mut found = 0;
    for_each_match(&before, Some(&filter), None, |_| found += 1).unwrap();
    assert_eq!(found, 30);
    drop(before);
    let begun = Instant::now();
    loop {
        // Does nothing while the upkeep thread does the same.
        collect(&shard.core);
        let on_disk: Vec<String> = std::fs::read_dir(dir.path().join("segments"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let manifest = Manifest::load(dir.path()).unwrap().unwrap();
        assert!(manifest.files().all(|name| on_disk.iter().any(|file| file == name)));
        if !on_disk.iter().any(|name| old.iter().any(|id| name.starts_with(&id.to_string()))) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{old:?} {on_disk:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_dies_between_a_merge_and_a_flush_stays_dead() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    for batch in 0..4 {
        let names: Vec<String> = (0..10).map(|row| format!("{batch}-{row}")).collect();
        write(&shard, upserts(names.iter().map(|name| (name.as_str(), String::new()))));
        flush(&shard);
        let mut delete = Entry { batch: crate::types::WriteBatch::new(2), ..Entry::default() };
        delete.batch.delete(id(format!("{batch}-0")));
        write(&shard, delete);
    }
    settle(&shard);
    drop(shard);
    let shard = open(dir.path());
    assert_eq!(count(&shard), 36);
    assert!((0..4).all(|batch| find(&shard.snapshot(), &id(format!("{batch}-0"))).is_none()));
}

#[test]
fn a_merge_of_segments_in_graphs_publishes_one_with_its_graph() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    // Each entry fills a memtable, and its segment deserves a graph.
    let fill = |first: usize| {
        let names: Vec<String> = (first..first + 400).map(|point| point.to_string()).collect();
        write(&shard, upserts(names.iter().map(|name| (name.as_str(), String::new()))));
        flush(&shard);
    };
    for entry in 0..3 {
        fill(entry * 400);
        settle(&shard);
    }
    assert_eq!(shard.info().indexed_points, 1200);
    let ends = AtomicBool::new(false);
    let unindexed = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut unindexed = 0;
            while !ends.load(Ordering::Relaxed) {
                let view = shard.snapshot().view;
                let merged = view.segments.iter().filter(|live| live.rows() > 400);
                unindexed += merged.filter(|live| live.graph.load().is_none()).count();
            }
            unindexed
        });
        fill(1200);
        settle(&shard);
        ends.store(true, Ordering::Relaxed);
        watch.join().unwrap()
    });
    assert_eq!((shard.info().segments, shard.info().indexed_points), (1, 1600));
    assert_eq!(unindexed, 0, "looks at a merged segment that had no graph yet");
    // What the manifest names is used after a restart as well.
    shard.close();
    assert_eq!(open(dir.path()).info().indexed_points, 1600);
}

#[test]
fn a_merged_segments_graph_is_made_of_its_inputs_graphs() {
    let dir = tempfile::tempdir().unwrap();
    let shard = open(dir.path());
    let vector = |point: usize| [(point * 7_919 % 10_007) as f32, (point * 104_729 % 9_973) as f32];
    for part in 0..4 {
        let mut entry = Entry { batch: crate::types::WriteBatch::new(2), ..Entry::default() };
        for point in part * 300..(part + 1) * 300 {
            entry.batch.upsert(id(point), &vector(point), String::new().into(), 0);
        }
        // With the last, some of each that came before die.
        for point in (0..900).filter(|point| part == 3 && point % 15 == 0) {
            entry.batch.delete(id(point));
        }
        write(&shard, entry);
        settle(&shard);
    }
    let live = shard.segments().pop().unwrap();
    assert_eq!((shard.info().segments, live.rows(), shard.info().indexed_points), (1, 1140, 1140));
    // From nothing another would have come out.
    let origin = live.graph_origin().unwrap();
    let builder = GraphBuilder { params: origin.built.params(config().graph), threads: 1, seed: SEED };
    let fresh = dir.path().join("fresh.graph");
    builder.build(live.vectors().unwrap(), &fresh, &BuildControl::default()).unwrap();
    let merged = shard.core.segments_dir.join(&origin.name);
    assert!(std::fs::read(merged).unwrap() != std::fs::read(fresh).unwrap());
    let mut found = 0;
    for query in 0..40 {
        let vector = vector(5_000 + query);
        let query = IndexQuery {
            vector: &vector,
            k: 5,
            ef_search: 64,
            matching: None,
            alive: &|row| live.dead(row).is_none(),
            alive_rows: 1140,
            codes: CodedSearch::default(),
            deadline: None,
        };
        let block = live.vectors().unwrap();
        let hits = live.graph.load_full().unwrap().search(block, &query).unwrap().rows;
        let truth = exact_scan(block, &vector, 5, |_| true).rows;
        found += hits.iter().filter(|hit| truth.contains(hit)).count();
    }
    assert!(found >= 190, "{found} of 200");
}

#[test]
fn a_look_at_all_rows_ends_at_its_deadline_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let tuning = Tuning { memtable_rows_max: 10_000, memtable_bytes_max: 64 << 20, ..tuning() };
    let shard = Shard::open(dir.path(), config(), tuning, &MemoryBudget::unlimited()).unwrap();
    let names: Vec<String> = (0..5000).map(|row| row.to_string()).collect();
    write(&shard, upserts(names.iter().map(|name| (name.as_str(), "{\"n\":1}".to_string()))));
    let in_memory = shard.snapshot();
    assert!(in_memory.view.segments.is_empty());
    settle(&shard);
    let in_a_segment = shard.snapshot();
    assert_eq!(in_a_segment.view.segments.len(), 1);
    let filter = Filter::parse(&json!({ "must": [{ "key": "n", "match": { "value": 1 } }] }), "").unwrap();
    for snapshot in [in_memory, in_a_segment] {
        for filter in [None, Some(&filter)] {
            let look = |timeout: Duration, stay: bool| {
                let (deadline, mut seen) = (Deadline::after(timeout), 0);
                let looked = for_each_match(&snapshot, filter, Some(deadline), |_| {
                    seen += 1;
                    while stay && deadline.check().is_ok() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                });
                (looked, seen)
            };
            let (looked, seen) = look(Duration::from_secs(600), false);
            assert!(looked.is_ok() && seen == 5000, "{seen}");
            let (looked, seen) = look(Duration::ZERO, false);
            assert!(matches!(looked, Err(QueryError::Timeout { .. })) && seen == 0, "{seen}");
            if filter.is_some() {
                continue;
            }
            // It passes while the first row is looked at.
            let (looked, seen) = look(Duration::from_millis(300), true);
            assert!(matches!(looked, Err(QueryError::Timeout { .. })), "{looked:?}");
            assert!((1..2000).contains(&seen), "{seen}");
        }
    }
}
