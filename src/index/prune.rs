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

/// Distances asked for at once; the first few neighbours leave out most candidates.
const CHUNK: usize = 4;

/// Prunes; keeps its memory.
#[derive(Default)]
pub(super) struct Pruner {
    states: Vec<State>,
    probe: Probe,
}

/// What is known of one candidate.
#[derive(Clone, Copy, Default)]
struct State {
    /// Neighbours it was compared with.
    compared: usize,
    /// How many times nearer the best of them is to it than the node is.
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
        // Those that no neighbour leads to come first; what room is left goes to those that one hardly does.
        for alpha in [1.0, alpha] {
            for (candidate, state) in candidates.iter().zip(&mut self.states) {
                if kept.len() >= links_max {
                    return;
                }
                if !state.kept && state.survives(space, &mut self.probe, *candidate, kept, alpha) {
                    state.kept = true;
                    kept.push(candidate.row());
                }
            }
        }
    }
}

impl State {
    fn survives(
        &mut self,
        space: &Space<'_>,
        probe: &mut Probe,
        candidate: Near,
        kept: &[u32],
        alpha: f32,
    ) -> bool {
        let mut distances = [0.0; CHUNK];
        if self.ratio <= alpha && self.compared < kept.len() {
            space.aim_by_code(probe, candidate.row());
        }
        while self.ratio <= alpha && self.compared < kept.len() {
            let ids = &kept[self.compared..(self.compared + CHUNK).min(kept.len())];
            let distances = &mut distances[..ids.len()];
            space.distances(probe, ids, distances);
            for &distance in distances.iter() {
                // Rows so near that their distance vanishes lead to each other, wherever the node is.
                let ratio = if distance > 0.0 { candidate.distance() / distance } else { f32::INFINITY };
                self.ratio = self.ratio.max(ratio);
            }
            self.compared += ids.len();
        }
        self.ratio <= alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::VectorBlock;
    use crate::types::Distance;

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
