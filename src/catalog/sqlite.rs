//! The catalog in one SQLite file.
//!
//! Write-ahead journal with `synchronous = FULL`: a change is on disk when the call returns, and readers
//! never wait for a writer. Tables are made by the numbered files in `migrations/`.
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::SqlSafeStr;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

use super::error::check_update;
use super::{CatalogError, CatalogStore, DesiredState, PipelineRecord, check_name};
use crate::faults;
use crate::types::CollectionConfig;

const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "collections pipelines schemas", include_str!("migrations/0001_collections_pipelines_schemas.sql"))];

/// A few readers beside the writer; the catalog is asked per change, not per request.
const CONNECTIONS_MAX: u32 = 4;
/// How long a change waits for another one. They take milliseconds, but a disk may stall.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A catalog in a file.
#[derive(Debug, Clone)]
pub struct SqliteCatalog {
    path: PathBuf,
    pool: SqlitePool,
}

type PipelineRow = (String, String, String, i64, i64);

impl SqliteCatalog {
    /// Opens the file, creating it or bringing its tables up to date, and checks it.
    pub async fn open(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .connect_with(options)
            .await
            .map_err(CatalogError::database(path, "open"))?;
        let catalog = Self { path: path.to_path_buf(), pool };
        catalog.check().await?;
        catalog.migrate().await?;
        Ok(catalog)
    }

    /// Opens a file that must be there, for looking only: nothing is created or brought up to date. Reads all of it.
    pub async fn open_for_reading(path: &Path) -> Result<Self, CatalogError> {
        let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(CatalogError::database(path, "open"))?;
        let catalog = Self { path: path.to_path_buf(), pool };
        catalog.check().await?;
        Ok(catalog)
    }

    /// The file is small, so it can be read whole each time it is opened.
    async fn check(&self) -> Result<(), CatalogError> {
        let (answer,): (String,) = sqlx::query_as("PRAGMA quick_check(1)")
            .fetch_one(&self.pool)
            .await
            .map_err(CatalogError::database(&self.path, "check"))?;
        match answer.as_str() {
            "ok" => Ok(()),
            _ => Err(self.corrupt(answer)),
        }
    }

    async fn migrate(&self) -> Result<(), CatalogError> {
        let migrations = MIGRATIONS.map(|(version, name, sql)| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
        });
        let path = || self.path.clone();
        Migrator::with_migrations(migrations.to_vec()).run(&self.pool).await.map_err(|error| match error {
            MigrateError::VersionMissing(found) => CatalogError::VersionUnknown { path: path(), found },
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                CatalogError::database(&self.path, "migrate")(source)
            }
            other => self.corrupt(other.to_string()),
        })
    }

    fn corrupt(&self, what: String) -> CatalogError {
        CatalogError::Corrupt { path: self.path.clone(), what }
    }

    fn reading(&self) -> impl FnOnce(sqlx::Error) -> CatalogError {
        CatalogError::database(&self.path, "read")
    }

    fn changing(&self) -> impl FnOnce(sqlx::Error) -> CatalogError {
        CatalogError::database(&self.path, "change")
    }

    fn config(&self, text: &str) -> Result<CollectionConfig, CatalogError> {
        serde_json::from_str(text).map_err(|error| self.corrupt(format!("collection {text}: {error}")))
    }

    fn config_text(&self, config: &CollectionConfig) -> Result<String, CatalogError> {
        serde_json::to_string(config).map_err(|error| self.corrupt(format!("{config:?}: {error}")))
    }

    fn record(&self, row: PipelineRow) -> Result<PipelineRecord, CatalogError> {
        let (name, yaml, desired, created_ms, updated_ms) = row;
        match DesiredState::parse(&desired) {
            Some(desired) => Ok(PipelineRecord { name, yaml, desired, created_ms, updated_ms }),
            None => Err(self.corrupt(format!("pipeline {name:?} has the desired state {desired:?}"))),
        }
    }

    /// An insertion's outcome.
    fn created(
        &self,
        outcome: Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error>,
        what: &'static str,
        name: &str,
    ) -> Result<(), CatalogError> {
        match outcome {
            Ok(_) => Ok(()),
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(CatalogError::exists(what, name))
            }
            Err(error) => Err(self.changing()(error)),
        }
    }

    /// The outcome of a change of one row.
    fn changed(
        &self,
        outcome: Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error>,
        what: &'static str,
        name: &str,
    ) -> Result<(), CatalogError> {
        match outcome.map_err(self.changing())?.rows_affected() {
            0 => Err(CatalogError::not_found(what, name)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl CatalogStore for SqliteCatalog {
    async fn create_collection(&self, config: &CollectionConfig) -> Result<(), CatalogError> {
        check_name(&config.name)?;
        let fault = |source| CatalogError::database(&self.path, "change")(sqlx::Error::Io(source));
        faults::pass("catalog::before_insert").map_err(fault)?;
        let outcome = sqlx::query("INSERT INTO collections (name, id, config) VALUES (?, ?, ?)")
            .bind(&config.name)
            .bind(config.id.to_string())
            .bind(self.config_text(config)?)
            .execute(&self.pool)
            .await;
        self.created(outcome, "collection", &config.name)?;
        faults::pass("catalog::inserted").map_err(fault)
    }

    async fn collection(&self, name: &str) -> Result<CollectionConfig, CatalogError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT config FROM collections WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await
            .map_err(self.reading())?;
        let (text,) = row.ok_or_else(|| CatalogError::not_found("collection", name))?;
        self.config(&text)
    }

    async fn collections(&self) -> Result<Vec<CollectionConfig>, CatalogError> {
        let rows: Vec<(String,)> = sqlx::query_as("SELECT config FROM collections ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(self.reading())?;
        rows.iter().map(|(text,)| self.config(text)).collect()
    }

    async fn update_collection(
        &self,
        known: &CollectionConfig,
        config: &CollectionConfig,
    ) -> Result<(), CatalogError> {
        check_update(known, config)?;
        let row: Option<(String,)> = sqlx::query_as("SELECT config FROM collections WHERE name = ?")
            .bind(&known.name)
            .fetch_optional(&self.pool)
            .await
            .map_err(self.reading())?;
        let (text,) = row.ok_or_else(|| CatalogError::not_found("collection", &known.name))?;
        let changed = || CatalogError::Changed { name: known.name.clone() };
        if self.config(&text)? != *known {
            return Err(changed());
        }
        // The very text that was read: whatever somebody wrote in between, or created anew, stays.
        let outcome = sqlx::query("UPDATE collections SET config = ? WHERE name = ? AND config = ?")
            .bind(self.config_text(config)?)
            .bind(&known.name)
            .bind(text)
            .execute(&self.pool)
            .await
            .map_err(self.changing())?;
        if outcome.rows_affected() == 0 { Err(changed()) } else { Ok(()) }
    }

    async fn delete_collection(&self, name: &str) -> Result<CollectionConfig, CatalogError> {
        let row: Option<(String,)> =
            sqlx::query_as("DELETE FROM collections WHERE name = ? RETURNING config")
                .bind(name)
                .fetch_optional(&self.pool)
                .await
                .map_err(self.changing())?;
        let (text,) = row.ok_or_else(|| CatalogError::not_found("collection", name))?;
        self.config(&text)
    }

    async fn create_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError> {
        check_name(&pipeline.name)?;
        let outcome = sqlx::query(
            "INSERT INTO pipelines (name, yaml, desired, created_ms, updated_ms) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&pipeline.name)
        .bind(&pipeline.yaml)
        .bind(pipeline.desired.as_str())
        .bind(pipeline.created_ms)
        .bind(pipeline.updated_ms)
        .execute(&self.pool)
        .await;
        self.created(outcome, "pipeline", &pipeline.name)
    }

    async fn pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError> {
        let row: Option<PipelineRow> = sqlx::query_as(
            "SELECT name, yaml, desired, created_ms, updated_ms FROM pipelines WHERE name = ?",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(self.reading())?;
        self.record(row.ok_or_else(|| CatalogError::not_found("pipeline", name))?)
    }

    async fn pipelines(&self) -> Result<Vec<PipelineRecord>, CatalogError> {
        let rows: Vec<PipelineRow> =
            sqlx::query_as("SELECT name, yaml, desired, created_ms, updated_ms FROM pipelines ORDER BY name")
                .fetch_all(&self.pool)
                .await
                .map_err(self.reading())?;
        rows.into_iter().map(|row| self.record(row)).collect()
    }

    async fn update_pipeline(&self, pipeline: &PipelineRecord) -> Result<(), CatalogError> {
        let outcome =
            sqlx::query("UPDATE pipelines SET yaml = ?, desired = ?, updated_ms = ? WHERE name = ?")
                .bind(&pipeline.yaml)
                .bind(pipeline.desired.as_str())
                .bind(pipeline.updated_ms)
                .bind(&pipeline.name)
                .execute(&self.pool)
                .await;
        self.changed(outcome, "pipeline", &pipeline.name)
    }

    async fn set_pipeline_state(&self, name: &str, desired: DesiredState) -> Result<(), CatalogError> {
        let outcome = sqlx::query("UPDATE pipelines SET desired = ? WHERE name = ?")
            .bind(desired.as_str())
            .bind(name)
            .execute(&self.pool)
            .await;
        self.changed(outcome, "pipeline", name)
    }

    async fn delete_pipeline(&self, name: &str) -> Result<PipelineRecord, CatalogError> {
        let row: Option<PipelineRow> = sqlx::query_as(
            "DELETE FROM pipelines WHERE name = ? RETURNING name, yaml, desired, created_ms, updated_ms",
        )
        .bind(name)
        .fetch_optional(&self.pool)
        .await
        .map_err(self.changing())?;
        self.record(row.ok_or_else(|| CatalogError::not_found("pipeline", name))?)
    }

    async fn put_schema(&self, registry: &str, id: u32, text: &str) -> Result<(), CatalogError> {
        sqlx::query(
            "INSERT INTO schemas (registry, id, text) VALUES (?, ?, ?) \
             ON CONFLICT (registry, id) DO UPDATE SET text = excluded.text",
        )
        .bind(registry)
        .bind(i64::from(id))
        .bind(text)
        .execute(&self.pool)
        .await
        .map_err(self.changing())?;
        Ok(())
    }

    async fn schema(&self, registry: &str, id: u32) -> Result<Option<String>, CatalogError> {
        let row: Option<(String,)> = sqlx::query_as("SELECT text FROM schemas WHERE registry = ? AND id = ?")
            .bind(registry)
            .bind(i64::from(id))
            .fetch_optional(&self.pool)
            .await
            .map_err(self.reading())?;
        Ok(row.map(|(text,)| text))
    }

    async fn close(&self) {
        // The last connection to go moves the journal into the file.
        self.pool.close().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::catalog::contract;

    #[tokio::test]
    async fn keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        contract::keeps(&SqliteCatalog::open(&dir.path().join("catalog.sqlite")).await.unwrap()).await;
    }

    #[tokio::test]
    async fn what_was_created_is_there_after_opening_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let first = SqliteCatalog::open(&path).await.unwrap();
        let config = contract::config("products.v1");
        first.create_collection(&config).await.unwrap();
        // Not closed: as after a crash.
        let second = SqliteCatalog::open(&path).await.unwrap();
        assert_eq!(second.collection("products.v1").await.unwrap(), config);
        let (journal,): (String,) =
            sqlx::query_as("PRAGMA journal_mode").fetch_one(&second.pool).await.unwrap();
        let (synchronous,): (i64,) =
            sqlx::query_as("PRAGMA synchronous").fetch_one(&second.pool).await.unwrap();
        assert_eq!((journal.as_str(), synchronous), ("wal", 2), "2 is FULL");
    }

    #[tokio::test]
    async fn of_creations_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = SqliteCatalog::open(&dir.path().join("catalog.sqlite")).await.unwrap();
        let creations = (0..16).map(|_| {
            let catalog = catalog.clone();
            tokio::spawn(async move { catalog.create_collection(&contract::config("same")).await })
        });
        let mut created = 0;
        for creation in creations.collect::<Vec<_>>() {
            match creation.await.unwrap() {
                Ok(()) => created += 1,
                Err(error) => assert!(matches!(error, CatalogError::AlreadyExists { .. }), "{error}"),
            }
        }
        assert_eq!(created, 1);
    }

    #[tokio::test]
    async fn later_tables_and_other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.sqlite");
        let catalog = SqliteCatalog::open(&path).await.unwrap();
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (99, 'later', TRUE, x'00', 0)",
        )
        .execute(&catalog.pool)
        .await
        .unwrap();
        catalog.close().await;
        let error = SqliteCatalog::open(&path).await.unwrap_err();
        assert!(matches!(error, CatalogError::VersionUnknown { found: 99, .. }), "{error}");
        let other = dir.path().join("other");
        std::fs::write(&other, "not a database, but long enough to be looked at".repeat(50)).unwrap();
        let error = SqliteCatalog::open(&other).await.unwrap_err();
        assert!(matches!(error, CatalogError::Corrupt { .. }), "{error:?}");
    }
}
