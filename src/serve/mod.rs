//! The doors: REST and gRPC on one port.
//!
//! ```text
//!            ┌ frame: request id · limits · metrics ┐
//!  HTTP/1.1 ─┤  rest ─ wire: bodies ──┐             ├─ engine
//!  HTTP/2   ─┤  grpc ─ messages ──────┴─ checks     │
//!            └──────────────────────────────────────┘
//! ```
//! I1 every error leaves in one shape, with the request's id and a stable code; only `error_map` knows status
//!    codes. I2 nothing in a request is ignored silently: it has its effect, or is on a list of what has none,
//!    or is refused. I3 what reaches the engine is checked: lengths, finiteness, ids, payloads, filters, limits.
//! I4 a request's memory is bounded by [`Limits`], and that of all of them by the process's budget.
mod admission;
mod answer;
mod batch;
mod context;
mod doors;
mod error_map;
mod frame;
mod grpc;
mod json;
mod json_path;
mod limits;
mod metrics;
mod params;
mod rest;
mod server;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;

use crate::engine::Engine;

pub use context::REQUEST_ID;
pub use doors::RenderMetrics;
pub use error_map::GRPC_CODE_KEY;
pub use limits::Limits;
pub use metrics::describe as describe_metrics;
pub use server::serve;

/// All routes of REST and gRPC over an engine. `metrics` renders `GET /metrics`.
pub fn router(engine: Arc<Engine>, limits: Limits, metrics: RenderMetrics) -> Router {
    let gate = admission::Gate { budget: Arc::clone(engine.budget()), wait: limits.room_wait };
    let state = doors::Doors { engine, limits: Arc::new(limits.clone()), metrics };
    let rest = rest::routes().with_state(state.clone()).layer(from_fn_with_state(gate, admission::admit));
    let routes = rest.merge(grpc::routes(state));
    frame::around(routes, limits)
}
