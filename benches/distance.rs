//! Distance kernels: what one row costs, in cache and out of it, at every level of this machine.
//!
//! `cargo bench --bench distance`; the times of `memory_*` are per call of 32 rows, as a graph walk
//! makes them. Compare levels with each other, not machines.
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use proximadb_kernels::distance::Kernels;

/// Rows of a neighbour list.
const IDS: usize = 32;

/// Bytes of rows that no cache holds.
const MEMORY_BYTES: usize = 1 << 30;

fn main() {
    divan::main();
}

fn levels() -> Vec<&'static str> {
    Kernels::available().map(Kernels::name).collect()
}

fn kernels(level: &str) -> &'static Kernels {
    Kernels::of(level).expect("only available levels are benchmarked")
}

fn values(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 1000.0).collect()
}

#[divan::bench(args = levels(), consts = [384, 768])]
fn cache_dot_many<const DIM: usize>(bencher: Bencher, level: &str) {
    let (kernels, query, rows) = (kernels(level), values(DIM), values(DIM * IDS));
    let mut out = [0.0; IDS];
    bencher.counter(ItemsCount::new(IDS)).bench_local(|| {
        kernels.dot_many(black_box(&query), black_box(&rows), &mut out);
        out[0]
    });
}

#[divan::bench(args = levels(), consts = [384, 768])]
fn cache_l2_many<const DIM: usize>(bencher: Bencher, level: &str) {
    let (kernels, query, rows) = (kernels(level), values(DIM), values(DIM * IDS));
    let mut out = [0.0; IDS];
    bencher.counter(ItemsCount::new(IDS)).bench_local(|| {
        kernels.l2_squared_many(black_box(&query), black_box(&rows), &mut out);
        out[0]
    });
}

#[divan::bench(args = levels(), consts = [384, 768])]
fn memory_l2_ids<const DIM: usize>(bencher: Bencher, level: &str) {
    let count = MEMORY_BYTES / 4 / DIM;
    let (kernels, query, rows) = (kernels(level), values(DIM), vec![0.5; count * DIM]);
    let (mut ids, mut out, mut state) = ([0u32; IDS], [0.0; IDS], 1u64);
    bencher.counter(ItemsCount::new(IDS)).bench_local(|| {
        for id in &mut ids {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *id = ((state >> 33) % count as u64) as u32;
        }
        kernels.l2_squared_ids(black_box(&query), &rows, &ids, &mut out);
        out[0]
    });
}
