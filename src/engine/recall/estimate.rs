//! What some measured queries say about all of them.

/// Recall of measured queries: mean and how sure it is. Old ones fade.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Tally {
    /// Queries, by their weight.
    queries: f64,
    shares: f64,
    squares: f64,
}

/// Queries that a tally holds before it fades: with fewer, chance moves `ef_search` up and down; with more, it takes
/// longer to notice that queries have become harder.
const QUERIES_MAX: f64 = 2_048.0;

/// Of a 95 % interval.
const Z: f64 = 1.96;

/// Misses come together: ten neighbours of one query say as much as five of different ones, at best.
const INDEPENDENT_MAX: f64 = 5.0;

impl Tally {
    /// Adds one query, of whose nearest this share was found.
    pub fn add(&mut self, share: f64) {
        if self.queries >= QUERIES_MAX {
            self.fade(0.5);
        }
        self.queries += 1.0;
        self.shares += share;
        self.squares += share * share;
    }

    /// Keeps this part of what it knows.
    pub fn fade(&mut self, kept: f64) {
        self.queries *= kept;
        self.shares *= kept;
        self.squares *= kept;
    }

    /// Queries that it rests on.
    pub fn queries(&self) -> f64 {
        self.queries
    }

    /// The mean share found; `None` before the first query.
    pub fn mean(&self) -> Option<f64> {
        (self.queries > 0.0).then(|| self.shares / self.queries)
    }

    /// Bounds of the mean over all queries, 95 % sure; the whole range before the first one.
    ///
    /// Wilson's interval, which holds near 1 where the normal one does not (E. B. Wilson, *Probable inference, the law
    /// of succession, and statistical inference*, 1927), over as many independent trials as the queries are worth: a
    /// query is at least one, and more the less its share differs from the others'.
    pub fn interval(&self) -> (f64, f64) {
        let Some(mean) = self.mean() else { return (0.0, 1.0) };
        let variance = (self.squares / self.queries - mean * mean).max(0.0);
        let bernoulli = mean * (1.0 - mean);
        let worth = if variance > 0.0 { bernoulli / variance } else { f64::INFINITY };
        let trials = self.queries * worth.clamp(1.0, INDEPENDENT_MAX);
        let z2 = Z * Z / trials;
        let centre = (mean + z2 / 2.0) / (1.0 + z2);
        let half = Z / (1.0 + z2) * (bernoulli / trials + z2 / (4.0 * trials)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::recall::random::Random;

    fn tally(shares: impl IntoIterator<Item = f64>) -> Tally {
        let mut tally = Tally::default();
        shares.into_iter().for_each(|share| tally.add(share));
        tally
    }

    #[test]
    fn the_interval_is_wilsons() {
        // All or nothing per query: 90 of 100 trials, whose interval tables give as 0.8256 to 0.9448.
        let (low, high) = tally((0..100).map(|n| if n < 90 { 1.0 } else { 0.0 })).interval();
        assert!((low - 0.8256).abs() < 1e-3 && (high - 0.9448).abs() < 1e-3, "{low} {high}");
        assert_eq!(Tally::default().interval(), (0.0, 1.0));
        assert_eq!(Tally::default().mean(), None);
    }

    #[test]
    fn nothing_missed_is_no_proof_of_perfection() {
        let few = tally([1.0; 16]).interval();
        let many = tally([1.0; 1_000]).interval();
        assert!(few.0 < 0.96 && few.1 == 1.0, "{few:?}");
        assert!(many.0 > 0.999 && many.0 < 1.0, "{many:?}");
    }

    #[test]
    fn queries_that_differ_say_less_than_those_that_agree() {
        let agree = tally((0..200).map(|_| 0.9)).interval();
        let differ = tally((0..200).map(|n| if n % 10 == 0 { 0.0 } else { 1.0 })).interval();
        assert!(agree.1 - agree.0 < differ.1 - differ.0, "{agree:?} {differ:?}");
    }

    #[test]
    fn the_truth_is_within_nineteen_times_of_twenty() {
        let mut random = Random(7);
        let mut within = 0;
        for _ in 0..1_000 {
            // Some queries are hard: of their neighbours 60 % are found, of the others' 99 %.
            let mut query = |_| {
                let likely = if random.unit() < 0.1 { 0.6 } else { 0.99 };
                (0..10).filter(|_| random.unit() < likely).count() as f64 / 10.0
            };
            let (low, high) = tally((0..150).map(&mut query)).interval();
            let truth = 0.1 * 0.6 + 0.9 * 0.99;
            within += usize::from(low <= truth && truth <= high);
        }
        assert!(within >= 930, "{within} of 1,000");
    }

    #[test]
    fn old_queries_fade() {
        let mut tally = tally([0.0; 100]);
        tally.fade(0.0);
        tally.add(1.0);
        assert_eq!((tally.mean(), tally.queries()), (Some(1.0), 1.0));
        let changed = self::tally((0..20_000).map(|n| if n < 10_000 { 0.5 } else { 1.0 }));
        assert!(changed.mean().unwrap() > 0.99 && changed.queries() <= QUERIES_MAX);
    }
}
