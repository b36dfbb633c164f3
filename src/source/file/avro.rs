//! Avro container files. A position is a record's index in the file.
use std::path::PathBuf;

use bytes::Bytes;

use super::file_source::{Bounds, Chunk, Reader, changed, io_error};
use crate::decode::avro_container::{Blocks, ContainerError};
use crate::source::SourceError;
use crate::types::{Position, RawRecord, RawRows};

pub(super) struct AvroReader {
    blocks: Blocks,
    /// Records of the present block that are still to be handed out.
    records: std::vec::IntoIter<Bytes>,
    next_index: u64,
}

impl AvroReader {
    pub fn open(path: PathBuf, after: Option<Position>) -> Result<Self, SourceError> {
        let mut blocks = Blocks::open(&path).map_err(failed)?;
        let target = after.map_or(0, |position| position.as_u64().saturating_add(1));
        let mut index = 0_u64;
        let mut records = Vec::new().into_iter();
        while index < target {
            let Some(head) = blocks.next_head().map_err(failed)? else {
                return Err(changed(
                    &path,
                    &format!("has {index} records, the log holds record {}", target - 1),
                ));
            };
            if index.saturating_add(head.records) <= target {
                blocks.skip(head).map_err(failed)?;
                index += head.records;
                continue;
            }
            let mut block = blocks.records(head).map_err(failed)?;
            let inside = usize::try_from(target - index).unwrap_or(usize::MAX).min(block.len());
            records = block.split_off(inside).into_iter();
            index = target;
        }
        Ok(Self { blocks, records, next_index: target })
    }
}

impl Reader for AvroReader {
    fn next(&mut self, bounds: Bounds) -> Result<Option<Chunk>, SourceError> {
        while self.records.as_slice().is_empty() {
            let Some(head) = self.blocks.next_head().map_err(failed)? else { return Ok(None) };
            self.records = self.blocks.records(head).map_err(failed)?.into_iter();
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        while records.len() < bounds.records && bytes < bounds.bytes {
            let Some(value) = self.records.next() else { break };
            bytes += value.len();
            let position = self.next_index.into();
            records.push(RawRecord { position, key: None, value: Some(value), timestamp_ms: None });
            self.next_index += 1;
        }
        let to = Position::from(self.next_index.saturating_sub(1));
        Ok(Some(Chunk { rows: RawRows::Records(records), to }))
    }

    /// Not known: blocks would have to be counted to the end.
    fn lag(&self) -> Option<(Option<Position>, u64)> {
        None
    }
}

fn failed(error: ContainerError) -> SourceError {
    match error {
        ContainerError::Io { path, source } => io_error("reading", &path, source),
        other => SourceError::Fatal {
            problem: other.to_string(),
            remedy: "write the file again; records before this place are in the log".to_string(),
        },
    }
}
