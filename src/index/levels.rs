//! Levels above the graph: small graphs over fewer and fewer rows, to find doors by.
//!
//! ```text
//!   top      some rows, all looked at          nearest few ──┐
//!   level 2  n / m² rows, a graph of their own ◀─────────────┘ nearest few ──┐
//!   level 1  n / m rows                        ◀─────────────────────────────┘ ──▶ doors of the walk
//! ```
//! L1 the rows of a level are the first ones of the level below, in one random order: a node has the same number on
//! all of its levels. L2 each level is built as the graph is.
//!
//! Source: *Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical Navigable Small World Graphs*,
//! Malkov and Yashunin (arXiv:1603.09320).
use super::IndexError;
use super::links::{Links, LinksMut};
use super::near::Near;
use super::scratch::Scratch;
use super::walk::{Clock, Target, walk};

/// Levels at most: of 2^31 rows and m = 16 there are seven.
pub(super) const LEVELS_MAX: usize = 8;

/// Rows of the top: so many distances cost less than another level would save.
const TOP_MAX: usize = 64;

/// A level has at most one row of so many of the level below; with a lesser m levels would be many and large.
const RATIO_MIN: usize = 8;

/// Nodes kept while walking a level. With one, walks from 100,000 rows' levels computed 74 distances more than without
/// any, with four 208; but one may end in the wrong crowd where crowds are apart.
const KEPT: usize = 4;

/// Levels as they are built.
#[derive(Default)]
pub(super) struct LevelParts {
    /// The rows of the lowest level, in random order.
    pub(super) rows: Vec<u32>,
    /// Rows of each level, lowest first; the last is the top.
    pub(super) sizes: Vec<usize>,
    /// Links of each level but the top, between nodes by their numbers in `rows`.
    pub(super) links: Vec<LinksMut>,
}

/// Rows of each level above `rows` rows, lowest first. None for what is no more than a top itself.
pub(super) fn sizes(rows: usize, m: usize) -> Vec<usize> {
    let mut sizes = Vec::new();
    let mut size = rows;
    while size > TOP_MAX && sizes.len() < LEVELS_MAX {
        size /= m.max(RATIO_MIN);
        sizes.push(size.max(1));
    }
    sizes
}

/// Levels as they are read.
pub(super) struct Levels<'a> {
    pub(super) rows: &'a [u32],
    pub(super) sizes: &'a [usize],
    /// Of each level but the top, lowest first.
    pub(super) links: Vec<Links<'a>>,
}

/// Nodes of a level instead of rows.
struct Named<'a, T> {
    target: &'a T,
    rows: &'a [u32],
}

impl<T: Target> Target for Named<'_, T> {
    #[inline]
    fn distances(&self, ids: &[u32], out: &mut [f32]) {
        const AT_ONCE: usize = 64;
        let mut rows = [0; AT_ONCE];
        for (ids, out) in ids.chunks(AT_ONCE).zip(out.chunks_mut(AT_ONCE)) {
            let rows = &mut rows[..ids.len()];
            rows.iter_mut().zip(ids).for_each(|(row, &node)| *row = self.rows[node as usize]);
            self.target.distances(rows, out);
        }
    }
}

impl Levels<'_> {
    /// Puts rows near the target into `doors`, nearest first; returns how many distances were computed.
    pub(super) fn doors(
        &self,
        target: &impl Target,
        scratch: &mut Scratch,
        clock: &mut Clock,
        doors: &mut Vec<u32>,
    ) -> Result<u64, IndexError> {
        let target = Named { target, rows: self.rows };
        let top = self.sizes.last().copied().unwrap_or(0);
        doors.clear();
        doors.extend(0..top as u32);
        let mut distances = vec![0.0; top];
        target.distances(doors, &mut distances);
        let mut nearest: Vec<Near> =
            doors.iter().zip(&distances).map(|(&node, &distance)| Near::new(distance, node)).collect();
        nearest.sort_unstable();
        let mut computed = top as u64;
        let keep = |nearest: &[Near], doors: &mut Vec<u32>| {
            doors.clear();
            doors.extend(nearest.iter().take(KEPT).map(|near| near.row()));
        };
        keep(&nearest, doors);
        for &links in self.links.iter().rev() {
            computed += walk(links, &target, doors, KEPT, scratch, clock, |_| {})?;
            keep(scratch.beam.finish(), doors);
        }
        doors.iter_mut().for_each(|door| *door = self.rows[*door as usize]);
        Ok(computed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_end_at_a_top() {
        assert!(sizes(0, 16).is_empty() && sizes(64, 16).is_empty());
        assert_eq!(sizes(65, 16), [4]);
        assert_eq!(sizes(100_000, 16), [6250, 390, 24]);
        assert_eq!(sizes(1_000, 2), sizes(1_000, 8));
        assert!(sizes(1 << 31, 2).len() <= LEVELS_MAX);
    }
}
