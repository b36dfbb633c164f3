//! Large bodies come in only while the process's memory has room for them.
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::header::CONTENT_LENGTH;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error_map::ApiError;
use crate::engine::EngineError;
use crate::memory::{MemoryBudget, Purpose};

/// Bodies up to here are not counted: all connections together hold little of them.
const SMALL: usize = 16 << 10;
/// Bytes of memory per byte of a body: as it came, and as the points that it names.
const FORMS: usize = 2;
/// Between looks at a full budget: a flush that makes room takes longer.
const PAUSE: Duration = Duration::from_millis(5);

/// What a body waits for, and how long.
#[derive(Clone)]
pub(super) struct Gate {
    pub budget: Arc<MemoryBudget>,
    pub wait: Duration,
}

/// Holds a request back until there is room for its body, and refuses it at the deadline. What announces no length
/// comes in: it is bounded by the limit of one body alone.
pub(super) async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let bytes = announced.and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    if bytes <= SMALL {
        return next.run(request).await;
    }
    let since = Instant::now();
    // Only up to the tight mark: what is above it is left to those that are further on, which make room.
    let _charge = loop {
        match gate.budget.reserve(Purpose::InFlight, bytes.saturating_mul(FORMS)) {
            Some(charge) => break charge,
            None if since.elapsed() < gate.wait => tokio::time::sleep(PAUSE).await,
            None => {
                metrics::counter!("proximadb_memory_refused_total", "what" => "body").increment(1);
                let (limit, held) = (gate.budget.limit() >> 20, gate.budget.describe());
                let reason = format!("the process's {limit} MiB of memory are nearly full, held by {held}");
                let refusal = EngineError::MemoryFull { reason, retry_after: since.elapsed() };
                return ApiError::from(refusal).into_response();
            }
        }
    };
    next.run(request).await
}
