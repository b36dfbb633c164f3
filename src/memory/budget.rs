//! The budget: counters by purpose, a limit, and who may still come in.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Charge, Purpose};

/// Counts what the process holds. Relaxed throughout: the numbers steer, nothing is published through them.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    total: AtomicUsize,
    held: [AtomicUsize; Purpose::ALL.len()],
}

impl MemoryBudget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, total: AtomicUsize::new(0), held: Default::default() })
    }

    /// A budget that nothing exceeds: it only counts.
    pub fn unlimited() -> Arc<Self> {
        Self::new(usize::MAX)
    }

    /// The limit, bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// From here on memory is tight: a quarter is left for what has been let in already, which grows while it is
    /// decoded, encoded and applied.
    pub fn tight_mark(&self) -> usize {
        self.limit / 4 * 3
    }

    /// Bytes held that count against the limit.
    pub fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Bytes held for one purpose.
    pub fn held(&self, purpose: Purpose) -> usize {
        self.held[purpose as usize].load(Ordering::Relaxed)
    }

    /// Bytes past the tight mark, which somebody should let go of; 0 while there is room.
    pub fn excess(&self) -> usize {
        self.total().saturating_sub(self.tight_mark())
    }

    /// Counts bytes that are there whatever the budget says.
    pub fn charge(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Charge {
        Charge::new(Arc::clone(self), purpose, bytes)
    }

    /// Lets bytes into the process if they fit below the limit. `None`: wait and ask again.
    ///
    /// What is larger than the room that can ever come free passes alone, rather than never.
    pub fn admit(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Option<Charge> {
        // A log entry's request or batch is in flight until it is in the log, and must not stand in its way.
        let in_flight = self.held(Purpose::InFlight);
        let (before, own) = if purpose == Purpose::LogQueue { (0, in_flight) } else { (in_flight, 0) };
        let traffic = before + self.held(Purpose::LogQueue);
        let charge = self.charge(purpose, bytes);
        let alone = traffic == 0 && self.total().saturating_sub(bytes + own) <= self.tight_mark();
        (self.total() <= self.limit || alone).then_some(charge)
    }

    /// Lets work begin that can wait, if it fits below the tight mark. One of each purpose may begin all the same
    /// while memory is not tight, rather than never.
    pub fn reserve(self: &Arc<Self>, purpose: Purpose, bytes: usize) -> Option<Charge> {
        let alone = self.held(purpose) == 0 && self.excess() == 0;
        let charge = self.charge(purpose, bytes);
        (self.excess() == 0 || alone).then_some(charge)
    }

    /// Is there room for bytes that stay as long as their files, and can't be made to go? Half of the limit is for
    /// them; the other half is for what comes and goes.
    /// `leaving`: bytes of that purpose that go when these have come.
    pub fn has_lasting_room(&self, purpose: Purpose, bytes: usize, leaving: usize) -> bool {
        let (total, held) =
            (self.total().saturating_sub(leaving), self.held(purpose).saturating_sub(leaving));
        total <= self.tight_mark() && held.saturating_add(bytes) <= self.limit / 2
    }

    /// Is there room for bytes that can be made to go, and made again? Well below the mark where they are made to
    /// go, so that they don't come and go.
    pub fn has_room_for_caches(&self, bytes: usize) -> bool {
        self.total().saturating_add(bytes) <= self.limit / 8 * 5
    }

    pub(super) fn add(&self, purpose: Purpose, bytes: usize) {
        self.held[purpose as usize].fetch_add(bytes, Ordering::Relaxed);
        if purpose.is_charged() {
            self.total.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    pub(super) fn subtract(&self, purpose: Purpose, bytes: usize) {
        self.held[purpose as usize].fetch_sub(bytes, Ordering::Relaxed);
        if purpose.is_charged() {
            self.total.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Who holds how much, largest first, for messages: `memtables 12 MiB, log_queue 1 MiB`.
    pub fn describe(&self) -> String {
        let mut held: Vec<(usize, &str)> = Purpose::ALL
            .into_iter()
            .filter(|purpose| purpose.is_charged())
            .map(|purpose| (self.held(purpose) >> 20, purpose.word()))
            .filter(|(mib, _)| *mib > 0)
            .collect();
        held.sort_by(|a, b| b.cmp(a));
        let held: Vec<String> = held.into_iter().map(|(mib, word)| format!("{word} {mib} MiB")).collect();
        if held.is_empty() { "less than 1 MiB for each purpose".to_string() } else { held.join(", ") }
    }

    /// Sets the gauges of the process.
    pub fn publish(&self) {
        metrics::gauge!("proximadb_memory_limit_bytes").set(self.limit as f64);
        for purpose in Purpose::ALL {
            metrics::gauge!("proximadb_memory_bytes", "purpose" => purpose.word())
                .set(self.held(purpose) as f64);
        }
        metrics::gauge!("proximadb_memory_tight").set(if self.excess() > 0 { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_charge_is_counted_by_purpose_and_let_go_of_once() {
        let budget = MemoryBudget::new(1000);
        let memtable = budget.charge(Purpose::Memtables, 100);
        memtable.grow(50);
        let mapped = budget.charge(Purpose::GraphMaps, 5000);
        let mut entry = budget.charge(Purpose::InFlight, 30);
        assert_eq!((budget.total(), budget.held(Purpose::GraphMaps)), (180, 5000));
        entry.turn_into(Purpose::LogQueue, 20);
        assert_eq!((budget.held(Purpose::InFlight), budget.held(Purpose::LogQueue)), (0, 20));
        memtable.set(10);
        assert_eq!((memtable.bytes(), budget.total()), (10, 30));
        drop((memtable, mapped, entry));
        assert_eq!((budget.total(), budget.held(Purpose::GraphMaps)), (0, 0));
    }

    #[test]
    fn what_enters_waits_at_the_limit_and_what_is_too_large_passes_alone() {
        let budget = MemoryBudget::new(1000);
        let memtable = budget.charge(Purpose::Memtables, 700);
        let first = budget.admit(Purpose::InFlight, 300).unwrap();
        assert!(budget.admit(Purpose::InFlight, 1).is_none(), "at the limit");
        assert_eq!(budget.total(), 1000, "a refusal leaves nothing behind");
        drop(first);
        let huge = budget.admit(Purpose::LogQueue, 5000).unwrap();
        assert!(budget.admit(Purpose::LogQueue, 1).is_none(), "not beside it");
        drop(huge);
        memtable.grow(200);
        assert!(budget.admit(Purpose::InFlight, 5000).is_none(), "not while memory is tight");
        drop(memtable);
        assert!(budget.admit(Purpose::InFlight, 5000).is_some());
    }

    #[test]
    fn what_stays_gets_half_and_nothing_while_memory_is_tight() {
        let budget = MemoryBudget::new(1000);
        let room = |bytes, leaving| budget.has_lasting_room(Purpose::Graphs, bytes, leaving);
        assert!(room(500, 0) && !room(501, 0));
        let graph = budget.charge(Purpose::Graphs, 300);
        assert!(room(200, 0) && !room(201, 0));
        assert!(room(500, 300), "in its place");
        let memtable = budget.charge(Purpose::Memtables, 451);
        assert!(!room(1, 0), "tight");
        drop((graph, memtable));
        assert!(room(500, 0));
    }

    #[test]
    fn caches_come_only_well_below_the_mark_where_they_go() {
        let budget = MemoryBudget::new(800);
        let memtable = budget.charge(Purpose::Memtables, 400);
        assert!(budget.has_room_for_caches(100) && !budget.has_room_for_caches(101));
        assert!(budget.excess() == 0);
        drop(memtable);
        assert!(budget.has_room_for_caches(500));
    }

    #[test]
    fn a_request_does_not_stand_in_the_way_of_its_own_entry() {
        let budget = MemoryBudget::new(1000);
        let _graph = budget.charge(Purpose::Graphs, 400);
        let _body = budget.reserve(Purpose::InFlight, 1600).unwrap();
        let entry = budget.admit(Purpose::LogQueue, 800).unwrap();
        assert!(budget.admit(Purpose::LogQueue, 800).is_none(), "one at a time");
        drop(entry);
        assert!(budget.admit(Purpose::LogQueue, 800).is_some());
    }

    #[test]
    fn work_that_can_wait_does_so_while_memory_is_tight() {
        let budget = MemoryBudget::new(1000);
        let memtable = budget.charge(Purpose::Memtables, 751);
        assert!(budget.reserve(Purpose::IndexBuilds, 0).is_none(), "tight");
        memtable.set(500);
        let large = budget.reserve(Purpose::IndexBuilds, 600).unwrap();
        assert!(budget.reserve(Purpose::IndexBuilds, 1).is_none(), "only one is larger than the room");
        drop(large);
        let fits = budget.reserve(Purpose::IndexBuilds, 200).unwrap();
        assert!(budget.reserve(Purpose::IndexBuilds, 50).is_some(), "{}", budget.total());
        drop(fits);
        assert_eq!(budget.total(), 500);
    }
}
