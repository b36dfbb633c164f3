//! What a collection is.
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Distance, IndexKind, IndexSpec, Quantization, RecallTarget};

/// Components of a vector at most: one row must stay well below a log entry's limit.
pub const DIM_MAX: u32 = 65_536;

/// A collection's identity: a new one each time a name is created, so old files are never mistaken for new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CollectionId(pub Uuid);

impl std::fmt::Display for CollectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Parameters of the graph index, by the names people know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GraphParams {
    /// Half of a node's links. Default 16; more is better recall for more memory and build time.
    pub m: u32,
    /// Candidates looked at while building. Default 100.
    pub ef_construct: u32,
    /// Segments with fewer rows than this are scanned exactly. Default 10,000: below it a scan is as fast as a graph.
    pub full_scan_threshold: u32,
    /// Build levels above the graph, as HNSW has them, to find where a walk starts? Default `auto`.
    #[serde(skip_serializing_if = "Levels::is_auto")]
    pub levels: Levels,
    /// How vectors are coded in the graph. Default: as a sample of each segment says that they need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
}

impl GraphParams {
    /// Allowed `m`: links beyond it cost memory without finding more.
    pub const M: RangeInclusive<u32> = 2..=128;
    /// Allowed `ef_construct`: candidates beyond it make a build take hours.
    pub const EF_CONSTRUCT: RangeInclusive<u32> = 1..=4_096;

    /// Can a graph be built with them? Else the key that is wrong, and why, to be read after it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let keys = [("m", self.m, Self::M), ("ef_construct", self.ef_construct, Self::EF_CONSTRUCT)];
        match keys.into_iter().find(|(_, value, range)| !range.contains(value)) {
            None => Ok(()),
            Some((key, value, range)) => {
                Err((key, format!("must be between {} and {}, not {value}", range.start(), range.end())))
            }
        }
    }
}

impl Default for GraphParams {
    fn default() -> Self {
        Self {
            m: 16,
            ef_construct: 100,
            full_scan_threshold: 10_000,
            levels: Levels::Auto,
            quantization: None,
        }
    }
}

/// Levels above a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Levels {
    /// Where they were measured to help: nowhere yet, see decision 15.
    #[default]
    Auto,
    /// Build them.
    On,
    /// Walks start from some doors that are spread over the rows.
    Off,
}

impl Levels {
    /// Are they built?
    pub fn are_built(self) -> bool {
        self == Self::On
    }

    pub(super) fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Some of the parameters, to replace those that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GraphPatch {
    /// See [`GraphParams`].
    pub m: Option<u32>,
    /// See [`GraphParams`].
    pub ef_construct: Option<u32>,
    /// See [`GraphParams`].
    pub full_scan_threshold: Option<u32>,
    /// See [`GraphParams`].
    pub levels: Option<Levels>,
    /// See [`GraphParams`]; `Some(None)` leaves it to samples again.
    pub quantization: Option<Option<Quantization>>,
}

impl GraphPatch {
    /// The parameters, with these in place of those.
    pub fn over(self, base: GraphParams) -> GraphParams {
        GraphParams {
            m: self.m.unwrap_or(base.m),
            ef_construct: self.ef_construct.unwrap_or(base.ef_construct),
            full_scan_threshold: self.full_scan_threshold.unwrap_or(base.full_scan_threshold),
            levels: self.levels.unwrap_or(base.levels),
            quantization: self.quantization.unwrap_or(base.quantization),
        }
    }
}

/// What the catalog holds of a collection. Immutable but for what a patch may change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CollectionConfig {
    /// Its identity on disk.
    pub id: CollectionId,
    /// Its name: 1–255 bytes of letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// Components of each vector.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Index parameters.
    #[serde(default)]
    pub graph: GraphParams,
    /// The kind of index that is wanted.
    #[serde(default)]
    pub index: IndexKind,
    /// See [`IndexSpec`]; of the kind `ivf` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<u32>,
    /// The recall that searches hold, where one is promised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recall_target: Option<RecallTarget>,
    /// Candidates kept while walking graphs that were found to hold the promise; so a restart needn't find them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ef_search: Option<u32>,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
}

impl CollectionConfig {
    /// The index that is wanted.
    pub fn index_spec(&self) -> IndexSpec {
        IndexSpec { kind: self.index, graph: self.graph, clusters: self.clusters }
    }
}
