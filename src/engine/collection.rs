//! One collection: writes, reads, facts.
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proximadb_kernels::distance;

use super::EngineError;
use super::order::Page;
use super::pace::Pace;
use super::recall::{Recall, RecallReport};
use super::search_pool::SearchPool;
use crate::query::{
    Deadline, Filter, Freshness, Nearest, PayloadEdit, PayloadSelection, PointSelector, ReadOptions, Record,
    ScrollAnswer, ScrollRequest, Search, SearchAnswer, SearchRequest, find, for_each_match, payload,
    prepare_vector, record,
};
use crate::shard::{IndexReport, Shard, ShardInfo};
use crate::types::{
    CodedSearch, CollectionConfig, Distance, Entry, Expect, Lsn, Op, OpKind, Outcome, PointId, Reject,
    WriteBatch,
};
use crate::view::{RowRef, Snapshot};

/// Points edited or deleted per log entry. Larger entries wait longer for their fsync and conflict more often.
const EDIT_BATCH: usize = 512;
/// Bytes of payloads and vectors per log entry of an edit, beyond one point: a large value set on many points is
/// written as many times.
const EDIT_BYTES: usize = 4 << 20;
/// Points by id that are read without a search thread, as a lookup takes about a microsecond.
const FEW_IDS: usize = 16;
/// Points read between looks at the deadline.
const ROWS_PER_LOOK: usize = 256;
/// Hits and candidates that a usual search asks for at most.
const USUAL_HITS: usize = 128;
const USUAL_EF: usize = 512;
/// Times an edit is tried again after a concurrent write of the same point.
const EDIT_TRIES: usize = 16;

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wait {
    /// In the log's queue.
    Ack,
    /// Fsynced and searchable.
    #[default]
    Durable,
    /// Seen by every search from now on.
    Searchable,
    /// In a graph (or in a segment too small to need one).
    Indexed,
}

/// A record in quarantine.
#[derive(Debug, Clone, serde::Serialize)]
pub struct QuarantinedRecord {
    /// The source (pipeline) it came from.
    pub source: String,
    /// The entry that holds it.
    pub lsn: Lsn,
    /// The record and what was wrong with it.
    #[serde(flatten)]
    pub reject: Reject,
}

/// One collection, shared by all doors.
pub struct Collection {
    config: ArcSwap<CollectionConfig>,
    shard: Arc<Shard>,
    searches: Arc<SearchPool>,
    /// Of usual searches.
    pace: Arc<Pace>,
    recall: Recall,
    /// One change of the configuration at a time.
    editing: tokio::sync::Mutex<()>,
}

impl Collection {
    pub(super) fn new(
        config: CollectionConfig,
        shard: Arc<Shard>,
        searches: Arc<SearchPool>,
        ef_search_default: usize,
    ) -> Self {
        let recall = Recall::new(&config, ef_search_default, shard.budget());
        let (config, editing) = (ArcSwap::from_pointee(config), tokio::sync::Mutex::default());
        Self { config, shard, searches, pace: Arc::new(Pace::new()), recall, editing }
    }

    /// What the catalog holds.
    pub fn config(&self) -> Arc<CollectionConfig> {
        self.config.load_full()
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.config.load().name.clone()
    }

    /// The catalog holds something else from now on.
    pub(super) fn follow(&self, config: Arc<CollectionConfig>) {
        self.recall.follow(&config);
        self.shard.want_index(config.index_spec());
        self.config.store(config);
    }

    pub(super) fn editing(&self) -> &tokio::sync::Mutex<()> {
        &self.editing
    }

    pub(super) fn recall_state(&self) -> &Recall {
        &self.recall
    }

    /// Where its index stands.
    pub fn index(&self) -> IndexReport {
        self.shard.index()
    }

    /// How it keeps the recall that it promises; `None` where it promises nothing.
    pub fn recall(&self) -> Option<RecallReport> {
        self.recall.report()
    }

    /// Its one shard.
    pub(crate) fn shard(&self) -> &Arc<Shard> {
        &self.shard
    }

    /// Counts, sizes and marks.
    pub fn info(&self) -> ShardInfo {
        self.shard.info()
    }

    /// Writes a batch atomically. Vectors must have `dim` finite components; cosine vectors are normalised
    /// here. The answer is the LSN, a token for `fresh_as_of` (0 where `wait` is [`Wait::Ack`]: not known yet).
    pub async fn write(&self, mut batch: WriteBatch, wait: Wait) -> Result<Lsn, EngineError> {
        if batch.ops.is_empty() {
            return Ok(self.shard.marks().applied());
        }
        self.prepare(&mut batch)?;
        let entry = Entry { batch, ..Entry::default() };
        let outcome = match wait {
            Wait::Ack => {
                self.shard.propose_detached(entry).await.map_err(|error| self.refused(error))?;
                return Ok(Lsn(0));
            }
            _ => self.shard.propose(entry).await.map_err(|error| self.refused(error))?,
        };
        let lsn = applied(outcome)?;
        if wait == Wait::Indexed {
            self.shard.wait_indexed(lsn).await;
        }
        Ok(lsn)
    }

    /// Deletes every point that matches; one that a concurrent write makes match no more stays.
    pub async fn delete_by_filter(&self, filter: Filter, wait: Wait) -> Result<Lsn, EngineError> {
        let mut last = self.shard.marks().applied();
        let (mut tries, mut batch_max) = (0, EDIT_BATCH);
        loop {
            let versions = self.matching(filter.clone()).await?;
            let mut conflict = None;
            for chunk in versions.chunks(batch_max) {
                let mut batch = WriteBatch::new(self.config.load().dim);
                for (id, version) in chunk {
                    batch.delete(id.clone());
                    batch
                        .ops
                        .iter_mut()
                        .last()
                        .into_iter()
                        .for_each(|op| op.expect = Expect::Version(*version));
                }
                match self.write(batch, heard(wait)).await {
                    Ok(lsn) => last = lsn,
                    Err(error @ EngineError::Conflict { .. }) => conflict = Some(error),
                    Err(error) => return Err(error),
                }
            }
            match conflict {
                None => return Ok(last),
                Some(error) if tries == EDIT_TRIES => return Err(error),
                // A point that is written all the time should not take so many others with it.
                Some(_) => (tries, batch_max) = (tries + 1, (batch_max / 4).max(1)),
            }
        }
    }

    /// Edits payloads; each point's edit is atomic against concurrent writes of the same point.
    pub async fn edit_payload(
        &self,
        points: PointSelector,
        edit: PayloadEdit,
        wait: Wait,
    ) -> Result<Lsn, EngineError> {
        let ids = match points {
            PointSelector::Ids(ids) => ids,
            PointSelector::Filter(filter) => {
                self.matching(filter).await?.into_iter().map(|(id, _)| id).collect()
            }
        };
        let edit = Arc::new(edit);
        let (mut last, mut rest) = (self.shard.marks().applied(), &ids[..]);
        while !rest.is_empty() {
            let (lsn, done) = self.edit_some(rest, &edit, wait).await?;
            (last, rest) = (lsn, &rest[done..]);
        }
        Ok(last)
    }

    /// Reads the first points, edits them, and writes them back on the condition that nobody wrote in between; else
    /// tries again. Says how many it were, at least one.
    async fn edit_some(
        &self,
        ids: &[PointId],
        edit: &Arc<PayloadEdit>,
        wait: Wait,
    ) -> Result<(Lsn, usize), EngineError> {
        let ids = &ids[..ids.len().min(EDIT_BATCH)];
        let mut tries = 0;
        loop {
            self.shard.settle().await.map_err(|error| self.refused(error))?;
            let (snapshot, dim) = (self.shard.snapshot(), self.config.load().dim);
            let (ids, edit) = (ids.to_vec(), Arc::clone(edit));
            let work = move || edited(&snapshot, dim, &ids, &edit);
            // Not in the search pool's queue: when that is full an edit would be refused halfway.
            let ran = tokio::task::spawn_blocking(work).await;
            let (batch, done) = ran.map_err(|_| EngineError::ShuttingDown)??;
            match self.write(batch, heard(wait)).await {
                Err(EngineError::Conflict { .. }) if tries < EDIT_TRIES => tries += 1,
                outcome => return Ok((outcome?, done)),
            }
        }
    }

    /// Searches: on this thread, if it is likely to take less than handing it over.
    pub async fn search(self: &Arc<Self>, request: SearchRequest) -> Result<SearchAnswer, EngineError> {
        let is_usual = is_usual(&request);
        self.search_as(request, is_usual).await
    }

    /// The same for one of several searches that somebody waits for at once: all threads share them.
    pub async fn search_beside_others(
        self: &Arc<Self>,
        request: SearchRequest,
    ) -> Result<SearchAnswer, EngineError> {
        self.search_as(request, false).await
    }

    async fn search_as(
        self: &Arc<Self>,
        request: SearchRequest,
        here_if_short: bool,
    ) -> Result<SearchAnswer, EngineError> {
        let deadline = self.wait_fresh(&request.read).await?.at();
        let (snapshot, mut freshness) = self.dated_snapshot();
        let config = self.config();
        let (distance, dim, collection) = (config.distance, config.dim as usize, Arc::clone(self));
        let work = move || {
            let (vector, except) = match &request.nearest {
                Nearest::Vector(vector) => {
                    check_dim(vector.len(), dim, &config.name, "query")?;
                    let vector = prepare_vector(distance, vector.clone(), "query")?;
                    if !request.exact && request.ef_search.is_none() {
                        collection.recall.offer(&vector, request.filter.as_ref());
                    }
                    (vector, None)
                }
                Nearest::Id(id) => {
                    let row =
                        find(&snapshot, id).ok_or_else(|| EngineError::PointNotFound { id: id.clone() })?;
                    (row.vector().map_err(EngineError::from_store)?.to_vec(), Some(id))
                }
            };
            let ef_search_default = collection.recall.ef_search(request.offset + request.limit);
            let search =
                Search { request: &request, vector: &vector, distance, except, deadline, ef_search_default };
            Ok::<_, EngineError>(search.run(&snapshot)?)
        };
        let ran = match here_if_short {
            true => self.searches.run_here_if_short(&self.pace, work).await,
            false => self.searches.run(work).await,
        };
        let found = ran.map_err(|error| self.refused_search(error))??;
        freshness.scanned_fraction = found.scanned_fraction;
        Ok(SearchAnswer { hits: found.hits, freshness })
    }

    /// Points by id, in the order asked, missing ones left out.
    pub async fn get(
        &self,
        ids: Vec<PointId>,
        with_payload: PayloadSelection,
        with_vector: bool,
        read: ReadOptions,
    ) -> Result<Vec<Record>, EngineError> {
        let deadline = self.wait_fresh(&read).await?;
        let (snapshot, few) = (self.shard.snapshot(), ids.len() <= FEW_IDS);
        let work = move || {
            let mut records = Vec::with_capacity(ids.len());
            for ids in ids.chunks(ROWS_PER_LOOK) {
                deadline.check()?;
                for row in ids.iter().filter_map(|id| find(&snapshot, id)) {
                    records.push(record(&row, &with_payload, with_vector)?);
                }
            }
            Ok(records)
        };
        match few {
            true => work(),
            false => self.searches.run(work).await.map_err(|error| self.refused_search(error))?,
        }
    }

    /// A page of points in id order (integers by value before texts).
    pub async fn scroll(&self, request: ScrollRequest) -> Result<ScrollAnswer, EngineError> {
        let deadline = self.wait_fresh(&request.read).await?;
        let (snapshot, freshness) = self.dated_snapshot();
        let work = move || {
            let mut page = Page::new(request.limit.saturating_add(1), request.offset.as_ref());
            for_each_match(&snapshot, request.filter.as_ref(), Some(deadline), |row| page.offer(row))?;
            let mut rows = page.into_rows();
            let next = (rows.len() > request.limit).then(|| rows.pop()).flatten().map(|row| row.id());
            let mut records = Vec::with_capacity(rows.len());
            for rows in rows.chunks(ROWS_PER_LOOK) {
                deadline.check()?;
                for row in rows {
                    records.push(record(row, &request.with_payload, request.with_vector)?);
                }
            }
            Ok::<_, EngineError>((records, next))
        };
        let (points, next) = self.searches.run(work).await.map_err(|error| self.refused_search(error))??;
        Ok(ScrollAnswer { points, next, freshness })
    }

    /// A snapshot and its receipt. The positions are taken first: they claim nothing that is not seen.
    fn dated_snapshot(&self) -> (Snapshot, Freshness) {
        let mut freshness = self.shard.marks().freshness(Lsn(0), 1.0);
        let snapshot = self.shard.snapshot();
        freshness.lsn = snapshot.lsn;
        (snapshot, freshness)
    }

    /// How many points match; always exact.
    pub async fn count(&self, filter: Option<Filter>, read: ReadOptions) -> Result<u64, EngineError> {
        let deadline = self.wait_fresh(&read).await?;
        let Some(filter) = filter else { return Ok(self.shard.marks().live_points()) };
        let snapshot = self.shard.snapshot();
        let work = move || {
            let mut count = 0;
            for_each_match(&snapshot, Some(&filter), Some(deadline), |_| count += 1)?;
            Ok(count)
        };
        self.searches.run(work).await.map_err(|error| self.refused_search(error))?
    }

    /// The receipt a search would carry now.
    pub fn freshness(&self) -> Freshness {
        let marks = self.shard.marks();
        let info = self.shard.info();
        let scanned = match info.points {
            0 => 0.0,
            points => 1.0 - info.indexed_points.min(points) as f64 / points as f64,
        };
        marks.freshness(marks.applied(), scanned)
    }

    /// The latest records in quarantine, newest first.
    pub async fn quarantine(&self, limit: usize) -> Result<Vec<QuarantinedRecord>, EngineError> {
        let shard = Arc::clone(&self.shard);
        let work = move || {
            let rejected = shard.quarantine(limit).map_err(EngineError::from_store)?;
            let records = rejected.into_iter().map(|one| QuarantinedRecord {
                source: one.source,
                lsn: one.lsn,
                reject: one.reject,
            });
            Ok(records.collect())
        };
        self.searches.run(work).await.map_err(|error| self.refused_search(error))?
    }

    /// What matches, with its version.
    async fn matching(&self, filter: Filter) -> Result<Vec<(PointId, Lsn)>, EngineError> {
        self.shard.settle().await.map_err(|error| self.refused(error))?;
        let snapshot: Snapshot = self.shard.snapshot();
        let work = move || {
            let mut versions = Vec::new();
            // What edits or deletes goes on when its caller has given up.
            for_each_match(&snapshot, Some(&filter), None, |row: RowRef| {
                versions.push((row.id(), row.born()))
            })?;
            Ok(versions)
        };
        self.searches.run(work).await.map_err(|error| self.refused_search(error))?
    }

    /// Checks vectors, normalises for cosine, and gives operations without an event time the present.
    fn prepare(&self, batch: &mut WriteBatch) -> Result<(), EngineError> {
        let config = self.config.load();
        let dim = config.dim as usize;
        check_dim(batch.dim as usize, dim, &config.name, "points")?;
        let upserts = batch.ops.iter().filter(|op| matches!(op.kind, OpKind::Upsert { .. }));
        for (op, vector) in upserts.zip(batch.vectors.chunks_exact_mut(dim)) {
            let invalid = |problem: &str, code| EngineError::Invalid {
                field: format!("point {}", op.id),
                problem: problem.into(),
                code,
            };
            if !distance::all_finite(vector) {
                return Err(invalid(
                    "a vector component is NaN or infinite; give finite numbers",
                    "not_finite",
                ));
            }
            // An edited row comes back normalised; normalising it again changes nothing but rounding.
            let is_new = !matches!(op.expect, Expect::Version(_));
            if config.distance == Distance::Cosine && is_new && distance::normalize(vector) == 0.0 {
                return Err(invalid(
                    "the zero vector has no direction, so cosine cannot index it",
                    "zero_vector",
                ));
            }
        }
        Ok(())
    }

    /// Waits for what the read wants to see; returns the deadline that is left.
    async fn wait_fresh(&self, read: &ReadOptions) -> Result<Deadline, EngineError> {
        let (started, deadline) = (Instant::now(), Deadline::after(read.timeout));
        if let Some(wanted) = &read.fresh_as_of {
            let waited = self.shard.marks().wait_for(wanted, deadline.at().into()).await;
            waited.map_err(|behind| EngineError::NotFresh { waited: started.elapsed(), behind })?;
        }
        Ok(deadline)
    }

    fn refused(&self, error: crate::shard::ProposeError) -> EngineError {
        EngineError::from_propose(error, &self.config.load().name)
    }

    fn refused_search(&self, error: super::search_pool::PoolError) -> EngineError {
        match error {
            super::search_pool::PoolError::Full => {
                EngineError::Overloaded { collection: self.name(), retry_after: Duration::from_millis(100) }
            }
            super::search_pool::PoolError::Closed => EngineError::ShuttingDown,
        }
    }
}

/// The first of these points, edited, and how many it were: as many as fit one entry, at least one.
fn edited(
    snapshot: &Snapshot,
    dim: u32,
    ids: &[PointId],
    edit: &PayloadEdit,
) -> Result<(WriteBatch, usize), EngineError> {
    let mut batch = WriteBatch::new(dim);
    let mut seen = std::collections::HashSet::new();
    let mut bytes = 0;
    for (number, id) in ids.iter().enumerate() {
        if bytes > EDIT_BYTES {
            return Ok((batch, number));
        }
        let Some(row) = find(snapshot, id).filter(|_| seen.insert(id)) else { continue };
        let old = payload(&row)?;
        let new = match edit {
            PayloadEdit::Set(fields) => {
                let mut payload = old;
                payload.extend(fields.clone());
                payload
            }
            PayloadEdit::Overwrite(fields) => fields.clone(),
            PayloadEdit::Delete(fields) => {
                let mut payload = old;
                payload.retain(|field, _| !fields.contains(field));
                payload
            }
            PayloadEdit::Clear => Default::default(),
        };
        let text = serde_json::to_vec(&new).map_err(|error| EngineError::Invalid {
            field: "payload".into(),
            problem: error.to_string(),
            code: "invalid_payload",
        })?;
        bytes += text.len() + 4 * dim as usize;
        batch.vectors.extend_from_slice(row.vector().map_err(EngineError::from_store)?);
        batch.ops.push(Op {
            id: row.id(),
            kind: OpKind::Upsert { payload: text.into(), event_time_ms: row.event_time_ms() },
            expect: Expect::Version(row.born()),
            position: None,
        });
    }
    Ok((batch, ids.len()))
}

/// Does it cost about what most searches cost? What others took says nothing of one that asks for much.
fn is_usual(request: &SearchRequest) -> bool {
    !request.exact
        && request.filter.is_none()
        && request.offset + request.limit <= USUAL_HITS
        && request.ef_search.is_none_or(|ef| ef <= USUAL_EF)
        && request.codes == CodedSearch::default()
}

/// A conditional write must be heard of: a conflict that nobody learns of is a lost edit.
fn heard(wait: Wait) -> Wait {
    if wait == Wait::Ack { Wait::Durable } else { wait }
}

fn applied(outcome: Outcome) -> Result<Lsn, EngineError> {
    match outcome {
        Outcome::Applied { lsn } | Outcome::Duplicate { lsn } | Outcome::Refused { lsn, .. } => Ok(lsn),
        Outcome::Conflict { id, found, .. } => Err(EngineError::Conflict { id, found }),
    }
}

fn check_dim(given: usize, expected: usize, collection: &str, field: &str) -> Result<(), EngineError> {
    if given == expected {
        return Ok(());
    }
    Err(EngineError::DimensionMismatch {
        field: field.into(),
        collection: collection.into(),
        given,
        expected,
    })
}
