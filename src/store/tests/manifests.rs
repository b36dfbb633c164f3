//! Manifests: replaced whole, damaged ones refused; and what collection deletes.
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use roaring::RoaringBitmap;

use super::fixture::{small_rows, small_tombstones, write};
use crate::store::{
    Deletes, Manifest, QuarantineFile, Quarantined, SegmentEntry, SegmentMeta, StoreError, collect_garbage,
};
use crate::types::{Lsn, PartitionPosition, Position, Reject};

fn manifest(version: u64, segments: Vec<SegmentEntry>) -> Manifest {
    let at = PartitionPosition { epoch: 1, position: Some(Position(u128::from(u64::MAX) + 5)) };
    let new = PartitionPosition { epoch: 0, position: None };
    let partitions = BTreeMap::from([("products.v1/0".to_string(), at), ("products.v1/1".to_string(), new)]);
    Manifest {
        version,
        log_term: 3,
        flushed_lsn: Lsn(91),
        segments,
        positions: BTreeMap::from([("products".to_string(), partitions)]),
        watermark_ms: Some(-5),
        counters: BTreeMap::from([("rejected".to_string(), 2)]),
        ..Manifest::default()
    }
}

fn entry(meta: SegmentMeta) -> SegmentEntry {
    SegmentEntry { meta, deletes: None, graph: None, built: None }
}

fn names(dir: &Path) -> HashSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn the_newest_manifest_comes_back_and_three_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Manifest::load(dir.path()).unwrap(), None);
    let meta = write(dir.path(), 3, &small_rows(), &small_tombstones()).unwrap();
    for version in 1..=11 {
        let stored = manifest(version, vec![entry(meta.clone())]);
        stored.store(dir.path()).unwrap();
        assert_eq!(Manifest::load(dir.path()).unwrap(), Some(stored));
    }
    let kept: Vec<u64> = Manifest::load_all(dir.path()).unwrap().iter().map(|kept| kept.version).collect();
    assert_eq!(kept, [9, 10, 11]);
    for version in [10, 11] {
        let error = manifest(version, Vec::new()).store(dir.path()).unwrap_err();
        assert!(error.to_string().contains("version 11 is there already"), "{error}");
    }
}

#[test]
fn a_draft_left_by_a_crash_is_not_read_and_not_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    manifest(1, Vec::new()).store(dir.path()).unwrap();
    fs::write(dir.path().join("manifest-00000000000000000002.json.tmp"), b"half a man").unwrap();
    assert_eq!(Manifest::load(dir.path()).unwrap().unwrap().version, 1);
    manifest(2, Vec::new()).store(dir.path()).unwrap();
    assert_eq!(names(dir.path()).len(), 2);
}

#[test]
fn a_damaged_newest_manifest_is_an_error_and_no_fall_back() {
    let dir = tempfile::tempdir().unwrap();
    let segments = tempfile::tempdir().unwrap();
    let meta = write(segments.path(), 3, &small_rows(), &[]).unwrap();
    for version in 1..=2 {
        manifest(version, vec![entry(meta.clone())]).store(dir.path()).unwrap();
    }
    let path = dir.path().join("manifest-00000000000000000002.json");
    let whole = fs::read(&path).unwrap();
    let check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        match Manifest::load(dir.path()) {
            Err(error @ StoreError::Corrupt { .. }) => {
                let text = error.to_string();
                assert!(
                    text.contains("manifest-00000000000000000002.json") && text.contains("backup"),
                    "{text}"
                );
            }
            other => panic!("{what}: {other:?}"),
        }
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x04;
        check(&bytes, &format!("byte {at}"));
        check(&whole[..at], &format!("cut at {at}"));
    }
    check(&[whole.as_slice(), b"\n"].concat(), "a byte more");
    fs::copy(dir.path().join("manifest-00000000000000000001.json"), &path).unwrap();
    let error = Manifest::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("manifest version 1 under another name"), "{error}");
    assert!(collect_garbage(dir.path(), segments.path(), |_| false).is_err(), "nothing is deleted in doubt");
}

#[test]
fn later_formats_and_unknown_keys_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    manifest(1, Vec::new()).store(dir.path()).unwrap();
    let path = dir.path().join("manifest-00000000000000000001.json");
    let whole = fs::read_to_string(&path).unwrap();
    let (body, _) = whole.split_once("#crc32c").unwrap();
    let reseal = |body: String| fs::write(&path, crate::store::sealed::seal(body).0).unwrap();
    reseal(body.replace("\"format\": 1", "\"format\": 2, \"novelty\": []"));
    let error = Manifest::load(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::VersionUnknown { found: 2, known: 1, .. }), "{error}");
    reseal(body.replace("\"format\": 1", "\"format\": 1, \"novelty\": []"));
    let error = Manifest::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("novelty"), "{error}");
    reseal(body.replace("\"log_term\"", "\"novelty\": 1, \"log_term\""));
    let error = Manifest::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("novelty"), "{error}");
}

#[test]
fn collection_deletes_only_what_no_kept_manifest_and_no_writer_needs() {
    let (dir, segments) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = segments.path();
    let write = || write(at, 3, &small_rows(), &[]).unwrap();
    let (live, old, left, running) = (write(), write(), write(), write());
    let deletes = Deletes { rows: RoaringBitmap::from([1]), as_of: Lsn(7) };
    let named = deletes.write(at, &live, 5).unwrap();
    let unnamed = deletes.write(at, &live, 4).unwrap();
    let reject = Reject {
        partition: "t/0".into(),
        position: 1.into(),
        code: "decode".into(),
        reason: "no".into(),
        key: None,
        value: None,
        timestamp_ms: None,
    };
    let quarantined = [Quarantined { lsn: Lsn(1), source: None, reject }];
    let rejects = QuarantineFile::write(at, &quarantined).unwrap().unwrap();
    let stray = QuarantineFile::write(at, &quarantined).unwrap().unwrap();
    fs::write(at.join("README.txt"), "not ours").unwrap();
    manifest(1, vec![entry(old.clone())]).store(dir.path()).unwrap();
    let mut newest = manifest(2, vec![entry(live.clone())]);
    newest.segments[0].deletes = Some(named.clone());
    newest.quarantine = vec![rejects.clone()];
    newest.store(dir.path()).unwrap();
    let running_id = running.id.to_string();
    let report = collect_garbage(dir.path(), at, |name| name.starts_with(&running_id)).unwrap();
    let mut expected: Vec<String> = left.files().map(|file| file.name.clone()).to_vec();
    expected.extend([unnamed.file.name, stray.file.name]);
    expected.sort();
    assert_eq!(report.deleted, expected);
    assert!(report.bytes > left.bytes());
    let present = names(at);
    for meta in [&live, &old, &running] {
        assert!(meta.files().iter().all(|file| present.contains(&file.name)));
    }
    assert!(present.contains("README.txt") && present.contains(&named.file.name));
    assert!(present.contains(&rejects.file.name));
    // Once the manifest that names it is no longer kept, the old segment goes; nobody writes any more.
    for version in 3..=5 {
        manifest(version, vec![entry(live.clone())]).store(dir.path()).unwrap();
    }
    let report = collect_garbage(dir.path(), at, |_| false).unwrap();
    assert_eq!(report.deleted.len(), 4 + 4 + 2, "old, running, and what only manifest 2 named");
}
