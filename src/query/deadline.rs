//! When a read gives up.
use std::time::{Duration, Instant};

use super::QueryError;

/// Later is never: an hour is the longest that doors let a request ask for.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);

/// An instant, and the limit that led to it, which the caller is told.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// So long from now.
    pub fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout.min(TIMEOUT_MAX), timeout }
    }

    /// The instant.
    pub fn at(self) -> Instant {
        self.at
    }

    /// [`QueryError::Timeout`] once it has passed.
    pub fn check(self) -> Result<(), QueryError> {
        if Instant::now() < self.at { Ok(()) } else { Err(QueryError::Timeout { timeout: self.timeout }) }
    }
}
