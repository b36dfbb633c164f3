//! hnsw_rs, the graph that Rust projects reach for first.
use std::path::Path;

use hnsw_rs::prelude::{AnnT, DistL2, Hnsw, HnswIo};
use serde_json::Value;

use crate::Result;
use crate::commands::{Engine, Want};
use crate::data::{DataSet, Mask};

/// Layers at most, as its examples have it.
const LAYERS: usize = 16;

/// A graph that owns a copy of the rows. Cosine is l2 of unit vectors, whose order is the same: its dot
/// product gives up on a rounding error.
pub struct Baseline {
    data: DataSet,
    graph: Option<Hnsw<'static, f32, DistL2>>,
}

impl Baseline {
    /// Nothing built or opened yet.
    pub fn new(data: DataSet) -> Self {
        Self { data, graph: None }
    }
}

/// Folder and base name of its two files.
fn place(path: &Path) -> Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    Ok((path.parent().ok_or("no folder")?, name.ok_or("no file name")?))
}

impl Engine for Baseline {
    fn data(&self) -> &DataSet {
        &self.data
    }

    /// Threads are rayon's: `RAYON_NUM_THREADS`.
    fn build(&mut self, params: &Value, _threads: usize, path: &Path) -> Result<()> {
        let number = |name: &str| params[name].as_u64().ok_or_else(|| format!("{name} is missing"));
        let rows: Vec<(&[f32], usize)> =
            self.data.rows().chunks_exact(self.data.dim).enumerate().map(|(at, row)| (row, at)).collect();
        let (m, ef) = (number("m")? as usize, number("ef_construct")? as usize);
        let graph = Hnsw::<f32, DistL2>::new(m, rows.len(), LAYERS, ef, DistL2 {});
        graph.parallel_insert_slice(&rows);
        let (folder, name) = place(path)?;
        graph.file_dump(folder, name)?;
        Ok(())
    }

    fn open(&mut self, path: &Path) -> Result<()> {
        let (folder, name) = place(path)?;
        // What it loads borrows from its reader, and both live until the process ends.
        let reader = Box::leak(Box::new(HnswIo::new(folder, name)));
        let mut graph: Hnsw<'static, f32, DistL2> = reader.load_hnsw()?;
        graph.set_searching_mode(true);
        self.graph = Some(graph);
        Ok(())
    }

    fn search(&self, query: &[f32], want: Want, into: &mut Vec<u32>) -> Result<()> {
        let graph = self.graph.as_ref().ok_or("open it first")?;
        into.extend(graph.search(query, want.k, want.ef).iter().map(|hit| hit.d_id as u32));
        Ok(())
    }

    fn filter(&self, _: &[f32], _: &Mask, _: Want, _: &mut Vec<u32>) -> Result<()> {
        Err("it takes minutes for filters that little matches, and is not measured with any".into())
    }
}
