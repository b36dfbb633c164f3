//! What the doors count. Labels are bounded: routes and methods that exist, and codes.
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, histogram};
use tonic::Code;

/// Requests answered over HTTP, by route and status.
pub const HTTP_REQUESTS: &str = "proximadb_http_requests_total";
/// Time from a request's head to its answer's head, by route.
pub const HTTP_DURATION: &str = "proximadb_http_request_duration_seconds";
/// Calls answered over gRPC, by method and code. A stream counts once, when it has begun.
pub const GRPC_REQUESTS: &str = "proximadb_grpc_requests_total";
/// Time from a call's head to its answer's head, by method.
pub const GRPC_DURATION: &str = "proximadb_grpc_request_duration_seconds";
/// Batches answered in streams, by outcome.
pub const STREAM_BATCHES: &str = "proximadb_grpc_stream_batches_total";

/// Says what the names mean. Call once a recorder is installed.
pub fn describe() {
    metrics::describe_counter!(HTTP_REQUESTS, "Requests answered over HTTP, by route and status");
    metrics::describe_histogram!(HTTP_DURATION, metrics::Unit::Seconds, "Time to answer a request over HTTP");
    metrics::describe_counter!(GRPC_REQUESTS, "Calls answered over gRPC, by method and code");
    metrics::describe_histogram!(GRPC_DURATION, metrics::Unit::Seconds, "Time to answer a call over gRPC");
    metrics::describe_counter!(STREAM_BATCHES, "Batches of gRPC streams, by outcome");
}

pub(super) fn http(route: &str, status: StatusCode, took: Duration) {
    let status = status.as_str().to_string();
    counter!(HTTP_REQUESTS, "route" => route.to_string(), "status" => status).increment(1);
    histogram!(HTTP_DURATION, "route" => route.to_string()).record(took.as_secs_f64());
}

pub(super) fn grpc(method: &str, code: Code, took: Duration) {
    let code = (code as i32).to_string();
    counter!(GRPC_REQUESTS, "method" => method.to_string(), "code" => code).increment(1);
    histogram!(GRPC_DURATION, "method" => method.to_string()).record(took.as_secs_f64());
}

pub(super) fn stream_batch(outcome: &'static str) {
    counter!(STREAM_BATCHES, "outcome" => outcome).increment(1);
}
