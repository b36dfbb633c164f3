//! A catalog that forgets: for tests and for engines without a data directory.
use std::collections::BTreeMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::error::check_update;
use super::{CatalogError, CatalogStore, DesiredState, PipelineRecord, check_name};
use crate::types::CollectionConfig;

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryCatalog {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    collections: BTreeMap<String, CollectionConfig>,
    pipelines: BTreeMap<String, PipelineRecord>,
    schemas: BTreeMap<(String, u32), String>,
}

#[async_trait]
impl CatalogStore for MemoryCatalog {
    async fn create_collection(&self, config: &CollectionConfig) -> Result<(), CatalogError> {
        check_name(&config.name)?;
        let collections = &mut self.state.lock().collections;
        if collections.values().any(|other| other.name == config.name || other.id == config.id) {
            return Err(CatalogError::exists("collection", &config.name));
        }
        collections.insert(config.name.clone(), config.clone());
        Ok(())
    }

    async fn collection(&self, name: &str) -> Result<CollectionConfig, CatalogError> {
        let found = self.state.lock().collections.get(name).cloned();
        found.ok_or_else(|| CatalogError::not_found("collection", name))
    }

    async fn collections(&self) -> Result<Vec<CollectionConfig>, CatalogError> {
        Ok(self.state.lock().collections.values().cloned().collect())
    }

    async fn update_collection(
        &self,
        known: &CollectionConfig,
        config: &CollectionConfig,
    ) -> Result<(), CatalogError> {
        check_update(known, config)?;
        let collections = &mut self.state.lock().collections;
        let stored = collections
            .get_mut(&known.name)
            .ok_or_else(|| CatalogError::not_found("collection", &known.name))?;
        if stored != known {
            return Err(CatalogError::Changed { name: known.name.clone() });
        }
        *stored = config.clone();
        Ok(())
    }

    async fn delete_collection(&self, name: &str) -> Result<CollectionConfig, CatalogError> {
        let removed = self.state.lock().collections.remove(name);
        removed.ok_or_else(|| CatalogError::not_found("collection", name))
    }

    async fn create_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError> {
        check_name(&pipeline.name)?;
        let pipelines = &mut self.state.lock().pipelines;
        if pipelines.contains_key(&pipeline.name) {
            return Err(CatalogError::exists("pipeline", &pipeline.name));
        }
        pipelines.insert(pipeline.name.clone(), pipeline.clone());
        Ok(())
    }

    async fn pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError> {
        let found = self.state.lock().pipelines.get(name).cloned();
        found.ok_or_else(|| CatalogError::not_found("pipeline", name))
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, CatalogError> {
        Ok(self.state.lock().pipelines.values().cloned().collect())
    }

    async fn update_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError> {
        let pipelines = &mut self.state.lock().pipelines;
        let stored = pipelines
            .get_mut(&pipeline.name)
            .ok_or_else(|| CatalogError::not_found("pipeline", &pipeline.name))?;
        *stored = PipelineRecord { created_ms: stored.created_ms, ..pipeline.clone() };
        Ok(())
    }

    async fn set_pipeline_state(&self, name: &str, desired: DesiredState) -> Result<(), CatalogError> {
        let pipelines = &mut self.state.lock().pipelines;
        let stored = pipelines.get_mut(name).ok_or_else(|| CatalogError::not_found("pipeline", name))?;
        stored.desired = desired;
        Ok(())
    }

    async fn delete_pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError> {
        let removed = self.state.lock().pipelines.remove(name);
        removed.ok_or_else(|| CatalogError::not_found("pipeline", name))
    }

    async fn put_schema(&self, registry: &str, id: u32, text: &str) -> Result<(), CatalogError> {
        self.state.lock().schemas.insert((registry.to_string(), id), text.to_string());
        Ok(())
    }

    async fn schema(&self, registry: &str, id: u32) -> Result<Option<String>, CatalogError> {
        Ok(self.state.lock().schemas.get(&(registry.to_string(), id)).cloned())
    }

    async fn close(&self) {}
}
