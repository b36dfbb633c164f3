//! openraft's own suite for log storages, and what it does not ask: restarts.
#![allow(clippy::unwrap_used)]
use std::io::Cursor;
use std::sync::Arc;

use openraft::storage::{RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{RaftSnapshotBuilder, Snapshot, SnapshotMeta, StoredMembership};
use parking_lot::Mutex;

use super::*;
use crate::wal::{GroupCommit, GroupHooks, GroupOptions, LogOptions, LogStore};

openraft::declare_raft_types!(
    /// Types as small as the suite allows.
    TestTypes: D = Bytes, R = ()
);
type State = (Option<LogId<u64>>, StoredMembership<u64, openraft::BasicNode>);

/// Remembers where it is, in memory; clones share what they remember.
#[derive(Debug, Default, Clone)]
struct TestMachine(Arc<Mutex<TestState>>);
#[derive(Debug, Default)]
struct TestState {
    state: State,
    snapshot: Option<(SnapshotMeta<u64, openraft::BasicNode>, Vec<u8>)>,
    snapshots: u64,
}

impl RaftSnapshotBuilder<TestTypes> for TestMachine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TestTypes>, StorageError<u64>> {
        let mut inner = self.0.lock();
        inner.snapshots += 1;
        let meta = SnapshotMeta {
            last_log_id: inner.state.0,
            last_membership: inner.state.1.clone(),
            snapshot_id: inner.snapshots.to_string(),
        };
        let bytes = serde_json::to_vec(&inner.state).unwrap();
        inner.snapshot = Some((meta.clone(), bytes.clone()));
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) })
    }
}

impl RaftStateMachine<TestTypes> for TestMachine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<State, StorageError<u64>> {
        Ok(self.0.lock().state.clone())
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TestTypes>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut inner = self.0.lock();
        let mut replies = Vec::new();
        for entry in entries {
            inner.state.0 = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                inner.state.1 = StoredMembership::new(Some(entry.log_id), membership);
            }
            replies.push(());
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, openraft::BasicNode>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError<u64>> {
        let bytes = snapshot.into_inner();
        let mut inner = self.0.lock();
        inner.state = serde_json::from_slice(&bytes).unwrap();
        inner.snapshot = Some((meta.clone(), bytes));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TestTypes>>, StorageError<u64>> {
        let snapshot = self.0.lock().snapshot.clone();
        Ok(snapshot.map(|(meta, bytes)| Snapshot { meta, snapshot: Box::new(Cursor::new(bytes)) }))
    }
}

fn start(dir: &std::path::Path) -> GroupCommit<()> {
    // Small files, so that the suite's hundred entries roll, truncate and purge several.
    let options = LogOptions { file_bytes_max: 1000, ..LogOptions::default() };
    let store = LogStore::open(dir, &options).unwrap().0;
    let hooks = GroupHooks {
        on_durable: Box::new(|_| unreachable!("everything comes through Raft")),
        on_failed: Box::new(|(), _| {}),
        on_written: None,
    };
    GroupCommit::start(store, GroupOptions::default(), hooks).unwrap()
}

struct Builder;
impl StoreBuilder<TestTypes, RaftLog<TestTypes, ()>, TestMachine, (GroupCommit<()>, tempfile::TempDir)>
    for Builder
{
    async fn build(
        &self,
    ) -> Result<((GroupCommit<()>, tempfile::TempDir), RaftLog<TestTypes, ()>, TestMachine), StorageError<u64>>
    {
        let dir = tempfile::tempdir().unwrap();
        let commit = start(dir.path());
        let log = RaftLog::new(commit.handle());
        Ok(((commit, dir), log, TestMachine::default()))
    }
}

#[test]
fn the_log_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test]
async fn what_raft_was_told_is_durable_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let entry = |term, index, payload| Entry::<TestTypes> {
        log_id: LogId::new(CommittedLeaderId::new(term, 3), index),
        payload,
    };
    let nodes = std::collections::BTreeMap::from([(3, openraft::BasicNode::new("here:1"))]);
    let membership = Membership::new(vec![[3].into()], nodes);
    let entries = vec![
        entry(1, 0, EntryPayload::Membership(membership)),
        entry(1, 1, EntryPayload::Blank),
        entry(2, 2, EntryPayload::Normal(Bytes::from_static(b"rows"))),
        entry(2, 3, EntryPayload::Normal(Bytes::from_static(b"more rows"))),
    ];

    let commit = start(dir.path());
    let mut log = RaftLog::<TestTypes, ()>::new(commit.handle());
    log.save_vote(&openraft::Vote::new_committed(2, 3)).await.unwrap();
    log.blocking_append(entries.clone()).await.unwrap();
    log.truncate(entries[3].log_id).await.unwrap();
    log.purge(entries[0].log_id).await.unwrap();
    drop(commit);
    assert!(log.read_vote().await.is_err(), "the log thread is gone, which is an error and not a hang");

    let commit = start(dir.path());
    let mut log = RaftLog::<TestTypes, ()>::new(commit.handle());
    assert_eq!(log.read_vote().await.unwrap(), Some(openraft::Vote::new_committed(2, 3)));
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(entries[0].log_id));
    assert_eq!(state.last_log_id, Some(entries[2].log_id));
    let found = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(
        found.iter().map(|entry| entry.log_id).collect::<Vec<_>>(),
        [entries[1].log_id, entries[2].log_id]
    );
    assert!(matches!(&found[1].payload, EntryPayload::Normal(body) if body == "rows"));
}
