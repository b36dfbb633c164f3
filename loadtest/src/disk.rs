//! The disk's own limit: the same bytes, written one behind the other and synced, by nobody but us.
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::Trouble;

/// Bytes per sync: what the log's groups grow to under load.
const CHUNK: usize = 4 << 20;

/// MB/s of sequential writes, each synced before the next.
pub fn raw_writes(dir: &Path, bytes: u64) -> Result<f64, Trouble> {
    // No run of zeroes, which a disk may shorten.
    let chunk: Vec<u8> = (0..CHUNK).map(|i| ((i * 31) >> 3) as u8).collect();
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let started = Instant::now();
    let mut left = bytes as usize;
    while left > 0 {
        let now = left.min(CHUNK);
        file.write_all(&chunk[..now])?;
        file.sync_data()?;
        left -= now;
    }
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(bytes as f64 / seconds / 1e6)
}
