//! Work shared by threads.
use std::sync::atomic::Ordering;
use std::thread;

use parking_lot::Mutex;

use crate::index::{BuildControl, IndexError};

/// Threads of a build, and whoever may stop it.
#[derive(Clone, Copy)]
pub(super) struct Workers<'a> {
    pub(super) threads: usize,
    pub(super) control: &'a BuildControl,
}

impl Workers<'_> {
    /// Runs jobs on all threads, each of which has memory of its own. Which thread runs which job must not
    /// matter.
    pub(super) fn run<J: Send, W: Default>(
        self,
        jobs: impl Iterator<Item = J> + Send,
        run: impl Fn(&mut W, J) + Sync,
    ) -> Result<(), IndexError> {
        let jobs = Mutex::new(jobs);
        let next = || jobs.lock().next();
        let cancelled = || self.control.cancelled.load(Ordering::Relaxed);
        let work = || {
            let mut memory = W::default();
            while !cancelled()
                && let Some(job) = next()
            {
                run(&mut memory, job);
            }
        };
        thread::scope(|scope| {
            (1..self.threads).for_each(|_| {
                scope.spawn(work);
            });
            work();
        });
        if cancelled() { Err(IndexError::Cancelled) } else { Ok(()) }
    }
}
