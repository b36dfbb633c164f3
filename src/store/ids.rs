//! `.ids`: row → id, LSN and event time; id → row.
//!
//! Data of the block frame, for `n` rows (numbers little-endian):
//! ```text
//! lsn:u64[n]  event_time_ms:i64[n]  integer:u64[⌈n/64⌉] (bit per row)  start:u64[n+1] (into text)
//! slots:u64[slot_count(n)] (see id_table)  text: UTF-8, the ids one after the other
//! ```
use std::path::Path;
use std::sync::OnceLock;

use proximadb_kernels::map::{as_i64s, as_u64s};

use super::block_format::{BlockKind, Header};
use super::block_reader::BlockFile;
use super::block_writer::BlockWriter;
use super::{FileMeta, RowSource, SegmentMeta, StoreError, id_table};
use crate::types::{Lsn, PointId};

/// Writes and fsyncs the file. Holds 11 to 22 bytes per row in memory while it does: the table.
pub(crate) fn write_ids(path: &Path, header: Header, rows: &dyn RowSource) -> Result<FileMeta, StoreError> {
    let header = Header { kind: BlockKind::Ids, ..header };
    let mut out = BlockWriter::create(path, &header)?;
    for row in 0..rows.len() {
        out.write(&rows.row(row)?.lsn.0.to_le_bytes())?;
    }
    for row in 0..rows.len() {
        out.write(&rows.row(row)?.event_time_ms.to_le_bytes())?;
    }
    for first in (0..rows.len()).step_by(64) {
        let mut word = 0u64;
        for row in first..rows.len().min(first + 64) {
            word |= u64::from(rows.row(row)?.id_is_integer) << (row - first);
        }
        out.write(&word.to_le_bytes())?;
    }
    let mut start = 0u64;
    out.write(&start.to_le_bytes())?;
    for row in 0..rows.len() {
        start += rows.row(row)?.id.len() as u64;
        out.write(&start.to_le_bytes())?;
    }
    for slot in table(path, header, rows)? {
        out.write(&slot.to_le_bytes())?;
    }
    for row in 0..rows.len() {
        out.write(rows.row(row)?.id.as_bytes())?;
    }
    out.finish()
}

fn table(path: &Path, header: Header, rows: &dyn RowSource) -> Result<Vec<u64>, StoreError> {
    let seed = seed(&header);
    let mut slots = vec![0; id_table::slot_count(header.rows)];
    for row in 0..header.rows {
        let id = rows.row(row as usize)?.id;
        let hash = id_table::hash(seed, id.as_bytes());
        let same = |other: u32| rows.row(other as usize).is_ok_and(|other| other.id == id);
        if let Some(other) = id_table::find(&slots, hash, same) {
            return Err(StoreError::invalid(path, format!("rows {other} and {row} both have the id {id:?}")));
        }
        id_table::insert(&mut slots, hash, row);
    }
    Ok(slots)
}

/// The low half of the segment's id: the random one.
fn seed(header: &Header) -> u64 {
    header.segment.as_u128() as u64
}

/// An open `.ids` file.
pub(crate) struct IdsFile {
    file: BlockFile,
    rows: u32,
    seed: u64,
    /// Set once the contents have passed [`IdsFile::check`].
    checked: OnceLock<()>,
}

impl IdsFile {
    pub(crate) fn open(dir: &Path, meta: &SegmentMeta, header: Header) -> Result<Self, StoreError> {
        let header = Header { kind: BlockKind::Ids, ..header };
        let file = BlockFile::open(dir, &meta.ids, header)?;
        Ok(Self { file, rows: meta.rows, seed: seed(&header), checked: OnceLock::new() })
    }

    /// The contents; the first call checks all of them.
    pub(crate) fn view(&self) -> Result<Ids<'_>, StoreError> {
        let data = self.file.all()?;
        let ids = self.split(data).ok_or_else(|| self.misfit())?;
        if self.checked.get().is_none() {
            ids.check().ok_or_else(|| self.misfit())?;
            let _ = self.checked.set(());
        }
        Ok(ids)
    }

    /// Reads and checks every byte again.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        self.file.verify()?;
        let ids = self.split(self.file.all()?).ok_or_else(|| self.misfit())?;
        ids.check().ok_or_else(|| self.misfit())
    }

    fn split<'a>(&self, data: &'a [u8]) -> Option<Ids<'a>> {
        let n = self.rows as usize;
        let (lsns, rest) = data.split_at_checked(n * 8)?;
        let (event_times, rest) = rest.split_at_checked(n * 8)?;
        let (integers, rest) = rest.split_at_checked(n.div_ceil(64) * 8)?;
        let (starts, rest) = rest.split_at_checked((n + 1) * 8)?;
        let (slots, text) = rest.split_at_checked(id_table::slot_count(self.rows) * 8)?;
        Some(Ids {
            seed: self.seed,
            lsns: as_u64s(lsns)?,
            event_times: as_i64s(event_times)?,
            integers: as_u64s(integers)?,
            starts: as_u64s(starts)?,
            slots: as_u64s(slots)?,
            text,
        })
    }

    fn misfit(&self) -> StoreError {
        StoreError::corrupt(self.file.path(), "its checksums pass but its sections don't fit each other")
    }
}

/// Row → id, LSN and event time; id → row. A view: copy it.
///
/// Functions of a row panic if there is no such row.
#[derive(Clone, Copy)]
pub struct Ids<'a> {
    seed: u64,
    lsns: &'a [u64],
    event_times: &'a [i64],
    integers: &'a [u64],
    starts: &'a [u64],
    slots: &'a [u64],
    text: &'a [u8],
}

#[allow(clippy::indexing_slicing)] // rows are the caller's promise, the rest is checked by `check`
impl<'a> Ids<'a> {
    /// Number of rows.
    pub fn len(&self) -> u32 {
        self.lsns.len() as u32
    }

    /// No rows?
    pub fn is_empty(&self) -> bool {
        self.lsns.is_empty()
    }

    /// The id's text.
    pub fn text(&self, row: u32) -> &'a str {
        std::str::from_utf8(self.bytes(row)).expect("checked as a whole when the file was first used")
    }

    /// Did the id come as an integer?
    pub fn is_integer(&self, row: u32) -> bool {
        assert!(row < self.len(), "row {row} of {}", self.len());
        self.integers[row as usize / 64] >> (row % 64) & 1 == 1
    }

    /// The id in the form in which it came.
    pub fn id(&self, row: u32) -> PointId {
        PointId::from_stored(self.text(row), self.is_integer(row))
    }

    /// The entry that wrote the row.
    pub fn lsn(&self, row: u32) -> Lsn {
        Lsn(self.lsns[row as usize])
    }

    /// The LSNs of all rows.
    pub fn lsns(&self) -> &'a [u64] {
        self.lsns
    }

    /// Milliseconds since the Unix epoch.
    pub fn event_time_ms(&self, row: u32) -> i64 {
        self.event_times[row as usize]
    }

    /// The row of an id.
    pub fn find(&self, id: &str) -> Option<u32> {
        let hash = id_table::hash(self.seed, id.as_bytes());
        id_table::find(self.slots, hash, |row| row < self.len() && self.bytes(row) == id.as_bytes())
    }

    fn bytes(&self, row: u32) -> &'a [u8] {
        let row = row as usize;
        &self.text[self.starts[row] as usize..self.starts[row + 1] as usize]
    }

    /// Do the sections fit each other, so that no access can fail later?
    fn check(&self) -> Option<()> {
        let text = std::str::from_utf8(self.text).ok()?;
        let rising = self.starts.is_sorted();
        let spans = self.starts.first() == Some(&0) && self.starts.last() == Some(&(text.len() as u64));
        let whole = self.starts.iter().all(|start| text.is_char_boundary(*start as usize));
        (rising && spans && whole).then_some(())
    }
}
