//! Samples kept whole: the longest run has some hundred thousand, and exact quantiles need no parameters.
use std::time::Duration;

use serde_json::{Value, json};

/// Times of one kind of event.
#[derive(Debug, Default)]
pub struct Latencies {
    samples: Vec<Duration>,
    is_sorted: bool,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, sample: Duration) {
        self.samples.push(sample);
        self.is_sorted = false;
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.is_sorted = false;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// The smallest sample that at least `share` of all do not exceed, in milliseconds; 0 of nothing.
    pub fn millis(&mut self, share: f64) -> f64 {
        if !self.is_sorted {
            self.samples.sort_unstable();
            self.is_sorted = true;
        }
        let rank = (self.samples.len() as f64 * share).ceil() as usize;
        self.samples.get(rank.saturating_sub(1)).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// The usual quantiles.
    pub fn json(&mut self) -> Value {
        let at = |share, these: &mut Self| (these.millis(share) * 1e3).round() / 1e3;
        json!({
            "samples": self.len(),
            "p50_ms": at(0.5, self), "p90_ms": at(0.9, self), "p95_ms": at(0.95, self),
            "p99_ms": at(0.99, self), "p999_ms": at(0.999, self), "max_ms": at(1.0, self),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut times = Latencies::default();
        for ms in (1..=100).rev() {
            times.add(Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 50.0), (0.99, 99.0), (0.999, 100.0), (1.0, 100.0)] {
            assert_eq!(times.millis(share), ms, "{share}");
        }
        assert_eq!(Latencies::default().millis(0.5), 0.0);
    }
}
