//! The first bytes of a `.graph` file, see `graph_format`.
use std::io;

use super::blocks_file::number;
use super::codes::{Kind, Quantizer};
use super::graph_format::GraphParts;
use super::levels::LEVELS_MAX;
use super::links::width_for;
use crate::types::Distance;

const MAGIC: &[u8; 8] = b"PXGRAPH\n";
const VERSION: u32 = 3;
const HEADER_BYTES: usize = 128;
/// Of the version before, whose header is shorter.
const VERSION_2: u32 = 2;
const HEADER_2_BYTES: usize = 64;

/// What stands before all sections.
pub(super) fn write(parts: &GraphParts) -> io::Result<Vec<u8>> {
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
    let kind = quantizer.map(|quantizer| quantizer.kind());
    header.extend(kind.map_or(0, Kind::number).to_le_bytes());
    header.extend(parts.lifted_square.to_le_bytes());
    header.extend(quantizer.map_or(0, |quantizer| quantizer.seed).to_le_bytes());
    header.extend(quantizer.map_or(0.0, |quantizer| quantizer.error).to_le_bytes());
    header.extend(kind.map_or(0, Kind::parameter).to_le_bytes());
    header.extend(u32::from(quantizer.is_some_and(Quantizer::is_rotated)).to_le_bytes());
    header.extend(quantizer.map_or(1.0, |quantizer| quantizer.widening).to_le_bytes());
    header.extend(number(parts.levels.sizes.len())?.to_le_bytes());
    for &size in &parts.levels.sizes {
        header.extend(number(size)?.to_le_bytes());
    }
    header.resize(HEADER_BYTES - 4, 0);
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    Ok(header)
}

/// What the first bytes say.
pub(super) struct Header {
    /// Its length.
    pub(super) bytes: usize,
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) links_max: usize,
    pub(super) width: usize,
    pub(super) entries: usize,
    pub(super) twins: usize,
    pub(super) lifted_square: f32,
    pub(super) coded: Option<CodedHeader>,
    pub(super) level_sizes: Vec<usize>,
}

/// What they say of codes.
#[derive(Clone, Copy)]
pub(super) struct CodedHeader {
    pub(super) kind: Kind,
    pub(super) seed: u64,
    pub(super) rotated: bool,
    pub(super) error: f32,
    pub(super) widening: f32,
}

impl Header {
    /// Reads and checks it; says what is wrong.
    pub(super) fn parse(file: &[u8]) -> Result<Header, String> {
        let short = || format!("it has {} bytes only", file.len());
        let first = file.get(..HEADER_2_BYTES).ok_or_else(short)?;
        if &first[..8] != MAGIC {
            return Err("it doesn't start as a graph".into());
        }
        let bytes = match word(first, 8) {
            VERSION => HEADER_BYTES,
            VERSION_2 => HEADER_2_BYTES,
            other => {
                return Err(format!(
                    "it has version {other}, and this program reads {VERSION_2} and {VERSION}"
                ));
            }
        };
        let header = file.get(..bytes).ok_or_else(short)?;
        let number = |offset: usize| word(header, offset);
        if number(bytes - 4) != crc32c::crc32c(&header[..bytes - 4]) {
            return Err("its header fails its crc32c".into());
        }
        let distance = match number(12) {
            0 => Distance::Cosine,
            1 => Distance::Dot,
            2 => Distance::L2,
            other => return Err(format!("it has distance {other}, which doesn't exist")),
        };
        let [dim, rows, links_max, width, entries, twins] =
            [16, 20, 24, 28, 32, 36].map(|offset| number(offset) as usize);
        // Version 2 had RaBitQ alone.
        let (kind, parameter, rotated, widening) = match (number(8), number(40)) {
            (VERSION_2, 0) => (0, 0, 0, 1.0),
            (VERSION_2, bits) => (1, bits, 1, 1.0),
            (_, kind) => (kind, number(60), number(64), f32::from_bits(number(68))),
        };
        let coded = match kind {
            0 => None,
            number_of_kind => Some(CodedHeader {
                kind: Kind::of(number_of_kind, parameter)
                    .ok_or_else(|| format!("it has codes of kind {kind} with {parameter}"))?,
                seed: u64::from(number(48)) | u64::from(number(52)) << 32,
                rotated: rotated != 0,
                error: f32::from_bits(number(56)),
                widening: if widening >= 1.0 { widening } else { 1.0 },
            }),
        };
        let levels = if number(8) == VERSION_2 { 0 } else { number(72) as usize };
        if levels > LEVELS_MAX {
            return Err(format!("it has {levels} levels, and there are {LEVELS_MAX} at most"));
        }
        let level_sizes = (0..levels).map(|level| number(76 + 4 * level) as usize).collect();
        let lifted_square = f32::from_bits(number(44));
        Ok(Header {
            bytes,
            distance,
            dim,
            rows,
            links_max,
            width,
            entries,
            twins,
            lifted_square,
            coded,
            level_sizes,
        })
    }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}
