//! Why a read was not done.
use std::time::Duration;

use super::FilterError;
use crate::index::IndexError;
use crate::store::StoreError;
use crate::types::{ErrorKind, PointId};

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// A query vector that cannot be compared.
    #[error("{field}: {problem}")]
    BadVector {
        /// Where in the request.
        field: String,
        /// What is wrong with it, and what to give.
        problem: &'static str,
        /// A stable code for programs.
        code: &'static str,
    },
    /// A filter that cannot be evaluated.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// A segment cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A graph cannot be read.
    #[error(transparent)]
    Index(IndexError),
    /// A stored payload is not JSON.
    #[error("the payload of point {id} is not JSON")]
    BadPayload {
        /// The point.
        id: PointId,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// The deadline passed.
    #[error("the read ran past its timeout of {timeout:?}")]
    Timeout {
        /// The limit.
        timeout: Duration,
    },
}

impl QueryError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::BadVector { .. } => ErrorKind::Invalid,
            Self::Filter(error) => error.kind(),
            Self::Store(error) => error.kind(),
            Self::Index(error) => error.kind(),
            Self::BadPayload { .. } => ErrorKind::DataLoss,
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }
}
