//! Collections and pipelines by name: what the doors talk to.
//!
//! ```text
//!   REST, gRPC ──▶ Engine ─┬─ catalog       what exists, and which pipelines are paused
//!                          ├─ Collection ──▶ shard: writes, look-ups by id
//!                          │         └─────▶ search threads: searches, pages, counts
//!                          └─ Ingest         running pipelines
//! ```
//! I1 a collection's directory is there before the catalog names it, and goes after it. I2 what scans or walks
//! runs on the search threads behind a bounded queue; a full one refuses. I3 edits of payloads write what they
//! have read on the condition that nobody wrote in between. I4 every error says what the caller should do.
mod collection;
mod edit;
mod error;
mod memory_keeper;
mod order;
mod pace;
mod recall;
mod search_pool;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use uuid::Uuid;

use crate::catalog::{CatalogStore, DesiredState, check_name};
use crate::ingest::{Ingest, PipelineState};
use crate::memory::MemoryBudget;
use crate::shard::{Shard, Tuning};
use crate::types::{
    CollectionConfig, CollectionId, DIM_MAX, Distance, GraphParams, IndexKind, IndexSpec, RecallTarget,
};

pub use crate::shard::{IndexReport, SegmentIndex, ShardInfo as CollectionInfo};
pub use collection::{Collection, QuarantinedRecord, Wait};
pub use edit::CollectionPatch;
pub use error::EngineError;
pub use recall::RecallReport;
pub use search_pool::SearchPool;

use memory_keeper::MemoryKeeper;
use recall::{Sampler, Sampling};

/// A collection to be created.
#[derive(Debug, Clone)]
pub struct NewCollection {
    /// Its name.
    pub name: String,
    /// Components of each vector, 1–65,536.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
    /// The kind of index.
    pub index: IndexKind,
    /// Clusters per segment, of the kind `ivf`.
    pub clusters: Option<u32>,
    /// Parameters of graphs.
    pub graph: GraphParams,
    /// The recall that searches are to hold.
    pub recall_target: Option<RecallTarget>,
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
    /// Records read.
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

/// Settings of an engine.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Everything lies under it.
    pub data_dir: PathBuf,
    /// Bounds of each shard.
    pub tuning: Tuning,
    /// Threads that search.
    pub search_threads: usize,
    /// Candidates kept while walking graphs, where a request names no number.
    pub ef_search: usize,
    /// Share of one core that measuring recall takes at most; 0 measures nothing.
    pub recall_share: f64,
    /// Bytes that the process may hold, see [`MemoryBudget`].
    pub memory_limit: usize,
}

/// Collections by name.
type Collections = RwLock<BTreeMap<String, Arc<Collection>>>;

/// All collections and pipelines of a node.
pub struct Engine {
    options: EngineOptions,
    catalog: Arc<dyn CatalogStore>,
    collections: Arc<Collections>,
    pipelines: RwLock<BTreeMap<String, Arc<Ingest>>>,
    searches: Arc<SearchPool>,
    budget: Arc<MemoryBudget>,
    keeper: MemoryKeeper,
    sampler: Option<Sampler>,
    /// One creation or deletion at a time, so that catalog, directory and map agree.
    changing: tokio::sync::Mutex<()>,
    ready: AtomicBool,
}

/// How long a start waits for memory that a replayed log takes to come free.
const FLUSH_AT_START: Duration = Duration::from_secs(10);

impl Engine {
    /// Opens every collection that the catalog names.
    pub async fn open(options: EngineOptions, catalog: Arc<dyn CatalogStore>) -> Result<Self, EngineError> {
        let searches = SearchPool::start(options.search_threads).map_err(|error| EngineError::Catalog {
            reason: format!("cannot start search threads: {error}"),
        })?;
        let budget = MemoryBudget::new(options.memory_limit);
        let collections = Arc::new(Collections::default());
        // Before the first collection is opened: what their logs hold may be more than the limit, if that was lowered.
        let keeper = MemoryKeeper::start(Arc::clone(&budget), Arc::clone(&collections)).map_err(|error| {
            EngineError::Catalog { reason: format!("cannot start the thread that keeps memory: {error}") }
        })?;
        let sampling = (options.recall_share > 0.0).then(|| Sampling {
            share: options.recall_share.clamp(1e-6, 1.0),
            budget: Arc::clone(&budget),
            collections: Arc::clone(&collections),
            catalog: Arc::clone(&catalog),
            runtime: tokio::runtime::Handle::current(),
        });
        let sampler = sampling.map(Sampler::start).transpose().map_err(|error| EngineError::Catalog {
            reason: format!("cannot start the thread that measures recall: {error}"),
        })?;
        let engine = Self {
            options,
            catalog,
            collections,
            budget,
            keeper,
            sampler,
            pipelines: RwLock::default(),
            searches: Arc::new(searches),
            changing: tokio::sync::Mutex::new(()),
            ready: AtomicBool::new(false),
        };
        let configs = engine.catalog.collections().await.map_err(EngineError::from_catalog)?;
        let ids: Vec<CollectionId> = configs.iter().map(|config| config.id).collect();
        let leftovers = leftovers(&engine.options.data_dir.join("collections"), &ids);
        // Beside the start: emptying a large directory takes a while.
        tokio::task::spawn_blocking(move || remove_leftovers(leftovers));
        for config in configs {
            engine.check_present(&config)?;
            let collection = engine.open_collection(config.clone()).await?;
            engine.collections.write().insert(config.name, Arc::clone(&collection));
            if engine.budget.excess() > 0 {
                // A disk that takes nothing must not keep reads from being served.
                let _ = tokio::time::timeout(FLUSH_AT_START, collection.shard().flush()).await;
            }
        }
        Ok(engine)
    }

    /// The process's memory.
    pub fn budget(&self) -> &Arc<MemoryBudget> {
        &self.budget
    }

    /// The catalog, for what is kept beside collections.
    pub fn catalog(&self) -> &Arc<dyn CatalogStore> {
        &self.catalog
    }

    async fn open_collection(&self, config: CollectionConfig) -> Result<Arc<Collection>, EngineError> {
        let dir = self.collection_dir(config.id).join("shard-0");
        let (tuning, name) = (self.options.tuning.clone(), config.name.clone());
        let budget = Arc::clone(&self.budget);
        let opening = {
            let config = config.clone();
            tokio::task::spawn_blocking(move || Shard::open(&dir, config, tuning, &budget))
        };
        let shard = opening
            .await
            .map_err(|error| EngineError::Catalog { reason: format!("opening {name:?} panicked: {error}") })?
            .map_err(|error| EngineError::from_shard(error, &name))?;
        let searches = Arc::clone(&self.searches);
        Ok(Arc::new(Collection::new(config, Arc::new(shard), searches, self.options.ef_search)))
    }

    /// The catalog names a collection only after its log was made: without it, data is gone, and an empty
    /// collection in its place would hide that.
    fn check_present(&self, config: &CollectionConfig) -> Result<(), EngineError> {
        let log = self.collection_dir(config.id).join("shard-0").join("log").join("log.meta");
        match log.try_exists() {
            Ok(true) => Ok(()),
            Ok(false) => Err(EngineError::DataLoss {
                reason: format!(
                    "{} of collection {:?} is missing; mount the right disk, or put back a copy of the directory",
                    log.display(),
                    config.name
                ),
            }),
            Err(error) => {
                Err(EngineError::Storage { reason: format!("cannot look for {}: {error}", log.display()) })
            }
        }
    }

    fn collection_dir(&self, id: CollectionId) -> PathBuf {
        self.options.data_dir.join("collections").join(id.to_string())
    }

    /// Creates a collection; its catalog entry is durable when this returns.
    pub async fn create_collection(&self, new: NewCollection) -> Result<Arc<Collection>, EngineError> {
        check_name(&new.name).map_err(EngineError::from_catalog)?;
        check(&new)?;
        let _changing = self.changing.lock().await;
        if self.collections.read().contains_key(&new.name) {
            return Err(EngineError::CollectionExists { name: new.name });
        }
        let config = CollectionConfig {
            id: CollectionId(Uuid::now_v7()),
            name: new.name.clone(),
            dim: new.dim,
            distance: new.distance,
            graph: new.graph,
            index: new.index,
            clusters: new.clusters,
            recall_target: new.recall_target,
            ef_search: None,
            created_ms: now_ms(),
        };
        // The shard first: a directory that no catalog names is garbage, a name without one would be damage.
        let collection = self.open_collection(config.clone()).await?;
        if let Err(error) = self.catalog.create_collection(&config).await {
            close_and_remove(collection, &self.collection_dir(config.id)).await;
            return Err(EngineError::from_catalog(error));
        }
        self.collections.write().insert(new.name, Arc::clone(&collection));
        tracing::info!(collection = config.name, dim = config.dim, "created a collection");
        Ok(collection)
    }

    /// Changes a collection; durable when this returns.
    pub async fn patch_collection(&self, name: &str, patch: CollectionPatch) -> Result<(), EngineError> {
        let collection = self.collection(name)?;
        collection.patch(&*self.catalog, &patch).await?;
        tracing::info!(collection = name, ?patch, "changed a collection");
        Ok(())
    }

    /// Deletes a collection and its data; `false` where there is none.
    pub async fn delete_collection(&self, name: &str) -> Result<bool, EngineError> {
        let _changing = self.changing.lock().await;
        let feeding: Vec<String> = {
            let pipelines = self.pipelines.read();
            let fed = pipelines.values().filter(|ingest| ingest.collection() == name);
            fed.map(|ingest| ingest.progress().name().to_string()).collect()
        };
        if !feeding.is_empty() {
            return Err(EngineError::Invalid {
                field: name.to_string(),
                problem: format!(
                    "the collection is fed by pipeline {}; take that out of the server's pipelines first",
                    feeding.join(", ")
                ),
                code: "collection_in_use",
            });
        }
        let Ok(collection) = self.collection(name) else { return Ok(false) };
        self.catalog.delete_collection(name).await.map_err(EngineError::from_catalog)?;
        self.collections.write().remove(name);
        let dir = self.collection_dir(collection.config().id);
        close_and_remove(collection, &dir).await;
        tracing::info!(collection = name, "deleted a collection");
        Ok(true)
    }

    /// All collections, by name.
    pub fn collections(&self) -> Vec<Arc<CollectionConfig>> {
        self.collections.read().values().map(|collection| collection.config()).collect()
    }

    /// One collection.
    pub fn collection(&self, name: &str) -> Result<Arc<Collection>, EngineError> {
        let collections = self.collections.read();
        collections.get(name).cloned().ok_or_else(|| EngineError::CollectionNotFound {
            name: name.to_string(),
            known: collections.keys().cloned().collect(),
        })
    }

    /// Takes a pipeline into supervision, and starts it unless it was paused before.
    pub async fn add_pipeline(&self, ingest: Ingest) -> Result<(), EngineError> {
        let ingest = Arc::new(ingest);
        let name = ingest.progress().name().to_string();
        let known = self.catalog.pipeline(&name).await.ok();
        let paused = known.is_some_and(|pipeline| pipeline.desired == DesiredState::Paused);
        self.pipelines.write().insert(name.clone(), Arc::clone(&ingest));
        if paused {
            ingest.stop(PipelineState::Paused);
            return Ok(());
        }
        start(&ingest)
    }

    /// All pipelines, by name.
    pub fn pipelines(&self) -> Vec<PipelineStatus> {
        self.pipelines.read().values().map(|ingest| status(ingest)).collect()
    }

    fn pipeline(&self, name: &str) -> Result<Arc<Ingest>, EngineError> {
        let pipelines = self.pipelines.read();
        pipelines.get(name).cloned().ok_or_else(|| EngineError::PipelineNotFound {
            name: name.to_string(),
            known: pipelines.keys().cloned().collect(),
        })
    }

    /// Pauses a pipeline: it stays paused across restarts.
    pub async fn pause_pipeline(&self, name: &str) -> Result<(), EngineError> {
        let ingest = self.pipeline(name)?;
        let kept = self.catalog.set_pipeline_state(name, DesiredState::Paused).await;
        kept.map_err(EngineError::from_catalog)?;
        let stopping = tokio::task::spawn_blocking(move || ingest.stop(PipelineState::Paused));
        stopping.await.map_err(|_| EngineError::ShuttingDown)
    }

    /// Resumes a paused or failed pipeline.
    pub async fn resume_pipeline(&self, name: &str) -> Result<(), EngineError> {
        let ingest = self.pipeline(name)?;
        let kept = self.catalog.set_pipeline_state(name, DesiredState::Running).await;
        kept.map_err(EngineError::from_catalog)?;
        start(&ingest)
    }

    /// Everything that was configured is running.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Can requests be served? `Err` says what is not ready.
    pub fn ready(&self) -> Result<(), String> {
        match self.ready.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("collections or pipelines are being opened, or the server is stopping".to_string()),
        }
    }

    /// From here on the node says that it is not ready.
    pub fn begin_close(&self) {
        self.ready.store(false, Ordering::Release);
    }

    /// Stops all pipelines; what they have read is in the log or is read again.
    pub fn stop_pipelines(&self) {
        let pipelines: Vec<_> = self.pipelines.read().values().cloned().collect();
        for ingest in pipelines {
            ingest.stop(PipelineState::Paused);
        }
    }

    /// Stops pipelines, then logs, then searches. What was answered is durable.
    pub fn close(&self) {
        self.begin_close();
        if let Some(sampler) = &self.sampler {
            sampler.stop();
        }
        self.stop_pipelines();
        let collections: Vec<_> = self.collections.read().values().cloned().collect();
        for collection in collections {
            collection.shard().close();
        }
        self.keeper.stop();
        self.searches.close();
    }
}

fn start(ingest: &Ingest) -> Result<(), EngineError> {
    ingest.start().map_err(|error| EngineError::Catalog {
        reason: format!("cannot start the pipeline's threads: {error}"),
    })
}

fn status(ingest: &Ingest) -> PipelineStatus {
    let progress = ingest.progress();
    let (state, reason) = progress.state();
    PipelineStatus {
        name: progress.name().to_string(),
        collection: ingest.collection().to_string(),
        state: state.word().to_string(),
        reason,
        records_read: progress.read.load(Ordering::Relaxed),
        records_applied: progress.applied.load(Ordering::Relaxed),
        records_rejected: progress.rejected.load(Ordering::Relaxed),
        records_skipped: progress.skipped.load(Ordering::Relaxed),
        lag: progress.lag(),
    }
}

fn check(new: &NewCollection) -> Result<(), EngineError> {
    let invalid = |field: &str, problem: String| EngineError::Invalid {
        field: field.to_string(),
        problem,
        code: "invalid_collection",
    };
    if !(1..=DIM_MAX).contains(&new.dim) {
        return Err(invalid("vectors.size", format!("{} components; give 1 to {DIM_MAX}", new.dim)));
    }
    IndexSpec::check_clusters(new.index, new.clusters)
        .map_err(|problem| invalid("index.clusters", problem))?;
    new.graph.check().map_err(|(key, problem)| invalid(&format!("hnsw_config.{key}"), problem))
}

/// What becomes of a deleted collection's directory while it is emptied, which a crash may cut short.
const GONE: &str = "gone";

/// Directories of deleted collections that a crash has left. Tells of others that no collection owns; these stay: a
/// catalog that was put back from a copy may not know them yet.
fn leftovers(dir: &Path, collections: &[CollectionId]) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let owned = |path: &Path| collections.iter().any(|id| path.ends_with(id.to_string()));
    let strangers = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| !owned(path));
    let (gone, unknown): (Vec<PathBuf>, Vec<PathBuf>) =
        strangers.partition(|path| path.extension().is_some_and(|extension| extension == GONE));
    for dir in unknown {
        tracing::warn!(
            ?dir,
            "no collection in the catalog owns this directory; delete it if nobody misses it"
        );
    }
    gone
}

fn remove_leftovers(leftovers: Vec<PathBuf>) {
    for dir in leftovers {
        match std::fs::remove_dir_all(&dir) {
            Ok(()) => tracing::info!(?dir, "removed what was left of a deleted collection"),
            Err(error) => tracing::warn!(?dir, %error, "cannot remove what is left of a deleted collection"),
        }
    }
}

/// Searches that still hold the collection keep its mapped files until they end.
async fn close_and_remove(collection: Arc<Collection>, dir: &Path) {
    let dir = dir.to_path_buf();
    let removing = tokio::task::spawn_blocking(move || {
        collection.shard().close();
        let gone = dir.with_extension(GONE);
        let removed = std::fs::rename(&dir, &gone).and_then(|()| std::fs::remove_dir_all(&gone));
        if let Err(error) = removed {
            tracing::warn!(?dir, %error, "the files of a deleted collection stay; delete them by hand");
        }
    });
    let _ = removing.await;
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_deletion_has_left_is_told_from_what_nobody_knows() {
        let dir = tempfile::tempdir().unwrap();
        let known = CollectionId(Uuid::now_v7());
        let gone = dir.path().join(Uuid::now_v7().to_string()).with_extension(GONE);
        let unknown = dir.path().join(Uuid::now_v7().to_string());
        let own = dir.path().join(known.to_string());
        [&gone, &unknown, &own]
            .iter()
            .for_each(|path| std::fs::create_dir_all(path.join("shard-0")).unwrap());
        let left = leftovers(dir.path(), &[known]);
        assert_eq!(left.first(), Some(&gone));
        assert_eq!(left.len(), 1);
        remove_leftovers(left);
        assert!(!gone.exists() && unknown.exists() && own.exists());
        assert!(leftovers(&dir.path().join("none"), &[]).is_empty());
    }
}
