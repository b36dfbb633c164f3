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
    collection: &Collection,
    write: Write,
    wait: Wait,
    timeout: Duration,
) -> Result<Lsn, ApiError> {
    if write.is_nothing() {
        return Ok(collection.info().applied_lsn);
    }
    let work = async {
        match write {
            Write::Batch(batch) => collection.write(batch, wait).await,
            Write::DeleteMatching(filter) => collection.delete_by_filter(filter, wait).await,
            Write::Edit(points, edit) => collection.edit_payload(points, edit, wait).await,
        }
    };
    within(timeout, "the write", work).await
}

/// Gives up on work after a while. A write's outcome is unknown then: it may be in the log.
pub(super) async fn within<T>(
    timeout: Duration,
    action: &'static str,
    work: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done.map_err(ApiError::from),
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
pub(super) async fn ask(collection: &Collection, ask: Ask) -> Result<(Vec<Hit>, Freshness), ApiError> {
    match ask {
        Ask::Search(request) => {
            let answer = collection.search(request).await?;
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
