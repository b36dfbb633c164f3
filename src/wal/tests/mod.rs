//! Tests of the log as a whole: damage, crashes, full disks, group commit, and a model.
#![allow(clippy::unwrap_used, clippy::panic)]
mod damage;
mod failures;
mod groups;
mod model;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Frame, FrameKind, FrameRef, LogOptions, LogStore, WalError};
use crate::types::Lsn;

/// Small files, and syncs that cost nothing.
fn small(file_bytes_max: u64) -> LogOptions {
    let options = LogOptions { file_bytes_max, ..LogOptions::default() };
    options.faults.sync_is_free.store(true, Ordering::Relaxed);
    options
}

/// An entry whose body depends on its LSN, term and length.
fn frame(lsn: u64, term: u64, len: usize) -> Frame {
    let body: Vec<u8> = (0..len).map(|i| (lsn * 31 + term * 7 + i as u64) as u8).collect();
    let (lsn, body) = (Lsn(lsn), Bytes::from(body));
    Frame { lsn, term, leader: term % 3, kind: FrameKind::Entry, body }
}

fn append(store: &mut LogStore, frames: &[Frame]) -> Result<(), WalError> {
    let frames: Vec<FrameRef<'_>> = frames.iter().map(FrameRef::from).collect();
    store.append(&frames)
}

fn all(store: &LogStore) -> Vec<Frame> {
    store.read(Lsn(0)..Lsn(u64::MAX)).unwrap()
}

/// The log files in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    files.sort();
    files
}
