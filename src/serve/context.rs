//! What is known of the request being served: its id and when it came.
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue};
use uuid::Uuid;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: &str = "x-request-id";

/// Ids of clients are echoed up to this length: an id is for finding a request in logs, not for carrying data.
const REQUEST_ID_BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The request being served.
#[derive(Debug, Clone)]
pub struct RequestContext {
    id: Arc<str>,
    started: Instant,
}

impl RequestContext {
    /// Takes the client's id where it is fit to be echoed, else makes one.
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
        });
        let id = given.map_or_else(|| Uuid::now_v7().simple().to_string().into(), Arc::from);
        Self { id, started: Instant::now() }
    }

    /// The request's id: printable ASCII.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id as a header's value.
    pub fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.id).ok()
    }

    /// Time since the request came.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The same in seconds, for answers.
    pub fn seconds(&self) -> f64 {
        self.elapsed().as_secs_f64()
    }

    /// Runs `work` as this request.
    pub async fn scope<T>(self, work: impl Future<Output = T>) -> T {
        CURRENT.scope(self, work).await
    }
}

/// The request being served; a new one outside of any.
pub fn current() -> RequestContext {
    CURRENT.try_with(RequestContext::clone).unwrap_or_else(|_| RequestContext::of(&HeaderMap::new()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ids_are_echoed() {
        let id_for = |given: &str| {
            let headers = HeaderMap::from_iter([(REQUEST_ID.parse().unwrap(), given.parse().unwrap())]);
            RequestContext::of(&headers).id().to_string()
        };
        assert_eq!(id_for("abc-1"), "abc-1");
        assert_ne!(id_for("a b"), "a b");
        assert_eq!(id_for(&"x".repeat(129)).len(), 32);
    }
}
