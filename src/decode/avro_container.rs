//! Avro container files, block by block: header, then blocks of records that are cut apart by walking their
//! schema.
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::avro_codec::Codec;
use super::avro_cursor::Cursor;
use super::avro_schema::{AvroSchema, AvroSchemaError};

/// Largest header; schemas are a few KiB.
const HEADER_BYTES_MAX: usize = 16 << 20;

/// Why a container file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContainerError {
    #[error("{path:?} cannot be read")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is not an Avro file: {problem}")]
    Header { path: PathBuf, problem: String },
    #[error("{path:?}: {source}")]
    Schema {
        path: PathBuf,
        #[source]
        source: AvroSchemaError,
    },
    #[error("{path:?} is damaged at byte {at}: {problem}")]
    Damaged { path: PathBuf, at: u64, problem: String },
}

/// What a file says about itself.
pub(crate) struct Header {
    pub schema: AvroSchema,
    codec: Codec,
    sync: [u8; 16],
}

/// The head of a block: its records and their stored bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockHead {
    pub records: u64,
    bytes: usize,
}

/// A file, at the start of a block.
pub(crate) struct Blocks {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    at: u64,
    end: u64,
}

/// Reads a file's header only.
pub(crate) fn read_header(path: &Path) -> Result<Header, ContainerError> {
    Blocks::open(path).map(|blocks| blocks.header)
}

impl Blocks {
    pub fn open(path: &Path) -> Result<Self, ContainerError> {
        let io = |source| ContainerError::Io { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(io)?;
        let end = file.metadata().map_err(io)?.len();
        let mut file = BufReader::with_capacity(256 << 10, file);
        // The header has no length: read what it can be at most, then go back to its end.
        let mut head = Vec::new();
        file.by_ref().take(HEADER_BYTES_MAX as u64).read_to_end(&mut head).map_err(io)?;
        let (header, bytes) = parse_header(path, &head)?;
        file.seek(SeekFrom::Start(bytes as u64)).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), file, header, at: bytes as u64, end })
    }

    /// The next block's head; `None` at the end of the file.
    pub fn next_head(&mut self) -> Result<Option<BlockHead>, ContainerError> {
        if self.at == self.end {
            return Ok(None);
        }
        let (records, bytes) = (self.long()?, self.long()?);
        let left = self.end.saturating_sub(self.at);
        let bytes = usize::try_from(bytes).ok().filter(|bytes| *bytes as u64 + 16 <= left);
        match (u64::try_from(records), bytes) {
            (Ok(records), Some(bytes)) => Ok(Some(BlockHead { records, bytes })),
            _ => Err(self.damaged(format!(
                "a block claims {records} records in more bytes than the {left} that follow"
            ))),
        }
    }

    /// Steps over the block whose head was read.
    pub fn skip(&mut self, head: BlockHead) -> Result<(), ContainerError> {
        let bytes =
            i64::try_from(head.bytes).map_err(|_| self.damaged("a block is too large".to_string()))?;
        self.file.seek_relative(bytes).map_err(|source| self.io(source))?;
        self.at += head.bytes as u64;
        self.sync()
    }

    /// The records of the block whose head was read, each in bytes of its own.
    pub fn records(&mut self, head: BlockHead) -> Result<Vec<bytes::Bytes>, ContainerError> {
        let start = self.at;
        let mut block = vec![0; head.bytes];
        self.file.read_exact(&mut block).map_err(|source| self.io(source))?;
        self.at += head.bytes as u64;
        self.sync()?;
        let damaged =
            |problem: String| ContainerError::Damaged { path: self.path.clone(), at: start, problem };
        let block = bytes::Bytes::from(self.header.codec.decompress(block).map_err(damaged)?);
        let mut cursor = Cursor::new(&block);
        let schema = &self.header.schema;
        let mut records = Vec::new();
        for _ in 0..head.records {
            let from = cursor.position();
            schema.skip(schema.root(), &mut cursor).map_err(|fault| damaged(fault.reason))?;
            if cursor.position() == from && head.records > 1 << 16 {
                return Err(damaged(format!("a block claims {} records without bytes", head.records)));
            }
            records.push(block.slice(from..cursor.position()));
        }
        cursor.end().map_err(|fault| damaged(fault.reason))?;
        Ok(records)
    }

    fn sync(&mut self) -> Result<(), ContainerError> {
        let mut marker = [0; 16];
        self.file.read_exact(&mut marker).map_err(|source| self.io(source))?;
        self.at += 16;
        match marker == self.header.sync {
            true => Ok(()),
            false => Err(self.damaged("the marker after a block is wrong".to_string())),
        }
    }

    /// A zigzag integer from the file.
    fn long(&mut self) -> Result<i64, ContainerError> {
        let mut digits = Vec::with_capacity(10);
        loop {
            let mut byte = [0];
            self.file.read_exact(&mut byte).map_err(|source| self.io(source))?;
            self.at += 1;
            digits.push(byte[0]);
            if byte[0] < 0x80 || digits.len() == 10 {
                break;
            }
        }
        Cursor::new(&digits).long("a block's head").map_err(|fault| self.damaged(fault.reason))
    }

    fn io(&self, source: io::Error) -> ContainerError {
        match source.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("the file ends inside a block".to_string()),
            _ => ContainerError::Io { path: self.path.clone(), source },
        }
    }

    fn damaged(&self, problem: String) -> ContainerError {
        ContainerError::Damaged { path: self.path.clone(), at: self.at, problem }
    }
}

/// The header at the start of `bytes`, and its length.
fn parse_header(path: &Path, bytes: &[u8]) -> Result<(Header, usize), ContainerError> {
    let wrong = |problem: String| ContainerError::Header { path: path.to_path_buf(), problem };
    let Some(rest) = bytes.strip_prefix(b"Obj\x01") else {
        return Err(wrong("it does not begin with Obj and version 1".to_string()));
    };
    let mut cursor = Cursor::new(rest);
    let (mut schema, mut codec) = (None, "null".to_string());
    let mut read_entries = || {
        loop {
            let block = cursor.block(2)?;
            for _ in 0..block.count {
                let (key, value) = (cursor.string()?, cursor.bytes("a header's value")?);
                match key {
                    "avro.schema" => schema = Some(String::from_utf8_lossy(value).into_owned()),
                    "avro.codec" => codec = String::from_utf8_lossy(value).into_owned(),
                    _ => {}
                }
            }
            if block.count == 0 {
                return cursor.array::<16>("the header's marker");
            }
        }
    };
    let sync = read_entries().map_err(|fault| wrong(fault.reason))?;
    let schema = schema.ok_or_else(|| wrong("its header has no schema".to_string()))?;
    let schema = AvroSchema::parse(&schema, &[])
        .map_err(|source| ContainerError::Schema { path: path.to_path_buf(), source })?;
    let codec = Codec::named(&codec).ok_or_else(|| {
        wrong(format!("its codec {codec:?} is not read; use null, deflate, snappy or zstandard"))
    })?;
    Ok((Header { schema, codec, sync }, 4 + cursor.position()))
}
