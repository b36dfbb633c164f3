//! Where ProximaDB's index is called, and nowhere else.
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use proximadb::index::{
    BuildControl, Clusters, Graph, GraphBuilder, IndexBuilder, IndexQuery, Ivf, IvfBuilder, VectorBlock,
    VectorIndex, exact_rows, exact_scan,
};
use proximadb::types::{CodedSearch, Distance, GraphParams, Levels, Quantization};
use serde_json::Value;

use crate::Result;
use crate::commands::{Engine, Want};
use crate::data::{DataSet, Mask};

/// Which of the product's indexes.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Graph,
    Ivf,
}

/// An index, and the mapped rows it belongs to.
pub struct Ours {
    data: DataSet,
    kind: Kind,
    index: Option<Box<dyn VectorIndex>>,
    /// Is the index's file to be mapped, rather than read into memory?
    mapped: bool,
    codes: CodedSearch,
    scans: AtomicU64,
}

impl Ours {
    /// Nothing built or opened yet.
    pub fn new(data: DataSet, kind: Kind, mapped: bool) -> Self {
        let (codes, scans) = (CodedSearch::default(), AtomicU64::new(0));
        Self { data, kind, index: None, mapped, codes, scans }
    }

    fn block(&self) -> VectorBlock<'_> {
        let distance = if self.data.cosine { Distance::Cosine } else { Distance::L2 };
        VectorBlock { dim: self.data.dim, rows: self.data.rows(), distance }
    }

    /// As a server searches one segment: the index decides how, and where it finds too few rows all are scanned.
    fn find(&self, vector: &[f32], matching: Option<&Mask>, want: Want, into: &mut Vec<u32>) -> Result<()> {
        let index = self.index.as_ref().ok_or("open it first")?;
        let block = self.block();
        let alive_rows = block.len();
        let query = IndexQuery {
            vector,
            k: want.k,
            ef_search: want.ef,
            matching,
            alive: &|_| true,
            alive_rows,
            codes: self.codes,
            deadline: None,
        };
        let mut hits = index.search(block, &query)?;
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
        let quantization = serde_json::from_value::<Option<Quantization>>(params["quantization"].clone())?;
        if self.kind == Kind::Ivf {
            let clusters = params["clusters"].as_u64();
            let clusters = clusters.map_or(Clusters::Auto, |count| Clusters::Count(count as u32));
            let builder = IvfBuilder { clusters, quantization, threads, seed: 1 };
            return Ok(builder.build(self.block(), path, &BuildControl::default())?);
        }
        let base = GraphParams::default();
        let params = GraphParams {
            m: number("m", base.m),
            ef_construct: number("ef_construct", base.ef_construct),
            levels: if params["levels"] == "on" { Levels::On } else { base.levels },
            quantization,
            ..base
        };
        let builder = GraphBuilder { params, threads, seed: 1 };
        Ok(builder.build(self.block(), path, &BuildControl::default())?)
    }

    fn open(&mut self, path: &Path) -> Result<()> {
        self.index = Some(match (self.kind, self.mapped) {
            (Kind::Graph, false) => Box::new(Graph::open(path)?),
            (Kind::Graph, true) => Box::new(Graph::open_mapped(path)?),
            (Kind::Ivf, false) => Box::new(Ivf::open(path)?),
            (Kind::Ivf, true) => Box::new(Ivf::open_mapped(path)?),
        });
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
