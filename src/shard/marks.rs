//! How far a shard is: progress marks, source positions, and waiting for them.
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::query::{FreshAsOf, Freshness};
use crate::types::{Lsn, PartitionPosition, Position, Positions, SourceRange};

/// Written by the apply thread, read by everybody.
pub struct Marks {
    applied: AtomicU64,
    flushed: AtomicU64,
    /// `i64::MIN` before the first event.
    watermark_ms: AtomicI64,
    positions: RwLock<Positions>,
    live_points: AtomicU64,
    rejected: AtomicU64,
    /// Wakes readers that wait for a mark.
    moved: watch::Sender<Lsn>,
}

impl Marks {
    /// Marks of a shard recovered to `applied`.
    pub fn new(applied: Lsn, positions: Positions, watermark_ms: Option<i64>) -> Self {
        Self {
            applied: AtomicU64::new(applied.0),
            flushed: AtomicU64::new(applied.0),
            watermark_ms: AtomicI64::new(watermark_ms.unwrap_or(i64::MIN)),
            positions: RwLock::new(positions),
            live_points: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            moved: watch::Sender::new(applied),
        }
    }

    /// Searchable up to here.
    pub fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// In segments up to here.
    pub fn flushed(&self) -> Lsn {
        Lsn(self.flushed.load(Ordering::Acquire))
    }

    /// Latest event time applied.
    pub fn watermark_ms(&self) -> Option<i64> {
        Some(self.watermark_ms.load(Ordering::Relaxed)).filter(|watermark| *watermark != i64::MIN)
    }

    /// All source positions.
    pub fn positions(&self) -> Positions {
        self.positions.read().clone()
    }

    /// One partition's position.
    pub fn position(&self, source: &str, partition: &str) -> Option<PartitionPosition> {
        self.positions.read().get(source)?.get(partition).copied()
    }

    /// Live points.
    pub fn live_points(&self) -> u64 {
        self.live_points.load(Ordering::Relaxed)
    }

    /// Records in quarantine.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// The receipt of a read that scanned this share of its rows.
    pub fn freshness(&self, lsn: Lsn, scanned_fraction: f64) -> Freshness {
        Freshness { lsn, positions: self.positions(), watermark_ms: self.watermark_ms(), scanned_fraction }
    }

    pub(super) fn set_flushed(&self, lsn: Lsn) {
        self.flushed.store(lsn.0, Ordering::Release);
    }

    pub(super) fn set_live_points(&self, points: u64) {
        self.live_points.store(points, Ordering::Relaxed);
    }

    pub(super) fn count_points(&self, born: u64, died: u64) {
        self.live_points.fetch_add(born.wrapping_sub(died), Ordering::Relaxed);
    }

    pub(super) fn count_rejected(&self, records: u64) {
        self.rejected.fetch_add(records, Ordering::Relaxed);
    }

    fn move_position(&self, range: &SourceRange) {
        let position = PartitionPosition { epoch: range.epoch, position: Some(range.to) };
        let mut positions = self.positions.write();
        if let Some(known) =
            positions.get_mut(&range.source).and_then(|source| source.get_mut(&range.partition))
        {
            *known = position;
        } else {
            positions.entry(range.source.clone()).or_default().insert(range.partition.clone(), position);
        }
    }

    /// Makes everything up to `lsn` searchable: an entry that brought these records and event times.
    ///
    /// The LSN goes first, so that whoever sees a position also sees its rows; readers are woken last.
    pub(super) fn publish(&self, lsn: Lsn, range: Option<&SourceRange>, latest_ms: Option<i64>) {
        self.applied.store(lsn.0, Ordering::Release);
        if let Some(latest_ms) = latest_ms {
            self.watermark_ms.fetch_max(latest_ms, Ordering::Relaxed);
        }
        if let Some(range) = range {
            self.move_position(range);
        }
        self.moved.send_replace(lsn);
    }

    /// Is this state searchable? `Err` says, for people, how far it is.
    pub fn reached(&self, wanted: &FreshAsOf) -> Result<(), String> {
        match wanted {
            FreshAsOf::Lsn(lsn) => match self.applied() {
                applied if applied >= *lsn => Ok(()),
                applied => Err(format!("lsn {lsn} was asked for, {applied} is searchable")),
            },
            FreshAsOf::Positions(sources) => {
                for (source, partitions) in sources {
                    for (partition, wanted) in partitions {
                        self.reached_position(source, partition, *wanted)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn reached_position(&self, source: &str, partition: &str, wanted: Position) -> Result<(), String> {
        let positions = self.positions.read();
        let Some(known) = positions.get(source) else {
            return Err(format!("source {source:?} has brought nothing to this collection yet"));
        };
        // A bare partition number is enough where it is unambiguous.
        let suffix = format!("/{partition}");
        let mut matching = known.iter().filter(|(name, _)| *name == partition || name.ends_with(&suffix));
        match (matching.next(), matching.next()) {
            (Some((_, at)), None) if at.position.is_some_and(|position| position >= wanted) => Ok(()),
            (Some((name, at)), None) => {
                let at = at.position.map_or("nothing".to_string(), |position| format!("position {position}"));
                Err(format!("position {wanted} of {name} was asked for, {at} is searchable"))
            }
            (None, _) => Err(format!("partition {partition:?} of source {source:?} has brought nothing yet")),
            (Some(_), Some(_)) => Err(format!(
                "partition {partition:?} of source {source:?} is ambiguous: give topic/partition"
            )),
        }
    }

    /// Waits until the state is searchable; the error says how far it was at the deadline.
    pub async fn wait_for(&self, wanted: &FreshAsOf, deadline: tokio::time::Instant) -> Result<(), String> {
        let mut moved = self.moved.subscribe();
        loop {
            let behind = match self.reached(wanted) {
                Ok(()) => return Ok(()),
                Err(behind) => behind,
            };
            match tokio::time::timeout_at(deadline, moved.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err("the shard has closed".to_string()),
                Err(_) => return self.reached(wanted).map_err(|_| behind),
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn range(partition: &str, to: u64) -> SourceRange {
        SourceRange { source: "p".into(), partition: partition.into(), epoch: 0, from: None, to: to.into() }
    }

    fn wanted(partition: &str, at: u64) -> FreshAsOf {
        let partitions = BTreeMap::from([(partition.to_string(), Position::from(at))]);
        FreshAsOf::Positions(BTreeMap::from([("p".to_string(), partitions)]))
    }

    #[test]
    fn a_bare_partition_is_enough_where_it_is_unambiguous() {
        let marks = Marks::new(Lsn(0), Positions::new(), None);
        marks.publish(Lsn(1), Some(&range("a/0", 9)), None);
        assert_eq!(marks.reached(&wanted("0", 9)), Ok(()));
        assert_eq!(
            marks.reached(&wanted("0", 10)).unwrap_err(),
            "position 10 of a/0 was asked for, position 9 is searchable"
        );
        marks.publish(Lsn(2), Some(&range("b/0", 9)), None);
        assert!(marks.reached(&wanted("0", 9)).unwrap_err().contains("ambiguous"));
        assert_eq!(marks.reached(&wanted("b/0", 9)), Ok(()));
    }

    #[tokio::test]
    async fn waiting_ends_when_the_mark_is_reached_or_says_how_far_it_is() {
        let marks = std::sync::Arc::new(Marks::new(Lsn(0), Positions::new(), None));
        let soon = tokio::time::Instant::now() + Duration::from_secs(30);
        let waiting = tokio::spawn({
            let marks = std::sync::Arc::clone(&marks);
            async move { marks.wait_for(&FreshAsOf::Lsn(Lsn(3)), soon).await }
        });
        for lsn in 1..=3 {
            tokio::task::yield_now().await;
            marks.publish(Lsn(lsn), None, None);
        }
        assert_eq!(waiting.await.unwrap(), Ok(()));
        let now = tokio::time::Instant::now();
        let behind = marks.wait_for(&FreshAsOf::Lsn(Lsn(9)), now).await.unwrap_err();
        assert_eq!(behind, "lsn 9 was asked for, 3 is searchable");
    }
}
