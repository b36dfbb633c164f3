//! Merging segments while everybody goes on reading and writing them.
//!
//! ```text
//!   inputs ─▶ new files ─▶ graph, if the inputs had one ─▶ stamps carried ─▶ manifest ─▶ view
//! ```
//! M1 until the view is replaced the inputs serve, with their graphs: a merge costs no search its index,
//! unless memory is too tight to build the new one.
//! M2 rows that die meanwhile are dead in the new segment before anybody reads it.
use std::sync::Arc;
use std::time::Instant;

use super::core::Core;
use super::upkeep::{build_bytes, entry_of, graph_of, open, reserve, store_manifest, swap};
use crate::faults;
use crate::flush::{self, GraphError, Plan};
use crate::index::IndexError;
use crate::memory::Purpose;
use crate::store::{FileMeta, SegmentId, StoreError};
use crate::view::{LiveSegment, View};

/// Replaces segments by one. Stops early, with an error, when the shard closes.
pub(super) fn merge(core: &Arc<Core>, view: &View, plan: &Plan) -> Result<(), GraphError> {
    let started = Instant::now();
    let _writing = core.writers.read();
    let inputs: Vec<Arc<LiveSegment>> =
        view.segments.iter().filter(|live| plan.inputs.contains(&live.id())).cloned().collect();
    let others_remain = inputs.len() < view.segments.len();
    let (flushed, id) = (core.marks.flushed(), SegmentId::new());
    let stop = &core.build.cancelled;
    let merged = flush::compact(&core.config, &core.segments_dir, &inputs, flushed, others_remain, id, stop)?;
    let live = merged.segment.as_ref().map(|meta| open(core, meta)).transpose()?;
    let graph = match &live {
        Some(live) => graph_before_service(core, &inputs, live)?,
        None => None,
    };

    let mut manifest = core.manifest.lock();
    // Whatever died up to `flushed_lsn` has its stamp by now, and belongs into this manifest.
    // Counted first: whatever dies while stamps are carried makes a difference below.
    let alive_before = alive(&inputs);
    if let Some(newer) = &live {
        carry_stamps(&inputs, &merged.origins, newer);
    }
    let mut next = manifest.clone();
    let newest = merged.segment.map(|meta| entry_of(meta, graph));
    next.segments = replace(&next.segments, |entry| plan.inputs.contains(&entry.meta.id), newest);
    // Stored before the swap: if it fails, nothing has changed, and the new files are garbage.
    store_manifest(core, &mut manifest, next, live.as_ref())?;
    let _ = faults::pass("shard::merge_published"); // past it, nothing can fail any more
    let (ids, sources, newer, origins) = (plan.inputs.clone(), inputs.clone(), live.clone(), merged.origins);
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

/// The new segment's graph, where its inputs are searched by one: without it every search would scan the new
/// segment until a graph is built, which takes minutes for a million rows.
///
/// Where none of them has one the segment is published first: fewer segments, and nothing is lost.
fn graph_before_service(
    core: &Core,
    inputs: &[Arc<LiveSegment>],
    live: &LiveSegment,
) -> Result<Option<FileMeta>, GraphError> {
    let is_walked = inputs.iter().any(|input| input.graph.load().is_some());
    if !is_walked || !flush::lacks_graph(live, &core.config.graph) {
        return Ok(None);
    }
    let bytes = build_bytes(core, live);
    let Some(building) = reserve(core, "graph build", Purpose::IndexBuilds, bytes) else { return Ok(None) };
    let leaving = inputs.iter().map(|input| input.graph_bytes()).sum();
    match graph_of(core, live, building, leaving) {
        Ok(graph) => Ok(Some(graph)),
        Err(GraphError::Index(IndexError::Cancelled)) => Err(StoreError::Stopped.into()),
        Err(error) => {
            // It is tried again later, as for any segment without one.
            tracing::warn!(collection = core.config.name, %error, "merged segments without a graph");
            Ok(None)
        }
    }
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
