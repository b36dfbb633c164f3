//! What a pipeline would write, without writing it.
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::decode::{DecodeError, Decoder};

use crate::source::{Polled, Source, SourceError};
use crate::types::{OpKind, PointId, Position, RawBatch, RawRows, Reject};

/// What would be written for the first records of a source.
#[derive(Debug, Default, Serialize)]
pub struct DryRun {
    /// Operations, in order.
    pub rows: Vec<DryRow>,
    /// Records that would fail, in order.
    pub rejects: Vec<Reject>,
    /// Records that would be dropped.
    pub skipped: u64,
}

/// One operation that would be written.
#[derive(Debug, Serialize)]
pub struct DryRow {
    /// `topic/partition` or a file's name.
    pub partition: String,
    /// Where the record was.
    pub position: Option<Position>,
    /// The point.
    pub id: PointId,
    /// Is it a delete?
    pub delete: bool,
    /// The vector's first components, as they would be stored.
    pub vector: Vec<f32>,
    /// Components of the whole vector.
    pub dim: u32,
    /// The payload.
    pub payload: serde_json::Value,
    /// When the event happened, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
}

/// Why a dry run failed.
#[derive(Debug, thiserror::Error)]
pub enum DryRunError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The batch cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Components shown of a vector.
const SHOWN: usize = 8;

/// Decodes the first `count` records that `source` hands out within `max_wait`.
pub fn dry_run(
    source: &mut dyn Source,
    decoder: &mut dyn Decoder,
    count: usize,
    max_wait: Duration,
) -> Result<DryRun, DryRunError> {
    let mut run = DryRun::default();
    let mut left = count;
    let deadline = Instant::now() + max_wait;
    while left > 0 {
        let wait = deadline.saturating_duration_since(Instant::now());
        match source.next_batch(wait)? {
            Polled::Finished => break,
            Polled::Idle if wait.is_zero() => break,
            Polled::Idle => {}
            Polled::Batch(mut batch) => {
                cut(&mut batch, left);
                left -= batch.len();
                take(&mut run, decoder, &batch)?;
            }
        }
    }
    Ok(run)
}

fn cut(batch: &mut RawBatch, count: usize) {
    match &mut batch.rows {
        RawRows::Records(records) => records.truncate(count),
        RawRows::Columns { rows, .. } => *rows = rows.slice(0, rows.num_rows().min(count)),
    }
}

fn take(run: &mut DryRun, decoder: &mut dyn Decoder, batch: &RawBatch) -> Result<(), DryRunError> {
    let decoded = decoder.decode(batch)?;
    let dim = decoded.batch.dim;
    let mut vectors = decoded.batch.vectors.chunks_exact(dim.max(1) as usize);
    for op in decoded.batch.ops {
        let (delete, payload, event_time_ms) = match &op.kind {
            OpKind::Delete => (true, serde_json::Value::Null, None),
            OpKind::Upsert { payload, event_time_ms } => {
                let value = serde_json::from_slice(payload).unwrap_or_else(|_| serde_json::json!({}));
                (false, value, Some(*event_time_ms))
            }
        };
        let vector = if delete { &[] } else { vectors.next().unwrap_or_default() };
        run.rows.push(DryRow {
            partition: batch.partition.to_string(),
            position: op.position,
            id: op.id,
            delete,
            vector: vector.iter().take(SHOWN).copied().collect(),
            dim,
            payload,
            event_time_ms,
        });
    }
    run.rejects.extend(decoded.rejects);
    run.skipped += decoded.skipped;
    Ok(())
}
