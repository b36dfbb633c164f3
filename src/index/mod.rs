//! Segment to searchable graph.
//!
//! ```text
//!   .vec rows ──▶ IndexBuilder::build ──▶ .graph file ──▶ VectorIndex::search
//! ```
//! I1 an index is immutable once published. I2 every row can be reached. I3 `search` returns only rows
//! that match and are alive, nearest first, and says how many it looked at.
mod accelerator;
mod ahead;
mod beam;
mod blocks_file;
mod choice;
mod code_chunk;
mod codes;
mod entries;
#[cfg(test)]
mod filter_tests;
mod flat;
mod graph_build;
mod graph_format;
mod graph_header;
mod graph_search;
mod heal;
mod insert;
mod ivf;
mod knn_build;
#[cfg(test)]
mod knn_build_tests;
mod levels;
mod links;
mod merged;
#[cfg(test)]
mod merged_tests;
mod near;
mod neighbours;
mod open;
mod pace;
mod prune;
#[cfg(test)]
mod quantizer_tests;
mod random;
mod reach;
mod rescore;
mod scan;
mod scan_codes;
mod scanner;
mod scratch;
mod search_ways;
mod space;
#[cfg(test)]
mod test_data;
#[cfg(test)]
mod tests;
mod top_k;
mod twins;
mod two_hop;
mod walk;

pub use accelerator::Accelerator;
pub use flat::{exact_rows, exact_scan};
pub use graph_build::GraphBuilder;
pub use graph_search::Graph;
pub use ivf::{ClusterOrder, Clusters, Ivf, IvfBuilder};
pub use knn_build::KnnBuilder;
pub use merged::{GraphMade, MergeInputs};
pub use neighbours::{NO_NEIGHBOUR, Neighbours, NeighboursError, Points};
pub use open::open;
pub use scan_codes::ScanCodes;
pub use scanner::{Run, Scanner};
pub use top_k::TopK;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

use crate::types::{CodedSearch, Distance, ErrorKind, RowSet};

/// Vectors of a segment: row-major `n × dim`, normalised for cosine.
#[derive(Clone, Copy)]
pub struct VectorBlock<'a> {
    /// Components of each row.
    pub dim: usize,
    /// `n × dim` components.
    pub rows: &'a [f32],
    /// How rows are compared.
    pub distance: Distance,
}

impl<'a> VectorBlock<'a> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len() / self.dim.max(1)
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// One row. Panics if there is no such row.
    #[allow(clippy::indexing_slicing)]
    pub fn row(&self, row: u32) -> &'a [f32] {
        let start = row as usize * self.dim;
        &self.rows[start..start + self.dim]
    }
}

/// Watches and stops a build from another thread.
#[derive(Debug, Default)]
pub struct BuildControl {
    /// Rows inserted so far.
    pub done: AtomicU64,
    /// Set to give up.
    pub cancelled: AtomicBool,
}

/// One search within one segment.
pub struct IndexQuery<'a> {
    /// `dim` components, normalised for cosine.
    pub vector: &'a [f32],
    /// Rows wanted.
    pub k: usize,
    /// Candidates kept while walking; at least `k`.
    pub ef_search: usize,
    /// Rows that a filter lets through, dead ones among them; `None` where there is no filter.
    pub matching: Option<&'a RowSet>,
    /// Is the row alive at the snapshot? Asked about matching rows only.
    pub alive: &'a (dyn Fn(u32) -> bool + Sync),
    /// Rows that are alive, to choose how to search; a little wrong does no harm.
    pub alive_rows: usize,
    /// Of graphs that have codes.
    pub codes: CodedSearch,
    /// Give up after this.
    pub deadline: Option<Instant>,
}

impl IndexQuery<'_> {
    /// May the row be returned?
    #[inline]
    fn admits(&self, row: u32) -> bool {
        self.matching.is_none_or(|matching| matching.contains(row)) && (self.alive)(row)
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub struct IndexHits {
    /// `(internal distance, row)`, nearest first; at most `k`.
    pub rows: Vec<(f32, u32)>,
    /// Distances computed.
    pub visited: u64,
    /// Were all rows that match looked at, rather than found by links?
    pub scanned: bool,
}

/// Builds the index file of one segment.
pub trait IndexBuilder: Send + Sync {
    /// Builds over `vectors` and writes `path` (complete and fsynced, or not at all).
    fn build(&self, vectors: VectorBlock<'_>, path: &Path, control: &BuildControl) -> Result<(), IndexError>;
}

/// A built index; read-only, shared by all searches.
pub trait VectorIndex: Send + Sync {
    /// The nearest rows that match and are alive. May return fewer than `k` though there are more; the caller
    /// then scans.
    fn search(&self, vectors: VectorBlock<'_>, query: &IndexQuery<'_>) -> Result<IndexHits, IndexError>;
    /// Bytes that it holds, in memory or mapped.
    fn bytes(&self) -> usize;
    /// Is its file mapped, so that the system may take its pages back?
    fn is_mapped(&self) -> bool;
    /// The graph that it is, to be merged with others.
    fn as_graph(&self) -> Option<&Graph>;
}

/// Why an index cannot be built, opened or searched.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file is not what was written.
    #[error("index file {path:?} is damaged: {reason}; delete it and it will be built again")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("cannot access index file {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The graph belongs to other vectors than it was given.
    #[error(
        "index file {path:?} was built for {rows} rows of {dim} components by {distance:?}, but is asked about \
         {given_rows} rows of {given_dim} by {given_distance:?} with a query of {query_dim}; \
         delete it and it will be built again"
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// Its rows.
        rows: usize,
        /// Its components per row.
        dim: usize,
        /// Its distance.
        distance: Distance,
        /// Rows given.
        given_rows: usize,
        /// Components given.
        given_dim: usize,
        /// Distance given.
        given_distance: Distance,
        /// Components of the query.
        query_dim: usize,
    },
    /// The system has no memory for the codes.
    #[error("no memory for an index; lower the memory limit of other things or write smaller segments")]
    Memory(#[source] std::io::Error),
    /// Row numbers would run out.
    #[error("a segment of {rows} rows is too large for one index; write smaller segments")]
    TooLarge {
        /// Its rows.
        rows: usize,
    },
    /// Somebody asked for it.
    #[error("index build was cancelled")]
    Cancelled,
    /// The deadline passed while walking.
    #[error("search ran past its deadline")]
    Deadline,
}

impl IndexError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Corrupt { .. } => ErrorKind::DataLoss,
            Self::Mismatch { .. } | Self::TooLarge { .. } => ErrorKind::Internal,
            Self::Io { .. } | Self::Memory(_) | Self::Cancelled => ErrorKind::Unavailable,
            Self::Deadline => ErrorKind::Timeout,
        }
    }
}
