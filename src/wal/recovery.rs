//! What opening a log does: finish an interrupted purge, verify every frame, cut a torn tail, refuse damage.
//!
//! A crash can only tear what was written after the last sync, and that lies at the end of the last file.
//! So in the last file a bad frame that no sound frame follows is a torn tail, and is cut (I4). A bad frame
//! anywhere else, or one that a sound frame follows, is damage. After a power failure the disk may have kept
//! a later frame of the last, never acknowledged group and lost an earlier one; that cannot be told from
//! damage in a group that was acknowledged, so it is refused as well unless
//! [`LogOptions::cut_unproven_tail`] says otherwise. Frames carry the LSN known synced when they were
//! written, so what later groups prove to have been synced is never cut.
use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::frame::{Found, find_sound_frame};
use super::log_file::{self, FILE_HEADER_BYTES, FileHeader, LogFile};
use super::log_meta::{self, LogMeta};
use super::terms::Terms;
use super::{Damage, LogMark, LogOptions, WalError};
use crate::types::Lsn;

/// What was found when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// The first LSN that the log has to hold: one past the purge mark.
    pub first: Lsn,
    /// The last entry, or the purge mark where there is none; `None` in a new log.
    pub last: Option<LogMark>,
    /// Entries from `first` to `last`.
    pub entries: u64,
    /// Files kept.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The torn tail that was cut off, if there was one.
    pub cut: Option<Cut>,
}

/// A torn tail: bytes of appends that a crash interrupted before they were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Its new length.
    pub at: u64,
    /// How much was cut off.
    pub bytes: u64,
}

/// A log as recovery leaves it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub meta: LogMeta,
    pub files: VecDeque<LogFile>,
    pub terms: Terms,
    pub cut: Option<Cut>,
}

pub(super) fn load(dir: &Path, options: &LogOptions, disk: &Disk) -> Result<Loaded, WalError> {
    let firsts = list(dir)?;
    let meta = match LogMeta::read(dir)? {
        Some(meta) => meta,
        None if firsts.is_empty() => {
            let meta = LogMeta::new();
            meta.replace(dir, disk)?;
            meta
        }
        None => return Err(corrupt(&log_meta::path(dir), 0, None, Damage::MetaMissing)),
    };

    // A crash between the purge mark and the removals leaves files that hold only purged entries.
    let purged = firsts.windows(2).take_while(|pair| pair[1] <= meta.start).count();
    for first in &firsts[..purged] {
        disk.remove(&dir.join(log_file::name(*first)))?;
    }
    let firsts = &firsts[purged..];
    if let Some(first) = firsts.first().filter(|first| **first > meta.start) {
        let damage = Damage::FileMissing { expected: meta.start };
        return Err(corrupt(&dir.join(log_file::name(*first)), 0, Some(meta.start), damage));
    }

    let mut loaded = Loaded { meta, files: VecDeque::new(), terms: Terms::default(), cut: None };
    for (index, first) in firsts.iter().enumerate() {
        let is_last = index + 1 == firsts.len();
        load_file(&dir.join(log_file::name(*first)), *first, is_last, options, disk, &mut loaded)?;
    }
    if loaded.files.back().is_some_and(|file| file.next() <= meta.start) {
        while let Some(file) = loaded.files.pop_front() {
            disk.remove(&file.path)?;
        }
        loaded.terms = Terms::default();
    }
    loaded.terms.purge(meta.start);
    // After a kill the tail may be in the page cache only; what we report must survive a power failure too.
    if let Some(file) = loaded.files.back() {
        disk.sync(&file.file, &file.path)?;
    }
    disk.sync_dir(dir)?;
    Ok(loaded)
}

/// The first LSNs of the log files in `dir`, in order.
fn list(dir: &Path) -> Result<Vec<Lsn>, WalError> {
    let failed = |source| WalError::io("list", dir, source);
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        firsts.extend(name.to_str().and_then(log_file::first_of));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

fn load_file(
    path: &Path,
    first: Lsn,
    is_last: bool,
    options: &LogOptions,
    disk: &Disk,
    loaded: &mut Loaded,
) -> Result<(), WalError> {
    let mut bytes = Vec::new();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes).map(|_| file))
        .map_err(|source| WalError::io("read", path, source))?;

    let log = loaded.meta.log;
    let Some(header) = FileHeader::decode(&bytes)? else {
        // Frames come only after the header is synced, so a file this short was being made.
        if is_last && bytes.len() <= FILE_HEADER_BYTES {
            disk.remove(path)?;
            loaded.cut = Some(Cut { path: path.to_path_buf(), at: 0, bytes: bytes.len() as u64 });
            return Ok(());
        }
        let followed_by = find_sound_frame(&bytes, 0, &log).map(|found| found.lsn);
        let (path, damage) = (path.to_path_buf(), Damage::FileHeader);
        return Err(WalError::Corrupt { path, byte: 0, lsn: Some(first), damage, followed_by });
    };
    let mut problem = None;
    if header.log != log {
        problem = Some(Damage::OtherLog);
    } else if header.first != first {
        problem = Some(Damage::FileName { header: header.first });
    } else if let Some(before) = loaded.files.back() {
        if before.next() != first {
            problem = Some(Damage::FileMissing { expected: before.next() });
        } else if before.chain != header.prev_crc {
            problem = Some(Damage::Chain);
        }
    }
    if let Some(damage) = problem {
        return Err(corrupt(path, 0, Some(first), damage));
    }

    let mut file = LogFile {
        path: path.to_path_buf(),
        file,
        first,
        prev_crc: header.prev_crc,
        chain: header.prev_crc,
        offsets: Vec::new(),
        end: FILE_HEADER_BYTES as u64,
    };
    if let Some(damage) = load_frames(&bytes, &mut file, loaded) {
        let (at, expected) = (file.end, file.next());
        let follower = find_sound_frame(&bytes, at as usize, &log);
        let proven = follower.is_some_and(|found| found.synced >= expected || !options.cut_unproven_tail);
        if !is_last || proven || matches!(damage, Damage::KindUnknown(_)) {
            let followed_by = follower.map(|found| found.lsn).filter(|lsn| *lsn > expected);
            let path = path.to_path_buf();
            return Err(WalError::Corrupt { path, byte: at, lsn: Some(expected), damage, followed_by });
        }
        disk.cut(&file.file, path, at)?;
        loaded.cut = Some(Cut { path: path.to_path_buf(), at, bytes: bytes.len() as u64 - at });
    }
    loaded.files.push_back(file);
    Ok(())
}

/// Takes the frames in `bytes` into `file` up to the end or to the first that is bad.
fn load_frames(bytes: &[u8], file: &mut LogFile, loaded: &mut Loaded) -> Option<Damage> {
    while (file.end as usize) < bytes.len() {
        let at = file.end as usize;
        let found = match Found::parse(bytes, at, &loaded.meta.log) {
            Ok(found) => found,
            Err((damage, _)) => return Some(damage),
        };
        if found.lsn != file.next() {
            return Some(Damage::Order { expected: file.next() });
        }
        if found.prev_crc != file.chain {
            return Some(Damage::Chain);
        }
        let Ok(offset) = u32::try_from(at) else { return Some(Damage::FrameCut) };
        file.offsets.push(offset);
        file.end = found.end() as u64;
        file.chain = found.header_crc;
        loaded.terms.push(LogMark { term: found.term, leader: found.leader, lsn: found.lsn });
    }
    None
}

fn corrupt(path: &Path, byte: u64, lsn: Option<Lsn>, damage: Damage) -> WalError {
    WalError::Corrupt { path: path.to_path_buf(), byte, lsn, damage, followed_by: None }
}
