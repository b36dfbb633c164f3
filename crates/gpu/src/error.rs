//! Why a device did not do what it was asked for.
use crate::Kind;

/// Why a device did not do what it was asked for. The caller does it on the processor instead.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    /// A library is not installed.
    #[error("{library} cannot be loaded; install {package}")]
    NoLibrary {
        /// As it is called on Linux.
        library: &'static str,
        /// What brings it.
        package: &'static str,
    },
    /// The driver knows no such device.
    #[error("{kind} finds no device")]
    NoDevice {
        /// Whose driver.
        kind: Kind,
    },
    /// The device cannot run our kernels.
    #[error("{device} cannot be used: {reason}")]
    Unfit {
        /// Its name.
        device: String,
        /// What it lacks.
        reason: String,
    },
    /// Not even the smallest tiles fit.
    #[error("{bytes} bytes of device memory are not enough for points of {dim} components")]
    NoMemory {
        /// What may be used.
        bytes: usize,
        /// Of the points.
        dim: usize,
    },
    /// More neighbours than the kernel has room for, or none.
    #[error("{k} neighbours were asked for; 1 to 256 can be found")]
    Count {
        /// Asked for.
        k: usize,
    },
    /// A call of the driver failed.
    #[error("{kind} cannot {doing}: {reason}")]
    Driver {
        /// Whose driver.
        kind: Kind,
        /// A verb and its object.
        doing: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// A library of the driver's, or its binding, panicked.
    #[error("the driver's library failed: {0}")]
    Panicked(String),
    /// Somebody asked for it.
    #[error("cancelled")]
    Cancelled,
}

impl GpuError {
    /// Turns a driver's error into ours.
    pub(crate) fn of<E: std::fmt::Debug>(kind: Kind, doing: &'static str) -> impl FnOnce(E) -> GpuError {
        move |error| GpuError::Driver { kind, doing, reason: format!("{error:?}") }
    }
}
