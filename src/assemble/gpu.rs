//! Looks for a GPU that helps with graph builds, and lets them have it.
use std::path::Path;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use crate::config::{GpuChoice, IndexConfig};
use crate::index::{Accelerator, Neighbours};

#[cfg(feature = "gpu")]
mod device;

/// What Linux shows of a GPU, whoever made it: NVIDIA; AMD; those that draw, of all makers; ARM; a virtual machine's.
const DEVICE_FILES: [&str; 5] = ["/dev/nvidiactl", "/dev/kfd", "/dev/dri", "/dev/mali0", "/dev/dxg"];

/// Looks for a device as the settings say, on a thread of its own: drivers take a second to get ready, and builds do
/// without until one is found. What was found, or why nothing, is logged.
pub(super) fn look(config: &IndexConfig, accelerator: &Accelerator) -> Option<JoinHandle<()>> {
    let choice = config.gpu;
    if choice == GpuChoice::Off {
        tracing::info!("graphs are built on the processor, as index.gpu says");
        return None;
    }
    // Libraries of drivers are tens of megabytes; without a GPU there is nothing for them to find.
    let shown = DEVICE_FILES.iter().any(|path| Path::new(path).exists());
    if choice == GpuChoice::Auto && cfg!(target_os = "linux") && !shown {
        tracing::info!("graphs are built on the processor: the system shows no GPU");
        return None;
    }
    let accelerator = accelerator.clone();
    let looking = Builder::new().name("gpu".into()).spawn(move || match find(choice) {
        // A device that was asked for is used even where the processor is faster.
        Ok(device) => accelerator.install(device, choice == GpuChoice::Auto),
        Err(why) if choice == GpuChoice::Auto => tracing::info!(why, "graphs are built on the processor"),
        Err(why) => tracing::warn!(why, ?choice, "no such device: graphs are built on the processor"),
    });
    looking.inspect_err(|error| tracing::warn!(%error, "cannot look for a GPU")).ok()
}

/// The best device that a setting allows, ready for work, else why there is none.
#[cfg(feature = "gpu")]
pub fn find(choice: GpuChoice) -> Result<Arc<dyn Neighbours>, String> {
    device::find(choice)
}

/// None: this program was built without.
#[cfg(not(feature = "gpu"))]
pub fn find(_choice: GpuChoice) -> Result<Arc<dyn Neighbours>, String> {
    Err("this program was built without the feature `gpu`".into())
}
