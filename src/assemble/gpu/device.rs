//! A GPU as graph builds see it, and which one.
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use proximadb_gpu::{Device, Found, Gpu, GpuError, K_MAX, Kind, NONE, detect};

use crate::config::GpuChoice;
use crate::index::{NO_NEIGHBOUR, Neighbours, NeighboursError, Points};

const _: () = assert!(NONE == NO_NEIGHBOUR);

/// See [`super::find`].
pub(super) fn find(choice: GpuChoice) -> Result<Arc<dyn Neighbours>, String> {
    let found = detect();
    for kind in [Kind::Cuda, Kind::OpenCl] {
        let count = found.devices.iter().filter(|device| device.kind == kind).count();
        metrics::gauge!("proximadb_gpu_devices", "kind" => kind.name()).set(count as f64);
    }
    let Some(device) = choose(choice, &found) else {
        let missing: Vec<String> = found.missing.iter().map(|(_, why)| why.to_string()).collect();
        return Err(if missing.is_empty() { "no device that is a GPU".into() } else { missing.join("; ") });
    };
    let Device { kind, name, driver, bytes, .. } = device;
    tracing::info!(%kind, name, driver, mib = bytes >> 20, "graphs of large segments are built on a GPU");
    Ok(Arc::new(OnGpu::new(Gpu::new(device.clone()))))
}

/// The first that the settings allow.
fn choose(choice: GpuChoice, found: &Found) -> Option<&Device> {
    found.devices.iter().find(|device| match choice {
        GpuChoice::Auto => !device.is_processor,
        GpuChoice::Off => false,
        GpuChoice::Cuda => device.kind == Kind::Cuda,
        GpuChoice::OpenCl => device.kind == Kind::OpenCl,
    })
}

/// A GPU as graph builds see it.
struct OnGpu {
    gpu: Gpu,
    name: String,
}

impl OnGpu {
    fn new(gpu: Gpu) -> OnGpu {
        let name = format!("{} by {}", gpu.device().name, gpu.device().kind);
        OnGpu { gpu, name }
    }
}

impl Neighbours for OnGpu {
    fn name(&self) -> &str {
        &self.name
    }

    fn k_max(&self) -> usize {
        K_MAX
    }

    fn nearest(
        &self,
        points: &Points<'_>,
        k: usize,
        cancelled: &AtomicBool,
        found: &mut dyn FnMut(usize, &[u32]),
    ) -> Result<(), NeighboursError> {
        let Points { count, among, dim, threads, copy } = *points;
        let points = proximadb_gpu::Points { count, among, dim, threads, copy };
        match self.gpu.nearest(&points, k, cancelled, found) {
            Ok(()) => Ok(()),
            Err(GpuError::Cancelled) => Err(NeighboursError::Cancelled),
            Err(error) => Err(NeighboursError::Failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests;
