//! What every handler shares: the engine, the limits, and how requests are put to the engine.
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::error_map::ApiError;
use super::limits::Limits;
use super::wire::points::Write;
use super::wire::query::Ask;
use crate::engine::{Collection, Engine, EngineError, Wait};
use crate::query::{Freshness, Hit, PayloadSelection, ReadOptions, ScrollRequest};
use crate::types::Lsn;

/// Renders the metrics of the process as Prometheus text.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The state of both doors.
#[derive(Clone)]
pub(super) struct Doors {
    pub engine: Arc<Engine>,
    pub limits: Arc<Limits>,
    pub metrics: RenderMetrics,
}

/// Carries out a write. One that touches nothing is answered with what is applied already.
pub(super) async fn write(
    collection: &Arc<Collection>,
    write: Write,
    wait: Wait,
    timeout: Duration,
) -> Result<Lsn, ApiError> {
    if write.is_nothing() {
        return Ok(collection.info().applied_lsn);
    }
    // Edits and deletes by filter write what they have read: an entry that is only queued could still fail
    // because somebody wrote in between, and nobody would hear of it.
    let read_first = if wait == Wait::Ack { Wait::Durable } else { wait };
    let collection = Arc::clone(collection);
    match write {
        Write::Batch(batch) => within(timeout, "write", collection.write(batch, wait)).await,
        Write::DeleteMatching(filter) => {
            let work = async move { collection.delete_by_filter(filter, read_first).await };
            to_the_end(timeout, "delete by filter", work).await
        }
        Write::Edit(points, edit) => {
            let work = async move { collection.edit_payload(points, edit, read_first).await };
            to_the_end(timeout, "edit of payloads", work).await
        }
    }
}

/// Gives up on work after a while. A write's outcome is unknown then: it may be in the log.
async fn within<T>(
    timeout: Duration,
    action: &'static str,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done.map_err(ApiError::from),
        Err(_) => Err(EngineError::Timeout { action, timeout }.into()),
    }
}

/// Gives up *waiting* for work that takes several steps: it goes on when its caller hangs up or has waited long
/// enough, since a collection half created, or some points of a filter deleted, is nothing that anybody asked for.
pub(super) async fn to_the_end<T: Send + 'static>(
    timeout: Duration,
    action: &'static str,
    work: impl Future<Output = Result<T, EngineError>> + Send + 'static,
) -> Result<T, ApiError> {
    let task = tokio::spawn(work);
    match tokio::time::timeout(timeout, task).await {
        Ok(Ok(done)) => done.map_err(ApiError::from),
        Ok(Err(_)) => Err(ApiError::internal(format!("the {action} stopped; its outcome is unknown"))),
        Err(_) => Err(EngineError::Timeout { action, timeout }.into()),
    }
}

/// A receipt for a read that carries none itself: the state just before it, so it never promises too much.
pub(super) async fn receipt(
    collection: &Collection,
    read: &ReadOptions,
    wanted: bool,
) -> Result<Option<Freshness>, ApiError> {
    if !wanted {
        return Ok(None);
    }
    // Reading nothing waits for `fresh_as_of`, so that the receipt is not older than what was asked for.
    collection.get(Vec::new(), PayloadSelection::Nothing, false, read.clone()).await?;
    Ok(Some(collection.freshness()))
}

/// Hits, best first, and what they have seen.
pub(super) async fn ask(collection: &Arc<Collection>, ask: Ask) -> Result<(Vec<Hit>, Freshness), ApiError> {
    match ask {
        Ask::Search(request) => {
            let answer = collection.search(request).await?;
            Ok((answer.hits, answer.freshness))
        }
        page => ask_beside_others(collection, page).await,
    }
}

/// Searches of a batch that wait for a thread at once. A batch of the most queries would fill the queue that others
/// wait in, too, and be refused.
pub(super) const SEARCHES_AT_ONCE: usize = 64;

/// The same for one of several that a request asks at once.
pub(super) async fn ask_beside_others(
    collection: &Arc<Collection>,
    ask: Ask,
) -> Result<(Vec<Hit>, Freshness), ApiError> {
    match ask {
        Ask::Search(request) => {
            let answer = collection.search_beside_others(request).await?;
            Ok((answer.hits, answer.freshness))
        }
        Ask::Page { filter, skip, limit, with_payload, with_vector, read } => {
            let limit = limit.saturating_add(skip);
            let request = ScrollRequest { filter, limit, offset: None, with_payload, with_vector, read };
            let page = collection.scroll(request).await?;
            // Nothing to be near to: every point is as near as the next.
            let hits = page.points.into_iter().skip(skip).map(|record| Hit { record, score: 0.0 });
            Ok((hits.collect(), page.freshness))
        }
    }
}
