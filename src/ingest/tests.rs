//! A pipeline whose source misbehaves as sources may: what it handed out is in the log in the end, once.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::{Bounds, Ingest, Parts, PipelineState};
use crate::decode::{DecodeError, Decoded, Decoder};
use crate::shard::Shard;
use crate::shard::tests::fixture;
use crate::source::{PartitionLag, Polled, Source, SourceError};
use crate::types::{Op, OpKind, Position, RawBatch, RawRecord, RawRows};

const RECORDS: u64 = 60;

fn transient(action: &str) -> SourceError {
    SourceError::Transient { action: action.into(), source: Box::new(io::Error::other("on purpose")) }
}

/// One record a batch; begins where the log ends; fails as often as it is told.
struct Script {
    shard: Arc<Shard>,
    next: u64,
    failing_holds: Arc<AtomicU32>,
    failing_rewinds: Arc<AtomicU32>,
    /// Hands a batch out with a hole before it, once: as if the log had refused the one between.
    hole_at: Option<u64>,
}

fn fails(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok()
}

impl Script {
    fn behind_the_log(&mut self) {
        let held = self.shard.marks().position("p", "t/0").and_then(|known| known.position);
        self.next = held.map_or(0, |position| position.as_u64() + 1);
    }
}

impl Source for Script {
    fn next_batch(&mut self, _max_wait: Duration) -> Result<Polled, SourceError> {
        if self.hole_at.take_if(|at| *at == self.next).is_some() {
            self.next += 1;
        }
        if self.next >= RECORDS {
            return Ok(Polled::Finished);
        }
        let position = Position::from(self.next);
        let value = Some(vec![b'x'; 3000].into());
        let record = RawRecord { position, key: None, value, timestamp_ms: None };
        let from = self.next.checked_sub(1).map(Position::from);
        self.next += 1;
        let rows = RawRows::Records(vec![record]);
        Ok(Polled::Batch(RawBatch { partition: "t/0".into(), epoch: 0, from, to: position, rows }))
    }

    fn hold(&mut self, _held_for: Duration) -> Result<(), SourceError> {
        // Of the last batch: after any other one the log would notice that it is missing.
        match self.next == RECORDS && fails(&self.failing_holds) {
            true => Err(transient("holding")),
            false => Ok(()),
        }
    }

    fn durable(&mut self, _partition: &str, _upto: Position) {}

    fn rewind(&mut self, _partition: &str) -> Result<(), SourceError> {
        if fails(&self.failing_rewinds) {
            return Err(transient("rewinding"));
        }
        self.behind_the_log();
        Ok(())
    }

    fn lag(&self) -> Vec<PartitionLag> {
        Vec::new()
    }
}

/// The point's id is the record's position.
struct PositionAsId {
    failing_holds: Arc<AtomicU32>,
}

impl Decoder for PositionAsId {
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, DecodeError> {
        let mut decoded = Decoded::default();
        decoded.batch.dim = 2;
        let RawRows::Records(records) = &batch.rows else { return Ok(decoded) };
        for record in records {
            let at = record.position;
            // The last but one takes its time, so that there is no room for the last.
            let deadline = Instant::now() + Duration::from_secs(30);
            while at.as_u64() == RECORDS - 2 && self.failing_holds.load(Ordering::Acquire) > 0 {
                assert!(Instant::now() < deadline, "nobody held the last batch");
                std::thread::yield_now();
            }
            decoded.batch.vectors.extend([at.as_u64() as f32, 1.0]);
            decoded.batch.ops.push(Op {
                id: fixture::id(at),
                kind: OpKind::Upsert { payload: Default::default(), event_time_ms: 0 },
                expect: Default::default(),
                position: Some(at),
            });
        }
        Ok(decoded)
    }
}

/// Runs the script to its end; returns the ids that are there.
fn run(failing_holds: u32, failing_rewinds: u32, hole_at: Option<u64>) -> BTreeSet<u64> {
    let dir = tempfile::tempdir().unwrap();
    let shard = Arc::new(fixture::open(dir.path()));
    let (holds, rewinds) =
        (Arc::new(AtomicU32::new(failing_holds)), Arc::new(AtomicU32::new(failing_rewinds)));
    let factory = {
        let (shard, holds, rewinds) = (Arc::clone(&shard), Arc::clone(&holds), Arc::clone(&rewinds));
        move || {
            let (shard, failing_holds, failing_rewinds) =
                (Arc::clone(&shard), Arc::clone(&holds), Arc::clone(&rewinds));
            let mut source = Script { shard, next: 0, failing_holds, failing_rewinds, hole_at };
            source.behind_the_log();
            let decoder = PositionAsId { failing_holds: Arc::clone(&holds) };
            Ok(Parts { source: Box::new(source), decoder: Box::new(decoder), dead_letters: None })
        }
    };
    // Room for one batch, so that every second one is held.
    let bounds = Bounds { in_flight_bytes_max: 4096, freshness_objective: Duration::from_secs(1) };
    let ingest = Ingest::new("p".into(), "c".into(), Arc::clone(&shard), bounds, Arc::new(factory));
    ingest.start().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while ingest.progress().state().0 != PipelineState::Finished {
        assert!(Instant::now() < deadline, "{:?}", ingest.progress().state());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(
        (holds.load(Ordering::Acquire), rewinds.load(Ordering::Acquire)),
        (0, 0),
        "the script was played"
    );
    let snapshot = shard.snapshot();
    let there = (0..RECORDS).filter(|at| crate::query::find(&snapshot, &fixture::id(at)).is_some());
    there.collect()
}

#[test]
fn a_batch_that_is_held_while_the_source_fails_is_not_lost() {
    assert_eq!(run(3, 0, None), (0..RECORDS).collect());
}

#[test]
fn a_rewind_that_fails_is_tried_again() {
    assert_eq!(run(0, 2, Some(RECORDS - 2)), (0..RECORDS).collect());
}

#[test]
fn a_first_batch_that_never_came_is_asked_for_again() {
    assert_eq!(run(0, 0, Some(0)), (0..RECORDS).collect());
}

/// Knows no schema until it is told.
struct Waiting {
    known: Arc<AtomicU32>,
    then: PositionAsId,
}

impl Decoder for Waiting {
    fn decode(&mut self, batch: &RawBatch) -> Result<Decoded, DecodeError> {
        match self.known.load(Ordering::Acquire) {
            0 => Err(DecodeError::SchemaUnavailable {
                schema_id: 7,
                registry: "http://r".into(),
                reason: "it does not know this id".into(),
            }),
            _ => self.then.decode(batch),
        }
    }
}

#[test]
fn a_pipeline_that_waits_for_a_schema_says_so_and_goes_on_once_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let shard = Arc::new(fixture::open(dir.path()));
    let (known, never) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let factory = {
        let (shard, known) = (Arc::clone(&shard), Arc::clone(&known));
        move || {
            let (shard, failing_holds, failing_rewinds) =
                (Arc::clone(&shard), Arc::clone(&never), Arc::clone(&never));
            let mut source = Script { shard, next: 0, failing_holds, failing_rewinds, hole_at: None };
            source.behind_the_log();
            let decoder = Waiting {
                known: Arc::clone(&known),
                then: PositionAsId { failing_holds: Arc::clone(&never) },
            };
            Ok(Parts { source: Box::new(source), decoder: Box::new(decoder), dead_letters: None })
        }
    };
    let bounds = Bounds { in_flight_bytes_max: 1 << 20, freshness_objective: Duration::from_secs(1) };
    let ingest = Ingest::new("p".into(), "c".into(), Arc::clone(&shard), bounds, Arc::new(factory));
    ingest.start().unwrap();
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}: {:?}", ingest.progress().state());
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // All of it is read, and none of it applied.
    until("read", &|| ingest.progress().read.load(Ordering::Acquire) == RECORDS);
    until("waiting", &|| ingest.progress().state().0 == PipelineState::Retrying);
    let (_, reason) = ingest.progress().state();
    assert!(reason.unwrap().starts_with("schema 7 cannot be had from http://r: it does not know this id"));
    assert_eq!(ingest.progress().applied.load(Ordering::Acquire), 0);
    known.store(1, Ordering::Release);
    until("finished", &|| ingest.progress().state().0 == PipelineState::Finished);
    assert_eq!(ingest.progress().applied.load(Ordering::Acquire), RECORDS);
    assert_eq!(ingest.progress().state().1, None);
}
