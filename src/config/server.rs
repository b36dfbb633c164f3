//! `config/proximadb.toml`: one struct per section, each the only home of its defaults.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::pipeline::{ByteSize, Span};
use crate::types::ErrorKind;

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Where REST and gRPC are served. Default 127.0.0.1:5678: this machine only, until somebody decides
    /// otherwise. Port 0 takes a free one, which is printed.
    pub listen: SocketAddr,
    /// Everything durable lies under it. Default `./proximadb-data`.
    pub data_dir: PathBuf,
    /// A pipeline file, or a directory whose `*.yaml` are all run. Default: none.
    pub pipelines: Option<PathBuf>,
    /// Memory of the process.
    pub memory: MemoryConfig,
    /// The write-ahead log.
    pub log: LogConfig,
    /// Rows in memory.
    pub memtable: MemtableConfig,
    /// Graphs.
    pub index: IndexConfig,
    /// What one request, or all of them, may take.
    pub limits: LimitsConfig,
}

/// `[memory]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Bytes that memtables, queues, batches in flight, caches and builds may hold together; 0 takes 60 % of what the
    /// machine or the control group has. Default 0: the rest is for mapped segments and graphs, which are page
    /// cache, and for what is not counted (searches, brokers' clients, the allocator). Larger: the system ends the
    /// process when memory is short; smaller: more and smaller segments, and writers wait.
    pub limit: ByteSize,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Bytes after which a new file starts. Default 64MiB: the log is cut by whole files, so larger files
    /// keep more of it, and smaller ones cost a directory sync each.
    pub file_bytes_max: ByteSize,
    /// Open a log whose last file ends in bytes that cannot be proven to be a torn write. Default false:
    /// they might be entries that were acknowledged and damaged since. Set it for one start, after copying
    /// the directory, when nothing better is left.
    pub cut_unproven_tail: bool,
}

/// `[memtable]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemtableConfig {
    /// Bytes after which a collection's memtable is flushed. Default 64MiB: larger means fewer, larger segments,
    /// and more log to replay after a crash.
    pub bytes_max: ByteSize,
    /// Rows after which it is flushed. Default 100000: fresh rows are scanned by every search, about 1 ms
    /// per 20,000 rows of 384 components.
    pub rows_max: usize,
    /// Age of its first row after which it is flushed. Default 60s: bounds the log that a quiet collection keeps.
    pub age_max: Span,
    /// Full memtables that may wait for the disk before writers wait. Default 2: one being written, one behind it.
    pub frozen_max: usize,
}

/// `[index]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IndexConfig {
    /// Candidates kept while walking a graph, where a request names no `hnsw_ef`. Default 128: recall@10 of
    /// 0.97 or more on text and image embeddings (docs/benchmarks.md); half of it is faster and finds less.
    pub ef_search: usize,
    /// Threads per graph build; 0 takes half of the cores, so that searches keep the other half. Default 0.
    pub build_threads: usize,
    /// Share of one core that measuring recall takes at most, where collections promise it; 0 measures nothing, so
    /// `ef_search` stays where it is. Default 0.05: a sample that takes a tenth of a second is followed by two without.
    pub recall_share: f64,
    /// What helps with the graphs of large segments. Default auto: a GPU if there is one, and for graphs that it is
    /// faster with than the processor; else nothing, which is no loss but of time.
    pub gpu: GpuChoice,
    /// Rows from which on it helps. Default 50000: below that a GPU is hardly got ready when the processor is done.
    pub gpu_rows_min: usize,
}

/// Which devices build graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuChoice {
    /// A GPU by CUDA, else one by OpenCL, while it is faster than the processor.
    Auto,
    /// None.
    Off,
    /// By CUDA alone.
    Cuda,
    /// By OpenCL alone, also the processor's driver, which is slower than builds without it.
    OpenCl,
}

/// `[limits]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Bytes of one request's body. Default 64MiB; a batch becomes one log entry, which must fit memory twice.
    pub body_bytes_max: ByteSize,
    /// Threads that search; 0 takes one per core. Default 0.
    pub search_threads: usize,
    /// How long a write waits for room in the log's queue before it is answered with 429. Default 5s.
    pub propose_timeout: Span,
    /// Deadline of a request that names none, a read or a write: of waiting and work together. Default 60s.
    pub read_timeout: Span,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5678)),
            data_dir: PathBuf::from("proximadb-data"),
            pipelines: None,
            memory: MemoryConfig::default(),
            log: LogConfig::default(),
            memtable: MemtableConfig::default(),
            index: IndexConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { limit: ByteSize(0) }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { file_bytes_max: ByteSize(64 << 20), cut_unproven_tail: false }
    }
}

impl Default for MemtableConfig {
    fn default() -> Self {
        Self {
            bytes_max: ByteSize(64 << 20),
            rows_max: 100_000,
            age_max: Span(Duration::from_secs(60)),
            frozen_max: 2,
        }
    }
}

impl Default for IndexConfig {
    fn default() -> Self {
        let (gpu, gpu_rows_min) = (GpuChoice::Auto, 50_000);
        Self { ef_search: 128, build_threads: 0, recall_share: 0.05, gpu, gpu_rows_min }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            body_bytes_max: ByteSize(64 << 20),
            search_threads: 0,
            propose_timeout: Span(Duration::from_secs(5)),
            read_timeout: Span(Duration::from_secs(60)),
        }
    }
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings in {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}:{line}:{column}: {problem}")]
    Parse {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong; for an unknown key, the nearest known one.
        problem: String,
    },
    /// Values that cannot be, or not together.
    #[error("{key} = {value}: {problem}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What was expected.
        problem: &'static str,
    },
}

impl ConfigError {
    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}

impl ServerConfig {
    /// Reads a file; everything it leaves out has its default.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Io { path: path.to_path_buf(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads settings given as text; `path` is their name in messages.
    pub fn parse(text: &str, path: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let (line, column) = place(text, error.span().map_or(0, |span| span.start));
            ConfigError::Parse {
                path: path.to_string(),
                line,
                column,
                problem: name_nearest(error.message()),
            }
        })?;
        config.validate()?;
        Ok(config)
    }

    /// Checks what the types cannot.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key, value: &dyn std::fmt::Display, problem| {
            Err(ConfigError::Invalid { key, value: value.to_string(), problem })
        };
        if (1..16 << 20).contains(&self.memory.limit.0) {
            return invalid("memory.limit", &self.memory.limit.0, "give at least 16MiB, or 0 for a share");
        }
        if self.log.file_bytes_max.0 < 1 << 20 {
            return invalid("log.file_bytes_max", &self.log.file_bytes_max.0, "give at least 1MiB");
        }
        if self.memtable.bytes_max.0 < 1 << 16 {
            return invalid("memtable.bytes_max", &self.memtable.bytes_max.0, "give at least 64KiB");
        }
        if !(1..=16).contains(&self.memtable.frozen_max) {
            return invalid("memtable.frozen_max", &self.memtable.frozen_max, "give 1 to 16");
        }
        if self.memtable.rows_max == 0 {
            return invalid("memtable.rows_max", &0, "give at least 1");
        }
        if !(1..=100_000).contains(&self.index.ef_search) {
            return invalid("index.ef_search", &self.index.ef_search, "give 1 to 100000");
        }
        if !(0.0..=1.0).contains(&self.index.recall_share) {
            return invalid("index.recall_share", &self.index.recall_share, "give 0 to 1");
        }
        if !(1 << 10..=1 << 30).contains(&self.limits.body_bytes_max.0) {
            return invalid("limits.body_bytes_max", &self.limits.body_bytes_max.0, "give 1KiB to 1GiB");
        }
        Ok(())
    }
}

/// Line and column of a byte, both from 1.
fn place(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before.len() - line_start + 1)
}

/// "unknown field `lisen`, expected one of `listen`, …" becomes a sentence that names the nearest key.
fn name_nearest(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let Some((unknown, known)) = quoted.split_first().filter(|_| message.starts_with("unknown field")) else {
        return message.to_string();
    };
    let nearest = known.iter().min_by_key(|key| strsim::damerau_levenshtein(unknown, key));
    match nearest {
        Some(nearest) => {
            format!("unknown key `{unknown}`; did you mean `{nearest}`? known keys: {}", known.join(", "))
        }
        None => format!("unknown key `{unknown}`"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_key_is_named_with_its_place_and_its_nearest() {
        let error =
            ServerConfig::parse("listen = \"127.0.0.1:1\"\n[memtable]\nbyte_max = \"1MiB\"\n", "x.toml");
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("x.toml:3:1: unknown key `byte_max`; did you mean `bytes_max`?"), "{text}");
    }

    #[test]
    fn an_empty_file_is_the_defaults_and_they_are_valid() {
        let config = ServerConfig::parse("", "x.toml").unwrap();
        assert_eq!(config.listen.port(), 5678);
        assert!(config.validate().is_ok());
    }

    #[test]
    fn the_shipped_file_states_every_default() {
        let text = include_str!("../../config/proximadb.toml");
        let shipped = ServerConfig::parse(text, "config/proximadb.toml").unwrap();
        assert_eq!(format!("{shipped:?}"), format!("{:?}", ServerConfig::default()));
    }
}
