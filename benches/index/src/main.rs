//! ProximaDB's index, and hnsw_rs beside it, for `make bench-index`.
//!
//! ```text
//! proximadb-bench-index proximadb|proximadb-mapped|proximadb-ivf|proximadb-ivf-mapped|hnsw_rs DATA_FOLDER
//! proximadb-bench-index merge DATA_FOLDER [NAME=NUMBER…]       graphs of merged segments, see `merging`
//! proximadb-bench-index cold DATA_FOLDER [NAME=NUMBER…]        searches on vectors that are on the disk, see `cold`
//! ```
//! Reads one command a line from standard input and answers each with one line, both JSON: `build`, `open`,
//! `search`, `filter`. The driver (`run.py`) decides what to ask and scores what comes back; `peers.py`
//! answers the same commands for the libraries with Python packages.
#![forbid(unsafe_code)]

#[cfg(feature = "hnsw_rs")]
mod baseline;
mod cold;
mod commands;
mod data;
mod measure;
mod merging;
mod ours;

use std::error::Error;
use std::io::{BufRead, Write};

/// Whatever went wrong: the driver prints it and gives up on this engine.
pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let engine = arguments.next().ok_or("which engine: proximadb or hnsw_rs?")?;
    let folder = arguments.next().ok_or("which folder holds base.f32 and queries.f32?")?;
    if engine == "merge" {
        return merging::run(folder.as_ref(), arguments);
    }
    if engine == "cold" {
        return cold::run(folder.as_ref(), arguments);
    }
    let mut session = commands::Session::new(&engine, folder.as_ref())?;
    let mut out = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let answer = session.answer(&serde_json::from_str(&line?)?)?;
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}
