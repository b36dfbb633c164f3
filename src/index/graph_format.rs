//! The `.graph` file, byte for byte. Version 1; all numbers little-endian.
//!
//! ```text
//!  offset  bytes  what
//!       0      8  magic "PXGRAPH\n"
//!       8      4  version: 1
//!      12      4  distance: 0 cosine, 1 dot, 2 l2
//!      16      4  components per row
//!      20      4  rows, n (below 2^32 - 1)
//!      24      4  longest list, 2 m
//!      28      4  slots per list, s: the longest list rounded up to a multiple of 16
//!      32      4  entries, e
//!      36      4  twin pairs, t
//!      40     20  zero
//!      60      4  crc32c of bytes 0..60
//!      64    4 e  entries: rows that walks start from; at least one unless n is 0
//!             ·   zeros up to a multiple of 64
//!       L  4 n s  lists: per row its neighbours, then 0xffffffff in each empty slot
//! L+4 n s    8 t  twin pairs: (representative, twin), ascending; a twin has the same vector as its
//!                 representative, an empty list, and is in no list
//!             ·   zeros up to a multiple of 64
//!       F    4 b  crc32c of each block of 1 MiB of bytes 0..F (the last is shorter)
//!  F+4 b      4  crc32c of the 4 b bytes before
//!  F+4 b+4    8  magic "PXGRAPHE"
//! ```
//! The file ends there. `L` and `F` are multiples of 64, so lists lie on cache lines when mapped.
//! A reader checks both magics, all lengths, all checksums, and that every row number is below n.
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use proximadb_kernels::map::{Map, as_u32s};

use super::IndexError;
use super::links::{Links, LinksMut, NONE, slots_for};
use super::twins::TwinPairs;
use crate::types::Distance;

const MAGIC: &[u8; 8] = b"PXGRAPH\n";
const MAGIC_END: &[u8; 8] = b"PXGRAPHE";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ALIGNMENT: usize = 64;
const BLOCK_BYTES: usize = 1 << 20;

/// A graph as it is built.
pub(super) struct GraphParts {
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) links_max: usize,
    pub(super) links: LinksMut,
    pub(super) entries: Vec<u32>,
    pub(super) twins: TwinPairs,
}

/// A graph as it is read: the file, checked, and where its parts are.
pub(super) struct GraphFile {
    pub(super) map: Map,
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) entries: Vec<u32>,
    pub(super) twins: TwinPairs,
    slots_per_node: usize,
    links_start: usize,
}

/// Writes a file: complete and durable under its name, or not at all.
pub(super) fn write(path: &Path, parts: &GraphParts) -> Result<(), IndexError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    let written = write_and_rename(path, &unfinished, parts);
    if written.is_err() {
        // What is left would be collected as garbage anyway; the first error is the one to tell.
        let _ = fs::remove_file(&unfinished);
    }
    written.map_err(|source| IndexError::Io { path: path.to_owned(), source })
}

fn write_and_rename(path: &Path, unfinished: &Path, parts: &GraphParts) -> io::Result<()> {
    let mut out =
        Blocks { file: File::create(unfinished)?, block: Vec::new(), checksums: Vec::new(), written: 0 };
    write_parts(&mut out, parts)?;
    out.finish()?.sync_all()?;
    fs::rename(unfinished, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

fn write_parts(out: &mut Blocks, parts: &GraphParts) -> io::Result<()> {
    let links = parts.links.view();
    let numbers = [
        VERSION,
        match parts.distance {
            Distance::Cosine => 0,
            Distance::Dot => 1,
            Distance::L2 => 2,
        },
        number(parts.dim)?,
        number(parts.rows)?,
        number(parts.links_max)?,
        number(links.slots_per_node)?,
        number(parts.entries.len())?,
        number(parts.twins.len())?,
    ];
    let mut header = MAGIC.to_vec();
    header.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    header.resize(HEADER_BYTES - 4, 0);
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    out.write(&header)?;
    out.write_numbers(parts.entries.iter().copied())?;
    out.align()?;
    out.write_numbers(links.slots.iter().copied())?;
    out.write_numbers(parts.twins.iter().flat_map(|&(row, twin)| [row, twin]))?;
    out.align()
}

fn number(value: usize) -> io::Result<u32> {
    u32::try_from(value)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "graph has a number above 2^32"))
}

/// Writes blocks and remembers their checksums.
struct Blocks {
    file: File,
    block: Vec<u8>,
    checksums: Vec<u8>,
    written: usize,
}

impl Blocks {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    fn write_numbers(&mut self, mut numbers: impl Iterator<Item = u32>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(1 << 16);
        loop {
            bytes.clear();
            bytes.extend(numbers.by_ref().take(1 << 14).flat_map(u32::to_le_bytes));
            if bytes.is_empty() {
                return Ok(());
            }
            self.write(&bytes)?;
        }
    }

    fn align(&mut self) -> io::Result<()> {
        let zeros = self.written.next_multiple_of(ALIGNMENT) - self.written;
        self.write(&[0; ALIGNMENT][..zeros])
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.checksums.extend(crc32c::crc32c(&self.block).to_le_bytes());
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<File> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.file.write_all(&self.checksums)?;
        self.file.write_all(&crc32c::crc32c(&self.checksums).to_le_bytes())?;
        self.file.write_all(MAGIC_END)?;
        Ok(self.file)
    }
}

/// Maps a file and checks every byte of it.
pub(super) fn open(path: &Path) -> Result<GraphFile, IndexError> {
    let map = Map::open(path).map_err(|source| IndexError::Io { path: path.to_owned(), source })?;
    parse(map).map_err(|reason| IndexError::Corrupt { path: path.to_owned(), reason })
}

fn parse(map: Map) -> Result<GraphFile, String> {
    let bytes = map.bytes();
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| format!("it has {} bytes only", bytes.len()))?;
    if &header[..8] != MAGIC {
        return Err("it doesn't start as a graph".into());
    }
    let number = |offset: usize| {
        u32::from_le_bytes([header[offset], header[offset + 1], header[offset + 2], header[offset + 3]])
    };
    if number(60) != crc32c::crc32c(&header[..60]) {
        return Err("its header fails its crc32c".into());
    }
    if number(8) != VERSION {
        return Err(format!("it has version {}, and this program reads {VERSION}", number(8)));
    }
    let distance = match number(12) {
        0 => Distance::Cosine,
        1 => Distance::Dot,
        2 => Distance::L2,
        other => return Err(format!("it has distance {other}, which doesn't exist")),
    };
    let [dim, rows, links_max, slots_per_node, entries, twins] =
        [16, 20, 24, 28, 32, 36].map(|offset| number(offset) as usize);
    if slots_per_node != slots_for(links_max)
        || rows > super::links::ROWS_MAX
        || (entries == 0) != (rows == 0)
    {
        return Err("its header contradicts itself".into());
    }

    // Lengths from the header are trusted only after the file proved to be as long as they say.
    let wide = |count: usize, bytes: u64| count as u64 * bytes;
    let links_start = (HEADER_BYTES as u64 + wide(entries, 4)).next_multiple_of(ALIGNMENT as u64);
    let twins_start = u128::from(links_start) + u128::from(wide(rows, 4)) * slots_per_node as u128;
    let footer_start = (twins_start + u128::from(wide(twins, 8))).next_multiple_of(ALIGNMENT as u128);
    let blocks = footer_start.div_ceil(BLOCK_BYTES as u128);
    let expected = footer_start + blocks * 4 + 4 + MAGIC_END.len() as u128;
    if expected != bytes.len() as u128 {
        return Err(format!("it has {} bytes, and its header asks for {expected}", bytes.len()));
    }
    let [links_start, twins_start, footer_start] =
        [links_start as usize, twins_start as usize, footer_start as usize];
    check_blocks(&bytes[..footer_start], &bytes[footer_start..])?;

    let words = |range: std::ops::Range<usize>| {
        as_u32s(&bytes[range]).ok_or("this machine can't map it (not little-endian)")
    };
    let entries = words(HEADER_BYTES..HEADER_BYTES + entries * 4)?.to_vec();
    let pairs = words(twins_start..twins_start + twins * 8)?.as_chunks::<2>().0;
    let twins: TwinPairs = pairs.iter().map(|&[row, twin]| (row, twin)).collect();
    let links = Links { slots: words(links_start..twins_start)?, slots_per_node };
    check_rows(rows, links, links_max, &entries, &twins)?;
    Ok(GraphFile { distance, dim, rows, entries, twins, slots_per_node, links_start, map })
}

fn check_blocks(body: &[u8], footer: &[u8]) -> Result<(), String> {
    let (checksums, end) = footer.split_at(footer.len() - MAGIC_END.len() - 4);
    let (own, magic) = end.split_at(4);
    if magic != MAGIC_END {
        return Err("it doesn't end as a graph".into());
    }
    if own != crc32c::crc32c(checksums).to_le_bytes() {
        return Err("its list of checksums fails its crc32c".into());
    }
    for (at, (block, expected)) in body.chunks(BLOCK_BYTES).zip(checksums.chunks(4)).enumerate() {
        if crc32c::crc32c(block).to_le_bytes() != expected {
            return Err(format!("block {at} (at byte {}) fails its crc32c", at * BLOCK_BYTES));
        }
    }
    Ok(())
}

/// Row numbers below `rows` and lists without holes: what checksums can't tell of a faulty writer.
fn check_rows(
    rows: usize,
    links: Links<'_>,
    links_max: usize,
    entries: &[u32],
    twins: &[(u32, u32)],
) -> Result<(), String> {
    let exists = |row: u32| (row as usize) < rows;
    for row in 0..rows as u32 {
        let (used, slots) = (links.of(row), links.slots_of(row));
        let whole =
            used.iter().all(|&next| exists(next)) && slots[used.len()..].iter().all(|&slot| slot == NONE);
        if !whole || used.len() > links_max {
            return Err(format!("the list of row {row} names rows that don't exist"));
        }
    }
    if !entries.iter().all(|&row| exists(row)) {
        return Err("an entry doesn't exist".into());
    }
    if !twins.iter().all(|&(row, twin)| exists(row) && exists(twin)) || !twins.is_sorted() {
        return Err("a twin doesn't exist or is out of order".into());
    }
    Ok(())
}

impl GraphFile {
    /// The lists, where they are mapped.
    #[inline]
    pub(super) fn links(&self) -> Links<'_> {
        let end = self.links_start + self.rows * self.slots_per_node * 4;
        let slots = as_u32s(&self.map.bytes()[self.links_start..end]).expect("alignment was checked at open");
        Links { slots, slots_per_node: self.slots_per_node }
    }
}
