//! Changes of what the catalog holds of a collection.
use std::sync::Arc;

use super::{Collection, EngineError};
use crate::catalog::{CatalogError, CatalogStore};
use crate::types::{CollectionConfig, ErrorKind, GraphPatch, IndexKind, RecallTarget};

/// Times a change is tried again after somebody else's.
const TRIES: usize = 16;

/// What a `PATCH` may change; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CollectionPatch {
    /// The recall promised; `Some(None)` takes the promise back.
    pub recall_target: Option<Option<RecallTarget>>,
    /// The kind of index.
    pub index: Option<IndexKind>,
    /// Clusters per segment, checked; `Some(None)` leaves their number to segments again.
    pub clusters: Option<Option<u32>>,
    /// Parameters of graphs, checked.
    pub graph: GraphPatch,
}

impl CollectionPatch {
    fn apply(&self, config: &mut CollectionConfig) {
        config.index = self.index.unwrap_or(config.index);
        // Asked for clusters that are wanted no more.
        let clusters = self.clusters.unwrap_or(config.clusters);
        config.clusters = clusters.filter(|_| config.index == IndexKind::Ivf);
        config.graph = self.graph.over(config.graph);
        if let Some(target) = self.recall_target {
            config.recall_target = target;
            // Found for a promise that is gone.
            config.ef_search = config.ef_search.filter(|_| target.is_some());
        }
    }
}

impl Collection {
    /// Changes the collection; durable when this returns.
    pub(super) async fn patch(
        &self,
        catalog: &dyn CatalogStore,
        patch: &CollectionPatch,
    ) -> Result<(), EngineError> {
        self.edit(catalog, |config| patch.apply(config)).await
    }

    /// Has the catalog keep the `ef_search` that was chosen.
    pub(super) async fn keep_ef_search(&self, catalog: &dyn CatalogStore) -> Result<(), EngineError> {
        self.edit(catalog, |config| {
            let chosen = self.recall_state().chosen().filter(|_| config.recall_target.is_some());
            config.ef_search = chosen.and_then(|ef| u32::try_from(ef).ok());
        })
        .await
    }

    /// Reads the catalog's entry, changes it, and writes it back on the condition that nobody wrote in between.
    async fn edit(
        &self,
        catalog: &dyn CatalogStore,
        change: impl Fn(&mut CollectionConfig),
    ) -> Result<(), EngineError> {
        // What is in service follows the catalog in the order of its changes.
        let _in_order = self.editing().lock().await;
        let name = self.name();
        let gone = || EngineError::CollectionNotFound { name: name.clone(), known: Vec::new() };
        let mut tries = 0;
        loop {
            let known = match catalog.collection(&name).await {
                Ok(known) if known.id == self.config().id => known,
                Ok(_) => return Err(gone()),
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(gone()),
                Err(error) => return Err(EngineError::from_catalog(error)),
            };
            let mut next = known.clone();
            change(&mut next);
            let outcome = match next == known {
                true => Ok(()),
                false => catalog.update_collection(&known, &next).await,
            };
            match outcome {
                Ok(()) => {
                    self.follow(Arc::new(next));
                    return Ok(());
                }
                Err(CatalogError::Changed { .. }) if tries < TRIES => tries += 1,
                Err(error) if error.kind() == ErrorKind::NotFound => return Err(gone()),
                Err(error) => return Err(EngineError::from_catalog(error)),
            }
        }
    }
}
