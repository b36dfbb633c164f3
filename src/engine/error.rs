//! What can go wrong with a request, in words for the user.
use std::time::Duration;

use crate::catalog::CatalogError;
use crate::query::{FilterError, QueryError};
use crate::shard::{ProposeError, ShardError};
use crate::store::StoreError;
use crate::types::{ErrorKind, Lsn, PointId};
use crate::wal::WalError;

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No such collection.
    #[error("collection {name:?} does not exist{}", nearest(.name, .known))]
    CollectionNotFound {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The name is taken.
    #[error("collection {name:?} exists already; delete it first or choose another name")]
    CollectionExists {
        /// The name.
        name: String,
    },
    /// No such pipeline.
    #[error("pipeline {name:?} does not exist{}", nearest(.name, .known))]
    PipelineNotFound {
        /// The name asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// A value that cannot be.
    #[error("{field}: {problem}")]
    Invalid {
        /// Where in the request.
        field: String,
        /// What was given, what was expected, what to do.
        problem: String,
        /// A stable code for programs.
        code: &'static str,
    },
    /// A vector of another length.
    #[error("{field}: vector has {given} components, collection {collection:?} has {expected}")]
    DimensionMismatch {
        /// Where in the request.
        field: String,
        /// The collection.
        collection: String,
        /// Given components.
        given: usize,
        /// Expected components.
        expected: usize,
    },
    /// The point asked for by id.
    #[error("point {id} does not exist")]
    PointNotFound {
        /// The point.
        id: PointId,
    },
    /// A filter that cannot be evaluated.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Someone else changed a point first.
    #[error("point {id} was changed meanwhile (version now {found:?}); read it again and retry")]
    Conflict {
        /// The point.
        id: PointId,
        /// Its version now.
        found: Option<Lsn>,
    },
    /// `fresh_as_of` did not come true in time.
    #[error("not fresh enough after {waited:?}: {behind}")]
    NotFresh {
        /// How long the read waited.
        waited: Duration,
        /// What was asked for and how far it is.
        behind: String,
    },
    /// The deadline passed.
    #[error("{action} ran past its timeout of {timeout:?}; raise `timeout`, or ask for less")]
    Timeout {
        /// What was being done.
        action: &'static str,
        /// The limit.
        timeout: Duration,
    },
    /// The log's queue is full: backpressure has reached the edge.
    #[error("collection {collection:?} takes no more writes right now; retry in {retry_after:?}")]
    Overloaded {
        /// The collection.
        collection: String,
        /// When to retry.
        retry_after: Duration,
    },
    /// The process's memory is full: backpressure has reached the edge.
    #[error("{reason}; retry in {retry_after:?}, and raise memory.limit if this goes on")]
    MemoryFull {
        /// The limit, and what holds the memory.
        reason: String,
        /// When to retry.
        retry_after: Duration,
    },
    /// The disk is full: writes are refused, reads go on.
    #[error("the disk under {path} is full: writes are refused, reads go on; free space and retry")]
    DiskFull {
        /// The data directory.
        path: String,
    },
    /// The log stopped for good.
    #[error(
        "the log of collection {collection:?} stopped after a failed write: {reason}; restart the server to recover"
    )]
    LogStopped {
        /// The collection.
        collection: String,
        /// What happened.
        reason: String,
    },
    /// The file system does not do what it should.
    #[error("storage failed: {reason}")]
    Storage {
        /// Which file, what the system said.
        reason: String,
    },
    /// Data failed its checksum.
    #[error("stored data is damaged: {reason}")]
    DataLoss {
        /// Which file, where, what to do.
        reason: String,
    },
    /// The catalog does not answer.
    #[error("the catalog failed: {reason}")]
    Catalog {
        /// What it said.
        reason: String,
    },
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

fn nearest(name: &str, known: &[String]) -> String {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, candidate)| format!("; did you mean {candidate:?}?"))
        .unwrap_or_default()
}

/// An error with its causes in one line.
fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", in_full(cause)),
        None => error.to_string(),
    }
}

impl From<QueryError> for EngineError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::BadVector { field, problem, code } => {
                Self::Invalid { field, problem: problem.into(), code }
            }
            QueryError::Filter(error) => Self::Filter(error),
            QueryError::Timeout { timeout } => Self::Timeout { action: "the read", timeout },
            QueryError::Store(error) => Self::from_store(error),
            error @ (QueryError::Index(_) | QueryError::BadPayload { .. }) => {
                Self::DataLoss { reason: in_full(&error) }
            }
        }
    }
}

impl EngineError {
    pub(crate) fn from_store(error: StoreError) -> Self {
        match error.kind() {
            ErrorKind::DataLoss | ErrorKind::Internal | ErrorKind::Invalid => {
                Self::DataLoss { reason: in_full(&error) }
            }
            _ => Self::Storage { reason: in_full(&error) },
        }
    }

    pub(crate) fn from_catalog(error: CatalogError) -> Self {
        match error.kind() {
            ErrorKind::Invalid => {
                Self::Invalid { field: "name".into(), problem: in_full(&error), code: "invalid_name" }
            }
            _ => Self::Catalog { reason: in_full(&error) },
        }
    }

    pub(crate) fn from_shard(error: ShardError, collection: &str) -> Self {
        match error.kind() {
            ErrorKind::DataLoss => Self::DataLoss { reason: in_full(&error) },
            _ => Self::Storage {
                reason: format!("collection {collection:?} cannot be opened: {}", in_full(&error)),
            },
        }
    }

    pub(crate) fn from_propose(error: ProposeError, collection: &str) -> Self {
        let collection = collection.to_string();
        match error {
            ProposeError::Closed => Self::ShuttingDown,
            ProposeError::DiskFull { path } => Self::DiskFull { path: path.display().to_string() },
            ProposeError::Overloaded { waited } => Self::Overloaded { collection, retry_after: waited },
            error @ ProposeError::MemoryFull { waited, .. } => {
                Self::MemoryFull { reason: error.to_string(), retry_after: waited }
            }
            ProposeError::Log(error) => match &*error {
                WalError::Full { path, .. } => Self::DiskFull { path: path.display().to_string() },
                WalError::EntryTooLarge { .. } => Self::Invalid {
                    field: "points".into(),
                    problem: in_full(&*error),
                    code: "batch_too_large",
                },
                WalError::Closed => Self::ShuttingDown,
                error => Self::LogStopped { collection, reason: in_full(error) },
            },
        }
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::CollectionNotFound { .. } | Self::PipelineNotFound { .. } | Self::PointNotFound { .. } => {
                ErrorKind::NotFound
            }
            Self::CollectionExists { .. } => ErrorKind::AlreadyExists,
            Self::Invalid { .. } | Self::DimensionMismatch { .. } => ErrorKind::Invalid,
            Self::Filter(error) => error.kind(),
            Self::Conflict { .. } => ErrorKind::Conflict,
            Self::NotFresh { .. } | Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Overloaded { .. } | Self::MemoryFull { .. } => ErrorKind::Overloaded,
            Self::DiskFull { .. }
            | Self::Storage { .. }
            | Self::LogStopped { .. }
            | Self::Catalog { .. }
            | Self::ShuttingDown => ErrorKind::Unavailable,
            Self::DataLoss { .. } => ErrorKind::DataLoss,
        }
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::CollectionNotFound { .. } => "collection_not_found",
            Self::CollectionExists { .. } => "collection_exists",
            Self::PipelineNotFound { .. } => "pipeline_not_found",
            Self::Invalid { code, .. } => code,
            Self::DimensionMismatch { .. } => "dimension_mismatch",
            Self::PointNotFound { .. } => "point_not_found",
            Self::Filter(error) if error.kind() == ErrorKind::DataLoss => "data_loss",
            Self::Filter(_) => "invalid_filter",
            Self::Conflict { .. } => "conflict",
            Self::NotFresh { .. } => "not_fresh",
            Self::Timeout { .. } => "timeout",
            Self::Overloaded { .. } | Self::MemoryFull { .. } => "overloaded",
            Self::DiskFull { .. } => "disk_full",
            Self::LogStopped { .. } => "log_stopped",
            Self::Storage { .. } => "storage",
            Self::DataLoss { .. } => "data_loss",
            Self::Catalog { .. } => "catalog",
            Self::ShuttingDown => "shutting_down",
        }
    }
}
