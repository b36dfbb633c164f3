//! The log on disk, owned by one thread: append, sync, truncate, purge, read, vote.
use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::log_file::{FileHeader, LogFile};
use super::log_meta::LogMeta;
use super::recovery::{self, Loaded, Recovered};
use super::terms::Terms;
use super::{Frame, FrameRef, LogMark, Vote, WalError};
use crate::types::Lsn;

/// Largest sum of a group's frames; with `file_bytes_max` capped alike, offsets fit 32 bits.
const GROUP_BYTES_LIMIT: usize = 1 << 30;
/// A buffer that grew for one huge group is given back, it would otherwise stay for good.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// How a log is laid out.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Bytes after which a new file starts; a group never spans two. Default 64 MiB: larger files are
    /// purged later, smaller ones cost two more syncs each. At most 1 GiB.
    pub file_bytes_max: u64,
    /// Largest body. Default 64 MiB: an entry is held in memory several times on its way.
    pub entry_bytes_max: usize,
    /// Cut a torn tail even where sound frames of the same group follow the bad one. Default `false`: such
    /// a tail is what a power failure may leave of a group that was never acknowledged, but also what a bad
    /// disk leaves of one that was. Switch on for one start where the other replicas have the entries.
    pub cut_unproven_tail: bool,
    #[cfg(test)]
    pub(crate) faults: std::sync::Arc<super::disk::Faults>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            file_bytes_max: 64 << 20,
            entry_bytes_max: 64 << 20,
            cut_unproven_tail: false,
            #[cfg(test)]
            faults: Default::default(),
        }
    }
}

/// The log of one shard.
///
/// Reads see appends at once; they are durable after [`LogStore::sync`].
#[derive(Debug)]
pub struct LogStore {
    dir: PathBuf,
    options: LogOptions,
    disk: Disk,
    meta: LogMeta,
    /// In order; the last one takes the appends.
    files: VecDeque<LogFile>,
    terms: Terms,
    /// What the next frame continues, also while there is no file.
    chain: u32,
    synced: Lsn,
    poisoned: Option<String>,
    buffer: Vec<u8>,
    /// Held for as long as the log is open.
    _lock: File,
}

impl LogStore {
    /// Opens the log in `dir`, made if it does not exist, and says what was there.
    ///
    /// Every frame is verified; a torn tail is cut and reported in [`Recovered::cut`]. All that it then
    /// holds is durable. Errors: [`WalError::Corrupt`] with file, byte and LSN, [`WalError::Locked`].
    pub fn open(dir: &Path, options: &LogOptions) -> Result<(Self, Recovered), WalError> {
        let mut options = options.clone();
        options.file_bytes_max = options.file_bytes_max.min(GROUP_BYTES_LIMIT as u64);
        options.entry_bytes_max = options.entry_bytes_max.min(GROUP_BYTES_LIMIT / 2);
        let disk = Disk {
            #[cfg(test)]
            faults: options.faults.clone(),
        };
        fs::create_dir_all(dir).map_err(|source| WalError::io("create", dir, source))?;
        let lock = lock(dir)?;
        let Loaded { meta, files, terms, cut } = recovery::load(dir, &options, &disk)?;
        let chain = files.back().map_or(0, |file| file.chain);
        let mut store = Self {
            dir: dir.to_path_buf(),
            options,
            disk,
            meta,
            files,
            terms,
            chain,
            synced: Lsn(0),
            poisoned: None,
            buffer: Vec::new(),
            _lock: lock,
        };
        store.synced = store.last_lsn();
        let recovered = Recovered {
            first: store.first(),
            last: store.last(),
            entries: store.next().0 - store.first().0,
            files: store.files.len(),
            bytes: store.bytes(),
            cut,
        };
        if let Some(cut) = &recovered.cut {
            let (path, at, bytes) = (cut.path.display(), cut.at, cut.bytes);
            tracing::warn!(%path, at, bytes, "cut a torn tail off the log: appends that were never acknowledged");
        }
        Ok((store, recovered))
    }

    /// The first LSN that the log has to hold: one past the purge mark, 1 in a new log.
    pub fn first(&self) -> Lsn {
        self.meta.start
    }

    /// The LSN that the next append must have.
    pub fn next(&self) -> Lsn {
        self.files.back().map_or(self.meta.start, LogFile::next).max(self.meta.start)
    }

    fn last_lsn(&self) -> Lsn {
        Lsn(self.next().0 - 1)
    }

    /// The last entry, or the purge mark where there is none; `None` in a log that never held anything.
    pub fn last(&self) -> Option<LogMark> {
        self.mark_of(self.last_lsn()).or(self.meta.purged)
    }

    /// The last entry purged.
    pub fn purged(&self) -> Option<LogMark> {
        self.meta.purged
    }

    /// The term and leader of an entry that is held, or of the purge mark.
    pub fn mark_of(&self, lsn: Lsn) -> Option<LogMark> {
        if lsn >= self.first() && lsn < self.next() {
            return self.terms.mark(lsn);
        }
        self.meta.purged.filter(|mark| mark.lsn == lsn)
    }

    /// The last LSN that is durable.
    pub fn synced(&self) -> Lsn {
        self.synced
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.end).sum()
    }

    /// Largest body that [`LogStore::append`] takes.
    pub fn entry_bytes_max(&self) -> usize {
        self.options.entry_bytes_max
    }

    /// Why nothing is accepted any more, if that is so.
    pub fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// The vote that was saved last.
    pub fn vote(&self) -> Option<Vote> {
        self.meta.vote
    }

    /// Saves the vote; durable when it returns.
    pub fn save_vote(&mut self, vote: Vote) -> Result<(), WalError> {
        self.replace_meta(LogMeta { vote: Some(vote), ..self.meta })
    }

    /// Lets an empty log begin at another LSN than 1: where a Raft log starts late. Durable when it returns.
    pub fn start_at(&mut self, first: Lsn) -> Result<(), WalError> {
        if self.next() == first {
            return Ok(());
        }
        let empty = self.files.iter().all(|file| file.offsets.is_empty()) && self.meta.purged.is_none();
        if !empty {
            return Err(WalError::OutOfOrder { expected: self.next(), found: first });
        }
        self.replace_meta(LogMeta { start: first, ..self.meta })?;
        self.remove_files_from(Lsn(0))?;
        self.synced = self.last_lsn();
        Ok(())
    }

    /// Appends frames that continue the log, all or none of them. They are durable after [`LogStore::sync`].
    ///
    /// Errors: [`WalError::Full`] (nothing was appended, the log goes on), [`WalError::OutOfOrder`],
    /// [`WalError::EntryTooLarge`], [`WalError::Poisoned`].
    pub fn append(&mut self, frames: &[FrameRef<'_>]) -> Result<(), WalError> {
        self.usable()?;
        let Some(first) = frames.first() else { return Ok(()) };
        let mut group_bytes = 0;
        for (frame, expected) in frames.iter().zip(self.next().0..) {
            if frame.lsn != Lsn(expected) {
                return Err(WalError::OutOfOrder { expected: Lsn(expected), found: frame.lsn });
            }
            if frame.body.len() > self.options.entry_bytes_max {
                let (bytes, bytes_max) = (frame.body.len(), self.options.entry_bytes_max);
                return Err(WalError::EntryTooLarge { bytes, bytes_max });
            }
            group_bytes += frame.disk_bytes();
        }
        if group_bytes > GROUP_BYTES_LIMIT {
            return Err(WalError::EntryTooLarge { bytes: group_bytes, bytes_max: GROUP_BYTES_LIMIT });
        }
        self.roll_if_full(first.lsn, group_bytes as u64)?;
        let Some(active) = self.files.back_mut() else { return Err(WalError::Closed) };

        self.buffer.clear();
        self.buffer.reserve(group_bytes);
        let mut offsets = Vec::with_capacity(frames.len());
        let mut chain = active.chain;
        for frame in frames {
            offsets.push(active.end as u32 + self.buffer.len() as u32);
            chain = frame.write(&mut self.buffer, &self.meta.log, self.synced, chain);
        }
        if let Err(error) = self.disk.write(&active.file, &active.path, &self.buffer, active.end) {
            // Part of the group may be there; a crash must not bring back what is reported as failed.
            if let Err(also) = self.disk.cut(&active.file, &active.path, active.end) {
                let cause = format!("{}; {}", error.in_full(), also.in_full());
                return Err(self.poison(WalError::Poisoned { cause }));
            }
            return Err(error);
        }
        active.end += self.buffer.len() as u64;
        active.chain = chain;
        active.offsets.append(&mut offsets);
        self.chain = chain;
        for FrameRef { lsn, term, leader, .. } in frames {
            self.terms.push(LogMark { term: *term, leader: *leader, lsn: *lsn });
        }
        if self.buffer.capacity() > BUFFER_KEPT_BYTES {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// Makes everything appended durable. A failure is final (I3): the outcome of what was not synced is
    /// unknown until the log is opened again.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.usable()?;
        let last = self.last_lsn();
        if self.synced == last {
            return Ok(());
        }
        if let Some(active) = self.files.back() {
            self.disk.sync(&active.file, &active.path).map_err(|error| self.poison(error))?;
        }
        self.synced = last;
        Ok(())
    }

    /// Removes `from` and everything after it; durable when it returns. Any failure poisons the log.
    pub fn truncate_suffix(&mut self, from: Lsn) -> Result<(), WalError> {
        self.usable()?;
        if from < self.first() {
            return Err(WalError::OutOfRange { asked: from, first: self.first(), last: self.last_lsn() });
        }
        if from >= self.next() {
            return Ok(());
        }
        self.remove_files_from(from)?;
        if let Some(active) = self.files.back_mut().filter(|file| from < file.next()) {
            let cut = active.truncate(from, &self.disk);
            self.chain = active.chain;
            cut.map_err(|error| self.poison(error))?;
        }
        self.terms.truncate(from);
        self.synced = self.last_lsn();
        Ok(())
    }

    /// Forgets everything up to `upto`, which the log must hold or have purged; durable when it returns.
    ///
    /// Whole files are removed; what else is covered stays on disk and is not read any more.
    pub fn purge_prefix(&mut self, upto: Lsn) -> Result<(), WalError> {
        if upto < self.first() {
            return Ok(());
        }
        match self.mark_of(upto) {
            Some(mark) => self.purge_to(mark),
            None => Err(WalError::OutOfRange { asked: upto, first: self.first(), last: self.last_lsn() }),
        }
    }

    /// [`LogStore::purge_prefix`], also past the end: the log then continues after `mark`, as it must where
    /// a snapshot from elsewhere was installed.
    pub fn purge_to(&mut self, mark: LogMark) -> Result<(), WalError> {
        self.usable()?;
        if self.meta.purged.is_some_and(|purged| mark.lsn <= purged.lsn) {
            return Ok(());
        }
        let start = self.meta.start.max(mark.lsn.next());
        let last = self.last_lsn();
        self.replace_meta(LogMeta { start, purged: Some(mark), ..self.meta })?;
        self.terms.purge(start);
        // The mark is durable, so whichever of these removals a crash undoes, open finishes them (I6).
        while self.files.front().is_some_and(|file| file.next() <= start) {
            if let Some(file) = self.files.pop_front() {
                self.disk.remove(&file.path)?;
            }
        }
        if self.files.is_empty() {
            self.terms = Terms::default();
            // Only what was synced may count as durable, and what is purged counts.
            self.synced = self.last_lsn();
        } else {
            self.synced = self.synced.max(mark.lsn.min(last));
        }
        Ok(())
    }

    /// The entries of `range` that the log holds, verified.
    pub fn read(&self, range: Range<Lsn>) -> Result<Vec<Frame>, WalError> {
        self.read_some(range, u64::MAX)
    }

    /// Like [`LogStore::read`], but ends once `bytes_max` are exceeded: at least one entry comes back if the
    /// range holds any. Go on at the LSN after the last one returned.
    pub fn read_some(&self, range: Range<Lsn>, bytes_max: u64) -> Result<Vec<Frame>, WalError> {
        let end = range.end.min(self.next());
        let mut at = range.start.max(self.first());
        let mut frames = Vec::new();
        let mut bytes = 0;
        let first_file = self.files.partition_point(|file| file.next() <= at);
        for file in self.files.iter().skip(first_file) {
            if at >= end || (bytes >= bytes_max && !frames.is_empty()) {
                break;
            }
            let begin = file.offset(at);
            let mut stop = end.min(file.next());
            if let Some(left) = (bytes_max - bytes.min(bytes_max)).checked_add(begin) {
                let fitting = file.offsets.partition_point(|offset| u64::from(*offset) < left);
                stop = stop.min(Lsn(file.first.0 + fitting as u64)).max(at.next());
            }
            file.read(at, stop, &self.meta.log, &mut frames)?;
            bytes += file.offset(stop) - begin;
            at = stop;
        }
        Ok(frames)
    }

    /// Calls `take` with every entry from `from` on, in order, holding a few MiB at a time: for recovery.
    pub fn replay<E: From<WalError>>(
        &self,
        from: Lsn,
        mut take: impl FnMut(Frame) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut at = from.max(self.first());
        while at < self.next() {
            for frame in self.read_some(at..self.next(), 4 << 20)? {
                at = frame.lsn.next();
                take(frame)?;
            }
        }
        Ok(())
    }

    /// Starts a new file where the active one has no room for another group.
    fn roll_if_full(&mut self, first: Lsn, group_bytes: u64) -> Result<(), WalError> {
        let full =
            |file: &LogFile| !file.offsets.is_empty() && file.end + group_bytes > self.options.file_bytes_max;
        if self.files.back().is_some_and(|file| !full(file)) {
            return Ok(());
        }
        // Recovery takes everything before the last file for synced.
        self.sync()?;
        let header = FileHeader { log: self.meta.log, first, prev_crc: self.chain };
        match LogFile::create(&self.dir, header, &self.disk) {
            Ok(file) => {
                self.files.push_back(file);
                Ok(())
            }
            Err(error @ (WalError::Poisoned { .. } | WalError::SyncFailed { .. })) => Err(self.poison(error)),
            Err(error) => Err(error),
        }
    }

    /// Removes the files that begin at `from` or later, the newest first, so that a crash leaves no hole.
    fn remove_files_from(&mut self, from: Lsn) -> Result<(), WalError> {
        while let Some(file) = self.files.pop_back_if(|file| file.first >= from) {
            self.chain = file.prev_crc;
            let removed = self.disk.remove(&file.path).and_then(|()| self.disk.sync_dir(&self.dir));
            removed.map_err(|error| self.poison(error))?;
        }
        Ok(())
    }

    fn replace_meta(&mut self, meta: LogMeta) -> Result<(), WalError> {
        self.usable()?;
        match meta.replace(&self.dir, &self.disk) {
            Ok(()) => {
                self.meta = meta;
                Ok(())
            }
            Err(error @ WalError::SyncFailed { .. }) => Err(self.poison(error)),
            Err(error) => Err(error),
        }
    }

    fn usable(&self) -> Result<(), WalError> {
        match &self.poisoned {
            Some(cause) => Err(WalError::Poisoned { cause: cause.clone() }),
            None => Ok(()),
        }
    }

    fn poison(&mut self, error: WalError) -> WalError {
        let cause = error.in_full();
        tracing::error!(%cause, dir = %self.dir.display(), "log stops accepting writes");
        self.poisoned.get_or_insert(cause);
        error
    }
}

fn lock(dir: &Path) -> Result<File, WalError> {
    let path = dir.join("log.lock");
    let file = File::create(&path).map_err(|source| WalError::io("create", &path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WalError::Locked { path }),
        Err(TryLockError::Error(source)) => Err(WalError::io("lock", &path, source)),
    }
}
