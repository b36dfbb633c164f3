//! The source: readers of its files, one after the other, or all of them where files are followed.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::avro::AvroReader;
use super::lines::LineReader;
use super::parquet::ParquetReader;
use super::paths::expand;
use crate::config::pipeline::{BatchSpec, FileFormat, FileSpec};
use crate::source::{PartitionLag, Polled, PositionLookup, Source, SourceError};
use crate::types::{Position, RawBatch, RawRows};

/// Pause between looks at followed files: well below every freshness objective, and next to no CPU.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pause between looks for new files that match a pattern.
const EXPAND_EVERY: Duration = Duration::from_secs(1);

/// What one call of [`Reader::next`] may bring at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub records: usize,
    pub bytes: usize,
}

/// Rows and the last position that they account for.
#[derive(Debug)]
pub(super) struct Chunk {
    pub rows: RawRows,
    pub to: Position,
}

/// Reads one file from a position on.
pub(super) trait Reader: Send {
    /// The next rows; `None` at the (present) end.
    fn next(&mut self, bounds: Bounds) -> Result<Option<Chunk>, SourceError>;
    /// The last position that exists and what lies between (bytes of lines, rows), where that is known
    /// without reading on.
    fn lag(&self) -> Option<(Option<Position>, u64)>;
}

/// One file.
struct Partition {
    name: Arc<str>,
    epoch: u64,
    /// The last position handed out.
    position: Option<Position>,
    /// Opened at its first turn.
    reader: Option<Box<dyn Reader>>,
    is_finished: bool,
}

/// Files as a source; see the module.
pub struct FileSource {
    spec: FileSpec,
    bounds: Bounds,
    positions: Arc<dyn PositionLookup>,
    partitions: Vec<Partition>,
    /// Whose turn it is.
    turn: usize,
    expanded: Instant,
}

impl FileSource {
    /// Finds the files. A pattern without files is an error, unless files are followed: then they may come
    /// later.
    pub fn open(
        spec: &FileSpec,
        batch: &BatchSpec,
        positions: Arc<dyn PositionLookup>,
    ) -> Result<Self, SourceError> {
        let bounds =
            Bounds { records: batch.max_records.max(1) as usize, bytes: batch.max_bytes.as_usize().max(1) };
        let mut source = Self {
            spec: spec.clone(),
            bounds,
            positions,
            partitions: Vec::new(),
            turn: 0,
            expanded: Instant::now(),
        };
        source.expand(!spec.follow)?;
        Ok(source)
    }

    fn expand(&mut self, must_exist: bool) -> Result<(), SourceError> {
        self.expanded = Instant::now();
        for path in &self.spec.path {
            for name in expand(path, must_exist)? {
                if !self.partitions.iter().any(|partition| *partition.name == *name) {
                    let partition = Partition::new(name, self.positions.as_ref());
                    self.partitions.push(partition);
                }
            }
        }
        Ok(())
    }

    /// The next batch of any file whose turn it is or comes.
    fn poll(&mut self) -> Result<Option<RawBatch>, SourceError> {
        for _ in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get_mut(self.turn) else { break };
            if let Some(batch) = partition.poll(&self.spec, self.bounds)? {
                if self.spec.follow {
                    self.turn = (self.turn + 1) % self.partitions.len();
                }
                return Ok(Some(batch));
            }
            partition.is_finished = !self.spec.follow;
            self.turn = (self.turn + 1) % self.partitions.len();
        }
        Ok(None)
    }
}

impl Source for FileSource {
    fn next_batch(&mut self, max_wait: Duration) -> Result<Polled, SourceError> {
        let deadline = Instant::now() + max_wait;
        loop {
            if let Some(batch) = self.poll()? {
                return Ok(Polled::Batch(batch));
            }
            if !self.spec.follow {
                return Ok(Polled::Finished);
            }
            if self.expanded.elapsed() >= EXPAND_EVERY {
                self.expand(false)?;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Polled::Idle);
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }

    fn hold(&mut self, _held_for: Duration) -> Result<(), SourceError> {
        Ok(())
    }

    fn durable(&mut self, _partition: &str, _upto: Position) {}

    fn rewind(&mut self, partition: &str) -> Result<(), SourceError> {
        let found = self.partitions.iter().position(|known| *known.name == *partition);
        if let Some(index) = found {
            self.partitions[index] = Partition::new(partition.to_string(), self.positions.as_ref());
            self.turn = if self.spec.follow { self.turn } else { index.min(self.turn) };
        }
        Ok(())
    }

    fn lag(&self) -> Vec<PartitionLag> {
        self.partitions.iter().map(Partition::lag).collect()
    }
}

impl Partition {
    /// A file, to be read behind the position that the log holds.
    fn new(name: String, positions: &dyn PositionLookup) -> Self {
        let known = positions.position(&name);
        Self {
            name: name.into(),
            epoch: known.map_or(0, |known| known.epoch),
            position: known.and_then(|known| known.position),
            reader: None,
            is_finished: false,
        }
    }

    fn poll(&mut self, spec: &FileSpec, bounds: Bounds) -> Result<Option<RawBatch>, SourceError> {
        if self.is_finished {
            return Ok(None);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            empty => empty.insert(open(&self.name, self.position, spec)?),
        };
        let next = reader.next(bounds);
        if next.is_err() {
            // It may have stopped in the middle of something: the next try opens the file anew, behind what was
            // handed out.
            self.reader = None;
        }
        let Some(Chunk { rows, to }) = next? else { return Ok(None) };
        let from = self.position.replace(to);
        Ok(Some(RawBatch { partition: self.name.clone(), epoch: self.epoch, from, to, rows }))
    }

    fn lag(&self) -> PartitionLag {
        let lag = self.reader.as_ref().and_then(|reader| reader.lag());
        let (end, behind) = lag.map_or((None, None), |(end, behind)| (end, Some(behind)));
        PartitionLag { partition: self.name.to_string(), position: self.position, end, behind }
    }
}

fn open(name: &str, after: Option<Position>, spec: &FileSpec) -> Result<Box<dyn Reader>, SourceError> {
    let path = PathBuf::from(name);
    Ok(match spec.format_of(name) {
        Some(FileFormat::Jsonl) => Box::new(LineReader::open(path, after, spec.follow)?),
        Some(FileFormat::Parquet) => Box::new(ParquetReader::open(path, after)?),
        Some(FileFormat::Avro) => Box::new(AvroReader::open(path, after)?),
        None => {
            return Err(SourceError::Fatal {
                problem: format!("{name:?} does not tell its format"),
                remedy: "add `format: jsonl`, `parquet` or `avro` to source.file".to_string(),
            });
        }
    })
}

/// A file that does not hold what the log says was read from it.
pub(super) fn changed(path: &std::path::Path, problem: &str) -> SourceError {
    SourceError::Fatal {
        problem: format!("{} {problem}: it was cut or replaced since", path.display()),
        remedy: "put the old file back and new records into a new file, or start a pipeline under a new name"
            .to_string(),
    }
}

/// Trouble with the file system: a file that is not there needs somebody, the rest may pass.
pub(super) fn io_error(action: &str, path: &std::path::Path, source: std::io::Error) -> SourceError {
    match source.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => SourceError::Fatal {
            problem: format!("{action} {} failed ({source})", path.display()),
            remedy: "correct source.file.path, or put the file there, readable for the server".to_string(),
        },
        _ => SourceError::Transient {
            action: format!("{action} {}", path.display()),
            source: Box::new(source),
        },
    }
}
