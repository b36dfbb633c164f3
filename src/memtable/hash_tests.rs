use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::*;
use crate::index::{Run, Scanner, VectorBlock, exact_scan};
use crate::memory::MemoryBudget;
use crate::memtable::BlockBuilder;
use crate::types::{Distance, PointId};

const DIM: usize = 32;

#[test]
fn keeps_the_contract() {
    super::super::contract::suite(|| Box::new(HashMemtable::new()));
}

/// A block of an entry, whose vectors follow from the number of its first row.
fn block(first: usize, rows: usize) -> Block {
    let mut builder = BlockBuilder::new(DIM, rows);
    for row in first..first + rows {
        let id = PointId::text(format!("{row:06}")).unwrap();
        builder.push(id, Lsn(1), 0, Bytes::new());
    }
    let component = |at: usize| (at.wrapping_mul(2_654_435_761) >> 7) % 1000;
    builder.finish((first * DIM..(first + rows) * DIM).map(|at| component(at) as f32 / 1000.0).collect())
}

fn vectors(block: &Block) -> VectorBlock<'_> {
    VectorBlock { dim: DIM, rows: block.vectors(), distance: Distance::L2 }
}

/// The ten nearest of all blocks, by bounds and by all distances.
fn check(blocks: &[Arc<Block>], query: &[f32]) {
    let mut scanner = Scanner::new(query, Distance::L2, 10, None);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for block in blocks {
        let run = Run {
            vectors: vectors(block),
            codes: block.scan_codes(),
            matching: None,
            alive: &|_| true,
            by_id: &|a, b| block.id(a as usize).cmp(block.id(b as usize)),
        };
        let id = |row: u32| block.id(row as usize).as_str();
        let named =
            |hits: Vec<(f32, u32)>| hits.into_iter().map(|hit| (hit.0, id(hit.1))).collect::<Vec<_>>();
        found.extend(named(scanner.scan(run).unwrap().rows));
        expected.extend(named(exact_scan(vectors(block), query, 10, |_| true).rows));
    }
    for hits in [&mut found, &mut expected] {
        hits.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.cmp(b.1)));
        hits.truncate(10);
    }
    assert_eq!(found, expected);
}

#[test]
fn searches_are_exact_while_rows_come_and_blocks_are_merged() {
    let budget = MemoryBudget::new(256 << 20);
    let memtable = HashMemtable::charged(budget.charge(Purpose::Memtables, 0));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (0..24_576).step_by(256) {
                memtable.append(block(first, 256));
            }
            done.store(true, Ordering::Release);
        });
        for query in 0..2 {
            let query: Vec<f32> = (0..DIM).map(|at| ((at * 37 + query * 11) % 10) as f32 / 10.0).collect();
            let (memtable, done) = (&memtable, &done);
            scope.spawn(move || {
                loop {
                    let last = done.load(Ordering::Acquire);
                    check(&memtable.blocks(), &query);
                    if last {
                        return;
                    }
                }
            });
        }
    });
    let blocks = memtable.blocks();
    check(&blocks, &[0.5; DIM]);
    let held: usize = blocks.iter().map(|block| block.scan_codes().bytes()).sum();
    assert!(held > 24_576 * DIM / 2, "{held} bytes of codes");
    assert_eq!(budget.held(Purpose::ScanCodes), held);
    drop((blocks, memtable));
    assert_eq!(budget.total(), 0);
}

#[test]
fn columns_made_for_filters_are_charged_until_they_are_let_go_of() {
    let budget = MemoryBudget::new(256 << 20);
    let memtable = HashMemtable::charged(budget.charge(Purpose::Memtables, 0));
    // As many as are merged into one block.
    for entry in 0..8 {
        let mut builder = BlockBuilder::new(1, 1);
        let id = PointId::text(format!("{entry}")).unwrap();
        builder.push(id, Lsn(entry + 1), 0, Bytes::from(format!("{{\"price\": {entry}}}")));
        memtable.append(builder.finish(vec![0.5]));
    }
    let blocks = memtable.blocks();
    assert_eq!((blocks.len(), budget.held(Purpose::ColumnCaches)), (1, 0));
    let column = blocks[0].column("price").unwrap();
    assert_eq!(column.len(), 8);
    let held = blocks[0].cached_bytes();
    assert!(held >= column.bytes());
    assert_eq!(budget.held(Purpose::ColumnCaches), held);
    assert!(blocks[0].column("absent").is_none());
    assert_eq!(blocks[0].drop_columns(), held);
    assert_eq!((blocks[0].cached_bytes(), budget.held(Purpose::ColumnCaches)), (0, 0));
    let others = budget.charge(Purpose::Graphs, 170 << 20);
    assert_eq!(blocks[0].column("price").unwrap().len(), 8);
    assert_eq!(blocks[0].cached_bytes(), 0, "made and not kept where memory is nearly tight");
    drop(others);
    assert_eq!(blocks[0].column("price").unwrap().len(), 8);
    assert_eq!(blocks[0].cached_bytes(), held);
    drop((blocks, memtable));
    assert_eq!(budget.total(), 0);
}
