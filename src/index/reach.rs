//! I2: every node can be reached from the entries.
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use super::links::{LinksMut, Lists};
use super::near::Near;
use super::scratch::Scratch;
use super::space::{Probe, Space};
use super::walk::{Clock, Row, walk};
use super::{BuildControl, IndexError, links::NONE};

/// How each node is reached: a tree whose edges must stay.
pub(super) struct Reach {
    /// The node it is reached from; itself for an entry, `NONE` if it isn't reached.
    parent: Vec<u32>,
    to_look_at: VecDeque<u32>,
}

impl Reach {
    /// Follows all links from the entries, breadth first.
    pub(super) fn from_entries(links: impl Lists, entries: &[u32]) -> Reach {
        let mut reach = Reach { parent: vec![NONE; links.len()], to_look_at: VecDeque::new() };
        for &entry in entries {
            reach.visit(entry, entry);
        }
        reach.follow(links);
        reach
    }

    /// Is there a path to this node?
    pub(super) fn reaches(&self, row: u32) -> bool {
        self.parent[row as usize] != NONE
    }

    fn visit(&mut self, row: u32, parent: u32) {
        if !self.reaches(row) {
            self.parent[row as usize] = parent;
            self.to_look_at.push_back(row);
        }
    }

    fn follow(&mut self, links: impl Lists) {
        while let Some(row) = self.to_look_at.pop_front() {
            for next in links.neighbours(row) {
                self.visit(next, row);
            }
        }
    }
}

/// Links every node that can't be reached to one near it that can. Returns how many had to be linked.
pub(super) fn relink_unreached(
    space: &Space<'_>,
    links: &mut LinksMut,
    links_max: usize,
    entries: &[u32],
    nodes: &[u32],
    ef: usize,
    control: &BuildControl,
) -> Result<usize, IndexError> {
    let mut reach = Reach::from_entries(links.view(), entries);
    let mut unreached: Vec<u32> = nodes.iter().copied().filter(|&row| !reach.reaches(row)).collect();
    unreached.sort_unstable();
    let (mut linked, mut first_far) = (0, 0);
    let (mut scratch, mut probe) = (Scratch::default(), Probe::default());
    for row in unreached {
        if reach.reaches(row) {
            continue; // through one linked before it
        }
        if control.cancelled.load(Ordering::Relaxed) {
            return Err(IndexError::Cancelled);
        }
        space.aim(&mut probe, row);
        let target = Row { space, probe: &probe };
        walk(links.view(), &target, entries, ef, &mut scratch, &mut Clock::new(None), |_| {})?;
        // All nodes a walk finds can be reached. Should none of the near ones have a link to spare, some
        // other node has: n nodes need n tree edges and have `links_max` times as many slots.
        let mut near = scratch.beam.finish().iter().map(|near| near.row());
        let mut spares = |parent: u32| spare(space, links, links_max, &reach, parent, row);
        let parent = near.find(|&parent| spares(parent)).or_else(|| {
            // From where the last search for one ended: looking at all of them each time would take hours where most
            // nodes can't be reached, since they lie in one place.
            let far = (0..nodes.len()).map(|step| (first_far + step) % nodes.len());
            let found = far.filter(|&at| reach.reaches(nodes[at])).find(|&at| spares(nodes[at]))?;
            first_far = found;
            Some(nodes[found])
        });
        let Some(parent) = parent else {
            debug_assert!(false, "a graph with a reached node has a slot to spare");
            continue;
        };
        linked += 1;
        reach.visit(row, parent);
        reach.follow(links.view());
    }
    Ok(linked)
}

/// Links `parent` to `row` if it has room, or a link that no path depends on: the farthest such.
fn spare(
    space: &Space<'_>,
    links: &mut LinksMut,
    links_max: usize,
    reach: &Reach,
    parent: u32,
    row: u32,
) -> bool {
    if links.view().of(parent).len() < links_max {
        return links.append(parent, [row].into_iter());
    }
    let neighbours = links.view().of(parent);
    let mut distances = vec![0.0; neighbours.len()];
    space.exact_distances(parent, neighbours, &mut distances);
    let needless = neighbours
        .iter()
        .zip(&distances)
        .zip(0..)
        .filter(|((neighbour, _), _)| reach.parent[**neighbour as usize] != parent);
    let farthest = needless.max_by_key(|((_, distance), at)| Near::new(**distance, *at));
    let Some((_, at)) = farthest else { return false };
    links.replace(parent, at as usize, row);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::test_data::clustered;
    use crate::types::Distance;

    fn all_reached(links: &LinksMut, entries: &[u32], count: u32) -> bool {
        let reach = Reach::from_entries(links.view(), entries);
        (0..count).all(|row| reach.reaches(row))
    }

    #[test]
    fn nodes_without_any_link_are_all_reached_afterwards() {
        let data = clustered(500, 4, Distance::L2, 9);
        let space = Space::new(data.block());
        for links_max in [2, 3, 16] {
            let mut links = LinksMut::empty(500, 16);
            let nodes: Vec<u32> = (0..500).collect();
            let linked =
                relink_unreached(&space, &mut links, links_max, &[42], &nodes, 8, &BuildControl::default())
                    .expect("no deadline");
            assert_eq!(linked, 499);
            assert!(all_reached(&links, &[42], 500));
            assert!((0..500).all(|row| links.view().of(row).len() <= links_max));
        }
    }

    #[test]
    fn full_lists_give_up_links_that_nothing_depends_on() {
        // Two rings, each node with both directions twice over; the entry is in the first ring.
        let data = clustered(40, 4, Distance::L2, 9);
        let space = Space::new(data.block());
        let mut links = LinksMut::empty(40, 16);
        for row in 0..40u32 {
            let base = row / 20 * 20;
            let at = |step: u32| base + (row - base + step) % 20;
            links.set(row, &[at(1), at(19), at(2), at(18)]);
        }
        let nodes: Vec<u32> = (0..40).collect();
        assert!(!all_reached(&links, &[3], 40));
        assert_eq!(
            relink_unreached(&space, &mut links, 4, &[3], &nodes, 8, &BuildControl::default())
                .expect("no deadline"),
            1
        );
        assert!(all_reached(&links, &[3], 40));
        assert!((0..40).all(|row| links.view().of(row).len() == 4));
    }
}
