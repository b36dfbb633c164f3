//! What the log adds to the disk: entries through group commit against the same bytes written and synced raw.
//!
//! Rounds of both alternate, in changing order, and medians are compared, since a neighbour's load hits single
//! rounds; the control syncs as many bytes at once as the log does. `PROXIMADB_BENCH_DIR` names another
//! directory than Cargo's target, `PROXIMADB_BENCH_MIB` another amount per round than 128 MiB.
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proximadb::types::{Entry, PointId, WriteBatch};
use proximadb::wal::{
    BincodeCodec, GroupCommit, GroupHooks, GroupOptions, LogOptions, LogStore, WalCodec, WalError,
};

const ROUNDS: usize = 9;
const PROPOSERS: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let parent = std::env::var_os("PROXIMADB_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let mib: usize =
        std::env::var("PROXIMADB_BENCH_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(128);
    std::fs::create_dir_all(&parent)?;
    println!("in {parent:?}, {ROUNDS} rounds of {mib} MiB each");
    println!("{:>10} {:>12} {:>12} {:>8} {:>12}", "entry", "log MB/s", "raw MB/s", "ratio", "KiB / sync");
    for entry_kib in [4, 64, 512] {
        let body = Bytes::from((0..entry_kib << 10).map(|i| ((i * 31) >> 3) as u8).collect::<Vec<u8>>());
        // Small entries cost by the piece: fewer bytes show as much.
        let count = if entry_kib < 64 { (mib << 10) / 4 / entry_kib } else { (mib << 10) / entry_kib };
        let (mut log, mut raw, mut groups) = (Vec::new(), Vec::new(), 0);
        let mut per_group = (4usize << 20).div_ceil(body.len());
        for round in 0..ROUNDS {
            let dir = tempfile::tempdir_in(&parent)?;
            let control = || written_raw(&dir.path().join("raw"), &body, count, per_group);
            if round % 2 == 0 {
                raw.push(control()?);
            }
            let (time, groups_now) = through_the_log(&dir.path().join("log"), &body, count)?;
            log.push(time);
            if round % 2 == 1 {
                raw.push(control()?);
            }
            groups += groups_now as usize;
            per_group = count.div_ceil(groups_now as usize);
        }
        let bytes = count * body.len();
        let rate = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            bytes as f64 / times[ROUNDS / 2].as_secs_f64() / 1e6
        };
        let (log, raw) = (rate(&mut log), rate(&mut raw));
        let group_kib = (ROUNDS * bytes / groups) >> 10;
        println!("{entry_kib:>6} KiB {log:>12.0} {raw:>12.0} {:>7.0}% {group_kib:>12}", 100.0 * log / raw);
    }
    codec()
}

/// The time until all entries are durable, and how many groups it took.
fn through_the_log(dir: &Path, body: &Bytes, count: usize) -> Result<(Duration, u64), WalError> {
    let store = LogStore::open(dir, &LogOptions::default())?.0;
    let groups = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&groups);
    let hooks = GroupHooks {
        on_durable: Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
        on_failed: Box::new(|(), error| eprintln!("failed: {error}")),
        on_written: None,
    };
    let begun = Instant::now();
    let commit = GroupCommit::start(store, GroupOptions::default(), hooks)?;
    std::thread::scope(|scope| {
        for proposer in 0..PROPOSERS {
            let handle = commit.handle();
            scope.spawn(move || {
                for _ in (proposer..count).step_by(PROPOSERS) {
                    if handle.propose(body.clone(), ()).is_err() {
                        eprintln!("the log closed early");
                    }
                }
            });
        }
    });
    let store = commit.shutdown()?;
    let time = begun.elapsed();
    assert_eq!(store.synced().0, count as u64, "every entry is durable");
    Ok((time, groups.load(Ordering::Relaxed)))
}

/// The same bytes in one file, `per_sync` entries per write and fdatasync.
fn written_raw(path: &Path, body: &Bytes, count: usize, per_sync: usize) -> std::io::Result<Duration> {
    let piece = body.repeat(per_sync);
    let mut left = count * body.len();
    let begun = Instant::now();
    let mut file = File::create(path)?;
    while left > 0 {
        let now = left.min(piece.len());
        file.write_all(&piece[..now])?;
        file.sync_data()?;
        left -= now;
    }
    Ok(begun.elapsed())
}

/// What proposers and recovery pay per byte.
fn codec() -> Result<(), Box<dyn std::error::Error>> {
    for dim in [128, 768] {
        let mut batch = WriteBatch::new(dim);
        let vector: Vec<f32> = (0..dim).map(|i| i as f32 / 7.0).collect();
        for id in 0..256 {
            batch.upsert(
                PointId::integer(id),
                &vector,
                Bytes::from_static(br#"{"lang":"en","year":2024}"#),
                0,
            );
        }
        let entry = Entry { batch, ..Entry::default() };
        let body = BincodeCodec.encode(&entry)?;
        let times = 400;
        let begun = Instant::now();
        for _ in 0..times {
            std::hint::black_box(BincodeCodec.encode(std::hint::black_box(&entry))?);
        }
        let encode = begun.elapsed() / times;
        let begun = Instant::now();
        for _ in 0..times {
            std::hint::black_box(BincodeCodec.decode(std::hint::black_box(&body))?);
        }
        let decode = begun.elapsed() / times;
        let rate = |time: Duration| body.len() as f64 / time.as_secs_f64() / 1e6;
        let (encode, decode) = (rate(encode), rate(decode));
        println!("codec, 256 rows of {dim} dimensions: encode {encode:.0} MB/s, decode {decode:.0} MB/s");
    }
    Ok(())
}
