//! The `.graph` file, byte for byte. Version 2; all numbers little-endian.
//!
//! ```text
//!  offset  bytes  what
//!       0      8  magic "PXGRAPH\n"
//!       8      4  version: 2
//!      12      4  distance: 0 cosine, 1 dot, 2 l2
//!      16      4  components per row
//!      20      4  rows, n (up to 2^31)
//!      24      4  longest list, 2 m
//!      28      4  bytes of a link, w: 3, or 4 from 2^24 rows on
//!      32      4  entries, e
//!      36      4  twin pairs, t
//!      40      4  bits per component of a code: 4 or 7; 0 if there are no codes
//!      44      4  f32: square of the length that lifted rows have (see `space`); 0 but for dot
//!      48      8  seed of the rotation
//!      56      4  f32: standard deviation of an estimate's error (see `codes`)
//!      60      4  crc32c of bytes 0..60
//!      64    4 e  entries: rows that walks start from; at least one unless n is 0
//!             ·   zeros up to a multiple of 64
//!       L  2m n w  lists: per row 2 m slots, its neighbours first, then all ones in each empty slot
//!             ·   zeros up to a multiple of 64
//!       T    8 t  twin pairs: (representative, twin), ascending; a twin has the same vector as its
//!                 representative, an empty list, and is in no list
//!             ·   zeros up to a multiple of 64
//!                 what follows up to F is there only if there are codes:
//!       C    4 p  f32: the centre, rotated; p components, those of a row padded to whole blocks
//!  C+4 p    8 n  factors: per row two f32, the square of its residual and its scale
//!             ·   zeros up to a multiple of 64
//!       Q    n q  codes: per row q bytes, a multiple of 32
//!             ·   zeros up to a multiple of 64
//!       F    4 b  crc32c of each block of 1 MiB of bytes 0..F (the last is shorter)
//!  F+4 b      4  crc32c of the 4 b bytes before
//!  F+4 b+4    8  magic "PXGRAPHE"
//! ```
//! The file ends there. `L`, `C`, `Q` and `F` are multiples of 64, so that lists and codes lie on cache
//! lines. How bits lie in a code is described in `proximadb_kernels::codes`.
//! A reader checks both magics, all lengths, all checksums, and that every row number is below n.
use std::io;
use std::ops::Range;
use std::path::Path;

use proximadb_kernels::codes::{Bits, DIM_MAX};
use proximadb_kernels::map::{as_f32s, as_u32s};

use super::IndexError;
use super::blocks_file::{self, ALIGNMENT, BLOCK_BYTES, Blocks, Bytes, number};
use super::codes::{Codes, FACTORS, Quantizer};
use super::links::{LinksMut, Lists, PackedLinks, pack, width_for};
use super::space::Coded;
use super::twins::TwinPairs;
use crate::types::Distance;

const MAGIC: &[u8; 8] = b"PXGRAPH\n";
const MAGIC_END: &[u8; 8] = b"PXGRAPHE";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 64;

/// A graph as it is built.
pub(super) struct GraphParts {
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) links_max: usize,
    pub(super) links: LinksMut,
    pub(super) entries: Vec<u32>,
    pub(super) twins: TwinPairs,
    pub(super) lifted_square: f32,
    pub(super) coded: Option<Coded>,
}

/// A graph as it is read: the file in memory, checked, and where its parts are.
pub(super) struct GraphFile {
    bytes: Bytes,
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) entries: Vec<u32>,
    pub(super) twins: TwinPairs,
    pub(super) lifted_square: f32,
    links_max: usize,
    links: Range<usize>,
    coded: Option<CodedParts>,
}

/// Where codes are.
struct CodedParts {
    quantizer: Quantizer,
    factors: Range<usize>,
    packed: Range<usize>,
}

/// Writes a file: complete and durable under its name, or not at all.
pub(super) fn write(path: &Path, parts: &GraphParts) -> Result<(), IndexError> {
    blocks_file::write(path, MAGIC_END, |out| write_parts(out, parts))
}

fn write_parts(out: &mut Blocks, parts: &GraphParts) -> io::Result<()> {
    let width = width_for(parts.rows);
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
        number(width)?,
        number(parts.entries.len())?,
        number(parts.twins.len())?,
    ];
    let quantizer = parts.coded.as_ref().map(|coded| &coded.quantizer);
    let mut header = MAGIC.to_vec();
    header.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    header.extend(quantizer.map_or(0, |quantizer| quantizer.bits.count()).to_le_bytes());
    header.extend(parts.lifted_square.to_le_bytes());
    header.extend(quantizer.map_or(0, |quantizer| quantizer.seed).to_le_bytes());
    header.extend(quantizer.map_or(0.0, |quantizer| quantizer.error).to_le_bytes());
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    out.write(&header)?;
    out.write_numbers(parts.entries.iter().copied())?;
    out.align()?;
    let mut lists = Vec::new();
    for row in 0..parts.rows as u32 {
        pack(parts.links.view().of(row), parts.links_max, width, &mut lists);
        if lists.len() >= BLOCK_BYTES {
            out.write(&lists)?;
            lists.clear();
        }
    }
    out.write(&lists)?;
    out.align()?;
    out.write_numbers(parts.twins.iter().flat_map(|&(row, twin)| [row, twin]))?;
    out.align()?;
    if let Some(coded) = &parts.coded {
        out.write_numbers(coded.quantizer.centre.iter().map(|x| x.to_bits()))?;
        out.write_numbers(coded.factors.iter().map(|x| x.to_bits()))?;
        out.align()?;
        out.write(coded.packed.as_slice())?;
        out.align()?;
    }
    Ok(())
}

/// Reads a file into memory and checks every byte of it.
pub(super) fn open(path: &Path) -> Result<GraphFile, IndexError> {
    parse(Bytes::read(path)?).map_err(|reason| IndexError::Corrupt { path: path.to_owned(), reason })
}

/// Maps a file and checks every byte of it.
pub(super) fn open_mapped(path: &Path) -> Result<GraphFile, IndexError> {
    let file =
        parse(Bytes::map(path)?).map_err(|reason| IndexError::Corrupt { path: path.to_owned(), reason })?;
    if let Bytes::Mapped(map) = &file.bytes {
        // Walks jump about: reading ahead would fill memory with lists nobody asked for. Advice only.
        let _ = map.advise_random();
    }
    Ok(file)
}

fn parse(file: Bytes) -> Result<GraphFile, String> {
    let bytes = file.as_slice();
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
    let [dim, rows, links_max, width, entries, twins] =
        [16, 20, 24, 28, 32, 36].map(|offset| number(offset) as usize);
    let bits = match number(40) {
        0 => None,
        count => Some(Bits::of(count).ok_or_else(|| format!("it has codes of {count} bits"))?),
    };
    let (lifted_square, error) = (f32::from_bits(number(44)), f32::from_bits(number(56)));
    let seed = u64::from(number(48)) | u64::from(number(52)) << 32;
    let lifted_dim = dim + usize::from(distance == Distance::Dot);
    if width != width_for(rows)
        || rows > super::links::ROWS_MAX
        || (entries == 0) != (rows == 0)
        || bits.is_some_and(|bits| dim == 0 || bits.padded_dim(lifted_dim) > DIM_MAX)
    {
        return Err("its header contradicts itself".into());
    }

    let (padded, stride) = bits.map_or((0, 0), |bits| (bits.padded_dim(lifted_dim), bits.stride(lifted_dim)));
    let coded_rows = if bits.is_some() { rows as u128 } else { 0 };
    let mut end = HEADER_BYTES as u128;
    let mut section = |bytes: u128, aligned: bool| {
        let start = if aligned { end.next_multiple_of(ALIGNMENT as u128) } else { end };
        end = start + bytes;
        start..end
    };
    let sections = [
        section(4 * entries as u128, false),
        section((width * links_max) as u128 * rows as u128, true),
        section(8 * twins as u128, true),
        section(4 * padded as u128, true),
        section(4 * FACTORS as u128 * coded_rows, false),
        section(stride as u128 * coded_rows, true),
    ];
    let body = end.next_multiple_of(ALIGNMENT as u128);
    blocks_file::check(bytes, body, MAGIC_END)?;
    let [entries, links, twins, centre, factors, packed] =
        sections.map(|section| section.start as usize..section.end as usize);

    let misfit = "this machine can't read it (not little-endian)";
    let words = |range: &Range<usize>| as_u32s(&bytes[range.clone()]).ok_or(misfit);
    let entries = words(&entries)?.to_vec();
    let pairs = words(&twins)?.as_chunks::<2>().0;
    let twins: TwinPairs = pairs.iter().map(|&[row, twin]| (row, twin)).collect();
    let lists = &bytes[links.clone()];
    let is_twin = check_rows(rows, &entries, &twins)?;
    match width {
        3 => check_lists(&is_twin, PackedLinks::<3>::new(lists, links_max))?,
        _ => check_lists(&is_twin, PackedLinks::<4>::new(lists, links_max))?,
    }
    let coded = match bits {
        None => None,
        Some(bits) => {
            let centre = as_f32s(&bytes[centre]).ok_or(misfit)?.to_vec();
            let quantizer = Quantizer::new(bits, lifted_dim, seed, centre, error);
            Some(CodedParts { quantizer, factors, packed })
        }
    };
    Ok(GraphFile { distance, dim, rows, entries, twins, lifted_square, links_max, links, coded, bytes: file })
}

/// Row numbers below `rows` and lists without holes: what checksums can't tell of a faulty writer.
/// A row that is found by a link and as a twin too would be found twice.
fn check_lists<const WIDTH: usize>(is_twin: &[bool], lists: PackedLinks<'_, WIDTH>) -> Result<(), String> {
    let is_node = |row: u32| is_twin.get(row as usize) == Some(&false);
    let whole = |row: u32| {
        let mut neighbours = lists.neighbours(row);
        lists.ends_cleanly(row) && neighbours.all(|neighbour| is_node(row) && is_node(neighbour))
    };
    match (0..is_twin.len() as u32).find(|&row| !whole(row)) {
        Some(row) => Err(format!("the list of row {row} names rows that are no nodes")),
        None => Ok(()),
    }
}

/// Which rows are twins.
fn check_rows(rows: usize, entries: &[u32], twins: &[(u32, u32)]) -> Result<Vec<bool>, String> {
    let exists = |row: u32| (row as usize) < rows;
    if !entries.iter().all(|&row| exists(row)) {
        return Err("an entry doesn't exist".into());
    }
    let mut is_twin = vec![false; rows];
    for &(row, twin) in twins {
        let fits = exists(row) && exists(twin) && row < twin;
        if !fits || std::mem::replace(&mut is_twin[twin as usize], true) {
            return Err("a twin doesn't exist or has two representatives".into());
        }
    }
    if !twins.is_sorted() || twins.iter().any(|&(row, _)| is_twin[row as usize]) {
        return Err("twins are out of order".into());
    }
    if entries.iter().any(|&row| is_twin[row as usize]) {
        return Err("an entry is a twin".into());
    }
    Ok(is_twin)
}

impl GraphFile {
    /// The lists, in slots of [`GraphFile::width`] bytes.
    #[inline]
    pub(super) fn links<const WIDTH: usize>(&self) -> PackedLinks<'_, WIDTH> {
        debug_assert_eq!(WIDTH, self.width());
        PackedLinks::new(&self.bytes.as_slice()[self.links.clone()], self.links_max)
    }

    /// Bytes of a slot.
    pub(super) fn width(&self) -> usize {
        width_for(self.rows)
    }

    /// The codes, if the rows have any.
    #[inline]
    pub(super) fn codes(&self) -> Option<Codes<'_>> {
        let CodedParts { quantizer, factors, packed } = self.coded.as_ref()?;
        let bytes = self.bytes.as_slice();
        let factors = as_f32s(&bytes[factors.clone()]).expect("alignment was checked at open");
        Some(Codes { quantizer, factors, packed: &bytes[packed.clone()] })
    }

    /// Bytes in memory or mapped.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.as_slice().len() + self.entries.len() * 4
    }

    /// Is the file mapped?
    pub(super) fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }
}
