//! Deletes files that no kept manifest names.
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use uuid::Uuid;

use super::{Manifest, StoreError, durable};
use crate::faults;

/// What was deleted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Names.
    pub deleted: Vec<String>,
    /// Their bytes.
    pub bytes: u64,
}

/// Deletes the files in `segments` that no manifest in `manifests` names.
///
/// `in_progress` says of a file's name whether somebody is writing it or about to publish it. A writer must
/// be known to it from before its first file exists until after its manifest is stored: then, since files are
/// listed first, writers asked next, and manifests read last, no file can slip through between them.
///
/// Files whose names don't begin with a UUID are not ours and stay. A damaged manifest stops it.
pub fn collect_garbage(
    manifests: &Path,
    segments: &Path,
    in_progress: impl Fn(&str) -> bool,
) -> Result<GcReport, StoreError> {
    let mut names = durable::list(segments)?;
    names.retain(|name| is_ours(name) && !in_progress(name));
    let kept = Manifest::load_all(manifests)?;
    let needed: HashSet<&str> = kept.iter().flat_map(Manifest::files).collect();
    names.retain(|name| !needed.contains(name.as_str()));
    let mut report = GcReport::default();
    for name in names {
        let path = segments.join(&name);
        report.bytes += fs::metadata(&path).map_or(0, |file| file.len());
        faults::pass("store::before_collect").map_err(StoreError::io(&path, "delete"))?;
        durable::remove(&path)?;
        report.deleted.push(name);
    }
    report.deleted.sort();
    Ok(report)
}

fn is_ours(name: &str) -> bool {
    name.split_once('.').is_some_and(|(stem, _)| Uuid::try_parse(stem).is_ok())
}
