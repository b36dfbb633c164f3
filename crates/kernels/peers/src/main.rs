//! What a row costs: our kernels and numkong's, in cache, at random places in memory, and one after the other,
//! beside what the memory gives to a plain sum in the same run. Prints a table in Markdown.
//!
//! `scripts/bench.sh kernels [FILTER]` runs it. `PEERS_GIB` is how much memory the rows fill (3).
use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use numkong::types::{f16, u1x8};
use numkong::{Dot, Euclidean, Hamming};
use proximadb_kernels::codes::{self, Bits};
use proximadb_kernels::huge::HugeBuffer;
use proximadb_kernels::rows::{bits, bytes, half};
use proximadb_kernels::{distance, hadamard, map, prefetch};

/// Rows of a neighbour list.
const LIST: usize = 32;

/// Bytes of rows that the second cache level holds, with room to spare.
const CACHE_BYTES: usize = 128 << 10;

/// How long each figure is measured.
const TIME: Duration = Duration::from_millis(400);

/// What any kernel here is: the rows of a list by number, or with no list all rows in order. Returns something
/// of the results, so that they are computed.
type Kernel<'a> = Box<dyn FnMut(&[u8], Option<&[u32]>) -> f64 + 'a>;

struct Candidate<'a> {
    name: String,
    /// Bytes of a row.
    stride: usize,
    /// Queries that a call computes; with more than one, only all rows in order.
    queries: usize,
    kernel: Kernel<'a>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let gib: usize = std::env::var("PEERS_GIB").ok().map_or(Ok(3), |text| text.parse())?;
    let mut memory = HugeBuffer::zeroed(gib << 30)?;
    // A moderate number in every format; written, so that each page is one of its own.
    memory.as_mut_slice().fill(0x3f);
    let memory = memory.as_slice();
    println!(
        "levels: codes {}, f32 {}, f16 {}, i8 {}, bits {}; {gib} GiB of rows",
        codes::level(),
        distance::level(),
        half::active().name(),
        bytes::active().name(),
        bits::active().name()
    );
    let limit = stream(memory);
    println!("a plain sum of the memory: {limit:.1} GB/s\n");
    println!("a Hadamard transform of 512 values: {:.0} ns\n", transform());
    println!(
        "| kernel | row, bytes | cache, ns | random, ns | random, GB/s | in order, ns | in order, GB/s | of the plain sum |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for dim in [384, 768] {
        for mut candidate in candidates(dim).into_iter().filter(|one| one.name.contains(&filter)) {
            line(&mut candidate, memory, limit);
        }
    }
    println!("\na plain sum of the memory, again: {:.1} GB/s", stream(memory));
    Ok(())
}

/// Bytes of memory summed in a nanosecond.
fn stream(memory: &[u8]) -> f64 {
    let words = map::as_u64s(memory).unwrap_or_default();
    let pieces = words.chunks(1 << 17).map(|piece| {
        let start = Instant::now();
        black_box(piece.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
        start.elapsed().as_nanos() as f64 / size_of_val(piece) as f64
    });
    1.0 / quartile(pieces.collect())
}

/// Nanoseconds for one transform.
fn transform() -> f64 {
    let mut values = vec![1.0; 512];
    let times = (0..2000).map(|_| {
        values.fill(1.0); // they grow by a factor of 22 each time
        let start = Instant::now();
        (0..16).for_each(|_| hadamard::hadamard(black_box(&mut values)));
        start.elapsed().as_nanos() as f64 / 16.0
    });
    quartile(times.collect())
}

fn line(candidate: &mut Candidate, memory: &[u8], limit: f64) {
    let Candidate { name, stride, queries, kernel } = candidate;
    let (stride, queries) = (*stride, *queries as f64);
    let cached = &memory[..CACHE_BYTES / stride * stride];
    let rows = &memory[..memory.len() / stride * stride];
    // Pieces whose results stay in cache, as a scan that keeps the best takes them.
    let order = in_order(kernel, rows, (1 << 20) / stride * stride, stride) / queries;
    if queries > 1.0 {
        let cache = in_order(kernel, cached, cached.len(), stride) / queries;
        println!("| {name} | {stride} | {cache:.1} | | | {order:.1} | | |");
        return;
    }
    let cache = per_row(kernel, cached, stride);
    let random = per_row(kernel, rows, stride);
    let rate = |ns: f64| stride as f64 / ns;
    println!(
        "| {name} | {stride} | {cache:.1} | {random:.1} | {:.1} | {order:.1} | {:.1} | {:.0} % |",
        rate(random),
        rate(order),
        100.0 * rate(order) / limit
    );
}

/// Nanoseconds for a row of those that lie one after the other, `piece` bytes a call.
fn in_order(kernel: &mut Kernel, rows: &[u8], piece: usize, stride: usize) -> f64 {
    let (mut at, mut times, begin) = (0, Vec::new(), Instant::now());
    while begin.elapsed() < TIME || times.len() < 100 {
        at = if at + piece > rows.len() { 0 } else { at };
        let start = Instant::now();
        black_box(kernel(black_box(&rows[at..at + piece]), None));
        times.push(start.elapsed().as_nanos() as f64 / (piece / stride) as f64);
        at += piece;
    }
    quartile(times)
}

/// Nanoseconds for a row of random lists.
fn per_row(kernel: &mut Kernel, rows: &[u8], stride: usize) -> f64 {
    let (count, mut state) = ((rows.len() / stride) as u64, 1u64);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % count) as u32
    };
    let lists: Vec<[u32; LIST]> = (0..50_000).map(|_| std::array::from_fn(|_| next())).collect();
    let (mut times, begin) = (Vec::new(), Instant::now());
    for lists in lists.chunks(20).cycle() {
        let start = Instant::now();
        for list in lists {
            black_box(kernel(black_box(rows), Some(list)));
        }
        times.push(start.elapsed().as_nanos() as f64 / (lists.len() * LIST) as f64);
        if begin.elapsed() > TIME && times.len() > 100 {
            break;
        }
    }
    quartile(times)
}

/// The lower quartile: what the machine does when others leave it alone.
fn quartile(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 4]
}

fn candidates<'a>(dim: usize) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    let mut add = |name: &str, stride, kernel| {
        all.push(Candidate { name: format!("{name}, {dim} d"), stride, queries: 1, kernel });
    };
    for bits in Bits::ALL {
        let query: Vec<i8> = (0..bits.padded_dim(dim)).map(|i| (i * 37 % 255) as u8 as i8).collect();
        let stride = bits.stride(dim);
        let mut out = Vec::new();
        add(
            &format!("codes of {} bits · i8: ours", bits.count()),
            stride,
            Box::new(move |rows, list| {
                out.resize(list.map_or(rows.len() / stride, <[u32]>::len), 0);
                match list {
                    Some(ids) => codes::dot_ids(bits, &query, rows, ids, &mut out),
                    None => codes::dot_many(bits, &query, rows, &mut out),
                }
                f64::from(out[0])
            }),
        );
    }
    let floats: Vec<f32> = (0..dim).map(|i| (i % 17) as f32).collect();
    let (query, mut out) = (floats.clone(), Vec::new());
    add(
        "f32 l2: ours",
        dim * 4,
        Box::new(move |rows, list| {
            let rows = map::as_f32s(rows).unwrap_or_default();
            out.resize(list.map_or(rows.len() / dim, <[u32]>::len), 0.0);
            match list {
                Some(ids) => distance::l2_squared_ids(&query, rows, ids, &mut out),
                None => distance::l2_squared_many(&query, rows, &mut out),
            }
            f64::from(out[0])
        }),
    );
    let query = floats.clone();
    add(
        "f32 l2: numkong (sums in f64)",
        dim * 4,
        Box::new(move |rows, list| {
            pairs(map::as_f32s(rows).unwrap_or_default(), dim, list, |row| {
                f32::sqeuclidean(&query, row).unwrap_or_default()
            })
        }),
    );
    let query = floats.clone();
    let mut out = Vec::new();
    add(
        "f16 · f32 dot: ours",
        dim * 2,
        Box::new(move |rows, list| {
            let rows = map::as_u16s(rows).unwrap_or_default();
            out.resize(list.map_or(rows.len() / dim, <[u32]>::len), 0.0);
            match list {
                Some(ids) => half::active().dot.ids(&query, rows, ids, &mut out),
                None => half::active().dot.many(&query, rows, &mut out),
            }
            f64::from(out[0])
        }),
    );
    let query: Vec<f16> = floats.iter().map(|&value| f16(half::to_half(value))).collect();
    add(
        "f16 · f16 dot: numkong",
        dim * 2,
        Box::new(move |rows, list| {
            let rows = wrapped::<u16, f16>(map::as_u16s(rows).unwrap_or_default());
            pairs(rows, dim, list, |row| f64::from(f16::dot(&query, row).unwrap_or_default()))
        }),
    );
    let signed: Vec<i8> = (0..dim).map(|i| (i * 37 % 255) as u8 as i8).collect();
    for l2 in [false, true] {
        let form = if l2 { &bytes::active().l2_squared } else { &bytes::active().dot };
        let word = if l2 { "l2" } else { "dot" };
        let (query, mut out) = (signed.clone(), Vec::new());
        add(
            &format!("i8 {word}: ours"),
            dim,
            Box::new(move |rows, list| {
                let rows = map::as_i8s(rows);
                out.resize(list.map_or(rows.len() / dim, <[u32]>::len), 0);
                match list {
                    Some(ids) => form.ids(&query, rows, ids, &mut out),
                    None => form.many(&query, rows, &mut out),
                }
                f64::from(out[0])
            }),
        );
        let query = signed.clone();
        add(
            &format!("i8 {word}: numkong"),
            dim,
            Box::new(move |rows, list| {
                pairs(map::as_i8s(rows), dim, list, |row| match l2 {
                    true => f64::from(i8::sqeuclidean(&query, row).unwrap_or_default()),
                    false => f64::from(i8::dot(&query, row).unwrap_or_default()),
                })
            }),
        );
    }
    let stride = dim / 8;
    let (query, mut out) = (vec![0x55; stride], Vec::new());
    add(
        "bits, Hamming: ours",
        stride,
        Box::new(move |rows, list| {
            out.resize(list.map_or(rows.len() / stride, <[u32]>::len), 0);
            match list {
                Some(ids) => bits::active().l2_squared.ids(&query, rows, ids, &mut out),
                None => bits::active().l2_squared.many(&query, rows, &mut out),
            }
            f64::from(out[0])
        }),
    );
    let query = vec![u1x8(0x55); stride];
    add(
        "bits, Hamming: numkong",
        stride,
        Box::new(move |rows, list| {
            pairs(wrapped::<u8, u1x8>(rows), stride, list, |row| {
                f64::from(u1x8::hamming(&query, row).unwrap_or_default())
            })
        }),
    );
    let (queries, mut out) = (floats.repeat(LIST), Vec::new());
    all.push(Candidate {
        name: format!("f32 l2, {LIST} queries in a block: ours, a pair, {dim} d"),
        stride: dim * 4,
        queries: LIST,
        kernel: Box::new(move |rows, _| {
            let rows = map::as_f32s(rows).unwrap_or_default();
            out.resize(rows.len() / dim * LIST, 0.0);
            distance::l2_squared_block(&queries, rows, dim, &mut out);
            f64::from(out[0])
        }),
    });
    all
}

/// A library's function for pairs in the forms of ours, with the same prefetching.
fn pairs<T>(rows: &[T], dim: usize, list: Option<&[u32]>, of: impl Fn(&[T]) -> f64) -> f64 {
    let row = |id: u32| &rows[id as usize * dim..][..dim];
    let ahead = (4096 / size_of::<T>() / dim).clamp(2, 16);
    match list {
        None => rows.chunks_exact(dim).map(of).sum(),
        Some(ids) => {
            ids.iter().take(ahead).for_each(|&id| prefetch::read(row(id)));
            let one = |(at, &id): (usize, &u32)| {
                ids.get(at + ahead).iter().for_each(|&&id| prefetch::read(row(id)));
                of(row(id))
            };
            ids.iter().enumerate().map(one).sum()
        }
    }
}

/// The library's own name for the same bytes.
fn wrapped<T, W>(values: &[T]) -> &[W] {
    assert!(size_of::<T>() == size_of::<W>() && align_of::<T>() == align_of::<W>());
    // SAFETY: called for `#[repr(transparent)]` wrappers of `T`, of which every value is one.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) }
}
