//! Which builder a segment gets.
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::IndexBuilder;
use super::graph_build::GraphBuilder;
use super::knn_build::KnnBuilder;
use super::neighbours::Neighbours;

/// What a build with a device holds in host memory on top: points on their way there, lists on their way back. What
/// it holds per row is no more than other builds are taken to.
const HOST_BYTES: usize = 128 << 20;

/// Devices that must be faster than the processor are judged when they have worked for so long: less says little of
/// their speed, and costs little.
const JUDGED_AFTER: Duration = Duration::from_secs(1);

/// The device that helps with graph builds, if there is one. Clones share it.
#[derive(Clone)]
pub struct Accelerator {
    rows_min: usize,
    device: Arc<OnceLock<Installed>>,
}

struct Installed {
    neighbours: Arc<dyn Neighbours>,
    judged_after: Option<Duration>,
}

impl std::fmt::Debug for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let device = self.device.get().map(|device| device.neighbours.name());
        f.debug_struct("Accelerator").field("rows_min", &self.rows_min).field("device", &device).finish()
    }
}

impl Accelerator {
    /// None yet. Segments of fewer rows than `rows_min` will do without.
    pub fn new(rows_min: usize) -> Accelerator {
        Accelerator { rows_min, device: Arc::default() }
    }

    /// From now on builds get this device. The first one stays. Is it for builds alone in which it is faster than the
    /// processor, or for all of them?
    pub fn install(&self, neighbours: Arc<dyn Neighbours>, if_faster: bool) {
        let judged_after = if_faster.then_some(JUDGED_AFTER);
        let _ = self.device.set(Installed { neighbours, judged_after });
    }

    /// The device that a segment of so many rows is built with.
    fn device_for(&self, rows: usize) -> Option<&Installed> {
        self.device.get().filter(|_| rows >= self.rows_min)
    }

    /// What builds the graph of a segment of so many rows.
    pub fn builder(&self, processor: GraphBuilder, rows: usize) -> Box<dyn IndexBuilder> {
        match self.device_for(rows) {
            Some(Installed { neighbours, judged_after }) => Box::new(KnnBuilder {
                processor,
                neighbours: Arc::clone(neighbours),
                judged_after: *judged_after,
            }),
            None => Box::new(processor),
        }
    }

    /// Bytes of host memory that the device makes a build take on top.
    pub fn host_bytes(&self, rows: usize) -> usize {
        self.device_for(rows).map_or(0, |_| HOST_BYTES)
    }
}
