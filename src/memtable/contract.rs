//! What every memtable must do; each implementation calls [`suite`].
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{Block, BlockBuilder, Memtable};
use crate::types::{IdHash, Lsn, PointId};

fn block(first: u64, ids: &[u8]) -> Block {
    let mut builder = BlockBuilder::new(2, ids.len());
    for (row, id) in ids.iter().enumerate() {
        let id = PointId::text(id.to_string()).unwrap();
        builder.push(id, Lsn(first), row as i64, Bytes::from(format!("{{\"row\":{row}}}")));
    }
    builder.finish(ids.iter().flat_map(|id| [f32::from(*id), first as f32]).collect())
}

/// Runs the suite over fresh memtables.
pub fn suite(new: impl Fn() -> Box<dyn Memtable>) {
    let mut runner = TestRunner::new(Config::with_cases(64));
    let batches = prop::collection::vec(prop::collection::vec(0_u8..40, 1..60), 1..60);
    runner
        .run(&batches, |batches| {
            agrees_with_a_map(&*new(), &batches);
            Ok(())
        })
        .unwrap();
}

/// Appends batches, each killing what it replaces, and compares with a plain map.
fn agrees_with_a_map(memtable: &dyn Memtable, batches: &[Vec<u8>]) {
    let mut model: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for (batch, ids) in batches.iter().enumerate() {
        let lsn = batch as u64 + 1;
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        for id in &unique {
            if let Some(row) = memtable.latest(&id.to_string(), IdHash::of(&id.to_string())) {
                memtable.kill(row, Lsn(lsn));
            }
        }
        let first = memtable.append(block(lsn, &unique));
        for (row, id) in unique.iter().enumerate() {
            model.insert(id.to_string(), (lsn, first + row as u32));
        }
    }
    let last = Lsn(batches.len() as u64);
    let mut visible = BTreeMap::new();
    let mut number = 0;
    for block in memtable.blocks() {
        for row in 0..block.len() {
            if block.is_visible(row, last) {
                let before = visible.insert(block.id(row).to_string(), (block.born(row).0, number));
                assert!(before.is_none(), "an id shows twice");
                assert_eq!(block.vector(row)[1], block.born(row).0 as f32);
            }
            number += 1;
        }
    }
    assert_eq!(visible, model);
    assert_eq!(memtable.rows(), number as usize);
    for (id, (lsn, row)) in &model {
        assert_eq!(memtable.latest(id, IdHash::of(id)), Some(*row));
        let (block, within) = memtable.locate(*row).unwrap();
        assert_eq!((block.id(within).as_str(), block.born(within)), (id.as_str(), Lsn(*lsn)));
    }
    assert!(memtable.locate(number).is_none());
    assert!(memtable.bytes() > 0 && memtable.since().is_some());
}
