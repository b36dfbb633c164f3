//! Apply: durable log entries become searchable rows. One thread per shard, deterministic.
//!
//! ```text
//!   log ──Durable──▶ position rule ─▶ preconditions ─▶ kill old versions ─▶ memtable ─▶ publish LSN ─▶ reply
//! ```
//! I1 entries are applied in log order, each wholly or not at all. I2 the outcome depends only on the log
//! before the entry. I3 an entry's rows are published together. I4 only this thread replaces the view.
use super::marks::Marks;
use crate::memtable::{Block, BlockBuilder, Rejected, Tombstone};
use crate::types::{
    Entry, Expect, IdHash, IdTable, Lsn, Op, OpKind, Outcome, PointId, Position, Verdict, WriteBatch,
};
use crate::view::{RowRef, View};

/// Applies entries to a view.
pub(super) struct Apply<'a> {
    pub marks: &'a Marks,
    pub view: &'a View,
}

/// The latest versions of ids as far as one entry goes.
struct Local {
    /// Numbers of upserts are even, twice their row; of deletes odd, twice their place in `deleted` and one.
    latest: IdTable,
    deleted: Vec<PointId>,
}

impl Local {
    fn find(&self, id: &PointId, hash: IdHash, builder: &BlockBuilder) -> Option<u32> {
        self.latest.find(hash, |number| self.has_id(number, id, builder))
    }

    fn put(&mut self, number: u32, id: &PointId, hash: IdHash, builder: &BlockBuilder) {
        let mut latest = std::mem::take(&mut self.latest);
        latest.put(hash, number, |number| self.has_id(number, id, builder));
        self.latest = latest;
    }

    fn has_id(&self, number: u32, id: &PointId, builder: &BlockBuilder) -> bool {
        let place = (number / 2) as usize;
        match number % 2 {
            0 => builder.id(place) == id,
            _ => self.deleted.get(place) == Some(id),
        }
    }
}

impl Apply<'_> {
    /// Applies one entry and publishes its LSN, whatever the outcome.
    pub fn entry(&self, lsn: Lsn, mut entry: Entry) -> Outcome {
        let outcome = match self.admit(lsn, &mut entry) {
            Ok(()) => {
                let latest_ms = self.rows(lsn, &mut entry);
                self.rejects(lsn, &mut entry);
                self.marks.publish(lsn, entry.source.as_ref(), latest_ms);
                Outcome::Applied { lsn }
            }
            Err(refusal) => {
                self.marks.publish(lsn, None, None);
                refusal
            }
        };
        // Refusals as well: until a flush has passed them, they are kept in the log and read by each restart.
        self.view.active.touch();
        outcome
    }

    /// The position rule, then the preconditions. Cuts off what was applied before.
    fn admit(&self, lsn: Lsn, entry: &mut Entry) -> Result<(), Outcome> {
        if let Some(range) = &entry.source {
            let current = self.marks.position(&range.source, &range.partition);
            match range.verdict(current) {
                Verdict::Apply => {}
                Verdict::ApplyAfter(position) => cut(entry, position),
                Verdict::Duplicate => return Err(Outcome::Duplicate { lsn }),
                Verdict::Gap { current } => {
                    let reason = format!(
                        "{} of {} would leave a hole: it continues {:?}, the log holds {:?}",
                        range.partition, range.source, range.from, current
                    );
                    return Err(Outcome::Refused { lsn, current, reason });
                }
                Verdict::StaleEpoch { current: epoch } => {
                    let reason = format!(
                        "{} of {} is from epoch {}, the log is at epoch {epoch}",
                        range.partition, range.source, range.epoch
                    );
                    return Err(Outcome::Refused {
                        lsn,
                        current: current.and_then(|known| known.position),
                        reason,
                    });
                }
            }
        }
        let failed = entry.batch.ops.iter().find_map(|op| {
            if op.expect == Expect::Any {
                return None;
            }
            let found =
                self.view.alive_version(op.id.as_str(), IdHash::of(op.id.as_str())).map(|row| row.born());
            let holds = match op.expect {
                Expect::Any => true,
                Expect::Version(version) => found == Some(version),
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
            };
            (!holds).then(|| Outcome::Conflict { lsn, id: op.id.clone(), found })
        });
        failed.map_or(Ok(()), Err)
    }

    /// Returns the latest event time.
    fn rows(&self, lsn: Lsn, entry: &mut Entry) -> Option<i64> {
        let batch = std::mem::take(&mut entry.batch);
        if batch.ops.is_empty() {
            return None;
        }
        let mut latest_ms = None;
        let mut builder = BlockBuilder::new(batch.dim as usize, batch.ops.len());
        let mut local = Local { latest: IdTable::with_capacity(batch.ops.len()), deleted: Vec::new() };
        let several = batch.ops.len() > 1;
        let (mut born, mut died) = (0, 0);
        for Op { id, kind, .. } in batch.ops {
            let hash = IdHash::of(id.as_str());
            let known = if several { local.find(&id, hash, &builder) } else { None };
            let was_alive = match known {
                Some(number) if number % 2 == 0 => {
                    builder.kill((number / 2) as usize, lsn);
                    true
                }
                Some(_) => false,
                None => self.kill_alive(&id, hash, lsn),
            };
            died += u64::from(was_alive);
            match kind {
                OpKind::Upsert { payload, event_time_ms } => {
                    born += 1;
                    latest_ms = latest_ms.max(Some(event_time_ms));
                    let row = builder.push(id, lsn, event_time_ms, payload);
                    if several {
                        local.put(2 * row as u32, builder.id(row), hash, &builder);
                    }
                }
                OpKind::Delete => {
                    if was_alive {
                        let event_time_ms = self.marks.watermark_ms().max(latest_ms).unwrap_or(0);
                        self.view.active.bury(Tombstone { id: id.clone(), lsn, event_time_ms });
                    }
                    if several {
                        let number = 2 * local.deleted.len() as u32 + 1;
                        local.put(number, &id, hash, &builder);
                        local.deleted.push(id);
                    }
                }
            }
        }
        if !builder.is_empty() {
            let block: Block = builder.finish(batch.vectors);
            self.view.active.append(block);
        }
        self.marks.count_points(born, died);
        latest_ms
    }

    fn kill_alive(&self, id: &PointId, hash: IdHash, at: Lsn) -> bool {
        match self.view.alive_version(id.as_str(), hash) {
            None => return false,
            Some(RowRef::Memory { block, row }) => block.kill(row, at),
            Some(RowRef::Segment { segment, row }) => segment.kill(row, at),
        }
        true
    }

    fn rejects(&self, lsn: Lsn, entry: &mut Entry) {
        let rejects = std::mem::take(&mut entry.rejects);
        if rejects.is_empty() {
            return;
        }
        self.marks.count_rejected(rejects.len() as u64);
        let source = entry.source.as_ref().map(|range| range.source.clone()).unwrap_or_default();
        let with_entry = |reject| Rejected { source: source.clone(), lsn, reject };
        self.view.active.reject(rejects.into_iter().map(with_entry).collect());
    }
}

/// Leaves only what lies past `position`.
fn cut(entry: &mut Entry, position: Position) {
    let is_new = |at: Option<Position>| at.is_none_or(|at| at > position);
    let dim = entry.batch.dim as usize;
    let mut kept = WriteBatch::new(entry.batch.dim);
    let mut vectors = entry.batch.vectors.chunks_exact(dim.max(1));
    for op in std::mem::take(&mut entry.batch.ops) {
        let vector = matches!(op.kind, OpKind::Upsert { .. }).then(|| vectors.next().unwrap_or_default());
        if is_new(op.position) {
            kept.vectors.extend_from_slice(vector.unwrap_or_default());
            kept.ops.push(op);
        }
    }
    entry.batch = kept;
    entry.rejects.retain(|reject| reject.position > position);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::memtable::HashMemtable;
    use crate::types::Positions;
    use crate::types::{Reject, SourceRange};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn empty_view(active: Arc<dyn crate::memtable::Memtable>) -> View {
        View { active, frozen: Vec::new(), segments: Vec::new() }
    }

    fn entry(ops: &[(u8, bool)], first: u64, from: Option<u64>) -> Entry {
        let mut batch = WriteBatch::new(1);
        for (index, (id, delete)) in ops.iter().enumerate() {
            let id = PointId::text(id.to_string()).unwrap();
            if *delete {
                batch.delete(id);
            } else {
                batch.upsert(id, &[(first + index as u64) as f32], Bytes::new(), 0);
            }
            batch.ops[index].position = Some((first + index as u64).into());
        }
        let to = (first + ops.len() as u64 - 1).into();
        let (source, partition) = ("s".to_string(), "t/0".to_string());
        let source = SourceRange { source, partition, epoch: 0, from: from.map(Position::from), to };
        Entry { batch, source: Some(source), rejects: Vec::new() }
    }

    fn visible(view: &View, at: Lsn) -> BTreeMap<String, f32> {
        let mut rows = BTreeMap::new();
        for block in view.active.blocks() {
            for row in (0..block.len()).filter(|row| block.is_visible(*row, at)) {
                assert!(
                    rows.insert(block.id(row).to_string(), block.vector(row)[0]).is_none(),
                    "an id shows twice"
                );
            }
        }
        rows
    }

    proptest! {
        /// Batches delivered again, overlapping, or out of order end in the same rows as the stream itself.
        #[test]
        fn any_redelivery_ends_in_the_streams_own_rows(
            stream in prop::collection::vec((0_u8..12, any::<bool>()), 1..80),
            cuts in prop::collection::vec((0_usize..80, 1_usize..20), 1..60),
        ) {
            let view = empty_view(Arc::new(HashMemtable::new()));
            let marks = Marks::new(Lsn(0), Positions::new(), None);
            let apply = Apply { marks: &marks, view: &view };
            let whole = [(0, stream.len())];
            let mut lsn = Lsn(0);
            for (start, len) in cuts.iter().chain(&whole) {
                let start = start % stream.len();
                let end = (start + len).min(stream.len());
                let from = (start as u64).checked_sub(1);
                lsn = lsn.next();
                apply.entry(lsn, entry(&stream[start..end], start as u64, from));
            }
            let mut model = BTreeMap::new();
            for (index, (id, delete)) in stream.iter().enumerate() {
                if *delete { model.remove(&id.to_string()); } else { model.insert(id.to_string(), index as f32); }
            }
            prop_assert_eq!(visible(&view, lsn), model.clone());
            prop_assert_eq!(marks.live_points(), model.len() as u64);
        }
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let view = empty_view(Arc::new(HashMemtable::new()));
        let marks = Marks::new(Lsn(0), Positions::new(), None);
        let apply = Apply { marks: &marks, view: &view };
        assert!(matches!(apply.entry(Lsn(1), entry(&[(1, false)], 0, None)), Outcome::Applied { .. }));
        let outcome = apply.entry(Lsn(2), entry(&[(2, false)], 7, Some(6)));
        assert!(matches!(outcome, Outcome::Refused { current: Some(Position(0)), .. }), "{outcome:?}");
        assert_eq!(visible(&view, Lsn(2)).len(), 1);
    }

    #[test]
    fn one_failed_precondition_refuses_the_whole_entry() {
        let view = empty_view(Arc::new(HashMemtable::new()));
        let marks = Marks::new(Lsn(0), Positions::new(), None);
        let apply = Apply { marks: &marks, view: &view };
        apply.entry(Lsn(1), entry(&[(1, false)], 0, None));
        let mut second = entry(&[(2, false), (1, true)], 1, Some(0));
        second.batch.ops[1].expect = Expect::Version(Lsn(7));
        let outcome = apply.entry(Lsn(2), second);
        assert!(matches!(outcome, Outcome::Conflict { found: Some(Lsn(1)), .. }), "{outcome:?}");
        assert_eq!(visible(&view, Lsn(2)).into_keys().collect::<Vec<_>>(), ["1"]);
    }

    #[test]
    fn rejects_move_the_position_with_the_rows() {
        let view = empty_view(Arc::new(HashMemtable::new()));
        let marks = Marks::new(Lsn(0), Positions::new(), None);
        let apply = Apply { marks: &marks, view: &view };
        let mut only_rejects = entry(&[(1, false)], 0, None);
        only_rejects.batch = WriteBatch::new(1);
        only_rejects.rejects.push(Reject {
            partition: "t/0".into(),
            position: 0.into(),
            code: "decode".into(),
            reason: "x".into(),
            key: None,
            value: None,
            timestamp_ms: None,
        });
        apply.entry(Lsn(1), only_rejects);
        assert_eq!(marks.position("s", "t/0").unwrap().position, Some(0.into()));
        assert_eq!((view.active.rejected().len(), marks.rejected()), (1, 1));
    }
}
