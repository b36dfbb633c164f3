//! Damaged files give errors or the answers that were written, never others, and never a panic.
use std::fs;
use std::path::Path;

use roaring::RoaringBitmap;

use super::fixture::{Everything, OwnedRow, read_everything, small_rows, small_tombstones, write};
use crate::store::{Deletes, Segment, SegmentMeta, StoreError};
use crate::types::{ErrorKind, Lsn};

fn check(dir: &Path, meta: &SegmentMeta, original: &Everything, what: &str) {
    match read_everything(dir, meta) {
        Ok(read) => assert_eq!(&read, original, "{what}"),
        Err(error @ (StoreError::Corrupt { .. } | StoreError::Missing { .. })) => {
            assert_eq!(error.kind(), ErrorKind::DataLoss);
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

#[test]
fn no_flipped_byte_gives_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &small_tombstones()).unwrap();
    let original = read_everything(dir.path(), &meta).unwrap();
    for file in meta.files() {
        let path = dir.path().join(&file.name);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            // All the masks at each place would take a minute: the Parquet file has thousands of bytes.
            let masks = [0x01, 0x80, 0xff];
            let masks = if whole.len() < 2000 { &masks[..] } else { &masks[at % 3..=at % 3] };
            for mask in masks {
                let mut bytes = whole.clone();
                bytes[at] ^= mask;
                fs::write(&path, bytes).unwrap();
                let what = format!("{} byte {at} ^ {mask:#x}", file.name);
                check(dir.path(), &meta, &original, &what);
                let segment = Segment::open(dir.path(), &meta);
                let seen = segment.and_then(|segment| segment.verify());
                assert!(seen.is_err(), "verify finds every flip: {what}");
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(read_everything(dir.path(), &meta).unwrap(), original);
}

#[test]
fn no_cut_gives_a_wrong_answer() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &small_tombstones()).unwrap();
    for file in meta.files() {
        let path = dir.path().join(&file.name);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let read = read_everything(dir.path(), &meta);
            assert!(
                matches!(read, Err(StoreError::Corrupt { .. })),
                "{} cut at {length}: {read:?}",
                file.name
            );
        }
        fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(read_everything(dir.path(), &meta).is_err(), "{} with a byte more", file.name);
        fs::remove_file(&path).unwrap();
        let error = read_everything(dir.path(), &meta).unwrap_err();
        assert!(matches!(error, StoreError::Missing { .. }), "{error}");
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn files_of_another_segment_of_the_same_shape_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = small_rows();
    let meta = write(dir.path(), 3, &rows, &[]).unwrap();
    let mut others: Vec<OwnedRow> = rows;
    others.iter_mut().for_each(|row| row.vector[0] += 1.0);
    let other = write(dir.path(), 3, &others, &[]).unwrap();
    for (ours, theirs) in meta.files().into_iter().zip(other.files()) {
        let path = dir.path().join(&ours.name);
        let whole = fs::read(&path).unwrap();
        fs::copy(dir.path().join(&theirs.name), &path).unwrap();
        let read = read_everything(dir.path(), &meta);
        assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{}: {read:?}", ours.name);
        fs::write(&path, whole).unwrap();
    }
    assert!(read_everything(dir.path(), &meta).is_ok());
}

#[test]
fn the_message_says_where_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &[]).unwrap();
    let path = dir.path().join(&meta.vec.name);
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    let segment = Segment::open(dir.path(), &meta).unwrap();
    let error = segment.vectors().unwrap_err().to_string();
    assert!(error.contains(&meta.vec.name) && error.contains("block at byte 64"), "{error}");
    assert!(error.contains("from a replica or a backup"), "{error}");
    assert!(segment.ids().is_ok(), "other files still answer");
}

#[test]
fn damaged_dead_rows_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 3, &small_rows(), &[]).unwrap();
    let deletes = Deletes { rows: RoaringBitmap::from([1, 3]), as_of: Lsn(7) };
    let file = deletes.write(dir.path(), &meta, 1).unwrap();
    let path = dir.path().join(&file.file.name);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= mask;
            fs::write(&path, bytes).unwrap();
            assert!(Deletes::read(dir.path(), &meta, &file).is_err(), "byte {at} ^ {mask:#x}");
        }
        fs::write(&path, &whole[..at]).unwrap();
        assert!(Deletes::read(dir.path(), &meta, &file).is_err(), "cut at {at}");
    }
    // A whole file of an earlier state under this name is not this state.
    let older = Deletes { rows: RoaringBitmap::from([1]), as_of: Lsn(6) };
    let older = older.write(dir.path(), &meta, 2).unwrap();
    fs::copy(dir.path().join(&older.file.name), &path).unwrap();
    assert!(Deletes::read(dir.path(), &meta, &file).is_err());
}
