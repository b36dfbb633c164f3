//! What can go wrong with the catalog.
use std::path::{Path, PathBuf};

use crate::types::{CollectionConfig, ErrorKind};

/// Why the catalog refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The name (or a collection's id) is taken.
    #[error("{what} {name:?} exists already")]
    AlreadyExists {
        /// `collection` or `pipeline`.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// No such thing.
    #[error("{what} {name:?} does not exist")]
    NotFound {
        /// `collection` or `pipeline`.
        what: &'static str,
        /// The name asked for.
        name: String,
    },
    /// The name is not allowed.
    #[error("{name:?} cannot be a name: {why}")]
    InvalidName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// An update tried to change what cannot change.
    #[error(
        "{field} of collection {name:?} is {stored} and cannot become {given}; create another collection"
    )]
    Immutable {
        /// The collection.
        name: String,
        /// The field.
        field: &'static str,
        /// Its value.
        stored: String,
        /// The value given.
        given: String,
    },
    /// Somebody changed it first.
    #[error("collection {name:?} was changed meanwhile; read it again and retry")]
    Changed {
        /// The collection.
        name: String,
    },
    /// The file is not what was written.
    #[error("catalog {path:?} is damaged: {what}; put back a copy from a replica or a backup")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// A later release has changed the tables.
    #[error(
        "catalog {path:?} is at schema version {found}, which this program does not know; use a later release"
    )]
    VersionUnknown {
        /// The file.
        path: PathBuf,
        /// The version unknown here.
        found: i64,
    },
    /// No space left: reads go on, changes must wait.
    #[error("no space left to write catalog {path:?}; free some space and try again")]
    Full {
        /// The file.
        path: PathBuf,
        /// The database's error.
        #[source]
        source: sqlx::Error,
    },
    /// The database refused.
    #[error("cannot {doing} catalog {path:?}")]
    Database {
        /// The file.
        path: PathBuf,
        /// The verb: open, read, change.
        doing: &'static str,
        /// The database's error.
        #[source]
        source: sqlx::Error,
    },
}

impl CatalogError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::InvalidName { .. } | Self::Immutable { .. } => ErrorKind::Invalid,
            Self::Changed { .. } => ErrorKind::Conflict,
            Self::Corrupt { .. } => ErrorKind::DataLoss,
            Self::VersionUnknown { .. } => ErrorKind::Internal,
            Self::Full { .. } | Self::Database { .. } => ErrorKind::Unavailable,
        }
    }

    pub(crate) fn not_found(what: &'static str, name: &str) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }

    pub(crate) fn exists(what: &'static str, name: &str) -> Self {
        Self::AlreadyExists { what, name: name.to_string() }
    }

    /// For `map_err`: sorts SQLite's errors by what to do about them.
    pub(crate) fn database(path: &Path, doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| {
            let path = path.to_path_buf();
            let code = source.as_database_error().and_then(|error| error.code());
            // The low byte is the primary result code, https://www.sqlite.org/rescode.html
            match code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
                Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt { path, what: source.to_string() },
                Some(SQLITE_FULL) => Self::Full { path, source },
                _ => Self::Database { path, doing, source },
            }
        }
    }
}

const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;

/// Does `given` leave alone what never changes?
pub(crate) fn check_update(stored: &CollectionConfig, given: &CollectionConfig) -> Result<(), CatalogError> {
    let fields = [
        ("name", stored.name.clone(), given.name.clone()),
        ("id", stored.id.to_string(), given.id.to_string()),
        ("dim", stored.dim.to_string(), given.dim.to_string()),
        ("distance", stored.distance.client_name().to_string(), given.distance.client_name().to_string()),
        ("created_ms", stored.created_ms.to_string(), given.created_ms.to_string()),
    ];
    let name = || stored.name.clone();
    for (field, stored, new) in fields {
        if stored != new {
            return Err(CatalogError::Immutable { name: name(), field, stored, given: new });
        }
    }
    Ok(())
}
