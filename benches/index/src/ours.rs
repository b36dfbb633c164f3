//! Where ProximaDB's index is called, and nowhere else.
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use proximadb::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, VectorBlock, VectorIndex, exact_rows,
    exact_scan,
};
use proximadb::types::{Distance, GraphParams};
use serde_json::Value;

use crate::Result;
use crate::commands::{Engine, Want};
use crate::data::{DataSet, Mask};

/// A graph, and the mapped rows it belongs to.
pub struct Ours {
    data: DataSet,
    graph: Option<Graph>,
    /// Is the graph's file to be mapped, rather than read into memory?
    mapped: bool,
    scans: AtomicU64,
}

impl Ours {
    /// Nothing built or opened yet.
    pub fn new(data: DataSet, mapped: bool) -> Self {
        Self { data, graph: None, mapped, scans: AtomicU64::new(0) }
    }

    fn block(&self) -> VectorBlock<'_> {
        let distance = if self.data.cosine { Distance::Cosine } else { Distance::L2 };
        VectorBlock { dim: self.data.dim, rows: self.data.rows(), distance }
    }

    /// As a server searches one segment: the graph decides how, and where it finds too few rows all are scanned.
    fn find(&self, vector: &[f32], matching: Option<&Mask>, want: Want, into: &mut Vec<u32>) -> Result<()> {
        let graph = self.graph.as_ref().ok_or("open it first")?;
        let block = self.block();
        let alive_rows = block.len();
        let query = IndexQuery {
            vector,
            k: want.k,
            ef_search: want.ef,
            matching,
            alive: &|_| true,
            alive_rows,
            deadline: None,
        };
        let mut hits = graph.search(block, &query)?;
        if !hits.scanned && hits.rows.len() < want.k {
            hits = match matching {
                Some(matching) => exact_rows(block, vector, want.k, matching.iter()),
                None => exact_scan(block, vector, want.k, |_| true),
            };
        }
        self.scans.fetch_add(u64::from(hits.scanned), Ordering::Relaxed);
        into.extend(hits.rows.iter().map(|hit| hit.1));
        Ok(())
    }
}

impl Engine for Ours {
    fn data(&self) -> &DataSet {
        &self.data
    }

    fn build(&mut self, params: &Value, threads: usize, path: &Path) -> Result<()> {
        let number = |name: &str, default: u32| params[name].as_u64().map_or(default, |number| number as u32);
        let base = GraphParams::default();
        let params = GraphParams {
            m: number("m", base.m),
            ef_construct: number("ef_construct", base.ef_construct),
            ..base
        };
        let builder = GraphBuilder { params, threads, seed: 1 };
        Ok(builder.build(self.block(), path, &BuildControl::default())?)
    }

    fn open(&mut self, path: &Path) -> Result<()> {
        self.graph = Some(if self.mapped { Graph::open_mapped(path)? } else { Graph::open(path)? });
        Ok(())
    }

    fn search(&self, query: &[f32], want: Want, into: &mut Vec<u32>) -> Result<()> {
        self.find(query, None, want, into)
    }

    fn filter(&self, query: &[f32], mask: &Mask, want: Want, into: &mut Vec<u32>) -> Result<()> {
        self.find(query, Some(mask), want, into)
    }

    fn scans(&self) -> Option<u64> {
        Some(self.scans.load(Ordering::Relaxed))
    }
}
