//! Parquet. A position is a row's index in the file.
use std::fs::File;
use std::path::PathBuf;

use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::file_source::{Bounds, Chunk, Reader, changed, io_error};
use crate::source::SourceError;
use crate::types::{Position, RawRows};

pub(super) struct ParquetReader {
    path: PathBuf,
    rows: u64,
    next_row: u64,
    /// Uncompressed bytes of an average row.
    row_bytes: u64,
    /// Made at the first call, which knows the bounds.
    batches: Option<ParquetRecordBatchReader>,
}

impl ParquetReader {
    pub fn open(path: PathBuf, after: Option<Position>) -> Result<Self, SourceError> {
        let builder = builder(&path)?;
        let groups = builder.metadata().row_groups();
        let count = |value: i64| u64::try_from(value).unwrap_or(0);
        let rows: u64 = groups.iter().map(|group| count(group.num_rows())).sum();
        let bytes: u64 = groups.iter().map(|group| count(group.total_byte_size())).sum();
        let next_row = after.map_or(0, |position| position.as_u64().saturating_add(1));
        if next_row > rows {
            return Err(changed(&path, &format!("has {rows} rows, the log holds row {}", next_row - 1)));
        }
        Ok(Self {
            path,
            rows,
            next_row,
            row_bytes: bytes.checked_div(rows).unwrap_or(0).max(1),
            batches: None,
        })
    }

    /// A reader from `next_row` on: row groups before it are not read at all.
    fn start(&self, bounds: Bounds) -> Result<ParquetRecordBatchReader, SourceError> {
        let builder = builder(&self.path)?;
        let mut before = 0;
        let mut groups = Vec::new();
        let mut offset = 0;
        for (index, group) in builder.metadata().row_groups().iter().enumerate() {
            let end = before + u64::try_from(group.num_rows()).unwrap_or(0);
            if end > self.next_row {
                if groups.is_empty() {
                    offset = self.next_row.saturating_sub(before);
                }
                groups.push(index);
            }
            before = end;
        }
        let fitting = usize::try_from(bounds.bytes as u64 / self.row_bytes).unwrap_or(usize::MAX);
        builder
            .with_batch_size(fitting.clamp(1, bounds.records))
            .with_row_groups(groups)
            .with_offset(usize::try_from(offset).unwrap_or(usize::MAX))
            .build()
            .map_err(|error| unreadable(&self.path, &error.to_string()))
    }
}

impl Reader for ParquetReader {
    fn next(&mut self, bounds: Bounds) -> Result<Option<Chunk>, SourceError> {
        if self.next_row >= self.rows {
            return Ok(None);
        }
        let batches = match &mut self.batches {
            Some(batches) => batches,
            None => {
                let started = self.start(bounds)?;
                self.batches.insert(started)
            }
        };
        let rows = match batches.next() {
            Some(Ok(rows)) => rows,
            Some(Err(error)) => return Err(unreadable(&self.path, &error.to_string())),
            None => {
                let problem = format!("rows end at {} of {}", self.next_row, self.rows);
                return Err(unreadable(&self.path, &problem));
            }
        };
        let first = Position::from(self.next_row);
        self.next_row += rows.num_rows() as u64;
        let to = Position::from(self.next_row.saturating_sub(1));
        Ok(Some(Chunk { rows: RawRows::Columns { rows, first }, to }))
    }

    fn lag(&self) -> Option<(Option<Position>, u64)> {
        Some((self.rows.checked_sub(1).map(Position::from), self.rows.saturating_sub(self.next_row)))
    }
}

fn builder(path: &std::path::Path) -> Result<ParquetRecordBatchReaderBuilder<File>, SourceError> {
    let file = File::open(path).map_err(|source| io_error("opening", path, source))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &std::path::Path, problem: &str) -> SourceError {
    SourceError::Fatal {
        problem: format!("{} cannot be read as Parquet: {problem}", path.display()),
        remedy: "write the file again; rows before this place are in the log".to_string(),
    }
}
