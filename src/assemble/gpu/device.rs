//! A GPU as graph builds see it, and which one.
use std::ops::ControlFlow;
use std::sync::Arc;

use proximadb_gpu::{Device, Found, Gpu, GpuError, K_MAX, Kind, NONE, Products, detect};

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
    let mut reasons: Vec<String> = found.missing.iter().map(|(_, why)| why.to_string()).collect();
    for device in allowed(choice, &found) {
        let gpu = Gpu::new(device.clone());
        let Device { kind, name, driver, bytes, .. } = device;
        // Now, so that no build has to wait for it, and the log says what to expect.
        match gpu.open() {
            Ok(Products { by, slow_because }) => {
                let mib = bytes >> 20;
                tracing::info!(%kind, name, driver, mib, products = by, "graphs of large segments are built on a GPU");
                if let Some(why) = slow_because {
                    tracing::warn!(name, why, "products on the GPU are many times slower than they could be");
                }
                return Ok(Arc::new(OnGpu::new(gpu)));
            }
            Err(error) => reasons.push(format!("{name} by {kind}: {error}")),
        }
    }
    Err(if reasons.is_empty() { "no device that is a GPU".into() } else { reasons.join("; ") })
}

/// Those that the settings allow, the best first. A processor stands in for no card.
fn allowed(choice: GpuChoice, found: &Found) -> impl Iterator<Item = &Device> {
    let has_card = found.devices.iter().any(|device| device.kind == Kind::OpenCl && !device.is_processor);
    found.devices.iter().filter(move |device| match choice {
        GpuChoice::Auto => !device.is_processor,
        GpuChoice::Off => false,
        GpuChoice::Cuda => device.kind == Kind::Cuda,
        GpuChoice::OpenCl => device.kind == Kind::OpenCl && device.is_processor != has_card,
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
        go_on: &mut dyn FnMut(f64) -> ControlFlow<()>,
        found: &mut dyn FnMut(usize, &[u32]) -> ControlFlow<()>,
    ) -> Result<(), NeighboursError> {
        let Points { count, among, dim, threads, copy } = *points;
        let points = proximadb_gpu::Points { count, among, dim, threads, copy };
        match self.gpu.nearest(&points, k, go_on, found) {
            Ok(()) => Ok(()),
            Err(GpuError::Cancelled) => Err(NeighboursError::Cancelled),
            Err(error) => Err(NeighboursError::Failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests;
