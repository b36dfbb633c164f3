//! What a collection is.
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Distance;

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
}

impl Default for GraphParams {
    fn default() -> Self {
        Self { m: 16, ef_construct: 100, full_scan_threshold: 10_000 }
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
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
}
