//! One device, shared by all builds of the process: one at a time.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::Duration;

use crate::backend::Limits;
use crate::{Device, GpuError, KnnBackend, Points, tiles};

/// Between two looks whether the device is free.
const WAIT: Duration = Duration::from_millis(10);

/// A device, opened when it is first needed.
pub struct Gpu {
    device: Device,
    bytes_max: usize,
    backend: Mutex<Option<Box<dyn KnnBackend>>>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gpu").field("device", &self.device).finish_non_exhaustive()
    }
}

impl Gpu {
    /// Takes as much of the device's memory as is free.
    pub fn new(device: Device) -> Gpu {
        Gpu::with_memory(device, usize::MAX)
    }

    /// Takes at most so much of the device's memory.
    pub fn with_memory(device: Device, bytes_max: usize) -> Gpu {
        Gpu { device, bytes_max, backend: Mutex::new(None) }
    }

    /// Which device it is.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// See [`tiles::nearest`]. Waits while another build has the device. After a failure the device is opened anew
    /// the next time.
    pub fn nearest(
        &self,
        points: &Points<'_>,
        k: usize,
        cancelled: &AtomicBool,
        found: &mut dyn FnMut(usize, &[u32]),
    ) -> Result<(), GpuError> {
        let mut backend = self.lock(cancelled)?;
        let outcome = guarded(|| {
            let backend = match &mut *backend {
                Some(backend) => backend,
                none => none.insert(self.device.open()?),
            };
            let Limits { bytes, buffer_bytes } = backend.limits()?;
            let limits =
                Limits { bytes: bytes.min(self.bytes_max), buffer_bytes: buffer_bytes.min(self.bytes_max) };
            tiles::nearest(backend.as_mut(), points, k, limits, cancelled, found)
        });
        if matches!(outcome, Err(GpuError::Driver { .. } | GpuError::Panicked(_))) {
            let lost = backend.take();
            let _ = guarded(move || {
                drop(lost);
                Ok(())
            });
        }
        outcome
    }

    fn lock(&self, cancelled: &AtomicBool) -> Result<MutexGuard<'_, Option<Box<dyn KnnBackend>>>, GpuError> {
        loop {
            match self.backend.try_lock() {
                Ok(backend) => return Ok(backend),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if cancelled.load(Ordering::Relaxed) => {
                    return Err(GpuError::Cancelled);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(WAIT),
            }
        }
    }
}

/// G4: the bindings panic where a library lacks a function, or a driver answers what they didn't expect.
pub(crate) fn guarded<T>(call: impl FnOnce() -> Result<T, GpuError>) -> Result<T, GpuError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it doesn't say why");
        Err(GpuError::Panicked(text.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_why() {
        let outcome: Result<(), GpuError> = guarded(|| panic!("no symbol {}", "cuFoo"));
        let text = outcome.expect_err("it panicked").to_string();
        assert_eq!(text, "the driver's library failed: no symbol cuFoo");
    }
}
