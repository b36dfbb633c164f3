//! Which devices there are, and why there are none.
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::gpu::guarded;
use crate::{GpuError, KnnBackend, cuda, opencl};

/// By which interface a device is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// NVIDIA's.
    Cuda,
    /// Everybody's.
    OpenCl,
    /// None: the reference of the tests.
    Processor,
}

impl Kind {
    /// Its name in settings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cuda => "cuda",
            Self::OpenCl => "opencl",
            Self::Processor => "processor",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cuda => "CUDA",
            Self::OpenCl => "OpenCL",
            Self::Processor => "processor",
        })
    }
}

/// A device that graphs may be built on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// How it is driven.
    pub kind: Kind,
    /// Among the devices of its kind.
    pub index: usize,
    /// As its maker calls it.
    pub name: String,
    /// Version of its driver.
    pub driver: String,
    /// Of its memory.
    pub bytes: usize,
    /// Is it this machine's processor, driven as if it were a GPU? Useful for tests alone.
    pub is_processor: bool,
}

impl Device {
    /// Gets it ready: a context, and kernels compiled for it.
    pub fn open(&self) -> Result<Box<dyn KnnBackend>, GpuError> {
        let _alone = alone();
        match self.kind {
            Kind::Cuda => Ok(Box::new(cuda::Cuda::open(self)?)),
            Kind::OpenCl => Ok(Box::new(opencl::OpenCl::open(self)?)),
            Kind::Processor => Err(GpuError::NoDevice { kind: self.kind }),
        }
    }
}

/// What a look around has found.
#[derive(Debug)]
pub struct Found {
    /// Devices, the best kind first.
    pub devices: Vec<Device>,
    /// Kinds without one, and why.
    pub missing: Vec<(Kind, GpuError)>,
}

/// One thread at a time sets drivers up: not all of them say that they bear more.
fn alone() -> MutexGuard<'static, ()> {
    static DRIVERS: Mutex<()> = Mutex::new(());
    DRIVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for devices. Loads the drivers' libraries where they are installed, which takes some time.
pub fn detect() -> Found {
    let _alone = alone();
    type Look = fn() -> Result<Vec<Device>, GpuError>;
    let looks: [(Kind, Look); 2] = [(Kind::Cuda, cuda::devices), (Kind::OpenCl, opencl::devices)];
    let mut found = Found { devices: Vec::new(), missing: Vec::new() };
    for (kind, look) in looks {
        match guarded(look) {
            Ok(devices) if devices.is_empty() => found.missing.push((kind, GpuError::NoDevice { kind })),
            Ok(devices) => found.devices.extend(devices),
            Err(error) => found.missing.push((kind, error)),
        }
    }
    found
}
