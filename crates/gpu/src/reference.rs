//! What devices are compared with: the definition, on the processor.
use std::ops::Range;

use crate::backend::EMPTY;
use crate::{Device, GpuError, Kind, KnnBackend, Limits, Products, Shape, Tile};

/// Compares one by one, in f64. For tests.
pub struct Reference {
    device: Device,
    limits: Limits,
    shape: Option<Shape>,
    slots: Vec<Vec<f32>>,
    lists: Vec<u64>,
}

impl Reference {
    /// One that claims to have so much memory.
    pub fn new(limits: Limits) -> Reference {
        let device = Device {
            kind: Kind::Processor,
            index: 0,
            name: "reference".into(),
            driver: String::new(),
            bytes: limits.bytes,
            is_processor: true,
        };
        Reference { device, limits, shape: None, slots: Vec::new(), lists: Vec::new() }
    }

    fn shape(&self) -> Shape {
        self.shape.expect("begin comes first")
    }

    fn point(&self, slot: usize, place: usize) -> &[f32] {
        let dim = self.shape().dim;
        &self.slots[slot][place * dim..][..dim]
    }
}

impl KnnBackend for Reference {
    fn device(&self) -> &Device {
        &self.device
    }

    fn products(&self) -> Products {
        Products { by: "the definition", slow_because: None }
    }

    fn limits(&self) -> Result<Limits, GpuError> {
        Ok(self.limits)
    }

    fn begin(&mut self, shape: Shape) -> Result<(), GpuError> {
        self.shape = Some(shape);
        self.slots = vec![vec![0.0; shape.dim * shape.slot_points]; shape.slots];
        self.lists = vec![EMPTY; shape.slot_points * shape.k];
        Ok(())
    }

    fn upload(&mut self, slot: usize, at: usize, points: &[f32], _squares: &[f32]) -> Result<(), GpuError> {
        let start = at * self.shape().dim;
        self.slots[slot][start..start + points.len()].copy_from_slice(points);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), GpuError> {
        self.lists.fill(EMPTY);
        Ok(())
    }

    fn compare(&mut self, tile: &Tile) -> Result<(), GpuError> {
        let k = self.shape().k;
        for query in tile.queries.clone() {
            let mut keys = self.lists[query * k..][..k].to_vec();
            for row in tile.rows.clone() {
                let position = tile.rows_first + row;
                let pairs = self.point(0, query).iter().zip(self.point(tile.row_slot, row));
                let distance = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() as f32;
                if distance.is_finite() && position != tile.queries_first + query {
                    keys.push(u64::from(distance.to_bits()) << 32 | position as u64);
                }
            }
            keys.sort_unstable();
            self.lists[query * k..][..k].copy_from_slice(&keys[..k]);
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), GpuError> {
        Ok(())
    }

    fn read(&mut self, queries: Range<usize>, lists: &mut [u64]) -> Result<(), GpuError> {
        let k = self.shape().k;
        lists.copy_from_slice(&self.lists[queries.start * k..queries.end * k]);
        Ok(())
    }

    fn end(&mut self) {
        self.slots.clear();
        self.lists.clear();
    }
}
