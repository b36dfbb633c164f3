//! One device, shared by all builds of the process: one at a time.
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::backend::{Limits, Products};
use crate::{Device, GpuError, KnnBackend, Points, tiles};

/// Between two looks whether the device is free.
const WAIT: Duration = Duration::from_millis(10);

/// A device, opened when somebody asks for it or when it is first needed.
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

    /// Gets the device ready, unless it is: a second or two of context, kernels and libraries. Says what will compute
    /// products.
    pub fn open(&self) -> Result<Products, GpuError> {
        let mut backend = self.backend.lock().unwrap_or_else(PoisonError::into_inner);
        guarded(|| Ok(self.opened(&mut backend)?.products()))
    }

    /// See [`tiles::nearest`]. Waits while another build has the device. After a failure the device is opened anew
    /// the next time.
    pub fn nearest(
        &self,
        points: &Points<'_>,
        k: usize,
        go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
        found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), GpuError> {
        let mut backend = self.lock(go_on)?;
        let outcome = guarded(|| {
            let backend = self.opened(&mut backend)?;
            let Limits { bytes, buffer_bytes } = backend.limits()?;
            let limits =
                Limits { bytes: bytes.min(self.bytes_max), buffer_bytes: buffer_bytes.min(self.bytes_max) };
            tiles::nearest(backend, points, k, limits, go_on, found)
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

    fn opened<'a>(
        &self,
        backend: &'a mut Option<Box<dyn KnnBackend>>,
    ) -> Result<&'a mut dyn KnnBackend, GpuError> {
        let backend = match backend {
            Some(backend) => backend,
            none => none.insert(self.device.open()?),
        };
        Ok(backend.as_mut())
    }

    fn lock(
        &self,
        go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
    ) -> Result<MutexGuard<'_, Option<Box<dyn KnnBackend>>>, GpuError> {
        loop {
            match self.backend.try_lock() {
                Ok(backend) => return Ok(backend),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if go_on(0.0).is_break() => return Err(GpuError::Cancelled),
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
