//! Collections by name: what the doors talk to.
mod collection;
mod error;

use std::sync::Arc;

use crate::types::{CollectionConfig, Distance, GraphParams};

pub use collection::{Collection, CollectionInfo, QuarantinedRecord, Wait};
pub use error::EngineError;

/// A collection to be created.
#[derive(Debug, Clone)]
pub struct NewCollection {
    /// Its name.
    pub name: String,
    /// Components of each vector, 1–65,536.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// Index parameters.
    pub graph: GraphParams,
}

/// What a pipeline is doing, for `GET /pipelines`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PipelineStatus {
    /// Its name.
    pub name: String,
    /// The collection it writes.
    pub collection: String,
    /// `starting`, `running`, `retrying`, `paused`, `finished`, `failed`.
    pub state: String,
    /// Why it is retrying or failed.
    pub reason: Option<String>,
    /// Records read, applied, rejected, skipped.
    pub records_read: u64,
    /// Records whose operations are applied.
    pub records_applied: u64,
    /// Records in quarantine.
    pub records_rejected: u64,
    /// Records skipped by rule.
    pub records_skipped: u64,
    /// Per partition.
    pub lag: Vec<crate::source::PartitionLag>,
}

/// All collections and pipelines of a node.
pub struct Engine {}

impl Engine {
    /// Creates a collection; its catalog entry is durable when this returns.
    pub async fn create_collection(&self, new: NewCollection) -> Result<Arc<Collection>, EngineError> {
        Err(EngineError::CollectionNotFound { name: new.name, known: Vec::new() })
    }

    /// Deletes a collection and its data; `false` where there is none.
    pub async fn delete_collection(&self, name: &str) -> Result<bool, EngineError> {
        Err(EngineError::CollectionNotFound { name: name.to_string(), known: Vec::new() })
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<CollectionConfig> {
        Vec::new()
    }

    /// One collection.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>, EngineError> {
        Err(EngineError::CollectionNotFound { name: name.to_string(), known: Vec::new() })
    }

    /// All pipelines, by name.
    pub fn pipelines(&self) -> Vec<PipelineStatus> {
        Vec::new()
    }

    /// Pauses a pipeline: it stays paused across restarts.
    pub async fn pause_pipeline(&self, name: &str) -> Result<(), EngineError> {
        Err(EngineError::PipelineNotFound { name: name.to_string(), known: Vec::new() })
    }

    /// Resumes a paused or failed pipeline.
    pub async fn resume_pipeline(&self, name: &str) -> Result<(), EngineError> {
        Err(EngineError::PipelineNotFound { name: name.to_string(), known: Vec::new() })
    }

    /// Can requests be served? `Err` says what is not ready.
    pub fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}
