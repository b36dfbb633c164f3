//! Whether a collection's searches are short enough to run where their requests are read.
//!
//! Handing a search to another thread and its answer back wakes two threads, which takes as much processor time as
//! walking a graph in memory. A search that scans, or waits for a disk, would hold up all connections of its
//! thread, so what recent ones took decides.
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The mean up to which searches are short: tasks are to give way to others after 10 to 100 µs.
/// Source: *Async: What is blocking?*, Ryhl (2020).
const SHORT_NS: u64 = 100_000;

/// The mean is over so many searches, the latest counting most. A thread that loses its core for some milliseconds in
/// one of a hundred searches doesn't make them long, a disk that takes a second does.
const SEARCHES: u64 = 64;

/// What a search takes, in the mean of recent ones.
#[derive(Debug)]
pub(super) struct Pace {
    mean_ns: AtomicU64,
}

impl Pace {
    /// Nothing is known yet: searches count as long until some were short.
    pub(super) fn new() -> Self {
        Self { mean_ns: AtomicU64::new(4 * SHORT_NS) }
    }

    /// Is the next search likely to be short?
    pub(super) fn is_short(&self) -> bool {
        self.mean_ns.load(Ordering::Relaxed) <= SHORT_NS
    }

    /// A search took so long, by the clock. Of two at once one may go unheard.
    pub(super) fn note(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let mean = self.mean_ns.load(Ordering::Relaxed);
        self.mean_ns.store(mean - mean / SEARCHES + took / SEARCHES, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_held_up_by_others_is_forgiven_and_one_that_waits_for_a_disk_is_not() {
        let pace = Pace::new();
        assert!(!pace.is_short());
        let short = |searches: usize| (0..searches).for_each(|_| pace.note(Duration::from_micros(20)));
        short(200);
        assert!(pace.is_short());
        pace.note(Duration::from_millis(4));
        assert!(pace.is_short());
        pace.note(Duration::from_secs(1));
        assert!(!pace.is_short());
        short(200);
        assert!(!pace.is_short());
        short(200);
        assert!(pace.is_short());
        pace.note(Duration::MAX);
        assert!(!pace.is_short());
    }
}
