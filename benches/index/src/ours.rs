//! Where ProximaDB's index is called, and nowhere else.
use std::path::Path;

use proximadb::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, VectorBlock, VectorIndex, exact_rows,
    exact_scan,
};
use proximadb::types::{Distance, GraphParams};
use serde_json::Value;

use crate::Result;
use crate::commands::{Engine, Want};
use crate::data::{DataSet, Mask};

/// As `query` does: so few matching rows are scanned rather than walked to.
const SCAN_PER_CANDIDATE: usize = 32;

/// A graph file and the mapped rows it belongs to.
pub struct Ours {
    data: DataSet,
    graph: Option<Graph>,
}

impl Ours {
    /// Nothing built or opened yet.
    pub fn new(data: DataSet) -> Self {
        Self { data, graph: None }
    }

    fn block(&self) -> VectorBlock<'_> {
        let distance = if self.data.cosine { Distance::Cosine } else { Distance::L2 };
        VectorBlock { dim: self.data.dim, rows: self.data.rows(), distance }
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
        self.graph = Some(Graph::open(path)?);
        Ok(())
    }

    fn search(&self, query: &[f32], want: Want, into: &mut Vec<u32>) -> Result<()> {
        let block = self.block();
        let hits = match (&self.graph, want.ef) {
            (Some(graph), 1..) => {
                let admit = |_| true;
                let ask = IndexQuery {
                    vector: query,
                    k: want.k,
                    ef_search: want.ef,
                    admit: &admit,
                    deadline: None,
                };
                graph.search(block, &ask)?
            }
            _ => exact_scan(block, query, want.k, |_| true),
        };
        into.extend(hits.rows.iter().map(|hit| hit.1));
        Ok(())
    }

    /// Scans where few rows match or the graph finds too few, like a server's search of one segment.
    fn filter(&self, query: &[f32], mask: &Mask, want: Want, into: &mut Vec<u32>) -> Result<()> {
        let graph = self.graph.as_ref().ok_or("open it first")?;
        let block = self.block();
        let scan = || exact_rows(block, query, want.k, mask.rows());
        let mut hits = Default::default();
        if mask.count > want.ef * SCAN_PER_CANDIDATE {
            let admit = |row| mask.admits(row);
            let ask =
                IndexQuery { vector: query, k: want.k, ef_search: want.ef, admit: &admit, deadline: None };
            hits = graph.search(block, &ask)?;
        }
        if hits.rows.len() < want.k.min(mask.count) {
            hits = scan();
        }
        into.extend(hits.rows.iter().map(|hit| hit.1));
        Ok(())
    }
}
