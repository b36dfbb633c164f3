//! What the node says of itself.
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::serve::doors::Doors;

/// The version of Qdrant's interface that the shapes of REST follow. Its clients compare it with their own and
/// warn when the two are more than one minor version apart.
const INTERFACE_VERSION: &str = "1.20.0";

/// `GET /`: not in the envelope, since clients read `version` at the top.
pub async fn version() -> Json<Value> {
    Json(json!({
        "title": "ProximaDB",
        "version": INTERFACE_VERSION,
        "proximadb_version": env!("CARGO_PKG_VERSION"),
    }))
}

/// `GET /healthz`, `GET /livez`: the process answers.
pub async fn alive() -> &'static str {
    "alive\n"
}

/// `GET /readyz`: requests can be served, or why not.
pub async fn ready(State(doors): State<Doors>) -> impl IntoResponse {
    match doors.engine.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_string()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
    }
}

/// `GET /metrics`: Prometheus text.
pub async fn metrics(State(doors): State<Doors>) -> impl IntoResponse {
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, content_type)], (doors.metrics)())
}
