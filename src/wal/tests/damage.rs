//! Every byte flipped, every length: an error or a clean cut, never wrong data, never a panic (I4).
use std::fs;
use std::path::Path;

use super::*;
use crate::wal::{Damage, Recovered};

/// A log of three files; the last two entries are one group.
fn write_log(dir: &Path) -> Vec<Frame> {
    let mut store = LogStore::open(dir, &small(550)).unwrap().0;
    let frames: Vec<Frame> = [5, 0, 90, 64, 200, 3, 120, 40, 77, 9]
        .iter()
        .zip(1..)
        .map(|(len, lsn)| frame(lsn, 1 + lsn / 4, *len))
        .collect();
    for frame in &frames[..8] {
        append(&mut store, std::slice::from_ref(frame)).unwrap();
        store.sync().unwrap();
    }
    append(&mut store, &frames[8..]).unwrap();
    store.sync().unwrap();
    assert_eq!(all(&store), frames);
    assert_eq!(files(dir).len(), 3);
    frames
}

/// Opens the log; if that works it must accept more, and come back with it.
fn open(dir: &Path, options: &LogOptions) -> Result<(Vec<Frame>, Recovered), WalError> {
    let (mut store, recovered) = LogStore::open(dir, options)?;
    let frames = all(&store);
    let more = frame(store.next().0, 9, 33);
    append(&mut store, std::slice::from_ref(&more)).unwrap();
    drop(store);
    let (store, again) = LogStore::open(dir, options)?;
    assert_eq!(again.cut, None);
    assert_eq!(all(&store), [&frames[..], &[more]].concat());
    Ok((frames, recovered))
}

/// Runs `check` on a fresh copy of the log with one file's bytes replaced.
fn with_bytes(original: &Path, file: &Path, bytes: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(original).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    fs::write(copy.path().join(file.file_name().unwrap()), bytes).unwrap();
    copy
}

/// Where the last frame of the log begins in its file: its body has 9 bytes, so it takes 72.
const LAST_FRAME_BYTES: usize = 72;

#[test]
fn every_flipped_byte_is_an_error_or_cuts_the_last_frame_only() {
    let dir = tempfile::tempdir().unwrap();
    let frames = write_log(dir.path());
    let files = files(dir.path());
    for file in &files {
        let good = fs::read(file).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1 << (byte % 8);
            let copy = with_bytes(dir.path(), file, &bad);
            let in_last_frame = file == &files[2] && byte >= good.len() - LAST_FRAME_BYTES;
            match open(copy.path(), &small(550)) {
                Ok((found, recovered)) => {
                    assert!(in_last_frame, "byte {byte} of {file:?} was not noticed");
                    assert_eq!(found, frames[..9]);
                    assert_eq!(recovered.cut.unwrap().bytes, LAST_FRAME_BYTES as u64);
                }
                Err(WalError::Corrupt { path, byte: at, lsn, damage, .. }) => {
                    assert!(!in_last_frame, "byte {byte} of {file:?}: a tail that may be torn was refused");
                    assert_eq!(path.file_name(), file.file_name(), "{damage}");
                    assert!(at as usize <= byte && lsn.is_some(), "byte {byte} of {file:?}: {at} {damage}");
                }
                Err(other) => panic!("byte {byte} of {file:?}: {other}"),
            }
        }
    }
}

#[test]
fn truncation_at_every_length_is_an_error_or_a_clean_cut() {
    let dir = tempfile::tempdir().unwrap();
    let frames = write_log(dir.path());
    let files = files(dir.path());
    for file in &files {
        let good = fs::read(file).unwrap();
        for len in 0..good.len() {
            let copy = with_bytes(dir.path(), file, &good[..len]);
            match open(copy.path(), &small(550)) {
                Ok((found, recovered)) => {
                    assert_eq!(file, &files[2], "length {len} of {file:?} was not noticed");
                    assert!(frames.starts_with(&found) && found.len() < frames.len());
                    let cut = recovered.cut.map_or(0, |cut| cut.bytes);
                    assert!(cut <= len as u64);
                }
                Err(WalError::Corrupt { .. }) => assert_ne!(file, &files[2], "length {len}"),
                Err(other) => panic!("length {len} of {file:?}: {other}"),
            }
        }
    }
}

#[test]
fn every_flip_and_length_of_the_meta_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path());
    let meta = dir.path().join("log.meta");
    let good = fs::read(&meta).unwrap();
    for byte in 0..good.len() {
        let mut bad = good.clone();
        bad[byte] ^= 0x40;
        for bad in [&bad[..], &good[..byte]] {
            let copy = with_bytes(dir.path(), &meta, bad);
            assert!(matches!(open(copy.path(), &small(550)), Err(WalError::Corrupt { .. })), "byte {byte}");
        }
    }
}

#[test]
fn missing_and_foreign_files_are_named() {
    let damage = |result: Result<_, WalError>| match result {
        Err(WalError::Corrupt { damage, .. }) => damage,
        Err(other) => panic!("{other}"),
        Ok::<(Vec<Frame>, Recovered), _>(_) => panic!("not noticed"),
    };
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path());
    let paths = files(dir.path());
    let first_of =
        |path: &Path| crate::wal::log_file::first_of(path.file_name().unwrap().to_str().unwrap()).unwrap();

    for gone in &paths[..2] {
        let copy = with_bytes(dir.path(), gone, b"");
        fs::remove_file(copy.path().join(gone.file_name().unwrap())).unwrap();
        let expected = first_of(gone);
        assert_eq!(damage(open(copy.path(), &small(550))), Damage::FileMissing { expected });
    }

    let copy = with_bytes(dir.path(), &paths[0], &fs::read(&paths[0]).unwrap());
    fs::remove_file(copy.path().join("log.meta")).unwrap();
    assert_eq!(damage(open(copy.path(), &small(550))), Damage::MetaMissing);

    let other = tempfile::tempdir().unwrap();
    write_log(other.path());
    for path in &paths {
        let name = path.file_name().unwrap();
        let copy = with_bytes(dir.path(), path, &fs::read(other.path().join(name)).unwrap());
        assert_eq!(damage(open(copy.path(), &small(550))), Damage::OtherLog);
    }
    let copy = with_bytes(dir.path(), &paths[1], &fs::read(&paths[2]).unwrap());
    assert_eq!(damage(open(copy.path(), &small(550))), Damage::FileName { header: first_of(&paths[2]) });
}

#[test]
fn garbage_and_zeros_after_the_end_are_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let frames = write_log(dir.path());
    let files = files(dir.path());
    let good = fs::read(&files[2]).unwrap();
    for tail in [&[0u8; 4096][..], &[0xffu8; 33], b"PxFr", &frames[0].body] {
        let copy = with_bytes(dir.path(), &files[2], &[&good[..], tail].concat());
        let (found, recovered) = open(copy.path(), &small(550)).unwrap();
        assert_eq!(found, frames);
        assert_eq!(recovered.cut.unwrap().bytes, tail.len() as u64);
    }
}

#[test]
fn an_unproven_tail_is_cut_only_when_asked_and_a_proven_one_never() {
    let dir = tempfile::tempdir().unwrap();
    let frames = write_log(dir.path());
    let files = files(dir.path());
    let good = fs::read(&files[2]).unwrap();
    let options = LogOptions { cut_unproven_tail: true, ..small(550) };

    // Entry 9 is the first of the last group: only entry 10, of the same group, follows.
    let mut bad = good.clone();
    let last_byte_of_9 = good.len() - LAST_FRAME_BYTES - 8;
    bad[last_byte_of_9] ^= 1;
    let copy = with_bytes(dir.path(), &files[2], &bad);
    let error = open(copy.path(), &small(550)).unwrap_err();
    assert!(
        matches!(error, WalError::Corrupt { lsn: Some(Lsn(9)), followed_by: Some(Lsn(10)), .. }),
        "{error}"
    );
    assert_eq!(open(copy.path(), &options).unwrap().0, frames[..8]);

    // Entry 7 was synced before that group was written.
    let mut bad = good.clone();
    let file_header_and_frame_header = 64 + 56;
    bad[file_header_and_frame_header] ^= 1;
    let copy = with_bytes(dir.path(), &files[2], &bad);
    assert!(matches!(open(copy.path(), &options), Err(WalError::Corrupt { .. })));
}

#[test]
fn a_payload_that_holds_a_copy_of_a_log_is_not_taken_for_frames() {
    let other = tempfile::tempdir().unwrap();
    write_log(other.path());
    let copy_of_a_log = fs::read(&files(other.path())[0]).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path(), &small(1 << 20)).unwrap().0;
    let tricky = Frame { body: copy_of_a_log.into(), ..frame(2, 1, 0) };
    append(&mut store, &[frame(1, 1, 10), tricky]).unwrap();
    drop(store);
    let path = &files(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let at = 64 + 72 + 10;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
    let (found, recovered) = open(dir.path(), &small(1 << 20)).unwrap();
    assert_eq!((found.len(), recovered.entries), (1, 1));
}
