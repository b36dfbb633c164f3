//! `proximadb inspect DIR`: what is in this data directory, and is it sound?
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{Ended, complain};
use crate::catalog::{CatalogStore, SqliteCatalog};
use crate::shard::ShardError;
use crate::store::{Deletes, Manifest, Segment, SegmentEntry};
use crate::types::Lsn;
use crate::wal::{BincodeCodec, FrameKind, LogOptions, LogStore, WalCodec};

#[derive(Debug, clap::Args)]
pub struct InspectArgs {
    /// A server's data directory; the server must be down.
    dir: PathBuf,
    /// One JSON object on stdout; errors as JSON on stderr.
    #[arg(long)]
    json: bool,
}

/// The directory cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {}; give a server's data directory", .dir.display())]
struct NoDirectory {
    dir: PathBuf,
    #[source]
    source: std::io::Error,
}

#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    catalog: CatalogReport,
    shards: Vec<ShardReport>,
}

#[derive(Debug, Default, Serialize)]
struct CatalogReport {
    collections: Vec<String>,
    pipelines: Vec<String>,
    problems: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct ShardReport {
    path: PathBuf,
    manifest_version: Option<u64>,
    flushed_lsn: Lsn,
    last_lsn: Lsn,
    log_entries: u64,
    log_bytes: u64,
    segments: Vec<SegmentReport>,
    positions: crate::types::Positions,
    quarantined: u64,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SegmentReport {
    id: String,
    rows: u32,
    dead: u64,
    tombstones: u32,
    bytes: u64,
    graph: bool,
}

/// Reads everything, checks every checksum, changes nothing but a torn tail of a log.
pub async fn run(args: InspectArgs) -> Ended {
    let shards = match shard_dirs(&args.dir) {
        Ok(shards) => shards,
        Err(source) => {
            complain(&NoDirectory { dir: args.dir, source }, args.json);
            return Ended::WrongUse;
        }
    };
    let progress = ProgressBar::new(shards.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} shards  {msg}") {
        progress.set_style(style);
    }
    let mut reports = Vec::new();
    for shard in shards {
        progress.set_message(shard.display().to_string());
        reports.push(inspect(&shard));
        progress.inc(1);
    }
    progress.finish_and_clear();
    let catalog = inspect_catalog(&args.dir, !reports.is_empty()).await;
    let sound = catalog.problems.is_empty() && reports.iter().all(|shard| shard.problems.is_empty());
    let report = Report { sound, catalog, shards: reports };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print(&report);
    }
    if report.sound { Ended::Done } else { Ended::Failed }
}

fn shard_dirs(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    let collections = dir.join("collections");
    if !collections.is_dir() {
        std::fs::read_dir(dir)?; // an empty data directory is sound, a missing one is a mistake
        return Ok(shards);
    }
    for collection in std::fs::read_dir(collections)? {
        for shard in std::fs::read_dir(collection?.path())? {
            shards.push(shard?.path());
        }
    }
    shards.sort();
    Ok(shards)
}

/// Reads all of `catalog.db`, and looks for the logs of the collections that it names. Without it a start would
/// find no collection, so it must be there where there are shards.
async fn inspect_catalog(dir: &Path, has_shards: bool) -> CatalogReport {
    let mut report = CatalogReport::default();
    let path = dir.join("catalog.db");
    if !path.exists() {
        if has_shards {
            let missing = format!("{} is missing, though there are collections; restore it", path.display());
            report.problems.push(missing);
        }
        return report;
    }
    let catalog = match SqliteCatalog::open_for_reading(&path).await {
        Ok(catalog) => catalog,
        Err(error) => {
            report.problems.push(in_full(&error));
            return report;
        }
    };
    match catalog.collections().await {
        Ok(collections) => {
            for config in collections {
                let shard = dir.join("collections").join(config.id.to_string()).join("shard-0");
                let log = shard.join("log").join("log.meta");
                if !log.exists() {
                    let (log, name) = (log.display(), &config.name);
                    report.problems.push(format!("{log} of collection {name:?} is missing; restore it"));
                }
                report.collections.push(config.name);
            }
        }
        Err(error) => report.problems.push(in_full(&error)),
    }
    match catalog.pipelines().await {
        Ok(pipelines) => report.pipelines.extend(pipelines.into_iter().map(|pipeline| pipeline.name)),
        Err(error) => report.problems.push(in_full(&error)),
    }
    catalog.close().await;
    report
}

fn inspect(dir: &Path) -> ShardReport {
    let mut report = ShardReport { path: dir.to_path_buf(), ..ShardReport::default() };
    match Manifest::load(dir) {
        Ok(Some(manifest)) => inspect_manifest(dir, &manifest, &mut report),
        Ok(None) => {}
        Err(error) => report.problems.push(in_full(&error)),
    }
    inspect_log(dir, &mut report);
    report
}

fn inspect_manifest(dir: &Path, manifest: &Manifest, report: &mut ShardReport) {
    let segments = dir.join("segments");
    report.manifest_version = Some(manifest.version);
    report.flushed_lsn = manifest.flushed_lsn;
    report.positions = manifest.positions.clone();
    for entry in &manifest.segments {
        report.segments.push(SegmentReport {
            id: entry.meta.id.to_string(),
            rows: entry.meta.rows,
            dead: entry.deletes.as_ref().map_or(0, |deletes| deletes.count),
            tombstones: entry.meta.tombstones,
            bytes: entry.meta.bytes(),
            graph: entry.graph.is_some(),
        });
        report.problems.extend(segment_problems(&segments, entry));
    }
    for file in &manifest.quarantine {
        report.quarantined += file.count;
        if let Err(error) = file.read(&segments) {
            report.problems.push(in_full(&error));
        }
    }
}

fn segment_problems(dir: &Path, entry: &SegmentEntry) -> Vec<String> {
    let mut problems = Vec::new();
    match Segment::open(dir, &entry.meta) {
        Ok(segment) => problems.extend(segment.verify().err().map(|error| in_full(&error))),
        Err(error) => problems.push(in_full(&error)),
    }
    if let Some(deletes) = &entry.deletes {
        problems.extend(Deletes::read(dir, &entry.meta, deletes).err().map(|error| in_full(&error)));
    }
    if let Some(graph) = &entry.graph {
        problems.extend(crate::index::open(&dir.join(&graph.name), true).err().map(|error| in_full(&error)));
    }
    problems
}

fn inspect_log(dir: &Path, report: &mut ShardReport) {
    let log = match LogStore::open(&dir.join("log"), &LogOptions::default()) {
        Ok((log, recovered)) => {
            report.log_entries = recovered.entries;
            report.log_bytes = recovered.bytes;
            log
        }
        Err(error) => return report.problems.push(in_full(&error)),
    };
    report.last_lsn = log.last().map_or(Lsn(0), |mark| mark.lsn);
    if report.manifest_version.is_some() && log.first() > report.flushed_lsn.next() {
        let (dir, flushed, first) = (dir.into(), report.flushed_lsn, log.first());
        report.problems.push(ShardError::LogBeginsLate { dir, flushed, first }.to_string());
    }
    let replayed = log.replay(log.first(), |frame| match frame.kind {
        FrameKind::Entry => BincodeCodec.decode(&frame.body).map(|_| ()),
        FrameKind::Blank | FrameKind::Membership => Ok(()),
    });
    report.problems.extend(replayed.err().map(|error| in_full(&error)));
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", in_full(cause)),
        None => error.to_string(),
    }
}

fn print(report: &Report) {
    let CatalogReport { collections, pipelines, problems } = &report.catalog;
    println!("catalog: {} collections, {} pipelines", collections.len(), pipelines.len());
    for problem in problems {
        println!("  PROBLEM: {problem}");
    }
    for shard in &report.shards {
        println!("{}", shard.path.display());
        println!(
            "  log: {} entries in {} bytes, last lsn {}, flushed up to {}",
            shard.log_entries, shard.log_bytes, shard.last_lsn, shard.flushed_lsn
        );
        for segment in &shard.segments {
            println!(
                "  segment {}: {} rows ({} dead, {} tombstones), {} bytes{}",
                segment.id,
                segment.rows,
                segment.dead,
                segment.tombstones,
                segment.bytes,
                if segment.graph { ", graph" } else { "" }
            );
        }
        for (source, partitions) in &shard.positions {
            for (partition, at) in partitions {
                let at = at.position.map_or("-".to_string(), |position| position.to_string());
                println!("  source {source}, {partition}: position {at}");
            }
        }
        if shard.quarantined > 0 {
            println!("  quarantine: {} records", shard.quarantined);
        }
        for problem in &shard.problems {
            println!("  PROBLEM: {problem}");
        }
    }
    println!("{}", if report.sound { "sound" } else { "NOT SOUND: see the problems above" });
}
