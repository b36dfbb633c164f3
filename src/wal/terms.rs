//! Which term each LSN belongs to, as runs: terms change rarely, entries come by the million.
use crate::types::Lsn;

/// A place in the log together with the term and leader that put it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogMark {
    /// The term.
    pub term: u64,
    /// Who led it.
    pub leader: u64,
    /// The place.
    pub lsn: Lsn,
}

/// Runs of entries with the same term and leader, in order; each holds the mark of its first entry.
#[derive(Debug, Default)]
pub(super) struct Terms(Vec<LogMark>);

impl Terms {
    pub fn push(&mut self, mark: LogMark) {
        let same = self.0.last().is_some_and(|run| (run.term, run.leader) == (mark.term, mark.leader));
        if !same {
            self.0.push(mark);
        }
    }

    /// The mark of `lsn`, which the caller knows to be in the log.
    pub fn mark(&self, lsn: Lsn) -> Option<LogMark> {
        let after = self.0.partition_point(|run| run.lsn <= lsn);
        after.checked_sub(1).and_then(|run| self.0.get(run)).map(|run| LogMark { lsn, ..*run })
    }

    /// Forgets `from` and all after it.
    pub fn truncate(&mut self, from: Lsn) {
        self.0.truncate(self.0.partition_point(|run| run.lsn < from));
    }

    /// Forgets the runs that end before `first`.
    pub fn purge(&mut self, first: Lsn) {
        let after = self.0.partition_point(|run| run.lsn <= first);
        self.0.drain(..after.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_truncation_and_purge() {
        let mut terms = Terms::default();
        for (lsn, term) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 5)] {
            terms.push(LogMark { term, leader: 0, lsn: Lsn(lsn) });
        }
        let term = |terms: &Terms, lsn| terms.mark(Lsn(lsn)).map(|mark| mark.term);
        assert_eq!([1, 2, 3, 4, 5].map(|lsn| term(&terms, lsn)), [1, 1, 2, 2, 5].map(Some));
        terms.truncate(Lsn(5));
        assert_eq!(terms.0.len(), 2);
        terms.purge(Lsn(4));
        assert_eq!((terms.0.len(), term(&terms, 4)), (1, Some(2)));
    }
}
