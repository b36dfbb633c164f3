//! The `.graph` file, byte for byte. Version 3; all numbers little-endian.
//!
//! ```text
//!  offset  bytes  what
//!       0      8  magic "PXGRAPH\n"
//!       8      4  version: 3
//!      12      4  distance: 0 cosine, 1 dot, 2 l2
//!      16      4  components per row
//!      20      4  rows, n (up to 2^31)
//!      24      4  longest list, 2 m
//!      28      4  bytes of a link, w: 3, or 4 from 2^24 rows on
//!      32      4  entries, e
//!      36      4  twin pairs, t
//!      40      4  codes: 0 none, 1 RaBitQ, 2 half floats, 3 bytes, 4 product
//!      44      4  f32: square of the length that lifted rows have (see `space`); 0 but for dot
//!      48      8  seed of the rotation
//!      56      4  f32: standard deviation of an estimate's error (see `codes`)
//!      60      4  of the codes: bits per component (RaBitQ 1, 2, 4, 7), or components that share a byte
//!                 (product); 16 for half floats, 8 for bytes, 0 for none
//!      64      4  are vectors rotated before they are coded? 0 or 1
//!      68      4  f32: times more candidates that a walk on these codes keeps; at least 1
//!      72      4  levels above the graph, up to 8; 0 if there are none
//!      76     32  rows of each level, the lowest first; zeros
//!     108     16  zeros
//!     124      4  crc32c of bytes 0..124
//!     128    4 e  entries: rows that walks start from; at least one unless n is 0
//!             ·   zeros up to a multiple of 64
//!       L  2m n w  lists: per row 2 m slots, its neighbours first, then all ones in each empty slot
//!             ·   zeros up to a multiple of 64
//!       T    8 t  twin pairs: (representative, twin), ascending; a twin has the same vector as its
//!                 representative, an empty list, and is in no list
//!             ·   zeros up to a multiple of 64
//!                 what follows up to F is there only if there are codes:
//!       C    4 p  f32: the centre, rotated if vectors are; p components, those of a row padded for its code
//!  C+4 p    8 n  factors: per row two f32, the square of its residual and its scale
//!             ·   zeros up to a multiple of 64
//!       B 1024 p  f32: codebooks, for product alone: per sub-space its components one after the other, of all
//!                 256 codewords each
//!             ·   zeros up to a multiple of 64
//!       Q    n q  codes: per row q bytes
//!             ·   zeros up to a multiple of 64
//!       U    4 u  levels: the u rows of the lowest, of which the higher ones have the first
//!                 then per level but the highest, per node 2 m words: its neighbours' numbers among those
//!                 rows, then all ones in each empty slot
//!             ·   zeros up to a multiple of 64
//!       F    4 b  crc32c of each block of 1 MiB of bytes 0..F (the last is shorter)
//!  F+4 b      4  crc32c of the 4 b bytes before
//!  F+4 b+4    8  magic "PXGRAPHE"
//! ```
//! Version 2, which is still read: its header ends with a crc32c at byte 60, field 40 has the bits per
//! component of RaBitQ (4 or 7; 0 without codes), and there are no codebooks.
//!
//! The file ends there. `L`, `C`, `Q` and `F` are multiples of 64, so that lists and codes lie on cache
//! lines. How bits lie in a code is described in `proximadb_kernels::codes`.
//! A reader checks both magics, all lengths, all checksums, and that every row number is below n.
use std::io;
use std::ops::Range;
use std::path::Path;

use proximadb_kernels::map::{as_f32s, as_u32s};

use super::IndexError;
use super::blocks_file::{self, ALIGNMENT, BLOCK_BYTES, Blocks, Bytes, MagicEnd};
use super::codes::{Codes, FACTORS, Quantizer};
use super::graph_header::{self, CodedHeader, Header};
use super::levels::{LevelParts, Levels};
use super::links::{Links, LinksMut, Lists, PackedLinks, pack, width_for};
use super::space::Coded;
use super::twins::TwinPairs;
use crate::types::Distance;

const MAGIC_END: &MagicEnd = b"PXGRAPHE";

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
    pub(super) levels: LevelParts,
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
    pub(super) links_max: usize,
    links: Range<usize>,
    coded: Option<CodedParts>,
    level_sizes: Vec<usize>,
    /// Rows of the lowest level.
    level_rows: Range<usize>,
    /// Lists of all levels but the top.
    level_links: Range<usize>,
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
    let header = graph_header::write(parts)?;
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
        out.write_numbers(coded.quantizer.codebooks().iter().map(|x| x.to_bits()))?;
        out.align()?;
        out.write(coded.packed.as_slice())?;
        out.align()?;
    }
    out.write_numbers(parts.levels.rows.iter().copied())?;
    for links in &parts.levels.links {
        out.write_numbers(links.view().slots().iter().copied())?;
    }
    out.align()
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
    let header = Header::parse(bytes)?;
    let Header { distance, dim, rows, links_max, width, entries, twins, lifted_square, .. } = header;
    let lifted_dim = dim + usize::from(distance == Distance::Dot);
    if width != width_for(rows)
        || rows > super::links::ROWS_MAX
        || (entries == 0) != (rows == 0)
        || rows > 0 && (links_max == 0 || dim == 0)
        || header.coded.as_ref().is_some_and(|coded| !coded.kind.fits(lifted_dim))
    {
        return Err("its header contradicts itself".into());
    }

    let kind = header.coded.as_ref().map(|coded| coded.kind);
    let (padded, stride) = kind.map_or((0, 0), |kind| (kind.padded(lifted_dim), kind.stride(lifted_dim)));
    let codebooks = kind.map_or(0, |kind| kind.codebook_len(lifted_dim));
    let coded_rows = if kind.is_some() { rows as u128 } else { 0 };
    let mut end = header.bytes as u128;
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
        section(4 * codebooks as u128, true),
        section(stride as u128 * coded_rows, true),
        section(4 * header.level_sizes.first().copied().unwrap_or(0) as u128, true),
        section(4 * links_max as u128 * linked_nodes(&header.level_sizes) as u128, false),
    ];
    let body = end.next_multiple_of(ALIGNMENT as u128);
    blocks_file::check(bytes, body, MAGIC_END)?;
    let [entries, links, twins, centre, factors, codebooks, packed, level_rows, level_links] =
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
    check_levels(&is_twin, &header.level_sizes, words(&level_rows)?, words(&level_links)?, links_max)?;
    let coded = match &header.coded {
        None => None,
        Some(coded) => {
            let floats = |range: Range<usize>| as_f32s(&bytes[range]).map(<[f32]>::to_vec).ok_or(misfit);
            let (centre, codebooks) = (floats(centre)?, floats(codebooks)?);
            let CodedHeader { kind, seed, rotated, error, widening } = *coded;
            let mut quantizer = Quantizer::new(kind, lifted_dim, seed, rotated, centre, codebooks);
            (quantizer.error, quantizer.widening) = (error, widening);
            Some(CodedParts { quantizer, factors, packed })
        }
    };
    let level_sizes = header.level_sizes;
    Ok(GraphFile {
        distance,
        dim,
        rows,
        entries,
        twins,
        lifted_square,
        links_max,
        links,
        coded,
        level_sizes,
        level_rows,
        level_links,
        bytes: file,
    })
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

/// Nodes of all levels that have lists: all but the top.
fn linked_nodes(sizes: &[usize]) -> usize {
    sizes.iter().rev().skip(1).sum()
}

/// Levels of existing rows, each no larger than the one below, with lists that stay within.
fn check_levels(
    is_twin: &[bool],
    sizes: &[usize],
    rows: &[u32],
    slots: &[u32],
    links_max: usize,
) -> Result<(), String> {
    let whole = sizes.is_sorted_by(|lower, upper| lower >= upper) && !sizes.contains(&0);
    if !whole || !rows.iter().all(|&row| is_twin.get(row as usize) == Some(&false)) {
        return Err("its levels have rows that are no nodes".into());
    }
    let mut slots = slots;
    for &size in sizes.iter().rev().skip(1).rev() {
        let (mine, above) = slots.split_at(size * links_max);
        let lists = Links::new(mine, links_max);
        let sound = |node| lists.ends_cleanly(node) && lists.of(node).iter().all(|&to| (to as usize) < size);
        if !(0..size as u32).all(sound) {
            return Err("a list of a level names nodes that don't exist".into());
        }
        slots = above;
    }
    Ok(())
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

    /// Appends a node's neighbours to `out`.
    pub(super) fn neighbours_into(&self, row: u32, out: &mut Vec<u32>) {
        match self.width() {
            3 => out.extend(self.links::<3>().neighbours(row)),
            _ => out.extend(self.links::<4>().neighbours(row)),
        }
    }

    /// The codes, if the rows have any.
    #[inline]
    pub(super) fn codes(&self) -> Option<Codes<'_>> {
        let CodedParts { quantizer, factors, packed } = self.coded.as_ref()?;
        let bytes = self.bytes.as_slice();
        let factors = as_f32s(&bytes[factors.clone()]).expect("alignment was checked at open");
        Some(Codes { quantizer, factors, packed: &bytes[packed.clone()] })
    }

    /// The levels, if there are any.
    pub(super) fn levels(&self) -> Option<Levels<'_>> {
        if self.level_sizes.is_empty() {
            return None;
        }
        let words = |range: &Range<usize>| {
            as_u32s(&self.bytes.as_slice()[range.clone()]).expect("alignment was checked at open")
        };
        let mut slots = words(&self.level_links);
        let links = self.level_sizes.iter().rev().skip(1).rev().map(|&size| {
            let (mine, above) = slots.split_at(size * self.links_max);
            slots = above;
            Links::new(mine, self.links_max)
        });
        Some(Levels { links: links.collect(), rows: words(&self.level_rows), sizes: &self.level_sizes })
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
