//! Merging segments while everybody goes on reading and writing them.
//!
//! ```text
//!   inputs ─▶ new files ─▶ graph, of the inputs' if they had any ─▶ stamps carried ─▶ manifest ─▶ view
//!     └─▶ clusters first, where they are wanted: they decide the order of the new rows
//! ```
//! M1 until the view is replaced the inputs serve, with their graphs: a merge costs no search its index,
//! unless memory is too tight to build the new one.
//! M2 rows that die meanwhile are dead in the new segment before anybody reads it.
use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::making::{Drawn, Made, Making};
use super::upkeep::{entry_of, open, reserve, store_manifest, swap};
use crate::faults;
use crate::flush::{self, GraphError, Kept, Plan};
use crate::index::GraphMade;
use crate::memory::Purpose;
use crate::store::{FileMeta, SegmentId, StoreError};
use crate::types::IndexKind;
use crate::view::{LiveSegment, View};

/// Replaces segments by one. Stops early, with an error, when the shard closes.
pub(super) fn merge(core: &Arc<Core>, view: &View, plan: &Plan) -> Result<(), GraphError> {
    let started = Instant::now();
    let _writing = core.writers.read();
    let (inputs, others): (Vec<Arc<LiveSegment>>, Vec<Arc<LiveSegment>>) =
        view.segments.iter().cloned().partition(|live| plan.inputs.contains(&live.id()));
    let (flushed, id) = (core.marks.flushed(), SegmentId::new());
    let (stop, dir) = (&core.build.cancelled, &core.segments_dir);
    let mut kept = Kept::of(&inputs, &others, flushed)?;
    let clusters = clusters_first(core, &inputs, &mut kept, id)?;
    let starts = clusters.as_ref().map_or(&[][..], |clusters| &clusters.starts);
    let segment = kept.write(&core.config, dir, &inputs, starts, id, stop)?;
    let origins = kept.origins;
    let live = segment.as_ref().map(|meta| open(core, meta)).transpose()?;
    let graph = match (&live, clusters) {
        (Some(live), Some(clusters)) => {
            served(core, live, clusters.index.read(core, live, leaving(&inputs)))?
        }
        (Some(live), None) => graph_before_service(core, &inputs, &origins, live)?,
        (None, _) => None,
    };

    let mut manifest = core.manifest.lock();
    // Whatever died up to `flushed_lsn` has its stamp by now, and belongs into this manifest.
    // Counted first: whatever dies while stamps are carried makes a difference below.
    let alive_before = alive(&inputs);
    if let Some(newer) = &live {
        carry_stamps(&inputs, &origins, newer);
    }
    let mut next = manifest.clone();
    let newest = segment.map(|meta| entry_of(meta, graph));
    next.segments = replace(&next.segments, |entry| plan.inputs.contains(&entry.meta.id), newest);
    // Stored before the swap: if it fails, nothing has changed, and the new files are garbage.
    store_manifest(core, &mut manifest, next, live.as_ref())?;
    let _ = faults::pass("shard::merge_published"); // past it, nothing can fail any more
    let (ids, sources, newer) = (plan.inputs.clone(), inputs.clone(), live.clone());
    core.between_entries(move |core| {
        // Mostly nothing has died since, and everybody waits for what is done here.
        if let Some(newer) = newer.as_ref().filter(|_| alive(&sources) != alive_before) {
            carry_stamps(&sources, &origins, newer);
        }
        swap(core, |view| View {
            active: Arc::clone(&view.active),
            frozen: view.frozen.clone(),
            segments: replace(&view.segments, |live| ids.contains(&live.id()), newer),
        });
    });
    core.retired.lock().extend(inputs.iter().map(Arc::downgrade));
    drop(manifest);
    core.changed.notify_waiters();
    let rows: u64 = inputs.iter().map(|live| u64::from(live.rows())).sum();
    let written = live.as_ref().map_or(0, |live| live.segment.meta().bytes());
    core.meters.merge.passed(rows, written, started.elapsed());
    tracing::info!(
        collection = core.config.name,
        inputs = inputs.len(),
        rows,
        kept = live.map_or(0, |live| live.rows()),
        elapsed_ms = started.elapsed().as_millis() as u64,
        "merged segments"
    );
    Ok(())
}

/// The new segment's graph, made of those that its inputs are searched by: without it every search would scan the new
/// segment until a graph is built, which takes minutes for a million rows.
///
/// Where none of them has one the segment is published first: fewer segments, and nothing is lost.
fn graph_before_service(
    core: &Core,
    inputs: &[Arc<LiveSegment>],
    origins: &[(u32, u32)],
    live: &LiveSegment,
) -> Result<Option<FileMeta>, GraphError> {
    let is_walked = inputs.iter().any(|input| input.graph.load().is_some());
    if !is_walked || !core.indexing.lacks_any(live) {
        return Ok(None);
    }
    let bytes = flush::merge_graph_bytes(live, inputs, &core.indexing.wanted());
    let Some(building) = reserve(core, "graph build", Purpose::IndexBuilds, bytes) else { return Ok(None) };
    let made = Making::begin(core, live.id(), live.rows()).and_then(|making| {
        let (path, control) = (making.path(), making.control());
        let made = match making.kind() {
            // Those that should have come first: memory was too tight then, or something else was wanted.
            IndexKind::Ivf => flush::build_graph(path, live, &making.cluster_builder(), control)
                .map(|()| GraphMade::FromNothing { reason: "clusters are wanted" }),
            IndexKind::Flat | IndexKind::Hnsw => {
                flush::merge_graph(path, live, inputs, origins, &making.graph_builder(), control)
            }
        };
        let drawn = making.end(made)?;
        drop(building);
        drawn.read(core, live, leaving(inputs))
    });
    served(core, live, made)
}

/// The clusters of rows that are to be merged.
struct Clusters {
    index: Drawn,
    /// The first row of each.
    starts: Vec<u32>,
}

/// Puts the rows that a merge keeps into clusters, and into their order, where clusters are wanted: so a probe's rows
/// lie next to each other in each of the segment's files.
///
/// `None`, and rows stay in the order in which they came, where nothing of the kind is wanted or memory is too tight.
fn clusters_first(
    core: &Core,
    inputs: &[Arc<LiveSegment>],
    kept: &mut Kept,
    id: SegmentId,
) -> Result<Option<Clusters>, GraphError> {
    let wanted = core.indexing.wanted();
    // More rows than that no segment has.
    let rows = u32::try_from(kept.origins.len()).unwrap_or(u32::MAX);
    if wanted.kind != IndexKind::Ivf || wanted.built_for(rows).is_none() {
        return Ok(None);
    }
    let bytes = flush::build_bytes(rows, core.config.dim as usize, &wanted);
    let Some(building) = reserve(core, "graph build", Purpose::IndexBuilds, bytes) else { return Ok(None) };
    let making = match Making::begin(core, id, rows) {
        Ok(making) if making.kind() == IndexKind::Ivf => making,
        // Somebody has changed his mind just now.
        _ => return Ok(None),
    };
    let (builder, target) = (making.cluster_builder(), (&core.config, core.segments_dir.as_path(), id));
    let outcome = flush::cluster(making.path(), target, inputs, kept, &builder, making.control());
    drop(building);
    let (starts, outcome) = match outcome {
        Ok(starts) => (starts, Ok(GraphMade::FromNothing { reason: "clusters decide the order of rows" })),
        Err(error) => (Vec::new(), Err(error)),
    };
    match making.end(outcome) {
        Ok(index) => Ok(Some(Clusters { index, starts })),
        Err(error) if error.is_stop() => Err(StoreError::Stopped.into()),
        Err(error) => {
            // A draft of the vectors takes room that the merge itself may still have.
            tracing::warn!(collection = core.config.name, %error, "rows are merged in the order in which they came");
            Ok(None)
        }
    }
}

/// Puts what was made of a graph into service, if anything was.
fn served(
    core: &Core,
    live: &LiveSegment,
    made: Result<Made, GraphError>,
) -> Result<Option<FileMeta>, GraphError> {
    match made {
        Ok(made) => Ok(Some(made.serve(core, live))),
        Err(error) => failed(core, error).map(|()| None),
    }
}

/// A merge ends with what is stopped, and goes on without a graph where memory is too tight for one: that is tried
/// again later, as for any segment without one. It ends with everything else, too: the inputs and their graphs serve
/// on, where the new segment would be scanned for as long as what is wrong lasts.
fn failed(core: &Core, error: GraphError) -> Result<(), GraphError> {
    if error.is_stop() {
        return Err(StoreError::Stopped.into());
    }
    if !error.is_want_of_memory() {
        return Err(error);
    }
    core.meters.index.failed();
    tracing::warn!(collection = core.config.name, %error, "merged segments without a graph");
    Ok(())
}

/// Bytes of graphs that go with the inputs.
fn leaving(inputs: &[Arc<LiveSegment>]) -> usize {
    inputs.iter().map(|input| input.graph_bytes()).sum()
}

fn alive(segments: &[Arc<LiveSegment>]) -> u64 {
    segments.iter().map(|segment| segment.alive()).sum()
}

/// Rows that died while they were copied are dead in the copy as well.
fn carry_stamps(sources: &[Arc<LiveSegment>], origins: &[(u32, u32)], newer: &LiveSegment) {
    for (row, (place, origin)) in origins.iter().enumerate() {
        let dead = sources.get(*place as usize).and_then(|source| source.dead(*origin));
        dead.into_iter().for_each(|at| newer.kill(row as u32, at));
    }
}

/// Puts `new` where the first of those that go stood, so that order stays oldest first.
fn replace<T: Clone>(all: &[T], goes: impl Fn(&T) -> bool, new: Option<T>) -> Vec<T> {
    let mut new = new;
    let mut kept = Vec::with_capacity(all.len());
    for one in all {
        if goes(one) {
            kept.extend(new.take());
        } else {
            kept.push(one.clone());
        }
    }
    kept
}
