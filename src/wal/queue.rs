//! The queue in front of the log thread: bounded by items and bytes, drained a group at a time.
//!
//! A channel bounds items only, and leaves a moment after closing in which an item can be sent and never
//! received. Here both are decided under one lock: what was pushed is handed out, or given back.
use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

#[derive(Debug)]
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    not_empty: Condvar,
    not_full: Condvar,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    closed: bool,
}

/// Why an item was not taken; it comes back.
#[derive(Debug)]
pub(super) enum Refused<T> {
    Full(T),
    Closed(T),
}

impl<T> Queue<T> {
    pub fn new(count_max: usize, bytes_max: usize) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, closed: false };
        let (not_empty, not_full) = (Condvar::new(), Condvar::new());
        Self { state: Mutex::new(state), not_empty, not_full, count_max, bytes_max }
    }

    /// Waits for room. An item larger than the bound is taken when the queue is empty.
    pub fn push(&self, bytes: usize, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        while !state.closed && !self.has_room(&state, bytes) {
            self.not_full.wait(&mut state);
        }
        if state.closed {
            return Err(item);
        }
        self.accept(&mut state, bytes, item);
        Ok(())
    }

    /// Takes the item if there is room now.
    pub fn try_push(&self, bytes: usize, item: T) -> Result<(), Refused<T>> {
        let mut state = self.state.lock();
        match (state.closed, self.has_room(&state, bytes)) {
            (true, _) => Err(Refused::Closed(item)),
            (false, false) => Err(Refused::Full(item)),
            (false, true) => {
                self.accept(&mut state, bytes, item);
                Ok(())
            }
        }
    }

    /// Waits for items and takes as many as stay within both bounds, at least one; `None` once the queue
    /// is closed and empty.
    pub fn pop_group(&self, count_max: usize, bytes_max: usize) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            self.not_empty.wait(&mut state);
        }
        let mut group = Vec::new();
        let mut group_bytes = 0;
        while let Some((bytes, _)) = state.items.front() {
            let fits = group.len() < count_max && group_bytes + bytes <= bytes_max;
            if !fits && !group.is_empty() {
                break;
            }
            group_bytes += bytes;
            group.extend(state.items.pop_front().map(|(_, item)| item));
        }
        state.bytes -= group_bytes;
        drop(state);
        self.not_full.notify_all();
        Some(group)
    }

    /// Refuses everything from now on; what is queued is still handed out.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.not_full.notify_all();
        self.not_empty.notify_all();
    }

    /// Closes, and gives back what nobody will handle any more.
    pub fn abandon(&self) -> Vec<T> {
        self.close();
        let mut state = self.state.lock();
        state.bytes = 0;
        state.items.drain(..).map(|(_, item)| item).collect()
    }

    fn has_room(&self, state: &State<T>, bytes: usize) -> bool {
        let fits = state.items.len() < self.count_max && state.bytes + bytes <= self.bytes_max;
        fits || state.items.is_empty()
    }

    fn accept(&self, state: &mut State<T>, bytes: usize, item: T) {
        state.items.push_back((bytes, item));
        state.bytes += bytes;
        self.not_empty.notify_one();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_and_groups_keep_the_order() {
        let queue = Queue::new(3, 10);
        queue.push(4, 'a').unwrap();
        queue.push(6, 'b').unwrap();
        assert!(matches!(queue.try_push(1, 'c'), Err(Refused::Full('c'))), "bytes");
        queue.push(0, 'c').unwrap();
        assert!(matches!(queue.try_push(0, 'd'), Err(Refused::Full('d'))), "items");
        assert_eq!(queue.pop_group(9, 9), Some(vec!['a']));
        assert_eq!(queue.pop_group(1, 9), Some(vec!['b']));
        assert!(matches!(queue.try_push(99, 'e'), Err(Refused::Full('e'))));
    }

    #[test]
    fn a_large_item_passes_alone_and_closing_hands_out_what_is_there() {
        let queue = Queue::new(3, 10);
        queue.push(99, 'a').unwrap();
        queue.close();
        assert!(matches!(queue.try_push(0, 'b'), Err(Refused::Closed('b'))));
        assert_eq!(queue.pop_group(9, 9), Some(vec!['a']));
        assert_eq!(queue.pop_group(9, 9), None);
    }
}
