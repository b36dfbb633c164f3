//! Entry bodies in the Bincode wire format: little-endian, fixed-width integers, 64-bit lengths, 32-bit tags.
//!
//! ```text
//! u8 codec = 1 · u8 version = 1 · then the Bincode encoding of
//!
//! struct Entry  { dim: u32, ops: Vec<Op>, vectors: Vec<f32>, source: Option<Source>, rejects: Vec<Reject> }
//! struct Op     { id: str, integer: bool, kind: Kind, expect: Expect, position: Option<u128> }
//! enum   Kind   { Upsert { payload: [u8], event_time_ms: i64 }, Delete }
//! enum   Expect { Any, Version(u64), Absent, Present }
//! struct Source { source: str, partition: str, epoch: u64, from: Option<u128>, to: u128 }
//! struct Reject { partition: str, position: u128, code: str, reason: str, key: Option<str>, value: Option<str>,
//!                 timestamp_ms: Option<i64> }
//! ```
//!
//! Vectors are one block that is copied as a whole. The structs below only borrow, and every length is
//! checked against what is left of the body before anything is allocated (I7).
use bytes::{BufMut, Bytes, BytesMut};
use wincode::config::{Configuration, PREALLOCATION_SIZE_LIMIT_DISABLED};
use wincode::{SchemaRead, SchemaWrite};

use super::{WalCodec, WalError};
use crate::types::{Entry, Expect, Lsn, Op, OpKind, PointId, Position, Reject, SourceRange, WriteBatch};

const CODEC: u8 = 1;
const VERSION: u8 = 1;
/// Wincode's own limit of 4 MiB per vector would refuse large batches; lengths are checked here instead.
type Wire = Configuration<true, PREALLOCATION_SIZE_LIMIT_DISABLED>;
const WIRE: Wire = Wire::new();

/// The default [`WalCodec`].
#[derive(Debug, Clone, Copy, Default)]
pub struct BincodeCodec;

#[derive(SchemaWrite, SchemaRead)]
struct WireOp<'a> {
    id: &'a str,
    integer: bool,
    kind: WireKind<'a>,
    expect: WireExpect,
    position: Option<u128>,
}
/// An empty id, a delete, no expectation, no position.
const WIRE_OP_BYTES_MIN: usize = 8 + 1 + 4 + 4 + 1;

#[derive(SchemaWrite, SchemaRead)]
enum WireKind<'a> {
    Upsert { payload: &'a [u8], event_time_ms: i64 },
    Delete,
}

#[derive(SchemaWrite, SchemaRead)]
enum WireExpect {
    Any,
    Version(u64),
    Absent,
    Present,
}

#[derive(SchemaWrite, SchemaRead)]
struct WireSource<'a> {
    source: &'a str,
    partition: &'a str,
    epoch: u64,
    from: Option<u128>,
    to: u128,
}

#[derive(SchemaWrite, SchemaRead)]
struct WireReject<'a> {
    partition: &'a str,
    position: u128,
    code: &'a str,
    reason: &'a str,
    key: Option<&'a str>,
    value: Option<&'a str>,
    timestamp_ms: Option<i64>,
}
/// Empty texts, no key, no value, no timestamp.
const WIRE_REJECT_BYTES_MIN: usize = 8 + 16 + 8 + 8 + 3;

impl WalCodec for BincodeCodec {
    fn encode(&self, entry: &Entry) -> Result<Bytes, WalError> {
        let WriteBatch { dim, ops, vectors } = &entry.batch;
        let mut out = Vec::with_capacity(entry.batch.bytes() + entry.rejects.len() * 256 + 256);
        out.extend_from_slice(&[CODEC, VERSION]);
        put("dim", dim, &mut out)?;
        put("ops", &(ops.len() as u64), &mut out)?;
        for op in ops {
            put("ops", &wire_op(op), &mut out)?;
        }
        put("vectors", vectors, &mut out)?;
        put("source", &entry.source.as_ref().map(wire_source), &mut out)?;
        put("rejects", &(entry.rejects.len() as u64), &mut out)?;
        for reject in &entry.rejects {
            put("rejects", &wire_reject(reject), &mut out)?;
        }
        Ok(Bytes::from(out))
    }

    fn decode(&self, body: &[u8]) -> Result<Entry, WalError> {
        let [codec, version, rest @ ..] = body else {
            return Err(bad("codec", format!("the body has only {} bytes", body.len())));
        };
        if *codec != CODEC {
            return Err(bad("codec", format!("codec {codec} is unknown, this program reads {CODEC}")));
        }
        if *version != VERSION {
            let (found, known) = (u32::from(*version), u32::from(VERSION));
            return Err(WalError::VersionUnknown { what: "log entry", found, known });
        }
        let mut body = Body { rest };
        let dim: u32 = body.take("dim")?;
        let ops = body.ops()?;
        let vectors = body.vectors()?;
        let source = body.take::<Option<WireSource<'_>>>("source")?.map(source_range);
        let rejects = body.rejects()?;
        if !body.rest.is_empty() {
            return Err(bad("end", format!("{} bytes follow the entry", body.rest.len())));
        }
        let upserts = ops.iter().filter(|op| matches!(op.kind, OpKind::Upsert { .. })).count();
        if upserts.checked_mul(dim as usize) != Some(vectors.len()) {
            let floats = vectors.len();
            return Err(bad("vectors", format!("{floats} floats for {upserts} upserts of {dim} dimensions")));
        }
        Ok(Entry { batch: WriteBatch { dim, ops, vectors }, source, rejects })
    }
}

fn put<T: SchemaWrite<Wire, Src = T>>(
    part: &'static str,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), WalError> {
    wincode::config::serialize_into(out, value, WIRE).map_err(|error| bad(part, error.to_string()))
}

fn bad(part: &'static str, problem: String) -> WalError {
    WalError::BadEntry { part, problem }
}

/// What is left of a body.
struct Body<'a> {
    rest: &'a [u8],
}

impl<'a> Body<'a> {
    fn take<T: SchemaRead<'a, Wire, Dst = T>>(&mut self, part: &'static str) -> Result<T, WalError> {
        T::get(&mut self.rest).map_err(|error| bad(part, error.to_string()))
    }

    /// A length, which is refused if that many items of at least `bytes_min` cannot be there.
    fn count(&mut self, part: &'static str, bytes_min: usize) -> Result<usize, WalError> {
        let count: u64 = self.take(part)?;
        let fitting = self.rest.len() / bytes_min;
        usize::try_from(count).ok().filter(|count| *count <= fitting).ok_or_else(|| {
            bad(part, format!("{count} items cannot lie in the {} bytes left", self.rest.len()))
        })
    }

    fn ops(&mut self) -> Result<Vec<Op>, WalError> {
        let count = self.count("ops", WIRE_OP_BYTES_MIN)?;
        let mut ops = Vec::with_capacity(count.min(self.rest.len() / size_of::<Op>()));
        // All payloads in one buffer: one allocation per entry instead of one per row.
        let mut payloads = BytesMut::new();
        let mut lengths = Vec::with_capacity(ops.capacity());
        for _ in 0..count {
            let WireOp { id, integer, kind, expect, position } = self.take("ops")?;
            let kind = match kind {
                WireKind::Upsert { payload, event_time_ms } => {
                    payloads.put_slice(payload);
                    lengths.push(payload.len());
                    OpKind::Upsert { payload: Bytes::new(), event_time_ms }
                }
                WireKind::Delete => OpKind::Delete,
            };
            let expect = match expect {
                WireExpect::Any => Expect::Any,
                WireExpect::Version(lsn) => Expect::Version(Lsn(lsn)),
                WireExpect::Absent => Expect::Absent,
                WireExpect::Present => Expect::Present,
            };
            ops.push(Op { id: point_id(id, integer)?, kind, expect, position: position.map(Position) });
        }
        let mut payloads = payloads.freeze();
        let upserts = ops.iter_mut().filter_map(|op| match &mut op.kind {
            OpKind::Upsert { payload, .. } => Some(payload),
            OpKind::Delete => None,
        });
        for (payload, len) in upserts.zip(lengths) {
            *payload = payloads.split_to(len);
        }
        Ok(ops)
    }

    fn vectors(&mut self) -> Result<Vec<f32>, WalError> {
        // Looks ahead, so that wincode's own reader can then copy the block at once.
        Body { rest: self.rest }.count("vectors", size_of::<f32>())?;
        self.take("vectors")
    }

    fn rejects(&mut self) -> Result<Vec<Reject>, WalError> {
        let count = self.count("rejects", WIRE_REJECT_BYTES_MIN)?;
        let mut rejects = Vec::with_capacity(count.min(self.rest.len() / size_of::<Reject>()));
        for _ in 0..count {
            let WireReject { partition, position, code, reason, key, value, timestamp_ms } =
                self.take("rejects")?;
            rejects.push(Reject {
                partition: partition.to_string(),
                position: Position(position),
                code: code.to_string(),
                reason: reason.to_string(),
                key: key.map(str::to_string),
                value: value.map(str::to_string),
                timestamp_ms,
            });
        }
        Ok(rejects)
    }
}

fn point_id(text: &str, integer: bool) -> Result<PointId, WalError> {
    if !integer {
        return PointId::text(text).map_err(|error| bad("ops", error.to_string()));
    }
    match text.parse::<u64>() {
        Ok(_) => Ok(PointId::from_stored(text, true)),
        Err(_) => Err(bad("ops", "an id marked as integer is none".to_string())),
    }
}

fn wire_op(op: &Op) -> WireOp<'_> {
    let kind = match &op.kind {
        OpKind::Upsert { payload, event_time_ms } => {
            WireKind::Upsert { payload, event_time_ms: *event_time_ms }
        }
        OpKind::Delete => WireKind::Delete,
    };
    let expect = match op.expect {
        Expect::Any => WireExpect::Any,
        Expect::Version(Lsn(lsn)) => WireExpect::Version(lsn),
        Expect::Absent => WireExpect::Absent,
        Expect::Present => WireExpect::Present,
    };
    let position = op.position.map(|position| position.0);
    WireOp { id: op.id.as_str(), integer: op.id.is_integer(), kind, expect, position }
}

fn wire_source(range: &SourceRange) -> WireSource<'_> {
    let SourceRange { source, partition, epoch, from, to } = range;
    WireSource { source, partition, epoch: *epoch, from: from.map(|position| position.0), to: to.0 }
}

fn source_range(wire: WireSource<'_>) -> SourceRange {
    let WireSource { source, partition, epoch, from, to } = wire;
    SourceRange {
        source: source.to_string(),
        partition: partition.to_string(),
        epoch,
        from: from.map(Position),
        to: Position(to),
    }
}

fn wire_reject(reject: &Reject) -> WireReject<'_> {
    let Reject { partition, position, code, reason, key, value, timestamp_ms } = reject;
    WireReject {
        partition,
        position: position.0,
        code,
        reason,
        key: key.as_deref(),
        value: value.as_deref(),
        timestamp_ms: *timestamp_ms,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn op() -> impl Strategy<Value = Op> {
        let id = prop_oneof![
            "[a-zé]{1,12}".prop_map(|text| PointId::text(text).unwrap()),
            any::<u64>().prop_map(PointId::integer),
        ];
        let kind = prop_oneof![
            (proptest::collection::vec(any::<u8>(), 0..40), any::<i64>()).prop_map(
                |(payload, event_time_ms)| OpKind::Upsert { payload: payload.into(), event_time_ms }
            ),
            Just(OpKind::Delete),
        ];
        let expect = prop_oneof![
            Just(Expect::Any),
            any::<u64>().prop_map(|lsn| Expect::Version(Lsn(lsn))),
            Just(Expect::Absent),
            Just(Expect::Present),
        ];
        let position = proptest::option::of(any::<u128>().prop_map(Position));
        (id, kind, expect, position).prop_map(|(id, kind, expect, position)| Op {
            id,
            kind,
            expect,
            position,
        })
    }

    fn source() -> impl Strategy<Value = SourceRange> {
        let from = proptest::option::of(any::<u128>().prop_map(Position));
        ("[a-z]{0,8}", "[a-z/0-9]{0,8}", any::<u64>(), from, any::<u128>()).prop_map(
            |(source, partition, epoch, from, to)| SourceRange {
                source,
                partition,
                epoch,
                from,
                to: Position(to),
            },
        )
    }

    fn reject() -> impl Strategy<Value = Reject> {
        let text = || proptest::option::of("[a-z]{0,8}");
        ("[a-z]{0,8}", any::<u128>(), "[a-z_]{0,8}", "[a-zé ]{0,8}", text(), text(), any::<Option<i64>>())
            .prop_map(|(partition, position, code, reason, key, value, timestamp_ms)| Reject {
                partition,
                position: Position(position),
                code,
                reason,
                key,
                value,
                timestamp_ms,
            })
    }

    pub(crate) fn entry() -> impl Strategy<Value = Entry> {
        let ops = proptest::collection::vec(op(), 0..6);
        let source = proptest::option::of(source());
        let rejects = proptest::collection::vec(reject(), 0..3);
        (0u32..9, ops, source, rejects, any::<u32>()).prop_map(|(dim, ops, source, rejects, seed)| {
            let upserts = ops.iter().filter(|op| matches!(op.kind, OpKind::Upsert { .. })).count();
            // Finite, so that entries can be compared; other bits have a test of their own.
            let vectors = (0..upserts * dim as usize).map(|i| (seed as f32) / (i as f32 + 0.3)).collect();
            Entry { batch: WriteBatch { dim, ops, vectors }, source, rejects }
        })
    }

    proptest! {
        #[test]
        fn entries_come_back(entry in entry()) {
            let body = BincodeCodec.encode(&entry).unwrap();
            let back = BincodeCodec.decode(&body).unwrap();
            prop_assert_eq!(&back, &entry);
            for (was, is) in entry.batch.ops.iter().zip(&back.batch.ops) {
                prop_assert_eq!(was.id.is_integer(), is.id.is_integer());
            }
        }

        #[test]
        fn no_bytes_make_decode_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = BincodeCodec.decode(&bytes);
            bytes.splice(0..0, [CODEC, VERSION]);
            let _ = BincodeCodec.decode(&bytes);
        }

        #[test]
        fn mutated_bodies_are_refused_or_decode_to_something(
            entry in entry(),
            at in any::<prop::sample::Index>(),
            xor in 1u8..,
            cut in any::<prop::sample::Index>(),
        ) {
            let mut body = BincodeCodec.encode(&entry).unwrap().to_vec();
            prop_assert!(BincodeCodec.decode(&body[..cut.index(body.len())]).is_err());
            let at = at.index(body.len());
            body[at] ^= xor;
            let _ = BincodeCodec.decode(&body);
        }
    }

    #[test]
    fn every_bit_of_a_float_is_kept() {
        let bits = [0x7fc0_0001u32, 0xff80_0000, 0x8000_0000, 1, 0x7f80_0000];
        let mut batch = WriteBatch::new(5);
        batch.upsert(PointId::integer(1), &bits.map(f32::from_bits), Bytes::from_static(b"{}"), -1);
        let entry = Entry { batch, ..Entry::default() };
        let back = BincodeCodec.decode(&BincodeCodec.encode(&entry).unwrap()).unwrap();
        assert_eq!(back.batch.vectors.iter().map(|float| float.to_bits()).collect::<Vec<_>>(), bits);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_anything_is_allocated() {
        let mut body = BincodeCodec.encode(&Entry::default()).unwrap().to_vec();
        // The count of ops lies behind codec, version and dim.
        body[6..14].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        let error = BincodeCodec.decode(&body).unwrap_err().to_string();
        assert!(error.contains("ops") && error.contains("cannot lie in"), "{error}");
    }

    #[test]
    fn batches_above_the_preallocation_limit_of_wincode_come_back() {
        let mut batch = WriteBatch::new(1 << 16);
        for id in 0..40 {
            batch.upsert(PointId::integer(id), &vec![id as f32; 1 << 16], Bytes::new(), 0);
        }
        let entry = Entry { batch, ..Entry::default() };
        let body = BincodeCodec.encode(&entry).unwrap();
        assert!(body.len() > 10 << 20);
        assert_eq!(BincodeCodec.decode(&body).unwrap(), entry);
    }

    #[test]
    fn the_bytes_of_version_1_stay_readable() {
        let mut batch = WriteBatch::new(2);
        batch.upsert(PointId::text("a").unwrap(), &[1.0, -2.0], Bytes::from_static(b"{}"), 5);
        batch.delete(PointId::integer(7));
        let source = SourceRange {
            source: "s".into(),
            partition: "t/0".into(),
            epoch: 1,
            from: None,
            to: Position(9),
        };
        let entry = Entry { batch, source: Some(source), rejects: Vec::new() };
        let hex = concat!(
            "0101",
            "02000000",
            "0200000000000000",
            "0100000000000000",
            "61",
            "00",
            "00000000",
            "0200000000000000",
            "7b7d",
            "0500000000000000",
            "00000000",
            "00",
            "0100000000000000",
            "37",
            "01",
            "01000000",
            "00000000",
            "00",
            "0200000000000000",
            "0000803f",
            "000000c0",
            "01",
            "0100000000000000",
            "73",
            "0300000000000000",
            "742f30",
            "0100000000000000",
            "00",
            "09000000000000000000000000000000",
            "0000000000000000",
        );
        let body: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        assert_eq!(BincodeCodec.encode(&entry).unwrap(), body);
        assert_eq!(BincodeCodec.decode(&body).unwrap(), entry);
    }
}
