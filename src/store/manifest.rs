//! `manifest-<version>.json`: the live segments, source positions and quarantine at one LSN.
//!
//! M1 a manifest is replaced by a file with a higher version, by rename, so there is always a whole one.
//! M2 everything it names is durable before it is written.
//! M3 the newest decides. A damaged newest is an error: the one before it would show old points and seek
//! sources back while the log it needs may be purged.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DelMeta, FileMeta, QuarantineFile, SegmentMeta, StoreError, durable, sealed};
use crate::faults;
use crate::types::{Built, Lsn, PartitionPosition};

/// The version that this program writes, and the only one it reads.
const FORMAT: u64 = 1;
/// Older manifests that are kept, with their files, for readers that still use them and for a look back.
const KEPT: usize = 3;
const REMEDY: &str = "put back a copy from a replica or a backup; \
    moving it and the log away goes back to the manifest before it and loses everything since";

/// One live segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// Its files.
    pub meta: SegmentMeta,
    /// Rows that died since it was written.
    pub deletes: Option<DelMeta>,
    /// Its index file, once built.
    pub graph: Option<FileMeta>,
    /// What that was built with; manifests of before there was a choice don't say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Built>,
}

/// The durable state of a shard but for its log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Grows by one each time.
    pub version: u64,
    /// The term of the log entry at `flushed_lsn`.
    pub log_term: u64,
    /// Everything up to here is in segments: the log is replayed from the next entry on.
    pub flushed_lsn: Lsn,
    /// The live segments, oldest first.
    pub segments: Vec<SegmentEntry>,
    /// Source → partition → how far it was applied at `flushed_lsn`.
    pub positions: BTreeMap<String, BTreeMap<String, PartitionPosition>>,
    /// Event-time watermark, milliseconds since the Unix epoch.
    pub watermark_ms: Option<i64>,
    /// Rejected records.
    pub quarantine: Vec<QuarantineFile>,
    /// Totals that must survive a restart, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The file: the format stands outside, so that it can be read before what it governs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    format: u64,
    manifest: T,
}

impl Manifest {
    /// The newest manifest in a shard's directory; `None` if there is none yet.
    pub fn load(dir: &Path) -> Result<Option<Self>, StoreError> {
        match Self::versions(dir)?.last() {
            Some(version) => Self::read(&Self::path(dir, *version)).map(Some),
            None => Ok(None),
        }
    }

    /// All manifests that are kept, oldest first.
    pub fn load_all(dir: &Path) -> Result<Vec<Self>, StoreError> {
        Self::versions(dir)?.into_iter().map(|version| Self::read(&Self::path(dir, version))).collect()
    }

    /// Writes it durably, then deletes all but the newest three. Its version must be new.
    pub fn store(&self, dir: &Path) -> Result<(), StoreError> {
        let path = Self::path(dir, self.version);
        let versions = Self::versions(dir)?;
        if let Some(newest) = versions.last().filter(|newest| **newest >= self.version) {
            return Err(StoreError::invalid(&path, format!("manifest version {newest} is there already")));
        }
        let text = serde_json::to_string_pretty(&Stored { format: FORMAT, manifest: self })
            .map_err(|error| StoreError::invalid(&path, error.to_string()))?;
        let (text, _) = sealed::seal(text + "\n");
        let draft = path.with_extension("json.tmp");
        // A crash may have left a draft of this version: nothing reads drafts.
        durable::remove(&draft)?;
        durable::write_new(&draft, text.as_bytes())?;
        let renamed = faults::pass("store::manifest_before_rename").and_then(|()| fs::rename(&draft, &path));
        if let Err(error) = renamed {
            let _ = durable::remove(&draft);
            return Err(StoreError::io(&path, "rename")(error));
        }
        faults::pass("store::manifest_renamed").map_err(StoreError::io(&path, "rename"))?;
        durable::sync_dir(dir)?;
        faults::pass("store::manifest_after_rename").map_err(StoreError::io(&path, "rename"))?;
        for old in versions.iter().rev().skip(KEPT - 1) {
            // One that stays only keeps its files from being collected until the next time.
            let _ = durable::remove(&Self::path(dir, *old));
        }
        Ok(())
    }

    /// Reads one manifest file.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        let bytes = fs::read(path).map_err(StoreError::io(path, "read"))?;
        let corrupt = |what: String| StoreError::Corrupt { path: path.to_path_buf(), what, remedy: REMEDY };
        let (text, _) = sealed::unseal(&bytes).map_err(corrupt)?;
        let unreadable = |error: serde_json::Error| corrupt(error.to_string());
        let found = serde_json::from_slice::<Format>(text).map_err(unreadable)?.format;
        if found != FORMAT {
            return Err(StoreError::VersionUnknown { path: path.to_path_buf(), found, known: FORMAT });
        }
        let Stored::<Self> { manifest, .. } = serde_json::from_slice(text).map_err(unreadable)?;
        match path.file_name().is_some_and(|name| name == Self::name(manifest.version).as_str()) {
            true => Ok(manifest),
            false => Err(corrupt(format!("it is manifest version {} under another name", manifest.version))),
        }
    }

    /// The names of all files it needs, inside the segments directory.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let segments = self.segments.iter().flat_map(|entry| {
            let deletes = entry.deletes.as_ref().map(|deletes| &deletes.file);
            entry.meta.files().into_iter().chain(deletes).chain(&entry.graph)
        });
        segments.chain(self.quarantine.iter().map(|rejects| &rejects.file)).map(|file| file.name.as_str())
    }

    fn versions(dir: &Path) -> Result<Vec<u64>, StoreError> {
        let names = durable::list(dir)?;
        let mut versions: Vec<u64> = names.iter().filter_map(|name| Self::version_of(name)).collect();
        versions.sort_unstable();
        Ok(versions)
    }

    fn version_of(name: &str) -> Option<u64> {
        let version = name.strip_prefix("manifest-")?.strip_suffix(".json")?.parse().ok()?;
        // Only the exact form: another spelling of the number is another file.
        (name == Self::name(version)).then_some(version)
    }

    fn name(version: u64) -> String {
        format!("manifest-{version:020}.json")
    }

    fn path(dir: &Path, version: u64) -> PathBuf {
        dir.join(Self::name(version))
    }
}
