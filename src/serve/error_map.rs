//! From an error to what a door says: the only place that knows status codes.
use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use tonic::Code;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

use super::context;
use crate::engine::EngineError;
use crate::query::FilterError;
use crate::types::ErrorKind;

/// The metadata key of a gRPC error's stable code.
pub const GRPC_CODE_KEY: &str = "proximadb-code";

/// An error on its way out of a door.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    class: Class,
    code: &'static str,
    message: String,
    details: Map<String, Value>,
    retry_after: Option<Duration>,
}

/// An [`ErrorKind`], or trouble that only a door knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Kind(ErrorKind),
    MethodNotAllowed,
    BodyTooLarge,
}

impl Class {
    fn http(self) -> StatusCode {
        match self {
            Self::Kind(kind) => match kind {
                ErrorKind::Invalid => StatusCode::BAD_REQUEST,
                ErrorKind::Unauthenticated => StatusCode::UNAUTHORIZED,
                ErrorKind::Forbidden => StatusCode::FORBIDDEN,
                ErrorKind::NotFound => StatusCode::NOT_FOUND,
                ErrorKind::AlreadyExists | ErrorKind::Conflict => StatusCode::CONFLICT,
                ErrorKind::Overloaded => StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::NotLeader | ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
                ErrorKind::DataLoss | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        }
    }

    fn grpc(self) -> Code {
        match self {
            Self::Kind(kind) => match kind {
                ErrorKind::Invalid => Code::InvalidArgument,
                ErrorKind::Unauthenticated => Code::Unauthenticated,
                ErrorKind::Forbidden => Code::PermissionDenied,
                ErrorKind::NotFound => Code::NotFound,
                ErrorKind::AlreadyExists => Code::AlreadyExists,
                ErrorKind::Conflict => Code::Aborted,
                ErrorKind::Overloaded => Code::ResourceExhausted,
                ErrorKind::NotLeader | ErrorKind::Unavailable => Code::Unavailable,
                ErrorKind::Timeout => Code::DeadlineExceeded,
                ErrorKind::DataLoss => Code::DataLoss,
                ErrorKind::Internal => Code::Internal,
            },
            Self::MethodNotAllowed => Code::Unimplemented,
            Self::BodyTooLarge => Code::OutOfRange,
        }
    }
}

impl ApiError {
    fn new(class: Class, code: &'static str, message: impl Into<String>) -> Self {
        Self { class, code, message: message.into(), details: Map::new(), retry_after: None }
    }

    /// A part of the request that cannot be; `field` is its path.
    pub fn invalid(code: &'static str, field: &str, problem: impl std::fmt::Display) -> Self {
        let message = if field.is_empty() { problem.to_string() } else { format!("{field}: {problem}") };
        let error = Self::new(Class::Kind(ErrorKind::Invalid), code, message);
        if field.is_empty() { error } else { error.with("field", field) }
    }

    /// Something that others have and we do not, yet.
    pub fn unsupported(field: &str, what: impl std::fmt::Display) -> Self {
        Self::invalid("unsupported", field, what)
    }

    /// No route has this path.
    pub fn no_route(path: &str) -> Self {
        let message = format!("there is nothing at {path}");
        Self::new(Class::Kind(ErrorKind::NotFound), "route_not_found", message).with("path", path)
    }

    /// The route has other verbs.
    pub fn method_not_allowed(method: &str, path: &str) -> Self {
        let message = format!("{path} does not take {method}");
        Self::new(Class::MethodNotAllowed, "method_not_allowed", message).with("method", method)
    }

    /// The body passes the limit.
    pub fn body_too_large(max: usize) -> Self {
        let message = format!("the request body has more than {max} bytes; send several smaller batches");
        Self::new(Class::BodyTooLarge, "body_too_large", message).with("bytes_max", max)
    }

    /// The body broke off.
    pub fn body_unreadable(error: &dyn Error) -> Self {
        let message = format!("the request body could not be read: {}", with_sources(error));
        Self::new(Class::Kind(ErrorKind::Invalid), "body_unreadable", message)
    }

    /// A broken invariant of ours.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Kind(ErrorKind::Internal), "internal", message)
    }

    /// Adds evidence for programs.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_string(), value.into());
        self
    }

    /// The same trouble, seen from an object that holds the part it is about.
    pub fn under(mut self, at: &str) -> Self {
        let (path, joint) = match self.details.get("field").and_then(Value::as_str) {
            Some(field) if self.message.starts_with(field) => (format!("{at}.{field}"), "."),
            _ => (at.to_string(), ": "),
        };
        self.message = format!("{at}{joint}{}", self.message);
        self.with("field", path)
    }

    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What people read.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The HTTP status.
    pub fn http_status(&self) -> StatusCode {
        self.class.http()
    }

    /// The gRPC status code.
    pub fn grpc_code(&self) -> Code {
        self.class.grpc()
    }

    /// Trouble of ours is logged; the caller's is theirs.
    fn log(&self) {
        let status = self.http_status().as_u16();
        match self.class {
            Class::Kind(ErrorKind::DataLoss | ErrorKind::Internal) => {
                tracing::error!(status, code = self.code, error = %self.message, "request failed");
            }
            Class::Kind(ErrorKind::Unavailable) => {
                tracing::warn!(status, code = self.code, error = %self.message, "request failed");
            }
            _ => tracing::debug!(status, code = self.code, error = %self.message, "request refused"),
        }
    }

    /// The status with code, details and request id in its metadata.
    pub fn into_status(self, request_id: &str) -> tonic::Status {
        self.log();
        let mut metadata = MetadataMap::new();
        metadata.insert(GRPC_CODE_KEY, AsciiMetadataValue::from_static(self.code));
        if let Ok(id) = request_id.parse() {
            metadata.insert(context::REQUEST_ID, id);
        }
        if let Some(seconds) = self.retry_after_seconds() {
            metadata.insert("retry-after", seconds.into());
        }
        let details = serde_json::to_vec(&self.details).unwrap_or_default();
        tonic::Status::with_details_and_metadata(self.class.grpc(), self.message, details.into(), metadata)
    }

    /// Whole seconds, at least one.
    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after
            .map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
            .map(|wait| wait.max(1))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.log();
        let context = context::current();
        let body = json!({
            "status": {
                "error": self.message,
                "code": self.code,
                "details": self.details,
                "request_id": context.id(),
            },
            "time": context.seconds(),
        });
        let mut response = (self.http_status(), axum::Json(body)).into_response();
        if let Some(seconds) = self.retry_after_seconds() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        let code = match &error {
            FilterError::Payload { .. } => "data_loss",
            FilterError::UnknownKey { .. } => "unknown_field",
            FilterError::Unsupported { .. } => "unsupported",
            FilterError::Malformed { .. } | FilterError::TooLarge { .. } => "invalid_filter",
        };
        let mut api = Self::new(Class::Kind(error.kind()), code, with_sources(&error));
        if let Some(path) = error.path() {
            api = api.with("field", path);
        }
        if let FilterError::UnknownKey { nearest: Some(nearest), .. } = &error {
            api = api.with("nearest", *nearest);
        }
        api
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        if let EngineError::Filter(filter) = error {
            return filter.into();
        }
        let api = Self::new(Class::Kind(error.kind()), error.code(), with_sources(&error));
        match error {
            EngineError::CollectionNotFound { name, .. } | EngineError::CollectionExists { name } => {
                api.with("collection", name)
            }
            EngineError::PipelineNotFound { name, .. } => api.with("pipeline", name),
            EngineError::Invalid { field, .. } => api.with("field", field),
            EngineError::DimensionMismatch { field, collection, given, expected } => api
                .with("field", field)
                .with("collection", collection)
                .with("given", given)
                .with("expected", expected),
            EngineError::PointNotFound { id } => api.with("id", id.to_json()),
            EngineError::Conflict { id, found } => {
                api.with("id", id.to_json()).with("version", found.map(|version| version.0))
            }
            EngineError::NotFresh { waited, behind } => {
                api.with("waited_ms", waited.as_millis() as u64).with("behind", behind)
            }
            EngineError::Timeout { timeout, .. } => api.with("timeout_ms", timeout.as_millis() as u64),
            EngineError::Overloaded { collection, retry_after } => {
                let mut api = api.with("collection", collection);
                api.retry_after = Some(retry_after);
                api.with("retry_after_ms", retry_after.as_millis() as u64)
            }
            EngineError::MemoryFull { retry_after, .. } => {
                let mut api = api.with("retry_after_ms", retry_after.as_millis() as u64);
                api.retry_after = Some(retry_after);
                api
            }
            EngineError::LogStopped { collection, .. } => api.with("collection", collection),
            EngineError::Filter(_)
            | EngineError::DataLoss { .. }
            | EngineError::Storage { .. }
            | EngineError::DiskFull { .. }
            | EngineError::Catalog { .. }
            | EngineError::ShuttingDown => api,
        }
    }
}

fn with_sources(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    message
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::{Lsn, PointId};

    #[test]
    fn every_kind_has_its_codes_of_http_and_grpc() {
        let table = [
            (ErrorKind::Invalid, 400, Code::InvalidArgument),
            (ErrorKind::Unauthenticated, 401, Code::Unauthenticated),
            (ErrorKind::Forbidden, 403, Code::PermissionDenied),
            (ErrorKind::NotFound, 404, Code::NotFound),
            (ErrorKind::AlreadyExists, 409, Code::AlreadyExists),
            (ErrorKind::Conflict, 409, Code::Aborted),
            (ErrorKind::Overloaded, 429, Code::ResourceExhausted),
            (ErrorKind::NotLeader, 503, Code::Unavailable),
            (ErrorKind::Unavailable, 503, Code::Unavailable),
            (ErrorKind::Timeout, 504, Code::DeadlineExceeded),
            (ErrorKind::DataLoss, 500, Code::DataLoss),
            (ErrorKind::Internal, 500, Code::Internal),
        ];
        for (kind, http, grpc) in table {
            assert_eq!(Class::Kind(kind).http().as_u16(), http, "{kind:?}");
            assert_eq!(Class::Kind(kind).grpc(), grpc, "{kind:?}");
        }
    }

    fn body(error: ApiError) -> (StatusCode, Value, axum::http::HeaderMap) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let response = error.into_response();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = runtime.block_on(axum::body::to_bytes(response.into_body(), usize::MAX)).unwrap();
        (status, serde_json::from_slice(&bytes).unwrap(), headers)
    }

    #[test]
    fn the_envelope_carries_text_code_details_and_time() {
        let error = EngineError::DimensionMismatch {
            field: "points[3].vector (id \"a\")".into(),
            collection: "c".into(),
            given: 3,
            expected: 4,
        };
        let (status, body, _) = body(error.into());
        assert_eq!(status, 400);
        assert_eq!(body["status"]["code"], "dimension_mismatch");
        assert_eq!(
            body["status"]["error"],
            "points[3].vector (id \"a\"): vector has 3 components, collection \"c\" has 4"
        );
        assert_eq!(body["status"]["details"]["expected"], 4);
        assert!(body["status"]["request_id"].is_string());
        assert!(body["time"].as_f64().is_some_and(|time| time >= 0.0));
    }

    #[test]
    fn overload_says_when_to_retry_in_whole_seconds() {
        let error =
            EngineError::Overloaded { collection: "c".into(), retry_after: Duration::from_millis(20) };
        let (status, body, headers) = body(error.into());
        assert_eq!(status, 429);
        assert_eq!(headers["retry-after"], "1");
        assert_eq!(body["status"]["details"]["retry_after_ms"], 20);
    }

    #[test]
    fn a_grpc_status_carries_code_and_request_id() {
        let error = EngineError::Conflict { id: PointId::text("a").unwrap(), found: Some(Lsn(7)) };
        let status = ApiError::from(error).into_status("r-1");
        assert_eq!(status.code(), Code::Aborted);
        assert_eq!(status.metadata().get(GRPC_CODE_KEY).unwrap(), "conflict");
        assert_eq!(status.metadata().get("x-request-id").unwrap(), "r-1");
        assert_eq!(
            serde_json::from_slice::<Value>(status.details()).unwrap(),
            json!({"id": "a", "version": 7})
        );
    }
}
