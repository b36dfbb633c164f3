//! Places: in our log (LSN) and in a source (position), and the rule that makes a topic searchable exactly once.
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use wincode::{SchemaRead, SchemaWrite};

/// Log sequence number: the index of an entry in a shard's log. The first entry is 1; 0 means "nothing yet".
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    SchemaWrite,
    SchemaRead,
)]
#[serde(transparent)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The one after this.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in one partition of a source: the last thing seen (a Kafka offset, the last byte or row of a file).
///
/// 128 bits, so that ids with several parts (ledger, entry, batch index) keep their order as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, SchemaWrite, SchemaRead)]
pub struct Position(pub u128);

impl Position {
    /// Its low 64 bits, enough for offsets and bytes.
    pub fn as_u64(self) -> u64 {
        u64::try_from(self.0).unwrap_or(u64::MAX)
    }
}
impl From<u64> for Position {
    fn from(value: u64) -> Self {
        Self(u128::from(value))
    }
}
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
/// A JSON number where it fits 64 bits, else decimal text.
impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match u64::try_from(self.0) {
            Ok(small) => serializer.serialize_u64(small),
            Err(_) => serializer.collect_str(&self.0),
        }
    }
}
impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(deserializer)? {
            Form::Number(number) => Ok(number.into()),
            Form::Text(text) => text.parse().map(Position).map_err(|_| {
                serde::de::Error::custom(format!("position {text:?} is not an unsigned integer"))
            }),
        }
    }
}

/// How far one partition of a source has been applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionPosition {
    /// Grows when the topic is created anew; positions of an older epoch mean nothing.
    pub epoch: u64,
    /// The last position applied, rejected or skipped; `None` before the first.
    pub position: Option<Position>,
}

/// How far each source is applied: source → partition → position.
pub type Positions =
    std::collections::BTreeMap<String, std::collections::BTreeMap<String, PartitionPosition>>;

/// The stretch `(from, to]` of one partition that an entry accounts for.
///
/// `from` is the previous position *seen*, not `to - n`: gaps (compaction, transaction markers) are legal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, SchemaWrite, SchemaRead)]
pub struct SourceRange {
    /// The source's name: the pipeline's.
    pub source: String,
    /// `topic/partition` or a file's name.
    pub partition: String,
    /// See [`PartitionPosition::epoch`].
    pub epoch: u64,
    /// Exclusive; `None` where nothing was seen before.
    pub from: Option<Position>,
    /// Inclusive.
    pub to: Position,
}

/// What the position rule says about a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Continues what is applied: apply all of it.
    Apply,
    /// Begins before what is applied and ends after it: apply the operations past this position.
    ApplyAfter(Position),
    /// All of it is applied already: nothing to do.
    Duplicate,
    /// Leaves a hole after `current`: refuse, and stop the partition.
    Gap {
        /// What the log holds.
        current: Option<Position>,
    },
    /// From before the topic was created anew: refuse.
    StaleEpoch {
        /// The epoch the log holds.
        current: u64,
    },
}

impl SourceRange {
    /// The position rule: what to do with this range where the log stands at `current`.
    ///
    /// It runs in apply, so it holds on every replica, and one rule covers crashes, zombie consumers,
    /// ambiguous proposals, rebalances and fail-over. The first range of a partition, or of a new epoch,
    /// has no `from`, wherever the pipeline begins: a later one that arrives first would leave out the one
    /// that a full disk refused.
    pub fn verdict(&self, current: Option<PartitionPosition>) -> Verdict {
        let known = match current {
            Some(known) if self.epoch < known.epoch => return Verdict::StaleEpoch { current: known.epoch },
            known => known.filter(|known| known.epoch == self.epoch),
        };
        let Some(position) = known.and_then(|known| known.position) else {
            return if self.from.is_none() { Verdict::Apply } else { Verdict::Gap { current: None } };
        };
        if self.to <= position {
            return Verdict::Duplicate;
        }
        match self.from {
            Some(from) if from == position => Verdict::Apply,
            Some(from) if from > position => Verdict::Gap { current: Some(position) },
            _ => Verdict::ApplyAfter(position),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(epoch: u64, from: Option<u64>, to: u64) -> SourceRange {
        SourceRange {
            source: "s".into(),
            partition: "t/0".into(),
            epoch,
            from: from.map(Position::from),
            to: to.into(),
        }
    }

    fn at(epoch: u64, position: u64) -> Option<PartitionPosition> {
        Some(PartitionPosition { epoch, position: Some(position.into()) })
    }

    #[test]
    fn the_position_rule_case_by_case() {
        assert_eq!(range(0, None, 9).verdict(None), Verdict::Apply);
        assert_eq!(range(0, Some(41), 50).verdict(None), Verdict::Gap { current: None });
        assert_eq!(range(0, Some(9), 20).verdict(at(0, 9)), Verdict::Apply);
        assert_eq!(range(0, Some(3), 9).verdict(at(0, 9)), Verdict::Duplicate);
        assert_eq!(range(0, None, 12).verdict(at(0, 9)), Verdict::ApplyAfter(9.into()));
        assert_eq!(range(0, Some(5), 12).verdict(at(0, 9)), Verdict::ApplyAfter(9.into()));
        assert_eq!(range(0, Some(10), 12).verdict(at(0, 9)), Verdict::Gap { current: Some(9.into()) });
        assert_eq!(range(0, Some(9), 12).verdict(at(1, 9)), Verdict::StaleEpoch { current: 1 });
        assert_eq!(range(2, None, 3).verdict(at(1, 9)), Verdict::Apply);
        assert_eq!(range(2, Some(3), 4).verdict(at(1, 9)), Verdict::Gap { current: None });
    }
}
