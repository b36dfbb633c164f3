//! The disk's own limit: the same bytes, written one behind the other and synced, by nobody but us.
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::Trouble;

/// Bytes per sync: what the log's groups grow to under load.
const CHUNK: usize = 4 << 20;
/// Half a gigabyte in all.
const CHUNKS: usize = 128;

/// MB/s of sequential writes, each synced before the next. Taken before a run: after it the system is still
/// busy with what the server left to write.
pub fn raw_writes(dir: &Path) -> Result<f64, Trouble> {
    // No run of zeroes, which a disk may shorten.
    let chunk: Vec<u8> = (0..CHUNK).map(|i| ((i * 31) >> 3) as u8).collect();
    let path = dir.join("raw");
    let mut file = File::create(&path)?;
    let started = Instant::now();
    for _ in 0..CHUNKS {
        file.write_all(&chunk)?;
        file.sync_data()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok((CHUNKS * CHUNK) as f64 / seconds / 1e6)
}
