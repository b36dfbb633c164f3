//! The apply thread: entries in log order, view swaps in between, freezing when a memtable is full.
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, never, select};

use super::apply::Apply;
use super::core::Core;
use super::propose::Pending;
use crate::memory::Purpose;
use crate::memtable::{FrozenMarks, HashMemtable};
use crate::types::Outcome;
use crate::view::{Frozen, View};
use crate::wal::Durable;

/// Age is looked at this often while nothing arrives.
const TICK: Duration = Duration::from_millis(200);

/// What other threads ask of the apply thread.
pub(super) enum Control {
    /// Run this between two entries.
    Run(Box<dyn FnOnce(&Core) + Send>),
    /// Freeze the active memtable, if it holds anything.
    Freeze,
    /// End. Sent last, when nobody asks any more.
    Stop,
}

pub(super) struct ApplyLoop {
    pub core: Arc<Core>,
    pub entries: Receiver<Vec<Durable<Pending>>>,
    pub control: Receiver<Control>,
    /// To the flush thread; dropped when the log has closed.
    pub flush: Option<Sender<Arc<Frozen>>>,
    pub term: u64,
}

impl ApplyLoop {
    /// The thread's body.
    pub fn run(mut self) {
        let closed = never();
        loop {
            let stalled = self.is_stalled();
            metrics::gauge!("proximadb_apply_stalled", "collection" => self.core.config.name.clone())
                .set(f64::from(u8::from(stalled)));
            let since = (stalled && !self.entries.is_empty()).then(Instant::now);
            let waited = |core: &Core| {
                if let Some(since) = since {
                    core.meters.apply.blocked(since.elapsed());
                }
            };
            let entries = if stalled || self.flush.is_none() { &closed } else { &self.entries };
            select! {
                recv(self.control) -> control => {
                    waited(&self.core);
                    match control {
                        Ok(Control::Run(work)) => work(&self.core),
                        Ok(Control::Freeze) => self.freeze(),
                        Ok(Control::Stop) | Err(_) => return,
                    }
                }
                recv(entries) -> group => match group {
                    Ok(group) => self.apply(group),
                    // The log has closed: no more entries, but flush and upkeep still need their swaps.
                    Err(_) => self.flush = None,
                },
                default(TICK) => waited(&self.core),
            }
            self.freeze_if_due();
        }
    }

    fn apply(&mut self, group: Vec<Durable<Pending>>) {
        let started = Instant::now();
        let (mut rows, mut bytes, count) = (0, 0, group.len());
        for Durable { lsn, term, tag: Pending { entry, done, charge }, body, .. } in group {
            self.term = term;
            (rows, bytes) = (rows + entry.batch.ops.len(), bytes + body.len());
            let view = self.core.view.load();
            let outcome = Apply { marks: &self.core.marks, view: &view }.entry(lsn, entry);
            // Its rows are charged as the memtable's from here on.
            drop((body, charge));
            if matches!(outcome, Outcome::Refused { .. }) {
                self.core.meters.apply.failed();
            }
            done(Ok(outcome));
        }
        let collection = &self.core.config.name;
        metrics::counter!("proximadb_apply_entries_total", "collection" => collection.clone())
            .increment(count as u64);
        self.core.meters.apply.passed(rows as u64, bytes as u64, started.elapsed());
    }

    /// Too much waits for flush, and the active memtable is full as well: taking more would break the bound.
    ///
    /// Not while closing: nothing is flushed any more, and the log thread ends when its queue is taken.
    fn is_stalled(&self) -> bool {
        let view = self.core.view.load();
        let too_much = view.frozen.len() >= self.core.tuning.frozen_max && self.is_full(&view);
        too_much && !self.core.is_closing()
    }

    fn is_full(&self, view: &View) -> bool {
        let tuning = &self.core.tuning;
        view.active.bytes() >= tuning.memtable_bytes_max || view.active.rows() >= tuning.memtable_rows_max
    }

    fn freeze_if_due(&mut self) {
        let view = self.core.view.load();
        let old =
            view.active.since().is_some_and(|since| since.elapsed() >= self.core.tuning.memtable_age_max);
        if old || self.is_full(&view) {
            drop(view);
            self.freeze();
        }
    }

    fn freeze(&mut self) {
        let view = self.core.view.load_full();
        // Whoever asked for a freeze that finds no room asks again; blocking here would stop the very swaps
        // that make room.
        let due = view.active.since().is_some() && view.frozen.len() < self.core.tuning.frozen_max;
        let Some(flush) = self.flush.as_ref().filter(|_| due) else { return };
        let marks = &self.core.marks;
        let frozen = Arc::new(Frozen {
            memtable: Arc::clone(&view.active),
            marks: FrozenMarks {
                lsn: marks.applied(),
                term: self.term,
                positions: marks.positions(),
                watermark_ms: marks.watermark_ms(),
            },
        });
        let mut waiting = view.frozen.clone();
        waiting.push(Arc::clone(&frozen));
        self.core.view.store(Arc::new(View {
            active: Arc::new(HashMemtable::charged(self.core.budget.charge(Purpose::Memtables, 0))),
            frozen: waiting,
            segments: view.segments.clone(),
        }));
        // The flush thread ends after this one's sender is gone, so it is there.
        let _ = flush.send(frozen);
    }
}
