//! Group commit: order, durability, failures, backpressure, shutdown.
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::wal::{Durable, GroupCommit, GroupHooks, GroupOptions};

type Failed = (u64, Arc<WalError>);

/// A log thread whose hooks report through channels.
fn start(
    store: LogStore,
    options: GroupOptions,
) -> (GroupCommit<u64>, Receiver<Vec<Durable<u64>>>, Receiver<Failed>) {
    let (durable_in, durable) = bounded(100_000);
    let (failed_in, failed) = bounded(100_000);
    let hooks = GroupHooks {
        on_durable: Box::new(move |group| durable_in.send(group).unwrap()),
        on_failed: Box::new(move |tag, error| failed_in.send((tag, error)).unwrap()),
        on_written: None,
    };
    (GroupCommit::start(store, options, hooks).unwrap(), durable, failed)
}

fn body(tag: u64) -> Bytes {
    frame(tag, 1, 50).body
}

#[test]
fn proposals_from_many_threads_come_out_once_in_lsn_order_and_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(10_000);
    let store = LogStore::open(dir.path(), &options).unwrap().0;
    let (commit, durable, failed) = start(store, GroupOptions { term: 3, ..GroupOptions::default() });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let handle = commit.handle();
            scope.spawn(move || {
                for i in 0..250 {
                    let tag = thread * 1000 + i;
                    handle.propose(body(tag), tag).unwrap();
                }
            });
        }
    });
    let handle = commit.handle();
    let store = commit.shutdown().unwrap();
    assert!(failed.is_empty());
    let entries: Vec<Durable<u64>> = durable.try_iter().flatten().collect();
    assert!(entries.iter().map(|entry| entry.lsn.0).eq(1..=1000));
    for thread in 0..4 {
        let of_thread = entries.iter().map(|entry| entry.tag).filter(|tag| tag / 1000 == thread);
        assert!(of_thread.eq(thread * 1000..thread * 1000 + 250), "a proposer's own order is kept");
    }
    assert_eq!(handle.durable_lsn(), Lsn(1000));
    let rejected = handle.propose(body(1), 77).unwrap_err();
    assert!(rejected.tag == 77 && rejected.body == body(1) && matches!(rejected.error, WalError::Closed));

    drop(store);
    let store = LogStore::open(dir.path(), &options).unwrap().0;
    for (entry, found) in entries.iter().zip(all(&store)) {
        assert_eq!((entry.lsn, 3, &entry.body), (found.lsn, found.term, &found.body));
        assert_eq!(entry.body, body(entry.tag));
    }
}

#[test]
fn a_full_disk_fails_the_group_and_the_next_one_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(10_000);
    let store = LogStore::open(dir.path(), &options).unwrap().0;
    let (commit, durable, failed) = start(store, GroupOptions::default());
    let handle = commit.handle();
    options.faults.room.store(100, Ordering::Relaxed);
    handle.propose(body(1), 1).unwrap();
    let (tag, error) = failed.recv_timeout(Duration::from_secs(9)).unwrap();
    assert!(tag == 1 && matches!(*error, WalError::Full { .. }));
    options.faults.room.store(u64::MAX, Ordering::Relaxed);
    handle.propose(body(2), 2).unwrap();
    let group = durable.recv_timeout(Duration::from_secs(9)).unwrap();
    assert_eq!((group[0].tag, group[0].lsn), (2, Lsn(1)));
    assert_eq!(handle.read(Lsn(0)..Lsn(9), 1000).unwrap().len(), 1);
}

#[test]
fn after_a_failed_sync_everything_fails_and_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let options = small(10_000);
    let store = LogStore::open(dir.path(), &options).unwrap().0;
    let (commit, durable, failed) = start(store, GroupOptions::default());
    let handle = commit.handle();
    handle.propose(body(1), 1).unwrap();
    durable.recv_timeout(Duration::from_secs(9)).unwrap();
    options.faults.sync_fails.store(true, Ordering::Relaxed);
    handle.propose(body(2), 2).unwrap();
    let (_, error) = failed.recv_timeout(Duration::from_secs(9)).unwrap();
    assert!(matches!(*error, WalError::SyncFailed { .. }));
    options.faults.sync_fails.store(false, Ordering::Relaxed);
    handle.propose(body(3), 3).unwrap();
    let (_, error) = failed.recv_timeout(Duration::from_secs(9)).unwrap();
    assert!(matches!(*error, WalError::Poisoned { .. }));
    assert!(handle.poisoned().is_some());
    assert_eq!(handle.durable_lsn(), Lsn(1));
    assert!(durable.is_empty());
}

#[test]
fn a_blocked_outbox_fills_the_queue_and_turns_proposals_away() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), &small(10_000)).unwrap().0;
    let (gate_in, gate) = crossbeam_channel::bounded::<()>(0);
    let (seen_in, seen) = bounded(100_000);
    let hooks = GroupHooks {
        on_durable: Box::new(move |group: Vec<Durable<u64>>| {
            for entry in group {
                gate.recv().unwrap();
                seen_in.send(entry.tag).unwrap();
            }
        }),
        on_failed: Box::new(|_, _| {}),
        on_written: None,
    };
    let options = GroupOptions { queue_bytes_max: 120, group_count_max: 1, ..GroupOptions::default() };
    let commit = GroupCommit::start(store, options, hooks).unwrap();
    let handle = commit.handle();
    // One is stuck in the outbox, two wait in the queue, the fourth has no room.
    let mut accepted = 0;
    let rejected = loop {
        match handle.try_propose(body(accepted), accepted) {
            Ok(()) => accepted += 1,
            Err(rejected) => break rejected,
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(matches!(rejected.error, WalError::Busy));
    assert_eq!(accepted, 3);
    for _ in 0..3 {
        gate_in.send(()).unwrap();
    }
    drop(commit);
    assert!(seen.try_iter().eq(0..3), "shutting down drains the queue");
}

#[test]
fn written_comes_before_durable_and_purges_wait_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), &small(300)).unwrap().0;
    let (events_in, events) = bounded(100_000);
    let written_in = events_in.clone();
    let hooks = GroupHooks {
        on_durable: Box::new(move |group: Vec<Durable<u64>>| {
            group.iter().for_each(|entry| events_in.send(("durable", entry.tag)).unwrap());
        }),
        on_failed: Box::new(|_, _| {}),
        on_written: Some(Box::new(move |group| {
            group.iter().for_each(|entry| written_in.send(("written", entry.tag)).unwrap());
        })),
    };
    let commit = GroupCommit::start(store, GroupOptions::default(), hooks).unwrap();
    let handle = commit.handle();
    for tag in 1..=6 {
        handle.propose(body(tag), tag).unwrap();
    }
    handle.purge(Lsn(5)).unwrap();
    assert_eq!(handle.read(Lsn(0)..Lsn(99), u64::MAX).unwrap().len(), 1);
    let events: Vec<_> = events.try_iter().collect();
    for tag in 1..=6 {
        let at = |what| events.iter().position(|event| *event == (what, tag)).unwrap();
        assert!(at("written") < at("durable"));
    }
    let too_large = handle.propose(Bytes::from(vec![0; (64 << 20) + 1]), 9).unwrap_err();
    assert!(matches!(too_large.error, WalError::EntryTooLarge { .. }));
}

#[test]
fn a_hook_that_panics_closes_the_log_instead_of_hanging_proposers() {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), &small(300)).unwrap().0;
    let hooks = GroupHooks::<u64> {
        on_durable: Box::new(|_| panic!("on purpose")),
        on_failed: Box::new(|_, _| {}),
        on_written: None,
    };
    let commit = GroupCommit::start(store, GroupOptions::default(), hooks).unwrap();
    let handle = commit.handle();
    handle.propose(body(1), 1).unwrap();
    assert!(matches!(handle.run(|_| ()), Err(WalError::Closed)));
    // The queue closes while the thread unwinds; what slips in before that is dropped with it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match handle.try_propose(body(2), 2) {
            Err(refused) if matches!(refused.error, WalError::Closed) => break,
            _ => assert!(std::time::Instant::now() < deadline, "the queue stays open"),
        }
        std::thread::yield_now();
    }
    assert!(matches!(commit.shutdown(), Err(WalError::Closed)));
}
