//! What may be set about an index of clusters.
use serde::{Deserialize, Serialize};

/// Parameters of the cluster index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IvfParams {
    /// Clusters of a segment. Default `auto`: a multiple of the square root of its rows.
    pub clusters: Clusters,
}

/// How many clusters a segment's rows are put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Clusters {
    /// By the number of rows.
    #[default]
    Auto,
    /// About so many: empty ones are dropped, and those far larger than most are split.
    #[serde(untagged)]
    Count(u32),
}

impl IvfParams {
    /// Most clusters: beyond it ranking their centres takes longer than the rows of a few more.
    pub const CLUSTERS_MAX: u32 = 1 << 16;

    /// Can an index be built with them? Else the key that is wrong, and why, to be read after it.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        match self.clusters {
            Clusters::Count(count) if count == 0 || count > Self::CLUSTERS_MAX => Err((
                "clusters",
                format!("must be auto or between 1 and {}, not {count}", Self::CLUSTERS_MAX),
            )),
            Clusters::Auto | Clusters::Count(_) => Ok(()),
        }
    }
}
