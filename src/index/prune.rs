//! Which of many candidates become a node's neighbours.
//!
//! A candidate is left out if a nearer neighbour already leads towards it: if that neighbour is `ALPHA`
//! times nearer to it than the node is. Source: *DiskANN: Fast Accurate Billion-point Nearest Neighbor
//! Search on a Single Node*, Jayaram Subramanya et al. (NeurIPS 2019), RobustPrune.
use super::near::Near;
use super::space::{Probe, Space};

/// How much nearer, in squared distance. At 1 lists are half as long: the build takes half the time, but
/// hard data lose recall. Beyond 1.4 only the nearest are kept, which all lead the same way.
pub(super) const ALPHA: f32 = 1.3;

/// Prunes; keeps its memory.
#[derive(Default)]
pub(super) struct Pruner {
    states: Vec<State>,
    probe: Probe,
    /// Candidates that may still be kept, by place, and their rows and distances from the one kept last.
    open: Vec<u32>,
    ids: Vec<u32>,
    distances: Vec<f32>,
}

/// What is known of one candidate.
#[derive(Clone, Copy, Default)]
struct State {
    /// How many times nearer the best of those kept is to it than the node is.
    ratio: f32,
    kept: bool,
}

impl Pruner {
    /// Puts up to `links_max` of `candidates` into `kept`, which it empties first.
    ///
    /// `candidates`: other rows than the node itself, each once, nearest first.
    pub(super) fn prune(
        &mut self,
        space: &Space<'_>,
        candidates: &[Near],
        links_max: usize,
        alpha: f32,
        kept: &mut Vec<u32>,
    ) {
        kept.clear();
        self.add(space, candidates, links_max, alpha, kept);
    }

    /// Adds those of `candidates` to `kept` that none of those kept leads to, until they are `links_max`.
    ///
    /// `candidates`: other rows than the node itself and those kept, each once, nearest first.
    pub(super) fn add(
        &mut self,
        space: &Space<'_>,
        candidates: &[Near],
        links_max: usize,
        alpha: f32,
        kept: &mut Vec<u32>,
    ) {
        self.states.clear();
        self.states.resize(candidates.len(), State::default());
        self.open.clear();
        self.open.extend(0..candidates.len() as u32);
        for &neighbour in kept.iter() {
            self.hide_behind(space, candidates, neighbour, alpha);
        }
        // Those that no neighbour leads to come first; what room is left goes to those that one hardly does.
        for alpha_now in [1.0, alpha] {
            for (at, candidate) in candidates.iter().enumerate() {
                if kept.len() >= links_max {
                    return;
                }
                let state = &mut self.states[at];
                if !state.kept && state.ratio <= alpha_now {
                    state.kept = true;
                    kept.push(candidate.row());
                    if kept.len() < links_max {
                        self.hide_behind(space, candidates, candidate.row(), alpha);
                    }
                }
            }
        }
    }

    /// Compares a neighbour with all candidates that may still be kept: one look at many rows is cheaper than looks at
    /// one each.
    fn hide_behind(&mut self, space: &Space<'_>, candidates: &[Near], neighbour: u32, alpha: f32) {
        let Pruner { states, probe, open, ids, distances } = self;
        open.retain(|&at| !states[at as usize].kept && states[at as usize].ratio <= alpha);
        if open.is_empty() {
            return;
        }
        ids.clear();
        ids.extend(open.iter().map(|&at| candidates[at as usize].row()));
        distances.resize(ids.len(), 0.0);
        space.aim_by_code(probe, neighbour);
        space.distances(probe, ids, distances);
        for (&at, &distance) in open.iter().zip(&*distances) {
            let (candidate, state) = (candidates[at as usize], &mut states[at as usize]);
            // Rows so near that their distance vanishes lead to each other, wherever the node is.
            let ratio = if distance > 0.0 { candidate.distance() / distance } else { f32::INFINITY };
            state.ratio = state.ratio.max(ratio);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::VectorBlock;
    use crate::types::Distance;
    use proptest::prelude::*;

    /// Row 0 is the node; candidates are all others.
    fn pruned(points: &[[f32; 2]], links_max: usize, alpha: f32) -> Vec<u32> {
        let rows: Vec<f32> = points.concat();
        let space = Space::new(VectorBlock { dim: 2, rows: &rows, distance: Distance::L2 });
        let ids: Vec<u32> = (1..points.len() as u32).collect();
        let mut distances = vec![0.0; ids.len()];
        space.exact_distances(0, &ids, &mut distances);
        let mut candidates: Vec<Near> =
            ids.iter().zip(&distances).map(|(&id, &distance)| Near::new(distance, id)).collect();
        candidates.sort_unstable();
        let mut kept = vec![99];
        Pruner::default().prune(&space, &candidates, links_max, alpha, &mut kept);
        kept
    }

    /// The definition: all candidates in turn, each against all that are kept by then.
    fn defined(points: &[[f32; 2]], candidates: &[Near], links_max: usize, kept: &mut Vec<u32>) {
        let apart = |a: u32, b: u32| {
            let ([ax, ay], [bx, by]) = (points[a as usize], points[b as usize]);
            (ax - bx).powi(2) + (ay - by).powi(2)
        };
        for alpha in [1.0, ALPHA] {
            for candidate in candidates {
                let row = candidate.row();
                let is_hidden = kept.iter().any(|&by| {
                    let between = apart(by, row);
                    between <= 0.0 || candidate.distance() / between > alpha
                });
                if kept.len() < links_max && !kept.contains(&row) && !is_hidden {
                    kept.push(row);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn lists_are_those_of_the_definition(
            points in prop::collection::vec([-6i8..6, -6i8..6], 1..40), links_max in 1usize..12, before in 0usize..3,
        ) {
            let points: Vec<[f32; 2]> = points.iter().map(|point| point.map(f32::from)).collect();
            let rows: Vec<f32> = points.concat();
            let space = Space::new(VectorBlock { dim: 2, rows: &rows, distance: Distance::L2 });
            let ids: Vec<u32> = (1..points.len() as u32).collect();
            let (first, ids) = ids.split_at(before.min(ids.len()));
            let mut distances = vec![0.0; ids.len()];
            space.exact_distances(0, ids, &mut distances);
            let mut candidates: Vec<Near> =
                ids.iter().zip(&distances).map(|(&id, &distance)| Near::new(distance, id)).collect();
            candidates.sort_unstable();
            let (mut kept, mut expected) = (first.to_vec(), first.to_vec());
            Pruner::default().add(&space, &candidates, links_max, ALPHA, &mut kept);
            defined(&points, &candidates, links_max, &mut expected);
            prop_assert_eq!(kept, expected);
        }
    }

    #[test]
    fn a_neighbour_hides_what_lies_behind_it() {
        // 2 lies behind 1; 3 the other way.
        assert_eq!(pruned(&[[0.0, 0.0], [1.0, 0.0], [2.0, 0.1], [-3.0, 0.0]], 8, ALPHA), [1, 3]);
    }

    #[test]
    fn room_left_goes_to_the_hardly_hidden() {
        // 2 is a little nearer to 1 than to the node: hidden at 1, not at 1.2.
        let points = [[0.0, 0.0], [1.0, 0.0], [0.55, 1.0]];
        assert_eq!(pruned(&points, 8, 1.0), [1]);
        assert_eq!(pruned(&points, 8, ALPHA), [1, 2]);
        assert_eq!(pruned(&points, 1, ALPHA), [1]);
    }

    #[test]
    fn of_rows_in_one_place_one_is_kept() {
        assert_eq!(pruned(&[[0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], 8, ALPHA), [1]);
    }

    #[test]
    fn no_candidates_no_links() {
        assert!(pruned(&[[0.0, 0.0]], 8, ALPHA).is_empty());
    }
}
