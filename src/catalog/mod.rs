//! Collections, schemas and pipelines: what exists, by name. Rows and positions are not here.
//!
//! ```text
//! serve, pipeline ──▶ CatalogStore ──▶ SqliteCatalog (catalog.db) · MemoryCatalog (tests)
//! ```
//! I1 a change is durable when the call returns. I2 a name names one thing at a time. I3 what decides where
//! rows lie or how they compare (id, dim, distance) never changes.
mod error;
mod memory;
mod name;
mod pipeline;
mod sqlite;
#[cfg(test)]
mod contract;

use async_trait::async_trait;

use crate::types::CollectionConfig;

pub use error::CatalogError;
pub use memory::MemoryCatalog;
pub use name::check_name;
pub use pipeline::{DesiredState, PipelineRecord};
pub use sqlite::SqliteCatalog;

/// Keeps the list of what exists.
///
/// Contract (`contract.rs` tests it)
/// * Calls are atomic, also against each other: of two creations of one name one fails.
/// * Creation checks the name ([`check_name`]); look-ups of names that can't exist say `NotFound`.
/// * Lists come in order of names, by bytes.
#[async_trait]
pub trait CatalogStore: Send + Sync {
    /// Adds a collection. `AlreadyExists` if its name or its id is taken.
    async fn create_collection(&self, config: &CollectionConfig) -> Result<(), CatalogError>;
    /// The collection of that name, or `NotFound`.
    async fn collection(&self, name: &str) -> Result<CollectionConfig, CatalogError>;
    /// All collections.
    async fn collections(&self) -> Result<Vec<CollectionConfig>, CatalogError>;
    /// Replaces what may change (all but identity, dim, distance and creation time) of the collection of `known`'s
    /// name, which must be as `known` says: else `Changed`, and nothing is. `Immutable` if anything else differs.
    async fn update_collection(
        &self,
        known: &CollectionConfig,
        config: &CollectionConfig,
    ) -> Result<(), CatalogError>;
    /// Removes a collection and returns it; its files are the caller's.
    async fn delete_collection(&self, name: &str) -> Result<CollectionConfig, CatalogError>;

    /// Adds a pipeline.
    async fn create_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError>;
    /// The pipeline of that name, or `NotFound`.
    async fn pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError>;
    /// All pipelines.
    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, CatalogError>;
    /// Replaces text, desired state and time of update; the time of creation stays.
    async fn update_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError>;
    /// Changes the desired state only.
    async fn set_pipeline_state(&self, name: &str, desired: DesiredState) -> Result<(), CatalogError>;
    /// Removes a pipeline and returns it.
    async fn delete_pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError>;

    /// Keeps a schema of a registry, named by its URL; an earlier text of that id is replaced.
    async fn put_schema(&self, registry: &str, id: u32, text: &str) -> Result<(), CatalogError>;
    /// The schema kept, if any.
    async fn schema(&self, registry: &str, id: u32) -> Result<Option<String>, CatalogError>;
    /// Brings everything into one file, after the calls in progress. Calls that come later may fail.
    async fn close(&self);
}
