//! Exact search of rows that are in no graph: all floats, and by the bounds of codes; one core and two.
//!
//! `cargo bench --bench scan`: 100,000 rows of 768 and 1,000,000 of 128, in groups as embeddings are. `read` is a
//! plain sum of the same floats: what the memory gives. With two threads each searches for itself, as under load; in
//! `halves` two threads share one search. `code` is what coding a row costs, once.
use std::sync::LazyLock;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use proximadb::index::{Run, ScanCodes, Scanner, VectorBlock, exact_scan};
use proximadb::types::Distance;
use proximadb_kernels::distance::normalize;

const K: usize = 10;
/// Groups that rows lie in, and how far from the middle, beside the middle's own length of about 1.
const CENTRES: usize = 256;
const SPREAD: f32 = 0.4;
const QUERIES: usize = 32;

fn main() {
    divan::main();
}

/// Rows, the same by halves, and their codes.
struct Rows {
    dim: usize,
    rows: Vec<f32>,
    queries: Vec<f32>,
    codes: ScanCodes,
    halves: [ScanCodes; 2],
}

static WIDE: LazyLock<Rows> = LazyLock::new(|| Rows::new(100_000, 768));
static NARROW: LazyLock<Rows> = LazyLock::new(|| Rows::new(1_000_000, 128));

fn rows(name: &str) -> &'static Rows {
    if name == "100k x 768" { &WIDE } else { &NARROW }
}

const NAMES: [&str; 2] = ["100k x 768", "1M x 128"];

impl Rows {
    fn new(count: usize, dim: usize) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut normal = || {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
            let parts = (0..4).map(|at| (bits >> (16 * at) & 0xffff) as f32 / 65536.0 - 0.5);
            parts.sum::<f32>() * 1.732
        };
        let centres: Vec<f32> = (0..CENTRES * dim).map(|_| normal()).collect();
        let mut grouped = |count: usize| {
            let mut rows = Vec::with_capacity(count * dim);
            for at in 0..count {
                let centre = centres[at * 7919 % CENTRES * dim..].iter().take(dim);
                let mut row: Vec<f32> = centre.map(|x| x + SPREAD * normal()).collect();
                normalize(&mut row);
                rows.append(&mut row);
            }
            rows
        };
        let (rows, queries) = (grouped(count), grouped(QUERIES));
        let all = Self { dim, rows, queries, codes: ScanCodes::default(), halves: Default::default() };
        for (codes, rows) in
            [(&all.codes, &all.rows[..])].into_iter().chain(all.halves.iter().zip(all.split()))
        {
            let mut before = None;
            while before != Some(codes.bytes()) {
                before = Some(codes.bytes());
                all.scan(codes, rows, 0);
            }
        }
        all
    }

    fn block<'a>(&self, rows: &'a [f32]) -> VectorBlock<'a> {
        VectorBlock { dim: self.dim, rows, distance: Distance::Cosine }
    }

    fn split(&self) -> [&[f32]; 2] {
        let (left, right) = self.rows.split_at(self.rows.len() / 2);
        [left, right]
    }

    fn query(&self, at: usize) -> &[f32] {
        &self.queries[at % QUERIES * self.dim..][..self.dim]
    }

    fn scan(&self, codes: &ScanCodes, rows: &[f32], at: usize) -> Vec<(f32, u32)> {
        let run = Run {
            vectors: self.block(rows),
            codes,
            matching: None,
            alive: &|_| true,
            by_id: &|a, b| a.cmp(&b),
        };
        Scanner::new(self.query(at), Distance::Cosine, K, None).scan(run).expect("there is no deadline").rows
    }
}

#[divan::bench(args = NAMES, threads = [1, 2], sample_count = 50)]
fn read(bencher: Bencher, name: &str) {
    let rows = rows(name);
    bencher.counter(BytesCount::of_slice(&rows.rows)).bench(|| {
        let mut sums = [0.0f32; 32];
        for block in rows.rows.as_chunks::<32>().0 {
            sums.iter_mut().zip(block).for_each(|(sum, x)| *sum += x);
        }
        black_box(sums)
    });
}

#[divan::bench(args = NAMES, threads = [1, 2], sample_count = 50)]
fn all_floats(bencher: Bencher, name: &str) {
    let rows = rows(name);
    let at = std::sync::atomic::AtomicUsize::new(0);
    bencher.counter(BytesCount::of_slice(&rows.rows)).bench(|| {
        let at = at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        exact_scan(rows.block(&rows.rows), rows.query(at), K, |_| true).rows
    });
}

#[divan::bench(args = NAMES, threads = [1, 2], sample_count = 100)]
fn by_bounds(bencher: Bencher, name: &str) {
    let rows = rows(name);
    let at = std::sync::atomic::AtomicUsize::new(0);
    bencher.counter(BytesCount::new(rows.codes.bytes())).bench(|| {
        let at = at.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        rows.scan(&rows.codes, &rows.rows, at)
    });
}

#[divan::bench(args = NAMES, sample_count = 100)]
fn halves(bencher: Bencher, name: &str) {
    let rows = rows(name);
    let mut at = 0;
    bencher.counter(BytesCount::new(rows.codes.bytes())).bench_local(|| {
        at += 1;
        let [left, right] = rows.split();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| rows.scan(&rows.halves[1], right, at));
            (rows.scan(&rows.halves[0], left, at), other.join())
        })
    });
}

#[divan::bench(args = NAMES, sample_count = 50)]
fn code(bencher: Bencher, name: &str) {
    let rows = rows(name);
    // As many as one search may code of a short run.
    let few = &rows.rows[..(1 << 20) / rows.dim / 512 * 512 * rows.dim];
    bencher.counter(ItemsCount::new(few.len() / rows.dim)).bench(|| {
        let codes = ScanCodes::default();
        rows.scan(&codes, few, 0);
        codes.bytes()
    });
}
