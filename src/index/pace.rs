//! Is a device faster than the processor? Judged while it works.
//!
//! A device compares all rows with each other, the processor walks to each row's place. So what is worth it depends on
//! the machine and on the number of rows, and neither has to be known before: what the device has done by now tells how
//! long it takes, and a few distances how long the processor would.
use std::time::{Duration, Instant};

use super::insert::Build;

/// Rows that are aimed at, and distances from each of them, to find out how long one takes.
const AIMS: usize = 64;
const DISTANCES: usize = 256;

/// Distances to rows that aren't cached, per candidate (`ef`) of each row, that take as long as its insertion: walk,
/// pruning and links back. Measured: 30 where rows are long, 50 where they are short (docs/benchmarks.md).
const DISTANCES_PER_CANDIDATE: f64 = 40.0;

/// How long the processor would take to insert `rows` into an empty graph, about.
pub(super) fn processor_takes(build: &mut Build<'_>, rows: &[u32]) -> Duration {
    let (space, ef) = (build.space, build.ef as f64);
    let threads = build.workers.len() as f64;
    let Some(worker) = build.workers.first_mut() else { return Duration::ZERO };
    let mut out = vec![0.0; DISTANCES];
    let mut seconds = Vec::with_capacity(AIMS);
    for ids in rows.chunks(DISTANCES).take(AIMS) {
        let started = Instant::now();
        space.aim_by_code(&mut worker.probe, ids[0]);
        space.distances(&worker.probe, ids, &mut out[..ids.len()]);
        seconds.push(started.elapsed().as_secs_f64() / ids.len() as f64);
    }
    // The median: others may take the core in between, for longer than all of this takes.
    seconds.sort_unstable_by(f64::total_cmp);
    let one = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    Duration::from_secs_f64(one * DISTANCES_PER_CANDIDATE * ef * rows.len() as f64 / threads)
}

/// How fast a device is.
pub(super) struct Pace {
    /// Longer than this all of the work must not take.
    limit: Duration,
    /// Nothing is said before it has worked for so long.
    after: Duration,
    /// Where it was when it was first seen to have done something: before that kernels are loaded.
    start: Option<(Duration, f64)>,
    part: f64,
}

impl Pace {
    pub(super) fn new(limit: Duration, after: Duration) -> Pace {
        Pace { limit, after, start: None, part: 0.0 }
    }

    /// `worked`: how long the device has had work by now. `part`: how much of all is done. Returns how long all of it
    /// takes if that is too long.
    pub(super) fn too_slow(&mut self, worked: Duration, part: f64) -> Option<Duration> {
        // The same part as before says nothing new: something is on its way.
        if part <= self.part {
            return None;
        }
        self.part = part;
        let (since, before) = *self.start.get_or_insert((worked, part));
        let spent = worked.saturating_sub(since);
        if part <= before || spent < self.after {
            return None;
        }
        let whole =
            Duration::try_from_secs_f64(spent.as_secs_f64() / (part - before)).unwrap_or(Duration::MAX);
        (whole > self.limit).then_some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_slow_device_is_told_by_what_it_does_after_its_first_part() {
        // A hundredth per second: 100 seconds.
        let told = |limit| {
            let mut pace = Pace::new(seconds(limit), seconds(1));
            let told = (30..40).map(|second| pace.too_slow(seconds(second), (second - 29) as f64 / 100.0));
            told.collect::<Vec<_>>()
        };
        assert!(told(101).iter().all(Option::is_none));
        let slow = told(99);
        assert_eq!(slow[0], None);
        assert!(
            slow[1..]
                .iter()
                .all(|whole| whole.is_some_and(|whole| whole.abs_diff(seconds(100)) < seconds(1)))
        );
    }

    #[test]
    fn nothing_is_said_too_early_or_twice_of_the_same_part() {
        let mut pace = Pace::new(seconds(1), seconds(3));
        assert_eq!(pace.too_slow(seconds(10), 0.0), None);
        assert_eq!(pace.too_slow(seconds(60), 0.01), None);
        assert_eq!(pace.too_slow(seconds(62), 0.02), None); // two seconds are not three
        assert_eq!(pace.too_slow(seconds(70), 0.02), None);
        assert!(pace.too_slow(seconds(71), 0.03).is_some());
    }
}
