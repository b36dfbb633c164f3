//! Which way a search goes, by what each would cost, in nanoseconds.
//!
//! Figures were measured on two data sets (decision 12): 24,000 rows with codes of 192 bytes, 60,000 with 416,
//! AVX-512. Only their ratios matter, and these less than by what factor costs differ where the choice is clear.
use super::IndexQuery;
use super::two_hop::Work;
use crate::types::RowSet;

/// A row in a scan of whole codes: what it takes whatever its length, and per byte of its code.
const ROW: f64 = 1.0;
const ROW_BYTE: f64 = 0.098;

/// The same for the front of a code.
const FRONT: f64 = 2.0;
const FRONT_BYTE: f64 = 0.08;

/// Rows that a scan can't tell by their fronts, for each row that is asked for, and one in so many of the others.
/// Measured at 10: 450 of 1,200, 650 of 2,400, 680 of 12,000.
const WHOLE_PER_HIT: usize = 45;
const WHOLE_ONE_IN: f64 = 16.0;

/// Share of them where the rows around the query don't match.
const WHOLE_WHERE_REFUSED: f64 = 0.6;

/// A distance in a walk, to rows that lie anywhere, a few at a time, the found kept in order; in rows of a scan.
const DISTANCE: f64 = 1.7;

/// A link looked at while stepping over refused nodes.
const LOOK: f64 = 1.5;

/// What a walk over refused nodes takes beside those around its candidates, as distances: doors sampled from what
/// matches. Then for each ten times that more rows match than this share: measured 268 in all at 0.05, 396 at 0.2,
/// 498 at 0.5.
const DISTANCES_OVER: f64 = 100.0;
const DISTANCES_TENFOLD: f64 = 230.0;
const SHARE_LEAST: f64 = 0.03;

/// A line of cache.
const LINE: usize = 64;

/// Distances of a walk that needs no candidates, and per candidate kept. Measured: 333 at 14, 548 at 32.
const DISTANCES: f64 = 170.0;
const DISTANCES_PER_CANDIDATE: f64 = 12.0;

/// Nodes walked per candidate kept.
const WALKED_PER_CANDIDATE: f64 = 1.3;

/// Share of the rows that must be alive for walks that ask about the dead only in the end.
const ALIVE_SHARE: f64 = 0.9;

/// Most candidates of a walk that keeps them sorted: each insertion moves half of them.
const SORTED_EF_MAX: usize = 1024;

/// What a walk through everything costs per candidate kept, divided by the share of rows admitted.
const THROUGH: f64 = 25.0;

/// How a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// A walk keeps the nearest nodes, and the rows that are alive are picked.
    Plain,
    /// A walk keeps the nearest admitted nodes and steps over the others, or goes through them.
    TwoHops,
    /// A walk keeps the nearest admitted rows and goes through the others, wherever they lie: for more candidates
    /// than are kept sorted.
    Through,
    /// All rows that match are looked at.
    Scan,
}

/// What is known of a search before it starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choice {
    pub(super) way: Way,
    /// Rows that match, dead ones among them.
    pub(super) matching: usize,
    /// Share of all rows that match, and are alive if `many_dead`.
    pub(super) share: f64,
    /// Are so many rows dead that walks step over them, too?
    pub(super) many_dead: bool,
    /// What a row costs in a scan of whole codes.
    pub(super) row: f64,
    /// What the front of a code costs.
    pub(super) front: f64,
    /// Rows that a scan looks at as a whole, whatever their fronts say.
    pub(super) whole: usize,
}

/// How to search at least cost, from how many rows match and are alive; `row_bytes` are read of a row to compare it,
/// `front_bytes` of most rows in a scan.
pub(super) fn choose(query: &IndexQuery<'_>, rows: usize, row_bytes: usize, front_bytes: usize) -> Choice {
    let matching = query.matching.map_or(rows, RowSet::count);
    let alive_share = (query.alive_rows as f64 / rows.max(1) as f64).min(1.0);
    let many_dead = alive_share < ALIVE_SHARE;
    let share = matching as f64 / rows.max(1) as f64 * if many_dead { alive_share } else { 1.0 };
    let row = ROW + ROW_BYTE * row_bytes as f64;
    // Fronts that don't begin where lines do are in one more, every other time.
    let in_lines = if row_bytes.is_multiple_of(LINE) { front_bytes } else { front_bytes + LINE / 2 };
    let front = if front_bytes < row_bytes { FRONT + FRONT_BYTE * in_lines as f64 } else { row };
    let whole = WHOLE_PER_HIT * query.k;
    let mut choice = Choice { way: Way::TwoHops, matching, share, many_dead, row, front, whole };
    let scan = choice.scan();
    if query.ef_search > SORTED_EF_MAX {
        let through = THROUGH * query.ef_search as f64 * row;
        choice.way = if scan * share < through { Way::Scan } else { Way::Through };
    } else if matching == rows && !many_dead {
        choice.way = Way::Plain;
    } else if scan < choice.through(query.ef_search).min(choice.over(choice.ef_usual(query.ef_search), 1.0)) {
        choice.way = Way::Scan;
    }
    choice
}

impl Choice {
    fn scan(&self) -> f64 {
        let whole = self.matching.min(self.whole);
        let others = (self.matching - whole) as f64;
        self.row * whole as f64 + others * self.row.min(self.front + self.row / WHOLE_ONE_IN)
    }

    /// The same where the rows around the query don't match: those that do are much alike to it.
    fn scan_where_refused(&self) -> f64 {
        self.matching as f64 * self.row.min(self.front + self.row * WHOLE_WHERE_REFUSED)
    }

    /// A walk through everything. Measured at 14 candidates: 351 distances with 90 % admitted, 504 with 50 %, 961
    /// with 20 %.
    fn through(&self, ef: usize) -> f64 {
        let distances = DISTANCES + DISTANCES_PER_CANDIDATE * ef as f64 / self.share.max(1e-9);
        DISTANCE * self.row * distances
    }

    /// A walk over what is refused, each of whose candidates takes so many times as many distances as without a
    /// filter.
    fn over(&self, ef: usize, times: f64) -> f64 {
        let more = DISTANCES_TENFOLD * (self.share / SHARE_LEAST).log10().max(0.0);
        let distances = DISTANCES_OVER + more + DISTANCES_PER_CANDIDATE * times * ef as f64;
        // From a node as many admitted ones are met as a list is long, or its some 32 neighbours' lists read.
        let looks = (32.0 / self.share.max(1e-9)).min(1024.0) * WALKED_PER_CANDIDATE * ef as f64;
        DISTANCE * self.row * distances + LOOK * looks
    }

    /// Does going through others cost less than stepping over them? Where many match, or rows are short; it finds a
    /// little more.
    pub(super) fn prefers_through(&self, ef: usize) -> bool {
        self.through(ef) <= self.over(self.ef_usual(ef), 1.0)
    }

    /// Candidates to keep in two hops where rows around the query match as elsewhere: what is admitted hangs together
    /// less well than all nodes. Measured with 20 % admitted: 14 find 0.945 of the ten nearest, 20 find 0.962.
    pub(super) fn ef_usual(&self, ef: usize) -> usize {
        (ef + ef / 4 + 1).min(SORTED_EF_MAX)
    }

    /// Candidates to keep where the rows around the query don't match. What is nearest then lies on all sides of the
    /// query and far from each other, so that neighbours of one say little about the others.
    ///
    /// Measured where 14 find 0.98 of the ten nearest without a filter: 58 find 0.976 with 90 % admitted, 98 find
    /// 0.966 with 50 %.
    pub(super) fn ef_refused(&self, ef: usize) -> usize {
        let more = 150.0 - 120.0 * self.share.min(1.0);
        (2 * ef + more as usize).min(SORTED_EF_MAX)
    }

    /// Is a scan cheaper than a walk that keeps so many candidates where the rows around the query don't match?
    pub(super) fn prefers_scan_where_refused(&self, ef: usize) -> bool {
        self.scan_where_refused() < self.over(ef, 1.5)
    }

    /// Has a walk cost what a scan costs? Giving up then makes a wrong choice cost twice the right one.
    pub(super) fn is_too_much(&self, work: Work) -> bool {
        DISTANCE * self.row * work.computed as f64 + LOOK * work.looked as f64 > self.scan_where_refused()
    }

    /// Distances of a walk through everything that a scan is cheaper than.
    pub(super) fn distances_max(&self) -> u64 {
        (self.scan_where_refused() / self.row / DISTANCE) as u64
    }

    /// Do so many of `looked` rows match, as few as they may be by chance? By 2.5 standard deviations.
    pub(super) fn is_usual(&self, admitted: usize, looked: usize) -> bool {
        let (looked, share) = (looked as f64, self.share.min(1.0));
        admitted as f64 >= looked * share - 2.5 * (looked * share * (1.0 - share)).sqrt()
    }

    /// Do less than half as many match as elsewhere?
    pub(super) fn is_refused(&self, admitted: usize, looked: usize) -> bool {
        2.0 * (admitted as f64) < looked as f64 * self.share.min(1.0)
    }

    /// Rows to look at for [`Choice::is_usual`].
    pub(super) fn looks(&self) -> usize {
        (16.0 / self.share.max(1e-9)).clamp(64.0, 1024.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::CodedSearch;

    fn choice(matching: usize, ef_search: usize, alive_rows: usize) -> Choice {
        const ROWS: usize = 100_000;
        let set = RowSet::from_fn(ROWS, |row| row < matching);
        let (matching, alive) = (Some(&set), &|_: u32| true);
        let (codes, deadline) = (CodedSearch::default(), None);
        let query =
            IndexQuery { vector: &[], k: 10, ef_search, matching, alive, alive_rows, codes, deadline };
        choose(&query, ROWS, 192, 64)
    }

    #[test]
    fn few_are_scanned_many_are_walked_and_all_need_no_filter() {
        let way = |matching, ef| choice(matching, ef, 100_000).way;
        assert_eq!([way(0, 64), way(1, 64), way(2_000, 64)], [Way::Scan; 3]);
        assert_eq!([way(20_000, 64), way(50_000, 64), way(99_999, 64)], [Way::TwoHops; 3]);
        assert_eq!([way(100_000, 64), way(100_000, 1_024)], [Way::Plain; 2]);
        assert_eq!([way(30_000, 1_100), way(100_000, 1_100)], [Way::Scan, Way::Through]);
        // More candidates make a walk dearer, and a scan not.
        assert_eq!([way(8_000, 14), way(8_000, 200)], [Way::TwoHops, Way::Scan]);
    }

    /// Codes of which scans read the front first are worth scanning among more rows than those read as a whole.
    #[test]
    fn scans_by_fronts_are_chosen_for_more_rows() {
        let by_fronts = choice(4_000, 14, 100_000);
        let whole = Choice { front: by_fronts.row, ..by_fronts };
        assert!(by_fronts.scan() < 0.6 * whole.scan() && by_fronts.scan() > 0.3 * whole.scan());
        assert!(by_fronts.scan() <= by_fronts.scan_where_refused());
        let few = choice(100, 14, 100_000);
        assert_eq!(few.scan(), few.row * 100.0);
    }

    #[test]
    fn where_many_match_a_walk_goes_through_the_others() {
        assert!(choice(50_000, 14, 100_000).prefers_through(14));
        assert!(!choice(10_000, 14, 100_000).prefers_through(14));
    }

    #[test]
    fn many_dead_are_stepped_over() {
        let all = choice(100_000, 64, 50_000);
        assert!(all.way == Way::TwoHops && all.many_dead && (all.share - 0.5).abs() < 1e-9);
        let few = choice(100_000, 64, 95_000);
        assert!(few.way == Way::Plain && !few.many_dead);
    }

    #[test]
    fn where_rows_around_do_not_match_more_candidates_are_kept_or_all_rows_scanned() {
        let some = choice(5_000, 14, 100_000);
        assert!(some.ef_refused(14) > 5 * 14 && some.prefers_scan_where_refused(some.ef_refused(14)));
        let most = choice(90_000, 14, 100_000);
        assert!(most.ef_refused(14) < some.ef_refused(14));
        assert!(!most.prefers_scan_where_refused(most.ef_refused(14)));
        assert_eq!(most.ef_refused(1_000), SORTED_EF_MAX);
    }

    #[test]
    fn chance_is_told_from_what_is_left_out() {
        let half = choice(50_000, 64, 100_000);
        assert!(half.is_usual(32, 64) && half.is_usual(64, 64) && half.is_usual(24, 64));
        assert!(!half.is_usual(20, 64) && !half.is_usual(0, 64));
        assert!(half.is_refused(15, 64) && !half.is_refused(16, 64));
        assert_eq!((half.looks(), choice(100, 14, 100_000).looks()), (64, 1024));
    }

    #[test]
    fn a_walk_is_too_much_once_it_cost_what_a_scan_costs() {
        let half = choice(50_000, 64, 100_000);
        let work = |computed, looked| half.is_too_much(Work { computed, looked });
        assert!(!work(0, 0) && !work(28_000, 0) && work(29_000, 0) && work(28_000, 100_000));
        assert_eq!(half.distances_max(), 28_214);
    }
}
