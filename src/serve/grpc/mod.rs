//! gRPC: the same engine, the same checks, messages instead of JSON.
mod collections;
mod convert;
mod pipelines;
mod points;
mod quantization;
mod stream;

use axum::Router;
use proximadb_proto::v1::collections_server::CollectionsServer;
use proximadb_proto::v1::pipelines_server::PipelinesServer;
use proximadb_proto::v1::points_server::PointsServer;
use tonic::{Request, Response, Status};

use super::doors::Doors;
use super::error_map::ApiError;
use super::frame::request_id;

/// All gRPC services, as routes beside those of REST.
pub(super) fn routes(doors: Doors) -> Router {
    let max = doors.limits.body_bytes_max;
    // Answers are ours and bounded by `limit_max`; the receiving side has its own limit.
    let collections = CollectionsServer::new(Service(doors.clone())).max_decoding_message_size(max);
    let points = PointsServer::new(Service(doors.clone()))
        .max_decoding_message_size(max)
        .max_encoding_message_size(usize::MAX);
    let pipelines = PipelinesServer::new(Service(doors)).max_decoding_message_size(max);
    Router::new()
        .route_service("/proximadb.v1.Collections/{method}", collections)
        .route_service("/proximadb.v1.Points/{method}", points)
        .route_service("/proximadb.v1.Pipelines/{method}", pipelines)
}

/// The services' implementation.
struct Service(Doors);

type Reply<T> = Result<Response<T>, Status>;

/// A call's end.
fn reply<T>(done: Result<T, ApiError>) -> Reply<T> {
    done.map(Response::new).map_err(|error| error.into_status(&request_id()))
}

/// The time that the client gives the call (`grpc-timeout`), if it says so.
fn deadline<T>(request: &Request<T>) -> Option<std::time::Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (value, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let value: u64 = value.parse().ok()?;
    Some(match unit {
        "H" => std::time::Duration::from_secs(value.saturating_mul(3_600)),
        "M" => std::time::Duration::from_secs(value.saturating_mul(60)),
        "S" => std::time::Duration::from_secs(value),
        "m" => std::time::Duration::from_millis(value),
        "u" => std::time::Duration::from_micros(value),
        "n" => std::time::Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn deadlines_in_every_unit() {
        let of = |text: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("grpc-timeout", text.parse().unwrap());
            deadline(&request)
        };
        assert_eq!(of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(of("2S"), Some(Duration::from_secs(2)));
        assert_eq!(of("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(of("x"), None);
        assert_eq!(deadline(&Request::new(())), None);
    }
}
