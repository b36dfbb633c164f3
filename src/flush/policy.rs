//! Which segments to merge: a pure function of their sizes.
use crate::store::SegmentId;

/// Segments of one size class that are merged together. Fewer means more rewriting, more means more
/// segments for a search to look at.
const MERGE_COUNT: usize = 4;
/// A segment with at least this share of dead rows is rewritten alone.
const DEAD_SHARE_MAX: f64 = 0.3;
/// Segments of more rows are never merged again: a merge holds its input's ids and offsets in memory.
const MERGED_ROWS_MAX: u64 = 4_000_000;

/// What the policy looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentStats {
    /// The segment.
    pub id: SegmentId,
    /// All its rows.
    pub rows: u64,
    /// Rows that are dead for every reader to come.
    pub dead: u64,
}

/// Segments to merge into one, oldest first. One id means: rewrite it without its dead rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The inputs.
    pub inputs: Vec<SegmentId>,
}

/// The most urgent merge, if any is due. `segments` are oldest first.
///
/// Size classes grow by four, so `n` rows lie in at most `3 · log4(n)` segments, beside those that are too large
/// to be merged again.
///
/// Segments without a living row come first, all at once: they cost one manifest, and where rows are replaced
/// faster than segments can be merged there is a new one with every flush.
pub fn plan(segments: &[SegmentStats]) -> Option<Plan> {
    // One that has no rows at all holds deletes, and is merged like any other small one.
    let all_dead = segments.iter().filter(|stats| stats.dead > 0 && stats.dead >= stats.rows);
    let dead: Vec<SegmentId> = all_dead.map(|stats| stats.id).collect();
    if !dead.is_empty() {
        return Some(Plan { inputs: dead });
    }
    let decayed = segments
        .iter()
        .find(|stats| stats.dead > 0 && stats.dead as f64 >= stats.rows as f64 * DEAD_SHARE_MAX);
    if let Some(stats) = decayed {
        return Some(Plan { inputs: vec![stats.id] });
    }
    let mut classes: std::collections::BTreeMap<u32, Vec<&SegmentStats>> = std::collections::BTreeMap::new();
    for stats in segments.iter().filter(|stats| stats.rows - stats.dead <= MERGED_ROWS_MAX) {
        classes.entry(size_class(stats.rows - stats.dead)).or_default().push(stats);
    }
    let full = classes.into_values().find(|class| class.len() >= MERGE_COUNT)?;
    Some(Plan { inputs: full.into_iter().map(|stats| stats.id).collect() })
}

/// 0 up to 1,023 live rows, then one more for each factor of four.
fn size_class(live: u64) -> u32 {
    (live.max(1).ilog2() / 2).saturating_sub(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(sizes: &[(u64, u64)]) -> Vec<SegmentStats> {
        sizes
            .iter()
            .map(|(rows, dead)| SegmentStats { id: SegmentId::new(), rows: *rows, dead: *dead })
            .collect()
    }

    #[test]
    fn a_few_segments_are_left_alone() {
        assert_eq!(plan(&stats(&[(1000, 0), (1000, 10), (1000, 0)])), None);
    }

    #[test]
    fn four_of_a_size_are_merged() {
        let segments = stats(&[(100_000, 0), (900, 0), (30, 0), (1000, 0), (7, 0)]);
        let inputs = segments[1..].iter().map(|stats| stats.id).collect();
        assert_eq!(plan(&segments), Some(Plan { inputs }));
    }

    #[test]
    fn a_decayed_segment_is_rewritten_first() {
        let segments = stats(&[(10, 0), (10, 0), (10, 0), (10, 0), (1000, 300)]);
        assert_eq!(plan(&segments), Some(Plan { inputs: vec![segments[4].id] }));
    }

    #[test]
    fn segments_of_dead_rows_go_together_before_anything_else() {
        let segments = stats(&[(1000, 300), (150, 150), (0, 0), (10, 10), (20, 19)]);
        assert_eq!(plan(&segments), Some(Plan { inputs: vec![segments[1].id, segments[3].id] }));
    }

    #[test]
    fn repeated_flushes_keep_the_count_bounded() {
        let mut segments = Vec::new();
        for _ in 0..2000 {
            segments.extend(stats(&[(5000, 0)]));
            while let Some(plan) = plan(&segments) {
                let rows =
                    segments.iter().filter(|one| plan.inputs.contains(&one.id)).map(|one| one.rows).sum();
                segments.retain(|one| !plan.inputs.contains(&one.id));
                segments.extend(stats(&[(rows, 0)]));
            }
            assert!(segments.len() <= 30, "{} segments", segments.len());
        }
    }
}
