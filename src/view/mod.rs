//! What a reader sees: memtables and segments at one LSN.
//!
//! ```text
//!   View, replaced as a whole ─┬─ active memtable
//!                              ├─ frozen memtables   on their way to segments
//!                              └─ segments           files, a dead stamp per row, a graph once built
//!   Snapshot = View + LSN S ─▶ query: rows born ≤ S that are alive, or died after S
//! ```
//! I1 once a view is in service only the apply thread replaces it and stamps its rows. I2 every row of a segment
//! was born before any view held it, so of segments the dead stamp alone is looked at. I3 of an id at most one
//! row is visible at any LSN, wherever it lies.
mod id_filter;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use self::id_filter::IdFilter;
use crate::index::{ScanCodes, VectorBlock, VectorIndex};
use crate::memory::{Charge, MemoryBudget, Purpose};
use crate::memtable::{Block, FrozenMarks, Memtable};
use crate::store::{Ids, Segment, SegmentId, StoreError};
use crate::types::{Built, Distance, IdHash, Lsn, PointId};

/// Where a graph in service comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphOrigin {
    /// Its file's name.
    pub name: String,
    /// What it was built with.
    pub built: Built,
}

/// A segment in service: its files, its dead rows, its graph once built.
pub struct LiveSegment {
    /// The immutable files.
    pub segment: Arc<Segment>,
    /// The graph, once built or opened.
    pub graph: ArcSwapOption<Box<dyn VectorIndex>>,
    /// Where it comes from.
    origin: ArcSwapOption<GraphOrigin>,
    /// 0 = alive, else the LSN that replaced or deleted the row.
    dead: Vec<AtomicU64>,
    dead_count: AtomicU64,
    distance: Distance,
    filter: IdFilter,
    /// Of the stamps; dropped with them.
    _stamps: Charge,
    /// Of the graph: in memory, or mapped.
    graph_memory: Charge,
    graph_map: Charge,
    budget: Arc<MemoryBudget>,
    /// Made by searches while there is no graph.
    scan_codes: ScanCodes,
}

impl LiveSegment {
    /// A segment all of whose rows are alive. Reads and checks its ids. What it holds is charged to `budget`.
    pub fn new(
        mut segment: Segment,
        distance: Distance,
        budget: &Arc<MemoryBudget>,
    ) -> Result<Self, StoreError> {
        let ids = segment.ids()?;
        let hashes = (0..segment.rows()).map(|row| IdHash::of(ids.text(row)));
        let filter = IdFilter::new(segment.rows() as usize, hashes);
        segment.charge_to(budget);
        let rows = segment.rows() as usize;
        Ok(Self {
            _stamps: budget.charge(Purpose::Segments, rows * size_of::<AtomicU64>() + filter.bytes()),
            graph_memory: budget.charge(Purpose::Graphs, 0),
            graph_map: budget.charge(Purpose::GraphMaps, 0),
            budget: Arc::clone(budget),
            scan_codes: ScanCodes::new(budget),
            filter,
            dead: (0..segment.rows()).map(|_| AtomicU64::new(0)).collect(),
            dead_count: AtomicU64::new(0),
            graph: ArcSwapOption::empty(),
            origin: ArcSwapOption::empty(),
            segment: Arc::new(segment),
            distance,
        })
    }

    /// May a graph of so many bytes be held in memory? Else it is mapped.
    pub fn has_room_for_graph(&self, bytes: u64, leaving: usize) -> bool {
        let room = |bytes| self.budget.has_lasting_room(Purpose::Graphs, bytes, leaving);
        usize::try_from(bytes).is_ok_and(room)
    }

    /// Bytes of memory that the graph takes; 0 if it is mapped or there is none.
    pub fn graph_bytes(&self) -> usize {
        self.graph_memory.bytes()
    }

    /// Puts a graph into service, in the place of another.
    pub fn set_graph(&self, graph: Box<dyn VectorIndex>, origin: GraphOrigin) {
        let (memory, map) = if graph.is_mapped() { (0, graph.bytes()) } else { (graph.bytes(), 0) };
        self.graph_memory.set(memory);
        self.graph_map.set(map);
        self.graph.store(Some(Arc::new(graph)));
        self.origin.store(Some(Arc::new(origin)));
        self.scan_codes.forget();
    }

    /// The vectors' codes, as far as searches have made them.
    pub fn scan_codes(&self) -> &ScanCodes {
        &self.scan_codes
    }

    /// Takes the graph out of service: from now on searches scan.
    pub fn drop_graph(&self) {
        self.graph.store(None);
        self.origin.store(None);
        self.graph_memory.set(0);
        self.graph_map.set(0);
    }

    /// What the graph in service was built with.
    pub fn built(&self) -> Option<Built> {
        self.origin.load().as_ref().map(|origin| origin.built)
    }

    /// Where the graph in service comes from.
    pub fn graph_origin(&self) -> Option<Arc<GraphOrigin>> {
        self.origin.load_full()
    }

    /// Its identity.
    pub fn id(&self) -> SegmentId {
        self.segment.meta().id
    }

    /// Its ids, LSNs and event times.
    pub fn ids(&self) -> Ids<'_> {
        self.segment.ids().expect("ids are checked when the segment goes into service, once for all")
    }

    /// The row of an id, whose hash the caller has.
    pub fn find(&self, id: &str, hash: IdHash) -> Option<u32> {
        self.filter.may_hold(hash).then(|| self.ids().find(id)).flatten()
    }

    /// Bytes of memory that it takes beside what is mapped: a stamp per row, what knows its ids, and codes.
    pub fn own_bytes(&self) -> usize {
        self.dead.len() * 8 + self.filter.bytes() + self.scan_codes.bytes()
    }

    /// Stamps a row dead. Only the apply thread does this once the segment is in a view.
    pub fn kill(&self, row: u32, at: Lsn) {
        if let Some(stamp) = self.dead.get(row as usize)
            && stamp.swap(at.0, Ordering::AcqRel) == 0
        {
            // After the stamp: whoever sees the count sees the stamp.
            self.dead_count.fetch_add(1, Ordering::Release);
        }
    }

    /// The LSN that ended a row.
    pub fn dead(&self, row: u32) -> Option<Lsn> {
        match self.dead.get(row as usize).map_or(0, |stamp| stamp.load(Ordering::Acquire)) {
            0 => None,
            lsn => Some(Lsn(lsn)),
        }
    }

    /// Is the row alive for a reader at `at`? Every row of a segment was born before any view held it.
    pub fn is_visible(&self, row: u32, at: Lsn) -> bool {
        self.dead(row).is_none_or(|dead| dead > at)
    }

    /// Rows dead as of `at`, ascending.
    pub fn dead_as_of(&self, at: Lsn) -> impl Iterator<Item = u32> + '_ {
        (0..self.dead.len() as u32).filter(move |row| self.dead(*row).is_some_and(|dead| dead <= at))
    }

    /// Rows not stamped.
    pub fn alive(&self) -> u64 {
        (self.dead.len() as u64).saturating_sub(self.dead_count.load(Ordering::Acquire))
    }

    /// All rows.
    pub fn rows(&self) -> u32 {
        self.dead.len() as u32
    }

    /// Its vectors, verified on first use.
    pub fn vectors(&self) -> Result<VectorBlock<'_>, StoreError> {
        Ok(VectorBlock { dim: self.segment.dim(), rows: self.segment.vectors()?, distance: self.distance })
    }
}

/// A memtable that takes no more rows, on its way to a segment.
pub struct Frozen {
    /// The rows.
    pub memtable: Arc<dyn Memtable>,
    /// Where its stretch of the log ends.
    pub marks: FrozenMarks,
}

/// One state of a shard's parts. The apply thread replaces it as a whole.
pub struct View {
    /// Takes the rows that arrive now.
    pub active: Arc<dyn Memtable>,
    /// Waiting for flush, oldest first.
    pub frozen: Vec<Arc<Frozen>>,
    /// Oldest first.
    pub segments: Vec<Arc<LiveSegment>>,
}

impl View {
    /// The memtables, newest first.
    pub fn memtables(&self) -> impl Iterator<Item = &Arc<dyn Memtable>> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(|frozen| &frozen.memtable))
    }

    /// The newest version of a point that is not stamped dead, wherever it lies. For the apply thread.
    pub fn alive_version(&self, id: &str, hash: IdHash) -> Option<RowRef> {
        for memtable in self.memtables() {
            if let Some((block, row)) = memtable.latest(id, hash).and_then(|row| memtable.locate(row)) {
                // Whatever lies further down is older than this row and was stamped when it came.
                return block.dead(row).is_none().then_some(RowRef::Memory { block, row });
            }
        }
        self.segments.iter().rev().find_map(|segment| {
            let row = segment.find(id, hash)?;
            segment.dead(row).is_none().then(|| RowRef::Segment { segment: Arc::clone(segment), row })
        })
    }
}

/// One row, wherever it lies.
#[derive(Clone)]
pub enum RowRef {
    /// In a memtable's block.
    Memory {
        /// The block.
        block: Arc<Block>,
        /// Index in it.
        row: usize,
    },
    /// In a segment.
    Segment {
        /// The segment.
        segment: Arc<LiveSegment>,
        /// Row in it.
        row: u32,
    },
}

impl RowRef {
    /// The entry that wrote it.
    pub fn born(&self) -> Lsn {
        match self {
            Self::Memory { block, row } => block.born(*row),
            Self::Segment { segment, row } => segment.ids().lsn(*row),
        }
    }

    /// Its id, in the form of its write.
    pub fn id(&self) -> PointId {
        match self {
            Self::Memory { block, row } => block.id(*row).clone(),
            Self::Segment { segment, row } => segment.ids().id(*row),
        }
    }

    /// Its payload as JSON text; empty means `{}`.
    pub fn payload(&self) -> Result<&[u8], StoreError> {
        match self {
            Self::Memory { block, row } => Ok(block.payload(*row)),
            Self::Segment { segment, row } => segment.segment.payload(*row),
        }
    }

    /// Its vector.
    pub fn vector(&self) -> Result<&[f32], StoreError> {
        match self {
            Self::Memory { block, row } => Ok(block.vector(*row)),
            Self::Segment { segment, row } => Ok(segment.vectors()?.row(*row)),
        }
    }

    /// Its event time, milliseconds since the Unix epoch.
    pub fn event_time_ms(&self) -> i64 {
        match self {
            Self::Memory { block, row } => block.event_time_ms(*row),
            Self::Segment { segment, row } => segment.ids().event_time_ms(*row),
        }
    }
}

/// A view at an LSN: what one search reads.
#[derive(Clone)]
pub struct Snapshot {
    /// The parts.
    pub view: Arc<View>,
    /// Rows born later, or dead by then, are not seen.
    pub lsn: Lsn,
}

impl Snapshot {
    /// All blocks of all memtables.
    pub fn blocks(&self) -> Vec<Arc<Block>> {
        self.view.memtables().flat_map(|memtable| memtable.blocks()).collect()
    }
}
