//! The only place that picks concrete types: settings to a running server.
mod gpu;
mod pipelines;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::catalog::{CatalogStore, SqliteCatalog};
use crate::config::ServerConfig;
use crate::config::pipeline::{PipelineSpec, SpecErrors, load};
use crate::engine::{Engine, EngineError, EngineOptions};
use crate::index::Accelerator;
use crate::memory::memory_of_machine;
use crate::serve::{Limits, router, serve};
use crate::shard::Tuning;
use crate::types::ErrorKind;
use crate::wal::LogOptions;

pub use gpu::find as find_gpu;
pub use pipelines::{PipelineError, dry_run};

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A collection or the catalog.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A pipeline's file.
    #[error("{0}")]
    Spec(#[from] SpecErrors),
    /// A pipeline's collection.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The data directory or the pipelines' directory.
    #[error("cannot {doing} {path:?}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Another server has the data directory.
    #[error("{path:?} is in use by another server; stop that one, or choose another --data-dir")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The port.
    #[error("cannot listen on {listen}; choose another address with --listen")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl StartError {
    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine(error) => error.kind(),
            Self::Spec(error) => error.kind(),
            Self::Pipeline(error) => error.kind(),
            Self::Io { .. } | Self::Listen { .. } | Self::Locked { .. } => ErrorKind::Unavailable,
        }
    }
}

/// A server that answers.
pub struct Server {
    /// Its collections and pipelines.
    pub engine: Arc<Engine>,
    /// Where it listens.
    pub address: SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    /// Looks for a device for graph builds.
    looking: Option<std::thread::JoinHandle<()>>,
    /// Held as long as the server lives.
    _lock: std::fs::File,
}

impl Server {
    /// Opens everything under the data directory, starts the pipelines, and listens.
    pub async fn start(config: &ServerConfig) -> Result<Self, StartError> {
        crate::faults::arm();
        let metrics = crate::telemetry::metrics();
        crate::serve::describe_metrics();
        let lock = lock(&config.data_dir)?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { listen: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| StartError::Listen { listen: config.listen, source })?;
        let specs = load_pipelines(config.pipelines.as_deref())?;
        let accelerator = Accelerator::new(config.index.gpu_rows_min);
        let engine = Arc::new(open_engine(config, &accelerator).await?);
        let limits = Limits {
            body_bytes_max: config.limits.body_bytes_max.as_usize(),
            timeout_default: config.limits.read_timeout.0,
            room_wait: config.limits.propose_timeout.0,
            ..Limits::default()
        };
        let stop = CancellationToken::new();
        let app = router(Arc::clone(&engine), limits.clone(), metrics);
        let serving = tokio::spawn(serve(listener, app, limits, stop.clone()));
        for (path, spec) in specs {
            tracing::info!(pipeline = spec.pipeline, path = %path.display(), "adding a pipeline");
            pipelines::add(&engine, &path, spec).await?;
        }
        engine.set_ready();
        let looking = gpu::look(&config.index, &accelerator);
        Ok(Self { engine, address, stop, serving, looking, _lock: lock })
    }

    /// Adds a pipeline to the running server.
    pub async fn add_pipeline(&self, path: &Path, spec: PipelineSpec) -> Result<(), PipelineError> {
        pipelines::add(&self.engine, path, spec).await
    }

    /// Drains: the doors close first, then sources stop, then the logs.
    pub async fn stop(self) {
        // Load balancers see it first; then nothing new comes from sources, then nothing from clients.
        self.engine.begin_close();
        let engine = Arc::clone(&self.engine);
        let _ = tokio::task::spawn_blocking(move || engine.stop_pipelines()).await;
        self.stop.cancel();
        if let Ok(Err(error)) = self.serving.await {
            tracing::warn!(%error, "the door did not close cleanly");
        }
        let engine = Arc::clone(&self.engine);
        let looking = self.looking;
        let closing = tokio::task::spawn_blocking(move || {
            engine.close();
            // The process must not end while a driver is setting itself up.
            looking.map(std::thread::JoinHandle::join)
        });
        let _ = closing.await;
        self.engine.catalog().close().await;
    }
}

/// One server per data directory.
fn lock(dir: &Path) -> Result<std::fs::File, StartError> {
    std::fs::create_dir_all(dir).map_err(|source| StartError::Io {
        doing: "create",
        path: dir.to_path_buf(),
        source,
    })?;
    // The directory's own name must survive a power failure as well as what lies in it.
    if let Some(parent) = dir.canonicalize().ok().as_deref().and_then(Path::parent) {
        let synced = std::fs::File::open(parent).and_then(|parent| parent.sync_all());
        synced.map_err(|source| StartError::Io { doing: "sync", path: parent.to_path_buf(), source })?;
    }
    let path = dir.join("LOCK");
    let io = |source| StartError::Io { doing: "open", path: path.clone(), source };
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(StartError::Locked { path: dir.to_path_buf() }),
        Err(std::fs::TryLockError::Error(source)) => Err(StartError::Io { doing: "lock", path, source }),
    }
}

async fn open_engine(config: &ServerConfig, accelerator: &Accelerator) -> Result<Engine, StartError> {
    let dir = &config.data_dir;
    let catalog = SqliteCatalog::open(&dir.join("catalog.db")).await.map_err(EngineError::from_catalog)?;
    let catalog: Arc<dyn CatalogStore> = Arc::new(catalog);
    let options = EngineOptions {
        data_dir: dir.clone(),
        tuning: tuning(config, accelerator),
        search_threads: match config.limits.search_threads {
            0 => cores(),
            threads => threads,
        },
        ef_search: config.index.ef_search,
        recall_share: config.index.recall_share,
        memory_limit: memory_limit(config),
    };
    Ok(Engine::open(options, catalog).await?)
}

#[allow(clippy::needless_update)] // tests add a field
fn tuning(config: &ServerConfig, accelerator: &Accelerator) -> Tuning {
    Tuning {
        memtable_bytes_max: config.memtable.bytes_max.as_usize(),
        memtable_rows_max: config.memtable.rows_max,
        memtable_age_max: config.memtable.age_max.0,
        frozen_max: config.memtable.frozen_max,
        build_threads: match config.index.build_threads {
            0 => (cores() / 2).max(1),
            threads => threads,
        },
        accelerator: accelerator.clone(),
        propose_timeout: config.limits.propose_timeout.0,
        log: LogOptions {
            file_bytes_max: config.log.file_bytes_max.0,
            // An entry is one request's batch, or one pipeline batch of at most 32 MiB; decoded, neither doubles.
            entry_bytes_max: config.limits.body_bytes_max.as_usize().max(32 << 20) * 2,
            cut_unproven_tail: config.log.cut_unproven_tail,
            ..LogOptions::default()
        },
    }
}

/// The share of the machine's memory that is ours where nobody says: see [`crate::config::MemoryConfig`].
const MEMORY_SHARE_PERCENT: u64 = 60;
/// Where the system does not say how much there is.
const MEMORY_UNKNOWN: u64 = 2 << 30;

fn memory_limit(config: &ServerConfig) -> usize {
    let limit = match config.memory.limit.0 {
        0 => memory_of_machine().unwrap_or(MEMORY_UNKNOWN) / 100 * MEMORY_SHARE_PERCENT,
        limit => limit,
    };
    tracing::info!(mib = limit >> 20, given = config.memory.limit.0 > 0, "memory limit");
    usize::try_from(limit).unwrap_or(usize::MAX)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The pipelines of a file, or of every `*.yaml` in a directory.
fn load_pipelines(path: Option<&Path>) -> Result<Vec<(PathBuf, PipelineSpec)>, StartError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    if !path.is_dir() {
        return Ok(vec![(path.to_path_buf(), load(path)?)]);
    }
    let io = |source| StartError::Io { doing: "list", path: path.to_path_buf(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), load(&file)?))).collect()
}
