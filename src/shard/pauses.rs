//! Segments that upkeep has failed at: they wait, ever longer, while others get their turn.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::store::SegmentId;

/// After the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
/// At most.
const LONGEST: Duration = Duration::from_secs(300);

/// What one shard's upkeep has failed at.
#[derive(Debug, Default)]
pub(super) struct Pauses(Mutex<HashMap<SegmentId, (Instant, Duration)>>);

impl Pauses {
    /// Is it too early to try again with this segment?
    pub fn holds(&self, segment: SegmentId, now: Instant) -> bool {
        self.0.lock().get(&segment).is_some_and(|(until, _)| now < *until)
    }

    /// Something failed that these segments were needed for.
    pub fn failed(&self, segments: &[SegmentId], now: Instant) {
        let mut pauses = self.0.lock();
        for segment in segments {
            let pause = pauses.get(segment).map_or(FIRST, |(_, pause)| (*pause * 2).min(LONGEST));
            pauses.insert(*segment, (now + pause, pause));
        }
    }

    /// It worked.
    pub fn worked(&self, segments: &[SegmentId]) {
        let mut pauses = self.0.lock();
        segments.iter().for_each(|segment| {
            pauses.remove(segment);
        });
    }

    /// Forgets segments that are no more.
    pub fn keep(&self, exists: impl Fn(SegmentId) -> bool) {
        self.0.lock().retain(|segment, _| exists(*segment));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_pause_and_success_ends_it() {
        let (pauses, one, other) = (Pauses::default(), SegmentId::new(), SegmentId::new());
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        assert!(!pauses.holds(one, start));
        pauses.failed(&[one], start);
        assert!(pauses.holds(one, start) && !pauses.holds(one, after(1)) && !pauses.holds(other, start));
        pauses.failed(&[one], after(1));
        assert!(pauses.holds(one, after(2)) && !pauses.holds(one, after(3)));
        (0..20).for_each(|_| pauses.failed(&[one], after(3)));
        assert!(pauses.holds(one, after(302)) && !pauses.holds(one, after(303)));
        pauses.worked(&[one]);
        assert!(!pauses.holds(one, after(3)));
        pauses.failed(&[one, other], start);
        pauses.keep(|segment| segment == other);
        assert!(!pauses.holds(one, start) && pauses.holds(other, start));
    }
}
