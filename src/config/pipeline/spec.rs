//! The top of a pipeline's YAML, its sink, and its bounds.
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ByteSize, DecodeSpec, ErrorsSpec, MapSpec, SourceSpec, Span, TransformSpec};
use crate::types::{Distance, GraphParams, IndexKind};

/// A pipeline: source → decode → map → collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineSpec {
    /// Version of this format. 1 is the only one.
    pub version: u32,
    /// The pipeline's name: 1–255 of letters, digits, `_`, `-`, `.`. Positions are kept under it, so a new
    /// name starts anew.
    pub pipeline: String,
    /// Where records come from: exactly one of `kafka`, `file`, `push`.
    pub source: SourceSpec,
    /// How a record's bytes are read. May be left out for files, whose format follows from their name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decode: Option<DecodeSpec>,
    /// Which parts of a record become id, vector, time and payload.
    pub map: MapSpec,
    /// Steps between mapping and writing, in order. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transform: Vec<TransformSpec>,
    /// The collection that is written.
    pub sink: SinkSpec,
    /// What happens to records that fail.
    #[serde(default)]
    pub errors: ErrorsSpec,
    /// When records are grouped into one log entry.
    #[serde(default)]
    pub batch: BatchSpec,
    /// Bounds on memory.
    #[serde(default)]
    pub limits: LimitsSpec,
    /// What readers may expect.
    #[serde(default)]
    pub freshness: FreshnessSpec,
}

/// `sink`: the collection that is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkSpec {
    /// Its name: 1–255 of letters, digits, `_`, `-`, `.`.
    pub collection: String,
    /// Create the collection when it does not exist, with the dimension of `map.vector.dim`. Default: it must
    /// exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateSpec>,
    /// When an entry counts as written. Default `durable`: fsynced, so a position never passes a lost record.
    #[serde(default)]
    pub ack: Ack,
}

/// `sink.create`: parameters of a collection that does not exist yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSpec {
    /// How vectors are compared.
    pub distance: Distance,
    /// Parameters of the graph index.
    #[serde(default)]
    pub hnsw: GraphParams,
    /// The kind of index.
    #[serde(default, skip_serializing_if = "IndexChoice::is_default")]
    pub index: IndexChoice,
    /// Share of the 10 nearest that searches are to find: above 0.5, at most 1. `ef_search` is tuned to hold it.
    /// Default: none, searches use the server's `ef_search`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_target: Option<f64>,
}

/// `sink.create.index`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IndexChoice {
    /// A graph per segment (`hnsw`), clusters per segment (`ivf`), or none (`flat`). Default `hnsw`.
    #[serde(default)]
    pub kind: IndexKind,
    /// Of `ivf`: about so many clusters per segment, 1 to 65,536. Default: twice the square root of its rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u32>,
}

impl IndexChoice {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// When an entry counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// In the log's buffer.
    Ack,
    /// Fsynced, and on a majority where replicated.
    #[default]
    Durable,
    /// Seen by every search from then on.
    Searchable,
    /// In a graph.
    Indexed,
}

/// `batch`: the first bound that is reached ends a batch, which becomes one log entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSpec {
    /// Bytes of undecoded records. Default 512KiB: an fsync of that size costs little more than one of 4 KiB;
    /// more adds latency and memory without throughput.
    pub max_bytes: ByteSize,
    /// Records. Default 256: bounds the rows that one entry makes visible at once; tiny records gain from
    /// more.
    pub max_records: u32,
    /// Longest wait for a batch to fill. Default 2ms. A Kafka source waits only while an earlier batch of the
    /// partition is on its way to the log, mostly for less than that: 10ms measures no better and no worse.
    pub linger: Span,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self { max_bytes: ByteSize(512 << 10), max_records: 256, linger: Span(Duration::from_millis(2)) }
    }
}

/// `limits`: bounds on memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Bytes of records that are read but not yet durable; when reached, the source waits. Default 64MiB:
    /// more than a hundred batches, so a slow fsync does not idle the source; each pipeline may hold this
    /// much memory.
    pub in_flight_bytes: ByteSize,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self { in_flight_bytes: ByteSize(64 << 20) }
    }
}

/// `freshness`: what readers may expect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FreshnessSpec {
    /// Longest time from a record's arrival until it is searchable before the pipeline reports itself late.
    /// Default 1s: what people call at once. It changes what is reported, not what is done.
    pub objective: Span,
}

impl Default for FreshnessSpec {
    fn default() -> Self {
        Self { objective: Span(Duration::from_secs(1)) }
    }
}
