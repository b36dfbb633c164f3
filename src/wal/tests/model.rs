//! Random operations against a vector: appends, syncs, truncations, purges, full disks, restarts, power cuts.
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::wal::{LogMark, Vote};

#[derive(Debug, Clone)]
enum Step {
    Append {
        lens: Vec<usize>,
        new_term: bool,
    },
    Full {
        lens: Vec<usize>,
        room: u64,
    },
    Sync,
    Truncate {
        back: u64,
    },
    Purge {
        part: f64,
    },
    PurgePastTheEnd {
        by: u64,
    },
    Vote {
        term: u64,
    },
    /// The process dies: what was written is in the page cache and stays.
    Restart,
    /// The machine dies: of what was written since the last sync any prefix stays, perhaps with a torn end.
    PowerCut {
        part: f64,
        garbage: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || proptest::collection::vec(0usize..150, 1..4);
    prop_oneof![
        6 => (lens(), prop::bool::weighted(0.2)).prop_map(|(lens, new_term)| Step::Append { lens, new_term }),
        1 => (lens(), 0u64..300).prop_map(|(lens, room)| Step::Full { lens, room }),
        3 => Just(Step::Sync),
        1 => (0u64..8).prop_map(|back| Step::Truncate { back }),
        1 => (0.0..1.0).prop_map(|part| Step::Purge { part }),
        1 => (0u64..4).prop_map(|by| Step::PurgePastTheEnd { by }),
        1 => (0u64..99).prop_map(|term| Step::Vote { term }),
        1 => Just(Step::Restart),
        2 => (0.0..=1.0, proptest::collection::vec(any::<u8>(), 0..90))
            .prop_map(|(part, garbage)| Step::PowerCut { part, garbage }),
    ]
}

/// What the log should hold.
struct Model {
    frames: Vec<Frame>,
    first: u64,
    purged: Option<LogMark>,
    vote: Option<Vote>,
    synced: u64,
    /// The active file at the last sync and its length then.
    synced_file: Option<(PathBuf, u64)>,
}

impl Model {
    fn last(&self) -> u64 {
        self.first - 1 + self.frames.len() as u64
    }

    fn next_frames(&self, lens: &[usize], term: u64) -> Vec<Frame> {
        lens.iter().zip(self.last() + 1..).map(|(len, lsn)| frame(lsn, term, *len)).collect()
    }

    fn synced(&mut self, dir: &Path) {
        self.synced = self.last();
        self.synced_file = files(dir).pop().map(|path| (path.clone(), fs::metadata(path).unwrap().len()));
    }

    fn check(&self, store: &LogStore) {
        assert_eq!(all(store), self.frames);
        assert_eq!((store.first().0, store.next().0), (self.first, self.last() + 1));
        assert_eq!((store.purged(), store.vote()), (self.purged, self.vote));
        let mark = |frame: &Frame| LogMark { term: frame.term, leader: frame.leader, lsn: frame.lsn };
        assert_eq!(store.last(), self.frames.last().map(mark).or(self.purged));
        for frame in &self.frames {
            assert_eq!(store.mark_of(frame.lsn), Some(mark(frame)));
        }
    }
}

fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let options = small(400);
    let mut store = LogStore::open(dir, &options).unwrap().0;
    let mut model =
        Model { frames: Vec::new(), first: 1, purged: None, vote: None, synced: 0, synced_file: None };
    let mut term = 1;
    for step in steps {
        match step {
            Step::Append { lens, new_term } => {
                term += u64::from(new_term);
                let frames = model.next_frames(&lens, term);
                append(&mut store, &frames).unwrap();
                model.frames.extend(frames);
            }
            Step::Full { lens, room } => {
                options.faults.room.store(room, Ordering::Relaxed);
                let frames = model.next_frames(&lens, term);
                if append(&mut store, &frames).is_ok() {
                    model.frames.extend(frames);
                }
                options.faults.room.store(u64::MAX, Ordering::Relaxed);
            }
            Step::Sync => {
                store.sync().unwrap();
                model.synced(dir);
            }
            Step::Truncate { back } => {
                let from = (model.last() + 1).saturating_sub(back).max(model.first);
                store.truncate_suffix(Lsn(from)).unwrap();
                if from <= model.last() {
                    model.frames.truncate((from - model.first) as usize);
                    model.synced(dir);
                }
            }
            Step::Purge { part } => {
                let count = (model.frames.len() as f64 * part) as usize;
                let upto = model.first - 1 + count as u64;
                store.purge_prefix(Lsn(upto)).unwrap();
                if let Some(frame) = model.frames.drain(..count).next_back() {
                    model.purged = Some(LogMark { term: frame.term, leader: frame.leader, lsn: frame.lsn });
                    model.first = upto + 1;
                    model.synced = model.synced.max(upto);
                }
            }
            Step::PurgePastTheEnd { by } => {
                let mark = LogMark { term, leader: 1, lsn: Lsn(model.last() + 1 + by) };
                store.purge_to(mark).unwrap();
                (model.first, model.purged) = (mark.lsn.0 + 1, Some(mark));
                model.frames.clear();
                model.synced(dir);
            }
            Step::Vote { term } => {
                let vote = Vote { term, node: 3, committed: term % 2 == 0 };
                store.save_vote(vote).unwrap();
                model.vote = Some(vote);
            }
            Step::Restart => {
                drop(store);
                let recovered;
                (store, recovered) = LogStore::open(dir, &options).unwrap();
                assert_eq!((recovered.cut, recovered.last), (None, store.last()));
                model.synced(dir);
            }
            Step::PowerCut { part, garbage } => {
                drop(store);
                if let Some(path) = files(dir).pop() {
                    let safe = match &model.synced_file {
                        Some((file, len)) if *file == path => *len,
                        // Files are synced before the next one begins, with its header.
                        _ => 64,
                    };
                    let mut bytes = fs::read(&path).unwrap();
                    let keep = safe + ((bytes.len() as u64 - safe) as f64 * part) as u64;
                    bytes.truncate(keep as usize);
                    bytes.extend(garbage);
                    fs::write(&path, bytes).unwrap();
                }
                store = LogStore::open(dir, &options).unwrap().0;
                let kept = store.next().0 - 1;
                assert!(kept >= model.synced, "entry {kept} of {} synced ones is the last", model.synced);
                assert!(kept <= model.last());
                model.frames.truncate((kept + 1 - model.first) as usize);
                model.synced(dir);
            }
        }
        model.check(&store);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn the_log_agrees_with_a_vector(steps in proptest::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
