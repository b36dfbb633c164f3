//! What the catalog holds of a pipeline.
use serde::{Deserialize, Serialize};

/// What somebody wants a pipeline to do; whether it does is not the catalog's to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// Consume.
    #[default]
    Running,
    /// Keep positions, consume nothing.
    Paused,
}

impl DesiredState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Running, Self::Paused].into_iter().find(|state| state.as_str() == text)
    }
}

/// A pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineRecord {
    /// Its name, which is also its source's name in positions.
    pub name: String,
    /// Its definition as it came, comments included. Secrets are references in it, never values.
    pub yaml: String,
    /// What it should be doing.
    pub desired: DesiredState,
    /// Creation time, milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// Time of the latest change of the text, milliseconds since the Unix epoch.
    pub updated_ms: i64,
}
