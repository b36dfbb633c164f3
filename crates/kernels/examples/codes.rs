//! What one row of packed codes costs, at every level of this machine.
use std::hint::black_box;
use std::time::Instant;

use proximadb_kernels::codes::{Bits, Kernels};

fn main() {
    let only: Option<String> = std::env::args().nth(1);
    for bits in Bits::ALL {
        for dim in [384usize, 768] {
            let (stride, padded) = (bits.stride(dim), bits.padded_dim(dim));
            let query: Vec<i8> = (0..padded).map(|i| (i * 37 % 255) as u8 as i8).collect();
            let huge = 2usize << 30;
            let mut buffer = proximadb_kernels::huge::HugeBuffer::zeroed(huge).unwrap();
            buffer.as_mut_slice().iter_mut().step_by(4096).for_each(|b| *b = 1);
            let buf = buffer.as_slice();
            for level in Kernels::available() {
                if only.as_ref().is_some_and(|o| o != level.name()) {
                    continue;
                }
                let mut line = format!("{bits:?} {dim} stride {stride} {:>10}: ", level.name());
                for bytes in [16 << 10, 1 << 20, huge] {
                    let rows = bytes / stride;
                    let mut state = 1u64;
                    let mut out = [0; 32];
                    let calls = 20_000.max(0);
                    let idss: Vec<[u32; 32]> = (0..calls)
                        .map(|_| {
                            std::array::from_fn(|_| {
                                state = state
                                    .wrapping_mul(6_364_136_223_846_793_005)
                                    .wrapping_add(1_442_695_040_888_963_407);
                                ((state >> 33) % rows as u64) as u32
                            })
                        })
                        .collect();
                    let mut times: Vec<f64> = Vec::new();
                    for _ in 0..5 {
                        for chunk in idss.chunks(50) {
                            let start = Instant::now();
                            for ids in chunk {
                                level.dot_ids(bits, black_box(&query), &buf[..rows * stride], ids, &mut out);
                                black_box(&out);
                            }
                            times.push(start.elapsed().as_nanos() as f64 / (chunk.len() * 32) as f64);
                        }
                    }
                    times.sort_by(f64::total_cmp);
                    let best = times[times.len() / 4];
                    line += &format!(" {best:7.2}");
                }
                println!("{line}");
            }
        }
    }
}
