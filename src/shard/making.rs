//! An index on its way: begun, built into a file, read back.
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::core::Core;
use super::indexing::Build;
use crate::faults;
use crate::flush::{self, GraphError};
use crate::index::{BuildControl, Clusters, GraphBuilder, GraphMade, IndexError, IvfBuilder, VectorIndex};
use crate::store::{FileMeta, SegmentId, StoreError};
use crate::types::{Built, IndexKind};
use crate::view::{GraphOrigin, LiveSegment};

/// The same rows give the same graph on every node of the same SIMD level.
pub(super) const SEED: u64 = 0x7072_6F78_696D_6131;

/// The index that is wanted for a segment, while it is built.
pub(super) struct Making<'a> {
    core: &'a Core,
    begun: Build<'a>,
    name: String,
    path: PathBuf,
    started: Instant,
}

impl<'a> Making<'a> {
    /// Begins; whoever wants another index meanwhile stops it. The segment need not exist yet.
    pub fn begin(core: &'a Core, segment: SegmentId, rows: u32) -> Result<Self, GraphError> {
        let started = Instant::now();
        let begun = core.indexing.begin(segment, rows).ok_or(IndexError::Cancelled)?;
        // No manifest that is kept names another file so: the next one has this version or a later one.
        let version = core.manifest.lock().version + 1;
        let extension = if begun.built.kind == IndexKind::Ivf { "ivf" } else { "graph" };
        let name = segment.file_name(&format!("{version}.{extension}"));
        let path = core.segments_dir.join(&name);
        Ok(Self { core, begun, name, path, started })
    }

    /// Graph or clusters?
    pub fn kind(&self) -> IndexKind {
        self.begun.built.kind
    }

    /// Where it is to be written.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Watches and stops it.
    pub fn control(&self) -> &BuildControl {
        &self.begun.control
    }

    /// Builds graphs as they are wanted.
    pub fn graph_builder(&self) -> GraphBuilder {
        let params = self.begun.built.params(self.core.config.graph);
        GraphBuilder { params, threads: self.core.tuning.build_threads, seed: SEED }
    }

    /// Builds clusters as they are wanted.
    pub fn cluster_builder(&self) -> IvfBuilder {
        let Built { quantization, clusters, .. } = self.begun.built;
        let (clusters, threads) = (Clusters::from(clusters), self.core.tuning.build_threads);
        IvfBuilder { clusters, quantization, threads, seed: SEED }
    }

    /// It has come to its end, good or bad.
    pub fn end(self, made: Result<GraphMade, GraphError>) -> Result<Drawn, GraphError> {
        if made.as_ref().is_err_and(GraphError::is_stop) {
            count(self.core, "stopped");
        }
        let (built, took) = (self.begun.built, self.started.elapsed());
        Ok(Drawn { made: made?, name: self.name, path: self.path, built, took })
    }
}

/// An index on the disk.
pub(super) struct Drawn {
    name: String,
    path: PathBuf,
    built: Built,
    made: GraphMade,
    took: Duration,
}

impl Drawn {
    /// Reads it back. `leaving`: bytes of graphs that go when this one has come.
    pub fn read(self, core: &Core, live: &LiveSegment, leaving: usize) -> Result<Made, GraphError> {
        let Self { name, path, built, made, took } = self;
        let graph = flush::read_graph(&path, live, leaving)?;
        let _ = faults::pass("shard::graph_written");
        let (bytes, crc32c) =
            checksum(&path).map_err(|source| StoreError::Io { path, doing: "read", source })?;
        core.meters.index.passed(u64::from(live.rows()), bytes, took);
        tell(core, live, made, built, took);
        let file = FileMeta { name, bytes, crc32c };
        Ok(Made { file, graph, built })
    }
}

/// A file's length and CRC-32C, read piece by piece: a graph may be larger than what memory is left.
fn checksum(path: &Path) -> std::io::Result<(u64, u32)> {
    let (mut file, mut piece) = (File::open(path)?, vec![0; 1 << 20]);
    let (mut bytes, mut crc32c) = (0, 0);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok((bytes, crc32c)),
            read => {
                bytes += read as u64;
                crc32c = crc32c::crc32c_append(crc32c, &piece[..read]);
            }
        }
    }
}

/// An index on the disk and read back.
pub(super) struct Made {
    pub file: FileMeta,
    pub graph: Box<dyn VectorIndex>,
    pub built: Built,
}

impl Made {
    /// What the segment is to know of it.
    pub fn origin(&self) -> GraphOrigin {
        GraphOrigin { name: self.file.name.clone(), built: self.built }
    }

    /// Puts it into a newcomer's service; its file is for a manifest to name.
    pub fn serve(self, core: &Core, live: &LiveSegment) -> FileMeta {
        let origin = self.origin();
        live.set_graph(self.graph, origin);
        count(core, "built");
        self.file
    }
}

/// One more index that was built, stopped or dropped.
pub(super) fn count(core: &Core, outcome: &'static str) {
    let name = core.config.name.clone();
    metrics::counter!("proximadb_index_changes_total", "collection" => name, "outcome" => outcome)
        .increment(1);
}

/// What the log and a dashboard show of it.
fn tell(core: &Core, live: &LiveSegment, made: GraphMade, built: Built, took: Duration) {
    let Built { m, ef_construct, .. } = built;
    let name = || core.config.name.clone();
    let elapsed_ms = took.as_millis() as u64;
    let way = match made {
        GraphMade::Merged { kept, healed, inserted } => {
            for (how, nodes) in [("kept", kept), ("healed", healed), ("inserted", inserted)] {
                metrics::counter!("proximadb_graph_merged_nodes_total", "collection" => name(), "how" => how)
                    .increment(nodes as u64);
            }
            tracing::info!(
                collection = core.config.name, segment = %live.id(), rows = live.rows(),
                m, ef_construct, kept, healed, inserted, elapsed_ms, "merged graphs"
            );
            "merge"
        }
        GraphMade::FromNothing { reason } => {
            tracing::info!(
                collection = core.config.name, segment = %live.id(), rows = live.rows(),
                m, ef_construct, reason, elapsed_ms,
                "built {}", if built.kind == IndexKind::Ivf { "clusters" } else { "a graph" }
            );
            "build"
        }
    };
    metrics::histogram!("proximadb_graph_seconds", "collection" => name(), "way" => way)
        .record(took.as_secs_f64());
}
