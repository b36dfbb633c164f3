//! A shard beside a map: whatever happens to both, they hold the same.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use tempfile::TempDir;

use super::fixture::{copy, flush, id, open_as, runtime, settle};
use crate::query::{
    Filter, Nearest, PayloadSelection, ReadOptions, Search, SearchRequest, find, for_each_match,
};
use crate::shard::Shard;
use crate::types::{
    Distance, Entry, Expect, IndexKind, Lsn, Outcome, Position, Reject, SourceRange, WriteBatch,
};
use crate::view::{RowRef, Snapshot};

const SOURCE: &str = "pipeline";
const PARTITION: &str = "topic/0";

#[derive(Debug, Clone)]
enum Step {
    /// One entry: ids, each with a payload number, or deleted.
    Write(Vec<(u8, Option<u8>)>),
    /// A write of one point on a condition.
    Conditional {
        point: u8,
        value: Option<u8>,
        guess: Guess,
    },
    /// Records of the source, beginning so many before the next one.
    Deliver {
        back: u64,
        count: u64,
    },
    /// Records from beyond the next one.
    Skip,
    /// Nearest to a place, perhaps among those of one payload number.
    Search {
        at: (i8, i8),
        limit: usize,
        only: Option<u8>,
        exact: bool,
    },
    Flush,
    Settle,
    Reopen,
    /// Go on with what a kill leaves.
    Crash,
    /// Keep a copy, taken while running.
    Keep,
    /// Go back to the copy.
    Restore,
}

#[derive(Debug, Clone, Copy)]
enum Guess {
    Absent,
    Present,
    TheVersion,
    AVersion(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let value = || prop::option::weighted(0.7, 0_u8..4);
    let guess = prop_oneof![
        Just(Guess::Absent),
        Just(Guess::Present),
        Just(Guess::TheVersion),
        (0_u64..40).prop_map(Guess::AVersion)
    ];
    let search = ((-9_i8..9, -9_i8..9), 0_usize..30, prop::option::of(0_u8..4), any::<bool>());
    prop_oneof![
        8 => prop::collection::vec((0_u8..60, value()), 1..25).prop_map(Step::Write),
        3 => (0_u8..60, value(), guess).prop_map(|(point, value, guess)| Step::Conditional { point, value, guess }),
        5 => (0_u64..12, 1_u64..25).prop_map(|(back, count)| Step::Deliver { back, count }),
        1 => Just(Step::Skip),
        4 => search.prop_map(|(at, limit, only, exact)| Step::Search { at, limit, only, exact }),
        2 => Just(Step::Flush),
        1 => Just(Step::Settle),
        1 => Just(Step::Reopen),
        2 => Just(Step::Crash),
        1 => Just(Step::Keep),
        1 => Just(Step::Restore),
    ]
}

#[derive(Debug, Clone, PartialEq)]
struct Row {
    vector: [f32; 2],
    payload: String,
    version: u64,
}

/// What must be there.
#[derive(Debug, Clone, Default)]
struct Model {
    rows: BTreeMap<String, Row>,
    /// Entries in the log.
    lsn: u64,
    /// Records of the source that are applied: 0 up to this one, exclusively.
    next: u64,
    rejected: u64,
}

impl Model {
    /// Puts one operation into a batch and, if it takes effect, into the model.
    fn operate(&mut self, batch: &mut WriteBatch, point: u8, value: Option<u8>, nonce: u64, applies: bool) {
        let name = format!("p{point}");
        let Some(value) = value else {
            batch.delete(id(&name));
            if applies {
                self.rows.remove(&name);
            }
            return;
        };
        let vector = [f32::from(point) - 30.0, (nonce % 16) as f32];
        let payload = format!("{{\"n\":{value},\"nonce\":{nonce}}}");
        batch.upsert(id(&name), &vector, payload.clone().into(), nonce as i64);
        if applies {
            self.rows.insert(name, Row { vector, payload, version: self.lsn });
        }
    }
}

struct Stage {
    index: IndexKind,
    dir: TempDir,
    shard: Option<Shard>,
    model: Model,
    kept: Option<(TempDir, Model)>,
}

impl Stage {
    fn new(index: IndexKind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let shard = Some(open_as(dir.path(), index));
        Self { index, dir, shard, model: Model::default(), kept: None }
    }

    fn shard(&self) -> &Shard {
        self.shard.as_ref().unwrap()
    }

    fn go_on_with(&mut self, dir: TempDir, model: Model) {
        self.shard = None;
        (self.dir, self.model) = (dir, model);
        self.shard = Some(open_as(self.dir.path(), self.index));
    }

    fn propose(&self, entry: Entry) -> Outcome {
        runtime().block_on(self.shard().propose(entry)).unwrap()
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Write(ops) => self.write(ops),
            Step::Conditional { point, value, guess } => self.write_if(*point, *value, *guess),
            Step::Deliver { back, count } => {
                let first = self.model.next.saturating_sub(*back);
                self.deliver(first, first + count);
            }
            Step::Skip if self.model.next > 0 => self.deliver(self.model.next + 1, self.model.next + 3),
            Step::Skip => {}
            Step::Search { at, limit, only, exact } => self.search(*at, *limit, *only, *exact),
            Step::Flush => flush(self.shard()),
            Step::Settle => settle(self.shard()),
            Step::Reopen => {
                self.shard = None;
                self.shard = Some(open_as(self.dir.path(), self.index));
            }
            Step::Crash => {
                let dir = tempfile::tempdir().unwrap();
                copy(self.shard(), dir.path());
                self.go_on_with(dir, self.model.clone());
            }
            Step::Keep => {
                let dir = tempfile::tempdir().unwrap();
                copy(self.shard(), dir.path());
                self.kept = Some((dir, self.model.clone()));
            }
            Step::Restore => {
                if let Some((dir, model)) = self.kept.take() {
                    self.go_on_with(dir, model);
                }
            }
        }
        self.check();
    }

    fn write(&mut self, ops: &[(u8, Option<u8>)]) {
        self.model.lsn += 1;
        let mut batch = WriteBatch::new(2);
        let nonce = self.model.lsn * 100;
        for (at, (point, value)) in ops.iter().enumerate() {
            self.model.operate(&mut batch, *point, *value, nonce + at as u64, true);
        }
        let outcome = self.propose(Entry { batch, ..Entry::default() });
        assert_eq!(outcome, Outcome::Applied { lsn: Lsn(self.model.lsn) });
    }

    fn write_if(&mut self, point: u8, value: Option<u8>, guess: Guess) {
        let name = format!("p{point}");
        let found = self.model.rows.get(&name).map(|row| Lsn(row.version));
        let (expect, holds) = match guess {
            Guess::Absent => (Expect::Absent, found.is_none()),
            Guess::Present => (Expect::Present, found.is_some()),
            Guess::TheVersion => (found.map_or(Expect::Absent, Expect::Version), true),
            Guess::AVersion(version) => (Expect::Version(Lsn(version)), found == Some(Lsn(version))),
        };
        self.model.lsn += 1;
        let lsn = Lsn(self.model.lsn);
        let mut batch = WriteBatch::new(2);
        self.model.operate(&mut batch, point, value, lsn.0 * 100, holds);
        batch.ops[0].expect = expect;
        let expected = match holds {
            true => Outcome::Applied { lsn },
            false => Outcome::Conflict { lsn, id: id(&name), found },
        };
        assert_eq!(self.propose(Entry { batch, ..Entry::default() }), expected);
    }

    /// Delivers the records `first..end`; what a record says follows from its number.
    fn deliver(&mut self, first: u64, end: u64) {
        self.model.lsn += 1;
        let (lsn, next) = (Lsn(self.model.lsn), self.model.next);
        let is_gap = first > next;
        let mut batch = WriteBatch::new(2);
        let mut rejects = Vec::new();
        for record in first..end {
            let is_new = record >= next && !is_gap;
            if record % 11 == 3 {
                rejects.push(reject(record));
                self.model.rejected += u64::from(is_new);
                continue;
            }
            let value = (record % 5 > 0).then_some((record % 4) as u8);
            self.model.operate(&mut batch, (record * 7 % 60) as u8, value, record, is_new);
            if let Some(op) = batch.ops.last_mut() {
                op.position = Some(record.into());
            }
        }
        let source = SourceRange {
            source: SOURCE.into(),
            partition: PARTITION.into(),
            epoch: 0,
            from: first.checked_sub(1).map(Position::from),
            to: (end - 1).into(),
        };
        let outcome = self.propose(Entry { batch, source: Some(source), rejects });
        if is_gap {
            assert!(matches!(outcome, Outcome::Refused { lsn: at, .. } if at == lsn), "{outcome:?}");
        } else if end <= next {
            assert_eq!(outcome, Outcome::Duplicate { lsn });
        } else {
            assert_eq!(outcome, Outcome::Applied { lsn });
            self.model.next = end;
        }
    }

    fn search(&self, (x, y): (i8, i8), limit: usize, only: Option<u8>, exact: bool) {
        let snapshot = self.shard().snapshot();
        let vector = [f32::from(x), f32::from(y)];
        let hits = nearest(&snapshot, vector, limit, only, exact);
        let mut all: Vec<f32> = self
            .model
            .rows
            .values()
            .filter(|row| only.is_none_or(|value| row.payload.starts_with(&format!("{{\"n\":{value},"))))
            .map(|row| distance(row.vector, vector))
            .collect();
        all.sort_by(f32::total_cmp);
        all.truncate(limit);
        let mut seen = std::collections::BTreeSet::new();
        for (hit, _) in &hits {
            assert!(seen.insert(hit.clone()), "{hit} is found twice");
        }
        for (hit, score) in &hits {
            let row = self.model.rows.get(hit).unwrap_or_else(|| panic!("{hit} should be gone"));
            assert_eq!(*score, Distance::L2.score(distance(row.vector, vector)), "{hit}");
        }
        assert_eq!(hits.len(), all.len(), "as many as there are, up to the limit");
        if exact {
            let scores: Vec<f32> = hits.into_iter().map(|(_, score)| score).collect();
            let expected: Vec<f32> = all.into_iter().map(|internal| Distance::L2.score(internal)).collect();
            assert_eq!(scores, expected);
        }
    }

    /// Everything that can be asked of the shard agrees with the model.
    fn check(&self) {
        let (shard, model) = (self.shard(), &self.model);
        let snapshot = shard.snapshot();
        assert_eq!(snapshot.lsn, Lsn(model.lsn), "applied");
        assert_eq!(all(&snapshot, None), model.rows);
        for value in 0..4 {
            let prefix = format!("{{\"n\":{value},");
            let mut expected = model.rows.clone();
            expected.retain(|_, row| row.payload.starts_with(&prefix));
            assert_eq!(all(&snapshot, Some(value)), expected, "filtered by {value}");
        }
        for point in 0..60 {
            let name = format!("p{point}");
            let found = find(&snapshot, &id(&name)).map(|row| contents(&row));
            assert_eq!(found.as_ref(), model.rows.get(&name), "by id {name}");
        }
        let marks = shard.marks();
        assert_eq!(marks.live_points(), model.rows.len() as u64);
        let position = marks.position(SOURCE, PARTITION).and_then(|at| at.position);
        assert_eq!(position, model.next.checked_sub(1).map(Position::from));
        assert_eq!(marks.rejected(), model.rejected);
        let quarantined = shard.quarantine(usize::MAX).unwrap();
        let positions: Vec<Position> = quarantined.iter().rev().map(|one| one.reject.position).collect();
        let rejected = (0..model.next).filter(|record| record % 11 == 3).map(Position::from);
        assert_eq!(positions, rejected.collect::<Vec<_>>());
    }
}

fn reject(record: u64) -> Reject {
    Reject {
        partition: PARTITION.into(),
        position: record.into(),
        code: "decode".into(),
        reason: "not JSON".into(),
        key: None,
        value: None,
        timestamp_ms: None,
    }
}

fn distance(a: [f32; 2], b: [f32; 2]) -> f32 {
    (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2)
}

fn contents(row: &RowRef) -> Row {
    Row {
        vector: row.vector().unwrap().try_into().unwrap(),
        payload: String::from_utf8(row.payload().unwrap().to_vec()).unwrap(),
        version: row.born().0,
    }
}

fn only(value: Option<u8>) -> Option<Filter> {
    let filter = |value| json!({ "must": [{ "key": "n", "match": { "value": value } }] });
    value.map(|value| Filter::parse(&filter(value), "filter").unwrap())
}

fn all(snapshot: &Snapshot, value: Option<u8>) -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for_each_match(snapshot, only(value).as_ref(), None, |row| {
        let before = rows.insert(row.id().to_string(), contents(&row));
        assert!(before.is_none(), "{} is there twice", row.id());
    })
    .unwrap();
    rows
}

fn nearest(
    snapshot: &Snapshot,
    vector: [f32; 2],
    limit: usize,
    value: Option<u8>,
    exact: bool,
) -> Vec<(String, f32)> {
    let request = SearchRequest {
        nearest: Nearest::Vector(vector.to_vec()),
        limit,
        offset: 0,
        filter: only(value),
        with_payload: PayloadSelection::Everything,
        with_vector: true,
        score_threshold: None,
        exact,
        // So small that the graph is walked, not scanned.
        ef_search: Some(1),
        codes: Default::default(),
        read: ReadOptions::default(),
    };
    let search = Search {
        request: &request,
        vector: &vector,
        distance: Distance::L2,
        except: None,
        deadline: Instant::now() + Duration::from_secs(60),
        ef_search_default: 16,
    };
    let found = search.run(snapshot).unwrap();
    found.hits.into_iter().map(|hit| (hit.record.id.to_string(), hit.score)).collect()
}

#[test]
fn a_shard_holds_what_a_map_holds_whatever_happens_to_it() {
    let mut runner = TestRunner::new(Config {
        cases: std::env::var("PROXIMADB_SHARD_CASES").map_or(20, |cases| cases.parse().unwrap()),
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    });
    // Merges put rows into other orders where clusters are wanted.
    let index = prop_oneof![Just(IndexKind::Hnsw), Just(IndexKind::Ivf)];
    runner
        .run(&(index, prop::collection::vec(step(), 1..60)), |(index, steps)| {
            let mut stage = Stage::new(index);
            steps.iter().for_each(|step| stage.take(step));
            Ok(())
        })
        .unwrap();
}
