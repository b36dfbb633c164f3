//! Readers while everything moves: each sees one state, whole, and no older than what was answered before.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::fixture::{id, open, runtime};
use crate::query::{Filter, FreshAsOf, find, for_each_match};
use crate::shard::Shard;
use crate::types::{Entry, Lsn, Outcome, Position, SourceRange, WriteBatch};
use crate::view::Snapshot;

const WRITERS: usize = 3;
const POINTS: usize = 40;

/// What has been answered of one point.
#[derive(Default)]
struct Answered {
    /// The version, or the entry that deleted it.
    lsn: AtomicU64,
    /// An upsert was answered, and no delete sent since.
    is_there: AtomicBool,
    deletes_sent: AtomicU64,
}

struct Scene {
    shard: Shard,
    answered: Vec<Answered>,
    ends: Instant,
}

impl Scene {
    fn goes_on(&self) -> bool {
        Instant::now() < self.ends
    }
}

fn name(point: usize) -> String {
    format!("p{point:03}")
}

/// Writes its own points over and over; those with odd numbers are deleted now and then.
fn write(scene: &Scene, writer: usize) {
    let runtime = runtime();
    let mut round = 0;
    while scene.goes_on() {
        round += 1;
        let mut batch = WriteBatch::new(2);
        let mut touched = Vec::new();
        for step in 0..7 {
            let point = writer * POINTS + (round * 11 + step * 5) % POINTS;
            if touched.contains(&point) {
                continue;
            }
            touched.push(point);
            if point % 2 == 1 && (round + step) % 3 == 0 {
                scene.answered[point].is_there.store(false, Ordering::SeqCst);
                scene.answered[point].deletes_sent.fetch_add(1, Ordering::SeqCst);
                batch.delete(id(name(point)));
            } else {
                batch.upsert(id(name(point)), &[point as f32, round as f32], "{\"n\":1}".into(), 0);
            }
        }
        let deleted: Vec<usize> = batch
            .ops
            .iter()
            .zip(&touched)
            .filter(|(op, _)| op.kind == crate::types::OpKind::Delete)
            .map(|(_, point)| *point)
            .collect();
        let outcome = runtime.block_on(scene.shard.propose(Entry { batch, ..Entry::default() })).unwrap();
        let Outcome::Applied { lsn } = outcome else { panic!("{outcome:?}") };
        for point in touched {
            scene.answered[point].lsn.store(lsn.0, Ordering::SeqCst);
            if !deleted.contains(&point) {
                scene.answered[point].is_there.store(true, Ordering::SeqCst);
            }
        }
    }
}

/// Versions by id, each id once.
fn scan(snapshot: &Snapshot, filter: Option<&Filter>) -> BTreeMap<String, Lsn> {
    let mut versions = BTreeMap::new();
    for_each_match(snapshot, filter, None, |row| {
        let before = versions.insert(row.id().to_string(), row.born());
        assert!(before.is_none(), "{} shows twice: {before:?} and {}", row.id(), row.born());
    })
    .unwrap();
    versions
}

fn read(scene: &Scene) -> u64 {
    let filter = Filter::parse(&json!({ "must": [{ "key": "n", "match": { "value": 1 } }] }), "").unwrap();
    let mut reads = 0;
    let mut older: Vec<(Snapshot, BTreeMap<String, Lsn>)> = Vec::new();
    while scene.goes_on() {
        reads += 1;
        let load = |answered: &Answered| {
            let deletes = answered.deletes_sent.load(Ordering::SeqCst);
            (answered.lsn.load(Ordering::SeqCst), answered.is_there.load(Ordering::SeqCst), deletes)
        };
        let known: Vec<(u64, bool, u64)> = scene.answered.iter().map(load).collect();
        let snapshot = scene.shard.snapshot();
        let versions = scan(&snapshot, None);
        for (point, answered) in scene.answered.iter().enumerate() {
            match versions.get(&name(point)) {
                Some(version) => {
                    assert!(*version <= snapshot.lsn, "{} is from the future", name(point));
                    assert!(version.0 >= known[point].0, "{} is older than what was answered", name(point));
                }
                None => {
                    let (_, was_there, deletes) = known[point];
                    let is_deleted = answered.deletes_sent.load(Ordering::SeqCst) > deletes;
                    assert!(is_deleted || !was_there, "{} is lost at {}", name(point), snapshot.lsn);
                }
            }
            let by_id = find(&snapshot, &id(name(point))).map(|row| row.born());
            assert_eq!(by_id.as_ref(), versions.get(&name(point)), "{} by id", name(point));
        }
        // A snapshot is the same however late it is read, whatever was flushed and merged since.
        older.push((snapshot, versions));
        if older.len() > 40 {
            let (snapshot, versions) = older.swap_remove(reads as usize * 7 % 40);
            assert_eq!(scan(&snapshot, Some(&filter)), versions, "at {}", snapshot.lsn);
        }
    }
    reads
}

/// Delivers records one by one.
fn deliver(scene: &Scene) -> u64 {
    let runtime = runtime();
    let mut record = 0_u64;
    while scene.goes_on() {
        let mut batch = WriteBatch::new(2);
        batch.upsert(id(format!("s{}", record % 50)), &[1.0, record as f32], "{\"n\":1}".into(), 0);
        let source = SourceRange {
            source: "s".into(),
            partition: "t/0".into(),
            epoch: 0,
            from: record.checked_sub(1).map(Position::from),
            to: record.into(),
        };
        let entry = Entry { batch, source: Some(source), rejects: Vec::new() };
        runtime.block_on(scene.shard.propose(entry)).unwrap();
        record += 1;
    }
    record
}

/// Waits for one record after the other: each must be there as soon as the wait ends.
fn follow(scene: &Scene) -> u64 {
    let runtime = runtime();
    let (mut record, mut waits) = (0_u64, 0);
    while scene.goes_on() {
        let partitions = BTreeMap::from([("t/0".to_string(), Position::from(record))]);
        let wanted = FreshAsOf::Positions(BTreeMap::from([("s".to_string(), partitions)]));
        let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
        if runtime.block_on(scene.shard.marks().wait_for(&wanted, deadline)).is_err() {
            continue;
        }
        let snapshot = scene.shard.snapshot();
        let row = find(&snapshot, &id(format!("s{}", record % 50))).expect("it was waited for");
        assert!(row.vector().unwrap()[1] >= record as f32, "record {record} is not there yet");
        waits += 1;
        let applied = scene.shard.marks().position("s", "t/0").and_then(|at| at.position).unwrap();
        record = applied.as_u64() + 1;
    }
    waits
}

#[test]
fn readers_see_one_state_whatever_is_flushed_and_merged() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Arc::new(Scene {
        shard: open(dir.path()),
        answered: (0..WRITERS * POINTS).map(|_| Answered::default()).collect(),
        ends: Instant::now() + Duration::from_secs(2),
    });
    std::thread::scope(|threads| {
        for writer in 0..WRITERS {
            let scene = &scene;
            threads.spawn(move || write(scene, writer));
        }
        let readers: Vec<_> = (0..2).map(|_| threads.spawn(|| read(&scene))).collect();
        let source = threads.spawn(|| deliver(&scene));
        let follower = threads.spawn(|| follow(&scene));
        let flusher = threads.spawn(|| {
            let runtime = runtime();
            while scene.goes_on() {
                runtime.block_on(scene.shard.flush());
            }
        });
        let reads: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        let (records, waits) = (source.join().unwrap(), follower.join().unwrap());
        flusher.join().unwrap();
        assert!(reads > 0 && waits > 0);
        println!("{reads} reads, {waits} waits for {records} records, {:?}", scene.shard.info());
    });
}
