//! The envelope of a good answer: `{"result": …, "status": "ok", "time": s}`.
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::context;
use super::error_map::ApiError;
use crate::query::Freshness;

/// A result, and the freshness receipt where it was asked for.
pub struct Answer<T> {
    result: T,
    freshness: Option<Freshness>,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    result: &'a T,
    status: &'static str,
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    freshness: &'a Option<Freshness>,
}

impl<T> Answer<T> {
    /// A plain result.
    pub fn new(result: T) -> Self {
        Self { result, freshness: None }
    }

    /// With a receipt, if there is one.
    pub fn with_freshness(result: T, freshness: Option<Freshness>) -> Self {
        Self { result, freshness }
    }
}

impl<T: Serialize> IntoResponse for Answer<T> {
    fn into_response(self) -> Response {
        let time = context::current().seconds();
        let envelope = Envelope { result: &self.result, status: "ok", time, freshness: &self.freshness };
        match serde_json::to_vec(&envelope) {
            Ok(body) => {
                let json = HeaderValue::from_static("application/json");
                (StatusCode::OK, [(header::CONTENT_TYPE, json)], body).into_response()
            }
            Err(error) => ApiError::internal(format!("the answer is not JSON: {error}")).into_response(),
        }
    }
}
