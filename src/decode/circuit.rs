//! Stops a pipeline in which too many records fail, rather than drain a topic into quarantine.
use std::collections::VecDeque;

use super::DecodeError;
use crate::config::pipeline::CircuitSpec;

/// Counts failures among the last `window` records.
#[derive(Debug)]
pub(super) struct Circuit {
    spec: CircuitSpec,
    /// Failed or not, oldest first; at most `window`.
    last: VecDeque<bool>,
    failed: u64,
}

impl Circuit {
    pub fn new(spec: CircuitSpec) -> Self {
        Self { spec, last: VecDeque::new(), failed: 0 }
    }

    /// Takes note of a batch's records, in order, and of the latest failure's reason.
    ///
    /// Opens as soon as the failures among the last `window` records exceed `max_ratio × window`, so a topic
    /// shorter than the window opens it as well when enough of it fails. A batch that opens it is not
    /// written: it is tried again after a fix.
    pub fn observe(
        &mut self,
        outcomes: impl IntoIterator<Item = bool>,
        last_reason: &str,
    ) -> Result<(), DecodeError> {
        let window = self.spec.window as usize;
        let limit = self.spec.max_ratio * f64::from(self.spec.window);
        let mut is_open = false;
        for has_failed in outcomes {
            if self.last.len() == window {
                self.failed -= u64::from(self.last.pop_front() == Some(true));
            }
            self.last.push_back(has_failed);
            self.failed += u64::from(has_failed);
            is_open |= has_failed && self.failed as f64 > limit;
        }
        if !is_open {
            return Ok(());
        }
        Err(DecodeError::CircuitOpen {
            rejected: self.failed,
            window: self.last.len() as u64,
            limit: self.spec.max_ratio,
            last: last_reason.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_past_the_ratio_and_forgets_what_left_the_window() {
        let mut circuit = Circuit::new(CircuitSpec { max_ratio: 0.2, window: 10 });
        assert!(circuit.observe([true, true, false], "x").is_ok());
        assert!(
            circuit
                .observe([true], "the reason")
                .is_err_and(|error| error.to_string().contains("the reason"))
        );
        let mut circuit = Circuit::new(CircuitSpec { max_ratio: 0.2, window: 10 });
        assert!((0..100).all(|index| circuit.observe([index % 5 == 0], "x").is_ok()));
        let mut never = Circuit::new(CircuitSpec { max_ratio: 1.0, window: 3 });
        assert!(never.observe([true; 50], "x").is_ok());
    }
}
