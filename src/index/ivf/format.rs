//! The `.ivf` file, byte for byte. Version 1; all numbers little-endian.
//!
//! ```text
//!  offset  bytes  what
//!       0      8  magic "PXIVFLS\n"
//!       8      4  version: 1
//!      12      4  distance: 0 cosine, 1 dot, 2 l2
//!      16      4  components per row
//!      20      4  rows, n (up to 2^31)
//!      24      4  clusters, c; at least one unless n is 0
//!      28      4  groups of clusters, g; at least one unless n is 0
//!      32      4  kind of codes, as in `graph_format`; 0 if there are none. Not 4
//!      36      4  f32: square of the length that lifted rows have (see `space`); 0 but for dot
//!      40      8  seed of the rotation
//!      48      4  f32: standard deviation of an estimate's error (see `codes`)
//!      52      4  what else there is to say of the kind: bits per component
//!      56      4  are vectors rotated? 0 or 1
//!      60      4  crc32c of bytes 0..60
//!      64  4 g+4  first cluster of each group, and c
//!        4 c + 4  first place of each cluster, and n: a cluster with s places has s rows
//!            4 c  f32: radius of each cluster; no row is farther from its centroid
//!            4 c  f32: spread of each cluster, the root of the mean square of its rows' distances from its centroid
//!             ·   zeros up to a multiple of 64
//!       G  4 g p  f32: a centroid per group; p components: of a row, with its lift for dot; where there are codes,
//!                 padded as they are, and rotated if they are
//!             ·   zeros up to a multiple of 64
//!       C  4 c p  f32: a centroid per cluster, likewise
//!             ·   zeros up to a multiple of 64
//!       R     ·   records: one per cluster, see below
//!       F     ·   checksums, and magic "PXIVFLSE", as in every index file (see `blocks_file`)
//! ```
//! A record is all that a probe reads, in one piece:
//! ```text
//!       0    4 s  rows, ascending
//!     4 s    8 s  factors: per row two f32, the square of its residual and its scale; only with codes
//!             ·   zeros up to a multiple of 64
//!       ·    q s  codes: per row q bytes; only with codes
//!             ·   zeros up to a multiple of 64
//! ```
//! A residual is what a rotated row differs from its cluster's rotated centroid by.
//! A reader checks magics, all lengths, all checksums, and that every row is in one cluster.
use std::io;
use std::ops::Range;
use std::path::Path;

use proximadb_kernels::huge::HugeBuffer;
use proximadb_kernels::map::{as_f32s, as_u32s};

use crate::index::IndexError;
use crate::index::blocks_file::{self, ALIGNMENT, Blocks, Bytes, MagicEnd, number};
use crate::index::codes::{Codes, FACTORS, Kind, Quantizer};
use crate::index::links::ROWS_MAX;
use crate::types::Distance;

pub(in crate::index) const MAGIC: &[u8; 8] = b"PXIVFLS\n";
const MAGIC_END: &MagicEnd = b"PXIVFLSE";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;

/// An index as it is built.
pub(super) struct IvfParts {
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) lifted_square: f32,
    pub(super) quantizer: Option<Quantizer>,
    /// First cluster of each group, and the end of the last.
    pub(super) group_starts: Vec<u32>,
    /// First place of each cluster, and the end of the last.
    pub(super) offsets: Vec<u32>,
    pub(super) radii: Vec<f32>,
    pub(super) spreads: Vec<f32>,
    pub(super) groups: Vec<f32>,
    pub(super) centroids: Vec<f32>,
    pub(super) records: HugeBuffer,
}

/// An index as it is read: the file in memory or mapped, checked, and where its parts are.
pub(super) struct IvfFile {
    bytes: Bytes,
    pub(super) distance: Distance,
    pub(super) dim: usize,
    pub(super) rows: usize,
    pub(super) lifted_square: f32,
    pub(super) quantizer: Option<Quantizer>,
    /// Components of a centroid.
    pub(super) width: usize,
    group_starts: Vec<u32>,
    offsets: Vec<u32>,
    radii: Vec<f32>,
    spreads: Vec<f32>,
    groups: Range<usize>,
    centroids: Range<usize>,
    records: Vec<Range<usize>>,
}

/// One cluster's rows, and their codes if they have any: of its place `i` in both.
pub(super) struct Record<'a> {
    pub(super) rows: &'a [u32],
    pub(super) codes: Option<Codes<'a>>,
}

/// Where a record's parts are, in bytes from its start.
pub(super) struct RecordLayout {
    pub(super) factors: usize,
    pub(super) codes: usize,
    pub(super) end: usize,
}

impl RecordLayout {
    /// Of `rows` rows with codes of `stride` bytes, or without any.
    pub(super) fn new(rows: usize, stride: Option<usize>) -> RecordLayout {
        let factors = 4 * rows;
        let Some(stride) = stride else {
            let end = factors.next_multiple_of(ALIGNMENT);
            return RecordLayout { factors, codes: end, end };
        };
        let codes = (factors + 4 * FACTORS * rows).next_multiple_of(ALIGNMENT);
        RecordLayout { factors, codes, end: (codes + stride * rows).next_multiple_of(ALIGNMENT) }
    }
}

impl<'a> Record<'a> {
    /// A record of `rows` rows. `None` if this machine can't read it (not little-endian).
    pub(super) fn new(bytes: &'a [u8], rows: usize, quantizer: Option<&'a Quantizer>) -> Option<Record<'a>> {
        let stride = quantizer.map(Quantizer::stride);
        let layout = RecordLayout::new(rows, stride);
        let codes = match (quantizer, stride) {
            (Some(quantizer), Some(stride)) => Some(Codes {
                quantizer,
                factors: as_f32s(&bytes[layout.factors..layout.factors + 4 * FACTORS * rows])?,
                packed: &bytes[layout.codes..layout.codes + stride * rows],
            }),
            _ => None,
        };
        Some(Record { rows: as_u32s(&bytes[..4 * rows])?, codes })
    }
}

/// Writes a file: complete and durable under its name, or not at all.
pub(super) fn write(path: &Path, parts: &IvfParts) -> Result<(), IndexError> {
    blocks_file::write(path, MAGIC_END, |out| write_parts(out, parts))
}

fn write_parts(out: &mut Blocks, parts: &IvfParts) -> io::Result<()> {
    let quantizer = parts.quantizer.as_ref();
    let numbers = [
        VERSION,
        match parts.distance {
            Distance::Cosine => 0,
            Distance::Dot => 1,
            Distance::L2 => 2,
        },
        number(parts.dim)?,
        number(parts.rows)?,
        number(parts.offsets.len() - 1)?,
        number(parts.group_starts.len() - 1)?,
        quantizer.map_or(0, |quantizer| quantizer.kind().number()),
    ];
    let mut header = MAGIC.to_vec();
    header.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    header.extend(parts.lifted_square.to_le_bytes());
    header.extend(quantizer.map_or(0, |quantizer| quantizer.seed).to_le_bytes());
    header.extend(quantizer.map_or(0.0, |quantizer| quantizer.error).to_le_bytes());
    header.extend(quantizer.map_or(0, |quantizer| quantizer.kind().parameter()).to_le_bytes());
    header.extend(u32::from(quantizer.is_some_and(Quantizer::is_rotated)).to_le_bytes());
    header.extend(crc32c::crc32c(&header).to_le_bytes());
    out.write(&header)?;
    let floats = |floats: &[f32]| floats.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
    out.write_numbers(parts.group_starts.iter().copied())?;
    out.write_numbers(parts.offsets.iter().copied())?;
    out.write_numbers(floats(&parts.radii).into_iter())?;
    out.write_numbers(floats(&parts.spreads).into_iter())?;
    out.align()?;
    out.write_numbers(floats(&parts.groups).into_iter())?;
    out.align()?;
    out.write_numbers(floats(&parts.centroids).into_iter())?;
    out.align()?;
    out.write(parts.records.as_slice())
}

/// Checks every byte of a file.
pub(super) fn parse(path: &Path, bytes: Bytes) -> Result<IvfFile, IndexError> {
    parsed(bytes).map_err(|reason| IndexError::Corrupt { path: path.to_owned(), reason })
}

fn parsed(file: Bytes) -> Result<IvfFile, String> {
    let bytes = file.as_slice();
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| format!("it has {} bytes only", bytes.len()))?;
    if &header[..8] != MAGIC {
        return Err("it doesn't start as an index of clusters".into());
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
    let [dim, rows, clusters, groups] = [16, 20, 24, 28].map(|offset| number(offset) as usize);
    let kind = match (number(32), number(52)) {
        (0, _) => None,
        (kind, parameter) => match Kind::of(kind, parameter) {
            Some(Kind::Product { .. }) | None => {
                return Err(format!("it has codes of kind {kind} with parameter {parameter}"));
            }
            kind => kind,
        },
    };
    let rotated = match number(56) {
        0 => false,
        1 => true,
        other => return Err(format!("its vectors are rotated {other} times")),
    };
    let (lifted_square, error) = (f32::from_bits(number(36)), f32::from_bits(number(48)));
    let seed = u64::from(number(40)) | u64::from(number(44)) << 32;
    let lifted_dim = dim + usize::from(distance == Distance::Dot);
    if rows > ROWS_MAX
        || clusters > rows
        || groups > clusters
        || (groups == 0) != (rows == 0)
        || kind.is_some_and(|kind| !kind.fits(lifted_dim))
    {
        return Err("its header contradicts itself".into());
    }

    let width = kind.map_or(lifted_dim, |kind| kind.padded(lifted_dim));
    let mut end = HEADER_BYTES as u128;
    let mut section = |bytes: u128, aligned: bool| {
        let start = if aligned { end.next_multiple_of(ALIGNMENT as u128) } else { end };
        end = start + bytes;
        start..end
    };
    let centroid = 4 * width as u128;
    let sections = [
        section(4 * groups as u128 + 4, false),
        section(4 * clusters as u128 + 4, false),
        section(4 * clusters as u128, false),
        section(4 * clusters as u128, false),
        section(centroid * groups as u128, true),
        section(centroid * clusters as u128, true),
    ];
    let first_record = end.next_multiple_of(ALIGNMENT as u128);
    if first_record > bytes.len() as u128 {
        return Err(format!("it has {} bytes, and its header asks for {first_record}", bytes.len()));
    }
    let [group_starts, offsets, radii, spreads, group_centroids, centroids] =
        sections.map(|section| section.start as usize..section.end as usize);
    let misfit = "this machine can't read it (not little-endian)";
    let words = |range: Range<usize>| as_u32s(&bytes[range]).ok_or(misfit);
    let (group_starts, offsets) = (words(group_starts)?.to_vec(), words(offsets)?.to_vec());
    if !rises_to(&offsets, rows) || !rises_to(&group_starts, clusters) {
        return Err("its clusters are out of order".into());
    }
    let stride = kind.map(|kind| kind.stride(lifted_dim));
    let mut records = Vec::with_capacity(clusters);
    let mut start = first_record as usize;
    for place in offsets.windows(2) {
        let end = start + RecordLayout::new((place[1] - place[0]) as usize, stride).end;
        records.push(start..end);
        start = end;
    }
    blocks_file::check(bytes, start as u128, MAGIC_END)?;

    let floats = |range: Range<usize>| as_f32s(&bytes[range]).ok_or(misfit).map(<[f32]>::to_vec);
    let (radii, spreads) = (floats(radii)?, floats(spreads)?);
    if !radii.iter().chain(&spreads).all(|&length| length >= 0.0) {
        return Err("a cluster's radius isn't a length".into());
    }
    let quantizer = kind.map(|kind| {
        let mut quantizer = Quantizer::new(kind, lifted_dim, seed, rotated, Vec::new(), Vec::new());
        quantizer.error = error;
        quantizer
    });
    let file = IvfFile {
        distance,
        dim,
        rows,
        lifted_square,
        quantizer,
        width,
        group_starts,
        offsets,
        radii,
        spreads,
        groups: group_centroids,
        centroids,
        records,
        bytes: file,
    };
    file.check_rows()?;
    Ok(file)
}

/// Is it a list of where things start that starts at 0, ends at `end` and leaves none empty?
fn rises_to(starts: &[u32], end: usize) -> bool {
    starts.first() == Some(&0)
        && starts.last().is_some_and(|&last| last as usize == end)
        && starts.is_sorted_by(|a, b| a < b)
}

impl IvfFile {
    /// Number of clusters.
    pub(super) fn clusters(&self) -> usize {
        self.records.len()
    }

    /// Number of groups.
    pub(super) fn groups(&self) -> usize {
        self.group_starts.len() - 1
    }

    /// The clusters of a group.
    pub(super) fn clusters_of(&self, group: u32) -> Range<usize> {
        let group = group as usize;
        self.group_starts[group] as usize..self.group_starts[group + 1] as usize
    }

    /// The farthest that any row is from its cluster's centroid.
    pub(super) fn radius(&self, cluster: u32) -> f32 {
        self.radii[cluster as usize]
    }

    /// The root of the mean square of rows' distances from their clusters' centroids, of some clusters.
    pub(super) fn spreads(&self, clusters: Range<usize>) -> &[f32] {
        &self.spreads[clusters]
    }

    /// A centroid per group, one behind the other.
    pub(super) fn group_centroids(&self) -> &[f32] {
        self.floats(self.groups.clone())
    }

    /// The centroids of some clusters, one behind the other.
    pub(super) fn centroids(&self, clusters: Range<usize>) -> &[f32] {
        let start = self.centroids.start;
        self.floats(start + 4 * self.width * clusters.start..start + 4 * self.width * clusters.end)
    }

    fn floats(&self, range: Range<usize>) -> &[f32] {
        as_f32s(&self.bytes.as_slice()[range]).expect("alignment was checked at open")
    }

    /// All that a probe reads.
    pub(super) fn record_bytes(&self, cluster: u32) -> &[u8] {
        &self.bytes.as_slice()[self.records[cluster as usize].clone()]
    }

    /// A cluster's rows and codes.
    pub(super) fn record(&self, cluster: u32) -> Record<'_> {
        let bytes = self.record_bytes(cluster);
        let cluster = cluster as usize;
        let rows = (self.offsets[cluster + 1] - self.offsets[cluster]) as usize;
        Record::new(bytes, rows, self.quantizer.as_ref()).expect("alignment was checked at open")
    }

    /// Is every row in one cluster? Checksums can't tell that of a faulty writer.
    fn check_rows(&self) -> Result<(), String> {
        let mut seen = vec![false; self.rows];
        for cluster in 0..self.clusters() as u32 {
            let rows = self.record(cluster).rows;
            let is_new =
                |&row: &u32| seen.get_mut(row as usize).is_some_and(|seen| !std::mem::replace(seen, true));
            if !rows.is_sorted() || !rows.iter().all(is_new) {
                return Err(format!("the rows of cluster {cluster} are out of order or elsewhere, too"));
            }
        }
        Ok(())
    }

    /// Bytes in memory or mapped.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.as_slice().len()
            + 4 * (self.group_starts.len() + self.offsets.len() + 2 * self.radii.len())
            + size_of::<Range<usize>>() * self.records.len()
    }

    /// Is the file mapped?
    pub(super) fn is_mapped(&self) -> bool {
        self.bytes.is_mapped()
    }
}
