//! Frames: one log entry on disk.
//!
//! All integers are little-endian. A frame begins at a multiple of 8 bytes.
//!
//! ```text
//! byte  size  field
//!    0     4  magic       "PxFr"
//!    4     4  len         bytes of the body
//!    8     8  lsn         1, 2, 3, … without holes
//!   16     8  term        Raft term; never falls
//!   24     8  leader      the node that led the term when the entry was proposed
//!   32     8  synced_lsn  the last LSN known durable when this frame was written
//!   40     4  body_crc    crc32c of the body
//!   44     4  prev_crc    header_crc of the frame before, or prev_crc of the file's header for its first frame
//!   48     1  kind        1 entry, 2 blank, 3 membership
//!   49     3  zero
//!   52     4  header_crc  crc32c of the log's 16-byte id followed by bytes 0–51
//!   56   len  body
//!    …   0–7  zeros up to the next multiple of 8
//! ```
//!
//! * `header_crc` begins with the log's id, so a frame of another log is never taken for one of ours,
//!   not even when a payload happens to hold a copy of a log file.
//! * `prev_crc` chains the frames, so stale bytes that lie behind a frame written later never replay.
//! * Both together let recovery look *past* a bad frame: a later frame can be checked on its own, and
//!   one that is found there proves that the bad one is no torn tail. Its `synced_lsn` tells whether the
//!   bad one had been synced (certain loss) or was part of the last group (perhaps never acknowledged).
use bytes::Bytes;
use uuid::Uuid;

use super::Damage;
use crate::types::Lsn;

/// Bytes before a frame's body.
pub const FRAME_HEADER_BYTES: usize = 56;
const MAGIC: [u8; 4] = *b"PxFr";

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// An encoded [`Entry`](crate::types::Entry).
    Entry = 1,
    /// Nothing: a new leader's first entry.
    Blank = 2,
    /// A change of the group's members.
    Membership = 3,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Entry),
            2 => Some(Self::Blank),
            3 => Some(Self::Membership),
            _ => None,
        }
    }
}

/// An entry read back from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place.
    pub lsn: Lsn,
    /// The term in which it was proposed.
    pub term: u64,
    /// Who led that term.
    pub leader: u64,
    /// What the body is.
    pub kind: FrameKind,
    /// The body as it was given.
    pub body: Bytes,
}

/// An entry about to be appended.
#[derive(Debug, Clone, Copy)]
pub struct FrameRef<'a> {
    /// Its place: it must continue the log.
    pub lsn: Lsn,
    /// The term in which it was proposed.
    pub term: u64,
    /// Who led that term.
    pub leader: u64,
    /// What the body is.
    pub kind: FrameKind,
    /// The body.
    pub body: &'a [u8],
    /// crc32c of the body: proposers compute it, so that the log thread need not touch every byte twice.
    pub body_crc: u32,
}

impl<'a> From<&'a Frame> for FrameRef<'a> {
    fn from(frame: &'a Frame) -> Self {
        let Frame { lsn, term, leader, kind, body } = frame;
        let body_crc = crc32c::crc32c(body);
        Self { lsn: *lsn, term: *term, leader: *leader, kind: *kind, body, body_crc }
    }
}

impl FrameRef<'_> {
    /// Bytes that the frame takes on disk.
    pub(super) fn disk_bytes(&self) -> usize {
        disk_bytes(self.body.len())
    }

    /// Appends the frame to `out` and returns its header's checksum, for the next one's chain.
    pub(super) fn write(&self, out: &mut Vec<u8>, log: &Uuid, synced: Lsn, prev_crc: u32) -> u32 {
        let mut header = [0u8; FRAME_HEADER_BYTES];
        let len = u32::try_from(self.body.len()).expect("entry_bytes_max keeps bodies below 4 GiB");
        header[0..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&len.to_le_bytes());
        header[8..16].copy_from_slice(&self.lsn.0.to_le_bytes());
        header[16..24].copy_from_slice(&self.term.to_le_bytes());
        header[24..32].copy_from_slice(&self.leader.to_le_bytes());
        header[32..40].copy_from_slice(&synced.0.to_le_bytes());
        header[40..44].copy_from_slice(&self.body_crc.to_le_bytes());
        header[44..48].copy_from_slice(&prev_crc.to_le_bytes());
        header[48] = self.kind as u8;
        let header_crc = header_crc(log, &header);
        header[52..56].copy_from_slice(&header_crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.body);
        out.resize(out.len().next_multiple_of(8), 0);
        header_crc
    }
}

/// Bytes on disk of a frame whose body has `len` bytes.
pub(super) fn disk_bytes(len: usize) -> usize {
    (FRAME_HEADER_BYTES + len).next_multiple_of(8)
}

fn header_crc(log: &Uuid, header: &[u8; FRAME_HEADER_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(log.as_bytes()), &header[..52])
}

/// A frame found in a buffer, its own checksums verified; its place in the chain is the caller's to check.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    pub lsn: Lsn,
    pub term: u64,
    pub leader: u64,
    pub kind: FrameKind,
    pub synced: Lsn,
    pub prev_crc: u32,
    pub header_crc: u32,
    /// Where its body lies in the buffer.
    pub body_at: usize,
    pub body_len: usize,
}

impl Found {
    /// Where the next frame begins.
    pub fn end(&self) -> usize {
        (self.body_at + self.body_len).next_multiple_of(8)
    }

    /// Verifies the frame that begins at `at`. Its evidence of damage comes with the LSN if the header is sound.
    pub fn parse(buffer: &[u8], at: usize, log: &Uuid) -> Result<Self, (Damage, Option<Lsn>)> {
        let rest = buffer.get(at..).unwrap_or_default();
        let Some(header) = rest.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err((Damage::FrameCut, None));
        };
        if header[0..4] != MAGIC || u32_at(header, 52) != header_crc(log, header) {
            return Err((Damage::FrameHeader, None));
        }
        let lsn = Lsn(u64_at(header, 8));
        let Some(kind) = FrameKind::from_byte(header[48]) else {
            return Err((Damage::KindUnknown(header[48]), Some(lsn)));
        };
        let body_len = u32_at(header, 4) as usize;
        let Some(body_and_padding) = rest.get(FRAME_HEADER_BYTES..disk_bytes(body_len)) else {
            return Err((Damage::FrameCut, Some(lsn)));
        };
        let (body, padding) = body_and_padding.split_at(body_len);
        if crc32c::crc32c(body) != u32_at(header, 40) || padding.iter().any(|byte| *byte != 0) {
            return Err((Damage::FrameBody, Some(lsn)));
        }
        Ok(Self {
            lsn,
            term: u64_at(header, 16),
            leader: u64_at(header, 24),
            kind,
            synced: Lsn(u64_at(header, 32)),
            prev_crc: u32_at(header, 44),
            header_crc: u32_at(header, 52),
            body_at: at + FRAME_HEADER_BYTES,
            body_len,
        })
    }
}

/// The first sound frame of this log at or after `from`, wherever it begins.
pub(super) fn find_sound_frame(buffer: &[u8], from: usize, log: &Uuid) -> Option<Found> {
    (from.next_multiple_of(8)..buffer.len())
        .step_by(8)
        .filter(|at| buffer[*at..].starts_with(&MAGIC))
        .find_map(|at| Found::parse(buffer, at, log).ok())
}

fn u32_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn u64_at(header: &[u8; FRAME_HEADER_BYTES], at: usize) -> u64 {
    u64::from(u32_at(header, at)) | u64::from(u32_at(header, at + 4)) << 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn frame(body: &'static [u8]) -> Frame {
        Frame { lsn: Lsn(7), term: 3, leader: 2, kind: FrameKind::Entry, body: Bytes::from_static(body) }
    }

    #[test]
    fn a_frame_comes_back_and_is_aligned() {
        let log = Uuid::from_u128(9);
        for body in [&b""[..], b"x", b"12345678", b"123456789"] {
            let mut bytes = Vec::new();
            let crc = FrameRef::from(&frame(body)).write(&mut bytes, &log, Lsn(6), 11);
            assert_eq!(bytes.len() % 8, 0);
            let found = Found::parse(&bytes, 0, &log).unwrap();
            assert_eq!((found.lsn, found.term, found.leader, found.synced), (Lsn(7), 3, 2, Lsn(6)));
            assert_eq!((found.prev_crc, found.header_crc, found.end()), (11, crc, bytes.len()));
            assert_eq!(&bytes[found.body_at..found.body_at + found.body_len], body);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let log = Uuid::from_u128(9);
        let mut bytes = Vec::new();
        FrameRef::from(&frame(b"a body of some bytes")).write(&mut bytes, &log, Lsn(6), 11);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Found::parse(&bytes, 0, &log).is_err(), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..bytes.len() {
            assert!(Found::parse(&bytes[..len], 0, &log).is_err(), "length {len}");
        }
        assert!(Found::parse(&bytes, 0, &Uuid::from_u128(8)).is_err(), "a frame of another log");
    }
}
