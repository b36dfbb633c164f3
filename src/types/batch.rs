//! One log entry: the rows, the rejects and the source positions that commit together.
use bytes::Bytes;

use super::{Lsn, PointId, Position, SourceRange};

/// What must hold of a point before an operation is applied; if any fails, its whole entry is a no-op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expect {
    /// Anything goes.
    #[default]
    Any,
    /// The point's latest version is the one written by this entry.
    Version(Lsn),
    /// The point does not exist.
    Absent,
    /// The point exists.
    Present,
}

/// What an operation does to its point.
#[derive(Debug, Clone, PartialEq)]
pub enum OpKind {
    /// Replace the point. Its vector is the next row of [`WriteBatch::vectors`].
    Upsert {
        /// A JSON object as text; empty bytes mean `{}`.
        payload: Bytes,
        /// When the event happened, milliseconds since the Unix epoch.
        event_time_ms: i64,
    },
    /// Remove the point; nothing happens where there is none.
    Delete,
}

/// One operation on one point.
#[derive(Debug, Clone, PartialEq)]
pub struct Op {
    /// The point.
    pub id: PointId,
    /// What happens to it.
    pub kind: OpKind,
    /// The precondition.
    pub expect: Expect,
    /// Where in its source partition the operation came from; `None` for requests.
    pub position: Option<Position>,
}

/// Operations in order, their vectors in one row-major block.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteBatch {
    /// Components of each vector.
    pub dim: u32,
    /// In the order in which they take effect.
    pub ops: Vec<Op>,
    /// Row-major, one row per upsert, in order: `n_upserts × dim`. Cosine collections hold normalised rows.
    pub vectors: Vec<f32>,
}

impl WriteBatch {
    /// An empty batch.
    pub fn new(dim: u32) -> Self {
        Self { dim, ..Self::default() }
    }

    /// Adds an upsert. Panics if `vector` does not have `dim` components: the door checks that.
    pub fn upsert(&mut self, id: PointId, vector: &[f32], payload: Bytes, event_time_ms: i64) {
        assert_eq!(vector.len(), self.dim as usize, "vector length is checked before it gets here");
        self.vectors.extend_from_slice(vector);
        let kind = OpKind::Upsert { payload, event_time_ms };
        self.ops.push(Op { id, kind, expect: Expect::Any, position: None });
    }

    /// Adds a delete.
    pub fn delete(&mut self, id: PointId) {
        self.ops.push(Op { id, kind: OpKind::Delete, expect: Expect::Any, position: None });
    }

    /// Bytes held, for channel bounds and memory accounting.
    pub fn bytes(&self) -> usize {
        let ops: usize = self
            .ops
            .iter()
            .map(|op| {
                let payload = match &op.kind {
                    OpKind::Upsert { payload, .. } => payload.len(),
                    OpKind::Delete => 0,
                };
                op.id.as_str().len() + payload + 96
            })
            .sum();
        ops + self.vectors.len() * 4 + 64
    }
}

/// A record that could not be applied, kept with its reason so that it can be listed and replayed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reject {
    /// `topic/partition` or a file's name.
    pub partition: String,
    /// Where it was.
    pub position: Position,
    /// A stable code: `dimension_mismatch`, `not_finite`, `missing_id`, `unknown_schema`, `decode`, …
    pub code: String,
    /// What was wrong, and with what.
    pub reason: String,
    /// The record's key, cut to 1 KiB, lossy UTF-8.
    pub key: Option<String>,
    /// The record's value, base64, cut to 64 KiB.
    pub value: Option<String>,
    /// Its own timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

/// What one log entry holds: rows, rejects and positions, which commit together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// The rows.
    pub batch: WriteBatch,
    /// The source stretch they came from; `None` for requests.
    pub source: Option<SourceRange>,
    /// Records of that stretch that went to quarantine.
    pub rejects: Vec<Reject>,
}

/// What apply did with an entry; the same on every replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied: searchable from this LSN on.
    Applied {
        /// The entry's place in the log.
        lsn: Lsn,
    },
    /// Its positions were applied before; nothing to do.
    Duplicate {
        /// The entry's place in the log.
        lsn: Lsn,
    },
    /// A precondition failed; nothing was applied.
    Conflict {
        /// The entry's place in the log.
        lsn: Lsn,
        /// The first point whose precondition failed.
        id: PointId,
        /// Its latest version, if it exists.
        found: Option<Lsn>,
    },
    /// Its positions leave a hole or come from an old epoch; the source must seek to what the log holds.
    Refused {
        /// The entry's place in the log.
        lsn: Lsn,
        /// What the log holds for the partition.
        current: Option<Position>,
        /// Why, for people.
        reason: String,
    },
}
