//! Handles of a driver, let go of without a panic.
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The bindings panic when the driver refuses to release a handle, as one of a lost device may. Two such panics
/// in one unwinding end the process; caught in place they end nothing, and the handle was lost anyway.
pub(crate) struct Quiet<T>(Option<T>);

impl<T> Quiet<T> {
    pub(crate) fn new(handle: T) -> Quiet<T> {
        Quiet(Some(handle))
    }
}

impl<T> Deref for Quiet<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken by drop alone")
    }
}

impl<T> DerefMut for Quiet<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("taken by drop alone")
    }
}

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        let handle = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(move || drop(handle)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Refuses;

    impl Drop for Refuses {
        fn drop(&mut self) {
            panic!("the driver refuses");
        }
    }

    #[test]
    fn two_refusals_while_unwinding_end_nothing() {
        let outcome = catch_unwind(|| {
            let _handles = [Quiet::new(Refuses), Quiet::new(Refuses)];
            panic!("lost");
        });
        assert!(outcome.is_err());
    }
}
