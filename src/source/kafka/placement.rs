//! Where to start reading a partition: a pure decision over what our log holds, what the pipeline asks for
//! and what the brokers still have.
use crate::types::{PartitionPosition, Position};

/// What the brokers have of a partition: `low` is the first offset, `high` the first that cannot be read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub low: i64,
    pub high: i64,
}

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placement {
    /// Epoch of every position from here on.
    pub epoch: u64,
    /// The position our log holds, or would hold had it seen the records before `next` pass.
    pub from: Option<i64>,
    /// First offset to read. Where it is past `from + 1`, the stretch between is accounted for by a batch
    /// without records before anything else.
    pub next: i64,
    /// Anything unusual.
    pub finding: Finding,
}

/// What a placement has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing.
    Usual,
    /// The brokers deleted this many offsets that we never read.
    Lost(u64),
    /// The partition ends before our position: it was created anew or truncated.
    NewTopic,
    /// The pipeline asked for an offset that the partition does not have.
    Clamped,
}

/// Decides. `held`: what our log holds. `wanted`: the offset that `start` stands for, used only where the log
/// holds nothing.
pub(super) fn place(held: Option<PartitionPosition>, wanted: i64, marks: Watermarks) -> Placement {
    let Watermarks { low, high } = marks;
    let Some(held) = held else {
        let next = wanted.clamp(low, high.max(low));
        let finding = if next == wanted { Finding::Usual } else { Finding::Clamped };
        return Placement { epoch: 0, from: None, next, finding };
    };
    let Some(position) = held.position else {
        return Placement { epoch: held.epoch, from: None, next: low, finding: Finding::Usual };
    };
    let position = offset_of(position);
    let next = position.saturating_add(1);
    if next > high {
        return Placement { epoch: held.epoch + 1, from: None, next: low, finding: Finding::NewTopic };
    }
    if next < low {
        let finding = Finding::Lost(low.abs_diff(next));
        return Placement { epoch: held.epoch, from: Some(position), next: low, finding };
    }
    Placement { epoch: held.epoch, from: Some(position), next, finding: Finding::Usual }
}

impl Placement {
    /// The last offset that is accounted for before the first record.
    pub(super) fn seen(&self) -> Option<i64> {
        (self.next > 0).then(|| self.next - 1)
    }
}

/// A Kafka offset from a position of ours.
pub(super) fn offset_of(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// A position of ours from a Kafka offset, which is never negative where a record or a move stands.
pub(super) fn position_of(offset: i64) -> Position {
    Position::from(u64::try_from(offset).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: u64, position: u64) -> Option<PartitionPosition> {
        Some(PartitionPosition { epoch, position: Some(position.into()) })
    }

    const MARKS: Watermarks = Watermarks { low: 10, high: 100 };

    #[test]
    fn an_unseen_partition_starts_where_the_pipeline_says() {
        for (wanted, next, finding) in [
            (10, 10, Finding::Usual),
            (100, 100, Finding::Usual),
            (3, 10, Finding::Clamped),
            (500, 100, Finding::Clamped),
        ] {
            let placement = place(None, wanted, MARKS);
            assert_eq!(placement, Placement { epoch: 0, from: None, next, finding });
        }
        assert_eq!(place(None, 0, Watermarks { low: 0, high: 0 }).seen(), None);
        assert_eq!(place(None, 100, MARKS).seen(), Some(99));
    }

    #[test]
    fn a_seen_partition_goes_on_behind_our_position() {
        assert_eq!(
            place(held(2, 41), 7, MARKS),
            Placement { epoch: 2, from: Some(41), next: 42, finding: Finding::Usual }
        );
        let caught_up = place(held(0, 99), 7, MARKS);
        assert_eq!((caught_up.next, caught_up.finding), (100, Finding::Usual));
        let nothing_yet = place(Some(PartitionPosition { epoch: 3, position: None }), 50, MARKS);
        assert_eq!((nothing_yet.epoch, nothing_yet.next), (3, 10));
    }

    #[test]
    fn retention_that_overtook_us_is_counted_and_a_shorter_topic_is_a_new_one() {
        assert_eq!(
            place(held(1, 4), 0, MARKS),
            Placement { epoch: 1, from: Some(4), next: 10, finding: Finding::Lost(5) }
        );
        assert_eq!(place(held(1, 9), 0, MARKS).finding, Finding::Usual);
        assert_eq!(
            place(held(1, 100), 0, MARKS),
            Placement { epoch: 2, from: None, next: 10, finding: Finding::NewTopic }
        );
    }
}
