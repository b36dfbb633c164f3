//! Which `ef_search` holds the target: a pure function of what was measured.
//!
//! ```text
//!   rungs: 10 12 14 17 20 … 4,096      four to each doubling
//!                  ▲ at
//!   below the target, surely or after many queries ──▶ up: to a rung measured to hold it, else one rung or a doubling
//!   a lower rung holds it, surely and after many     ──▶ down to that
//! ```
//! Each measured query is asked at several rungs around the present one, since its exact answer, which they are
//! compared with, costs far more than all of them together. So rungs are compared by the same queries, and the way up
//! is known before it is taken.
use super::estimate::Tally;
use crate::types::RecallTarget;

/// Least and most `ef_search`. More than the most costs more than scanning most segments.
pub const EF: std::ops::RangeInclusive<usize> = RecallTarget::K..=4_096;

/// Rungs to a doubling: finer ones can't be told apart by as many queries as are measured.
const TO_A_DOUBLING: usize = 4;

/// Queries before anything is concluded.
const QUERIES_MIN: f64 = 16.0;

/// Queries before a mean is taken for the truth, and before going down.
const QUERIES_MANY: f64 = 64.0;

/// Rungs, and their `ef_search`.
pub type Probes = Vec<(usize, usize)>;

/// Chooses `ef_search`.
#[derive(Debug, Clone)]
pub struct Tuner {
    target: f64,
    efs: Vec<usize>,
    tallies: Vec<Tally>,
    at: usize,
}

impl Tuner {
    /// Starts at the rung nearest above `ef`.
    pub fn new(target: RecallTarget, ef: usize) -> Self {
        let factor = 2_f64.powf(1.0 / TO_A_DOUBLING as f64);
        let rung = |number: i32| (*EF.start() as f64 * factor.powi(number)).round() as usize;
        let mut efs: Vec<usize> = (0..).map(rung).take_while(|ef| ef < EF.end()).collect();
        efs.push(*EF.end());
        let at = efs.partition_point(|rung| *rung < ef).min(efs.len() - 1);
        Self { target: target.share(), tallies: vec![Tally::default(); efs.len()], efs, at }
    }

    /// Holds another target from now on; what was measured stays true.
    pub fn set_target(&mut self, target: RecallTarget) {
        self.target = target.share();
    }

    /// The choice.
    pub fn ef(&self) -> usize {
        self.efs.get(self.at).copied().unwrap_or(*EF.end())
    }

    /// What was measured at the choice.
    pub fn tally(&self) -> Tally {
        self.tallies.get(self.at).copied().unwrap_or_default()
    }

    /// The rungs to ask the next query at; ascending.
    pub fn probes(&self) -> Probes {
        let at = self.at as isize;
        let doubling = TO_A_DOUBLING as isize;
        let around = [at - doubling, at - 1, at, at + 1, at + doubling].into_iter();
        let rungs = around.filter_map(|rung| usize::try_from(rung).ok());
        rungs.filter_map(|rung| Some((rung, *self.efs.get(rung)?))).collect()
    }

    /// A query was asked at a rung, and found this share of its nearest.
    pub fn record(&mut self, rung: usize, share: f64) {
        if let Some(tally) = self.tallies.get_mut(rung) {
            tally.add(share);
        }
    }

    /// This share of the rows is searched otherwise than when they were measured.
    pub fn forget(&mut self, share: f64) {
        self.tallies.iter_mut().for_each(|tally| tally.fade((1.0 - share).clamp(0.0, 1.0)));
    }

    /// Moves to the rung that what was measured speaks for; says whether that is another one.
    pub fn decide(&mut self) -> bool {
        let before = self.at;
        match self.verdict(before) {
            Verdict::Misses { surely } => self.climb(surely),
            Verdict::Holds => self.descend(),
            Verdict::Unknown => {}
        }
        self.at != before
    }

    fn verdict(&self, rung: usize) -> Verdict {
        let Some(tally) = self.tallies.get(rung).filter(|tally| tally.queries() >= QUERIES_MIN) else {
            return Verdict::Unknown;
        };
        let surely = tally.interval().1 < self.target;
        match tally.mean().is_some_and(|mean| mean >= self.target) {
            true => Verdict::Holds,
            false if surely || tally.queries() >= QUERIES_MANY => Verdict::Misses { surely },
            false => Verdict::Unknown,
        }
    }

    fn climb(&mut self, surely: bool) {
        let top = self.efs.len() - 1;
        let (next, doubled) = ((self.at + 1).min(top), (self.at + TO_A_DOUBLING).min(top));
        let holds = |rung: usize| matches!(self.verdict(rung), Verdict::Holds);
        self.at = if !holds(next) && (holds(doubled) || surely) { doubled } else { next };
    }

    fn descend(&mut self) {
        let surely_holds = |rung: &usize| {
            let tally = self.tallies.get(*rung).copied().unwrap_or_default();
            tally.queries() >= QUERIES_MANY && tally.interval().0 >= self.target
        };
        let lower = [self.at.checked_sub(TO_A_DOUBLING), self.at.checked_sub(1)];
        self.at = lower.into_iter().flatten().find(surely_holds).unwrap_or(self.at);
    }
}

enum Verdict {
    /// Too little was measured.
    Unknown,
    /// The mean is at the target or above it.
    Holds,
    /// The mean is below it.
    Misses { surely: bool },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::recall::random::Random;

    /// Data as they are: recall misses less, the more candidates are kept; some queries are harder than others.
    struct Curve {
        /// Share missed at `ef` 10.
        missed: f64,
        /// How fast that falls with `ef`.
        falls: f64,
        random: Random,
    }

    impl Curve {
        /// Recall of a query; `hard` from 0 to 2, 1 on average.
        fn likely(&self, ef: usize, hard: f64) -> f64 {
            1.0 - self.missed * hard * (10.0 / ef as f64).powf(self.falls)
        }

        fn truth(&self, ef: usize) -> f64 {
            self.likely(ef, 1.0)
        }

        /// One query, asked at each probe. A neighbour found by one `ef` is found by every larger one.
        fn ask(&mut self, tuner: &mut Tuner) {
            let hard = if self.random.unit() < 0.5 { 1.8 } else { 0.2 };
            let luck: Vec<f64> = (0..RecallTarget::K).map(|_| self.random.unit()).collect();
            for (rung, ef) in tuner.probes() {
                let likely = self.likely(ef, hard);
                let found = luck.iter().filter(|luck| **luck < likely).count();
                tuner.record(rung, found as f64 / RecallTarget::K as f64);
            }
            tuner.decide();
        }
    }

    fn tuned(target: f64, ef: usize, curve: &mut Curve, queries: usize) -> Tuner {
        let mut tuner = Tuner::new(RecallTarget::new(target).unwrap(), ef);
        (0..queries).for_each(|_| curve.ask(&mut tuner));
        tuner
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn converges_to_the_least_that_holds_the_target_and_stays(
            target in 0.85..0.99_f64, missed in 0.05..0.5_f64, falls in 0.5..1.5_f64,
            start in 10_usize..3_000, seed: u64,
        ) {
            let mut curve = Curve { missed, falls, random: Random(seed) };
            let mut tuner = tuned(target, start, &mut curve, 3_000);
            let (mut moves, settled) = (0, tuner.ef());
            for _ in 0..3_000 {
                let before = tuner.ef();
                curve.ask(&mut tuner);
                moves += usize::from(tuner.ef() != before);
            }
            prop_assert!(moves <= 4, "{moves} moves after it had settled at {settled}");
            let top = *EF.end();
            if curve.truth(top) < target + 0.005 {
                // Nothing holds it, or hardly: then as much as is allowed, or nearly.
                prop_assert!(curve.truth(tuner.ef()) > curve.truth(top) - 0.01, "{}", tuner.ef());
                return Ok(());
            }
            let truth = curve.truth(tuner.ef());
            prop_assert!(truth >= target - 0.005, "{truth} at {}", tuner.ef());
            // Two rungs lower it would not, as far as so many queries can tell.
            let lower = tuner.efs[tuner.at.saturating_sub(2)];
            prop_assert!(tuner.at < 2 || curve.truth(lower) < target + 0.012, "{} would do", lower);
        }
    }

    #[test]
    fn far_below_the_target_few_queries_are_enough() {
        let mut curve = Curve { missed: 0.6, falls: 0.8, random: Random(5) };
        let mut tuner = Tuner::new(RecallTarget::new(0.97).unwrap(), 10);
        let mut queries = 0;
        while curve.truth(tuner.ef()) < 0.97 && queries < 1_000 {
            curve.ask(&mut tuner);
            queries += 1;
        }
        assert!(queries <= 200, "{queries} queries to reach {}", tuner.ef());
    }

    #[test]
    fn going_down_takes_proof() {
        let mut tuner = Tuner::new(RecallTarget::new(0.98).unwrap(), 160);
        for _ in 0..63 {
            tuner.probes().into_iter().for_each(|(rung, _)| tuner.record(rung, 1.0));
            assert!(!tuner.decide());
        }
        tuner.probes().into_iter().for_each(|(rung, _)| tuner.record(rung, 1.0));
        assert!(tuner.decide());
        assert_eq!(tuner.ef(), 80, "a doubling at a time");
    }

    #[test]
    fn perfection_is_held_to_the_top_and_never_taken_back() {
        let mut curve = Curve { missed: 0.5, falls: 0.5, random: Random(1) };
        let tuner = tuned(1.0, 10, &mut curve, 2_000);
        assert_eq!(tuner.ef(), *EF.end());
    }

    #[test]
    fn changed_data_are_measured_anew() {
        let mut easy = Curve { missed: 0.05, falls: 1.0, random: Random(2) };
        let mut tuner = tuned(0.95, 128, &mut easy, 2_000);
        assert!(tuner.ef() <= 14, "{}", tuner.ef());
        tuner.forget(0.9);
        let mut hard = Curve { missed: 0.5, falls: 0.7, random: Random(3) };
        for _ in 0..800 {
            hard.ask(&mut tuner);
        }
        assert!(hard.truth(tuner.ef()) >= 0.94, "{} at {}", hard.truth(tuner.ef()), tuner.ef());
    }

    #[test]
    fn rungs_are_within_bounds_and_rise() {
        let tuner = Tuner::new(RecallTarget::new(0.9).unwrap(), 1 << 20);
        assert!(tuner.efs.is_sorted_by(|a, b| a < b));
        assert_eq!((tuner.efs[0], tuner.ef()), (10, 4_096));
        assert_eq!(Tuner::new(RecallTarget::new(0.9).unwrap(), 1).ef(), 10);
        assert_eq!(Tuner::new(RecallTarget::new(0.9).unwrap(), 128).ef(), 135);
    }
}
