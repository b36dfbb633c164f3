//! Full disks, failed syncs, crashes between steps: what stays usable and what does not (I3, I5, I6).
use std::fs;

use super::*;
use crate::types::ErrorKind;
use crate::wal::{LogMark, Vote};

#[test]
fn a_full_disk_refuses_appends_keeps_reads_and_recovers_with_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(600);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    append(&mut store, &[frame(1, 1, 100)]).unwrap();
    store.sync().unwrap();
    // Wherever in the group the room ends: in a header, in a body, between two frames.
    for room in 0..300 {
        options.faults.room.store(room, Ordering::Relaxed);
        let error = append(&mut store, &[frame(2, 1, 100), frame(3, 1, 100)]).unwrap_err();
        assert!(matches!(error, WalError::Full { .. }) && error.kind() == ErrorKind::Unavailable, "{error}");
        assert_eq!(all(&store), [frame(1, 1, 100)]);
        assert_eq!(store.last().unwrap().lsn, Lsn(1));
    }
    options.faults.room.store(u64::MAX, Ordering::Relaxed);
    append(&mut store, &[frame(2, 1, 50)]).unwrap();
    store.sync().unwrap();
    drop(store);
    let (store, recovered) = LogStore::open(dir.path(), &options).unwrap();
    assert_eq!((all(&store), recovered.cut), (vec![frame(1, 1, 100), frame(2, 1, 50)], None));
}

#[test]
fn a_disk_that_is_full_when_a_file_should_begin_leaves_nothing_in_the_way() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(200);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    append(&mut store, &[frame(1, 1, 100)]).unwrap();
    for room in [0, 10, 64, 80] {
        options.faults.room.store(room, Ordering::Relaxed);
        assert!(matches!(append(&mut store, &[frame(2, 1, 100)]), Err(WalError::Full { .. })));
    }
    options.faults.room.store(u64::MAX, Ordering::Relaxed);
    // The log may now take another way: entry 1 goes, and what replaces it begins elsewhere.
    store.truncate_suffix(Lsn(1)).unwrap();
    append(&mut store, &[frame(1, 2, 10)]).unwrap();
    append(&mut store, &[frame(2, 2, 10)]).unwrap();
    drop(store);
    let store = LogStore::open(dir.path(), &options).unwrap().0;
    assert_eq!(all(&store), [frame(1, 2, 10), frame(2, 2, 10)]);
}

#[test]
fn a_failed_sync_poisons_for_good_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(1000);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    append(&mut store, &[frame(1, 1, 10)]).unwrap();
    store.sync().unwrap();
    append(&mut store, &[frame(2, 1, 10)]).unwrap();
    options.faults.sync_fails.store(true, Ordering::Relaxed);
    assert!(matches!(store.sync(), Err(WalError::SyncFailed { .. })));
    options.faults.sync_fails.store(false, Ordering::Relaxed);
    assert!(matches!(store.sync(), Err(WalError::Poisoned { .. })));
    assert!(matches!(append(&mut store, &[frame(3, 1, 10)]), Err(WalError::Poisoned { .. })));
    assert!(matches!(store.truncate_suffix(Lsn(2)), Err(WalError::Poisoned { .. })));
    let vote = Vote { term: 1, node: 1, committed: false };
    assert!(matches!(store.save_vote(vote), Err(WalError::Poisoned { .. })));
    assert_eq!(store.synced(), Lsn(1));
    assert_eq!(all(&store).len(), 2);
}

#[test]
fn a_write_that_can_not_be_undone_poisons() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(1000);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    append(&mut store, &[frame(1, 1, 10)]).unwrap();
    options.faults.room.store(20, Ordering::Relaxed);
    options.faults.cut_fails.store(true, Ordering::Relaxed);
    assert!(matches!(append(&mut store, &[frame(2, 1, 10)]), Err(WalError::Poisoned { .. })));
    assert!(store.poisoned().unwrap().contains("no room"));
}

#[test]
fn a_crash_between_purge_mark_and_removals_is_finished_at_open() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(150);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    for lsn in 1..=9 {
        append(&mut store, &[frame(lsn, 1, 60)]).unwrap();
    }
    store.sync().unwrap();
    let before: Vec<(PathBuf, Vec<u8>)> =
        files(dir.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    store.purge_prefix(Lsn(5)).unwrap();
    let kept = all(&store);
    assert_eq!(kept[0].lsn, Lsn(6));
    drop(store);
    // Any subset of the removals may have been lost.
    for lost in 0..before.len() {
        for (path, bytes) in before.iter().skip(lost) {
            fs::write(path, bytes).unwrap();
        }
        let (store, recovered) = LogStore::open(dir.path(), &options).unwrap();
        assert_eq!((all(&store), recovered.first), (kept.clone(), Lsn(6)));
    }
}

#[test]
fn purging_everything_and_beyond_leaves_a_log_that_goes_on_behind_the_mark() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(1000);
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    append(&mut store, &[frame(1, 1, 60), frame(2, 1, 60)]).unwrap();
    store.sync().unwrap();
    store.purge_prefix(Lsn(2)).unwrap();
    assert!(files(dir.path()).is_empty());
    assert_eq!(store.last().unwrap().lsn, Lsn(2));
    append(&mut store, &[frame(3, 1, 60)]).unwrap();
    assert!(matches!(store.purge_prefix(Lsn(9)), Err(WalError::OutOfRange { .. })));
    let mark = LogMark { term: 4, leader: 2, lsn: Lsn(9) };
    store.purge_to(mark).unwrap();
    drop(store);
    let (mut store, recovered) = LogStore::open(dir.path(), &options).unwrap();
    assert_eq!((recovered.last, store.purged(), store.next()), (Some(mark), Some(mark), Lsn(10)));
    append(&mut store, &[frame(10, 4, 60)]).unwrap();
    assert_eq!(store.last().unwrap().lsn, Lsn(10));
}

#[test]
fn appends_must_continue_the_log_and_fit() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { entry_bytes_max: 100, ..small(1000) };
    let mut store = LogStore::open(dir.path(), &options).unwrap().0;
    assert!(matches!(
        append(&mut store, &[frame(2, 1, 1)]),
        Err(WalError::OutOfOrder { expected: Lsn(1), .. })
    ));
    append(&mut store, &[frame(1, 1, 100)]).unwrap();
    for wrong in [[frame(1, 1, 1), frame(2, 1, 1)], [frame(2, 1, 1), frame(4, 1, 1)]] {
        assert!(matches!(append(&mut store, &wrong), Err(WalError::OutOfOrder { .. })));
    }
    let error = append(&mut store, &[frame(2, 1, 101)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(error.to_string(), "entry has 101 bytes, the log takes at most 100; split it");
}

#[test]
fn a_log_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), &small(1000)).unwrap().0;
    assert!(matches!(LogStore::open(dir.path(), &small(1000)), Err(WalError::Locked { .. })));
    drop(store);
    LogStore::open(dir.path(), &small(1000)).unwrap();
}

#[test]
fn reads_are_bounded_and_replay_sees_everything() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = LogStore::open(dir.path(), &small(1000)).unwrap().0;
    let frames: Vec<Frame> = (1..=40).map(|lsn| frame(lsn, 1, 100)).collect();
    for group in frames.chunks(3) {
        append(&mut store, group).unwrap();
    }
    assert!(files(dir.path()).len() > 3);
    assert_eq!(store.read(Lsn(7)..Lsn(30)).unwrap(), frames[6..29]);
    assert_eq!(store.read(Lsn(40)..Lsn(99)).unwrap(), frames[39..]);
    assert!(store.read(Lsn(41)..Lsn(99)).unwrap().is_empty());
    for bytes_max in [0, 1, 100, 160, 161, 500, 5000] {
        let mut at = Lsn(1);
        let mut seen = Vec::new();
        while at < store.next() {
            let some = store.read_some(at..store.next(), bytes_max).unwrap();
            assert!(!some.is_empty() && some.len() as u64 <= 2 + bytes_max / 160);
            at = some.last().unwrap().lsn.next();
            seen.extend(some);
        }
        assert_eq!(seen, frames);
    }
    let mut seen = Vec::new();
    store
        .replay(Lsn(3), |frame| {
            seen.push(frame);
            Ok::<(), WalError>(())
        })
        .unwrap();
    assert_eq!(seen, frames[2..]);
}
