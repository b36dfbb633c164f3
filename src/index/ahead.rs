//! Vectors that a search is going to read, asked for at once where they aren't in memory.
//!
//! Left to page faults, each would be waited for before the next is asked for. Where all are in memory, the usual
//! case, nobody should pay for looking: see [`Warmth`].
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proximadb_kernels::residency::{is_resident, will_need};

use super::VectorBlock;

/// Rows that are looked at: if they are in memory, so are the others.
const SAMPLED: usize = 4;

/// Bytes that are read for nothing rather than ask for two pieces.
const GAP_BYTES: usize = 32 << 10;

/// A look at a few vectors that takes longer has waited for a disk, or for the processor.
const WAITED: Duration = Duration::from_micros(40);

/// Did the last search that looked at an index's vectors wait for a disk?
///
/// Asking the system what is in memory costs a tenth of a short search, and a look at the clock nothing.
#[derive(Debug, Default)]
pub(super) struct Warmth {
    is_cold: AtomicBool,
}

impl Warmth {
    /// Are vectors to be asked for before they are read?
    pub(super) fn is_cold(&self) -> bool {
        self.is_cold.load(Ordering::Relaxed)
    }

    /// Had a look of so long to wait for a disk?
    pub(super) fn was_waited_for(took: Duration) -> bool {
        took > WAITED
    }

    /// What a search has found it to be.
    pub(super) fn set(&self, is_cold: bool) {
        // Mostly it stays what it was: searches on other cores read it.
        if self.is_cold() != is_cold {
            self.is_cold.store(is_cold, Ordering::Relaxed);
        }
    }
}

/// Asks for the vectors of rows, of which the first are the likeliest to be read. Says whether it had to.
pub(super) fn vectors(block: VectorBlock<'_>, rows: impl Iterator<Item = u32> + Clone) -> bool {
    if rows.clone().take(SAMPLED).all(|row| is_resident(block.row(row))) {
        return false;
    }
    let gap = GAP_BYTES / (4 * block.dim.max(1));
    for piece in pieces(rows.collect(), gap) {
        will_need(&block.rows[piece.start * block.dim..piece.end * block.dim]);
    }
    true
}

/// Stretches that hold all of `rows`, none of which are as near to the next as `gap` rows.
fn pieces(mut rows: Vec<u32>, gap: usize) -> Vec<Range<usize>> {
    rows.sort_unstable();
    let is_near = |a: &u32, b: &u32| (b - a) as usize <= gap.max(1);
    let stretch = |piece: &[u32]| piece[0] as usize..piece[piece.len() - 1] as usize + 1;
    rows.chunk_by(is_near).map(stretch).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proximadb_kernels::map::{Map, as_f32s, f32s_as_bytes};

    use crate::index::test_data::Data;
    use crate::index::{BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, VectorIndex};
    use crate::types::{CodedSearch, Distance, GraphParams};

    #[test]
    fn rows_that_are_near_each_other_are_one_piece() {
        assert_eq!(pieces(vec![9, 2, 3, 5, 20], 2), [2..6, 9..10, 20..21]);
        assert_eq!(pieces(vec![4, 3, 6], 0), [3..5, 6..7]);
        assert_eq!(pieces(vec![7], 5).first(), Some(&(7..8)));
        assert!(pieces(Vec::new(), 5).is_empty());
    }

    #[test]
    fn what_is_on_the_disk_is_asked_for_and_what_is_in_memory_is_not() {
        const DIM: usize = 1024;
        let rows = vec![0.5; 64 * DIM];
        let warm = VectorBlock { dim: DIM, rows: &rows, distance: Distance::L2 };
        assert!(!vectors(warm, [7, 9, 40].into_iter()));
        assert!(!vectors(warm, std::iter::empty()));
        // Of a file that has never been read no page is in memory.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.vec");
        std::fs::File::create(&path).unwrap().set_len(4096 * DIM as u64).unwrap();
        let map = Map::open(&path).unwrap();
        let cold = VectorBlock { rows: as_f32s(map.bytes()).unwrap(), ..warm };
        assert!(vectors(cold, [700, 900, 40].into_iter()));
        assert!(cold.row(700).iter().all(|component| *component == 0.0));
    }

    /// Takes a file that nobody maps out of the page cache.
    fn forget(path: &std::path::Path) {
        let from = format!("if={}", path.display());
        let dd = std::process::Command::new("dd")
            .args([&from, "iflag=nocache", "count=0", "status=none"])
            .status();
        assert!(dd.unwrap().success());
    }

    #[test]
    fn a_graph_is_cold_for_as_long_as_its_vectors_are_on_the_disk() {
        const ROWS: usize = 600;
        const DIM: usize = 1024;
        let component = |at: usize| ((at * 2_654_435_761) % 8_191) as f32 / 8_191.0;
        let data = Data { dim: DIM, rows: (0..ROWS * DIM).map(component).collect(), distance: Distance::L2 };
        let folder = tempfile::tempdir().unwrap();
        let (path, vectors) = (folder.path().join("0.graph"), folder.path().join("0.vec"));
        let builder = GraphBuilder { params: GraphParams::default(), threads: 1, seed: 1 };
        builder.build(data.block(), &path, &BuildControl::default()).unwrap();
        let graph = Graph::open(&path).unwrap();
        std::fs::write(&vectors, f32s_as_bytes(&data.rows).unwrap()).unwrap();
        std::fs::File::open(&vectors).unwrap().sync_all().unwrap();
        for round in 0..4 {
            forget(&vectors);
            let map = Map::open(&vectors).unwrap();
            let block = VectorBlock { rows: as_f32s(map.bytes()).unwrap(), ..data.block() };
            if is_resident(block.row(300)) {
                return eprintln!("SKIP: what a graph asks for ahead needs a file system on a disk");
            }
            let query = IndexQuery {
                vector: data.block().row(17 + round),
                k: 10,
                ef_search: 128,
                matching: None,
                alive: &|_| true,
                alive_rows: ROWS,
                codes: CodedSearch::default(),
                deadline: None,
            };
            let found = graph.search(block, &query).unwrap().rows;
            assert!(graph.warmth.is_cold(), "after round {round}");
            assert_eq!(found, graph.search(data.block(), &query).unwrap().rows);
            // What lies in memory is warm again by now, but others may be searching the file.
            graph.warmth.set(true);
        }
        let query = IndexQuery {
            vector: data.block().row(5),
            k: 10,
            ef_search: 128,
            matching: None,
            alive: &|_| true,
            alive_rows: ROWS,
            codes: CodedSearch::default(),
            deadline: None,
        };
        for _ in 0..2 {
            graph.search(data.block(), &query).unwrap();
        }
        assert!(!graph.warmth.is_cold());
    }

    #[test]
    fn an_index_is_cold_from_a_wait_until_nothing_had_to_be_asked_for() {
        let warmth = Warmth::default();
        assert!(!warmth.is_cold());
        assert!(Warmth::was_waited_for(Duration::from_micros(90)));
        assert!(!Warmth::was_waited_for(Duration::from_micros(4)));
        for is_cold in [true, true, false, false] {
            warmth.set(is_cold);
            assert_eq!(warmth.is_cold(), is_cold);
        }
    }
}
