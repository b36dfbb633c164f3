//! What surrounds every request: its id, its limits, its metrics, and answers for paths that do not exist.
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tonic::{Code, Status};

use super::context::{self, REQUEST_ID, RequestContext};
use super::error_map::ApiError;
use super::limits::Limits;
use super::metrics;

/// The label of requests that met no route.
const NO_ROUTE: &str = "none";

/// Puts the frame around routes.
pub(super) fn around(routes: Router, limits: Limits) -> Router {
    routes
        .fallback(no_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(limits, serve_one))
}

async fn serve_one(State(limits): State<Limits>, mut request: Request, next: Next) -> Response {
    let context = RequestContext::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let is_grpc = is_grpc(request.headers());
    let method = is_grpc.then(|| request.uri().path().to_string());
    request.extensions_mut().insert(limits);
    let mut response = context.clone().scope(next.run(request)).await;
    if let Some(id) = context.header() {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    match method {
        Some(method) => {
            let code = Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code());
            // Whoever calls methods that don't exist must not make us keep a label for each.
            let exists = route != NO_ROUTE && code != Code::Unimplemented;
            metrics::grpc(if exists { &method } else { NO_ROUTE }, code, context.elapsed());
        }
        None => metrics::http(route, response.status(), context.elapsed()),
    }
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("application/grpc"))
}

async fn no_route(request: Request) -> Response {
    let path = request.uri().path();
    if is_grpc(request.headers()) {
        let status = Status::unimplemented(format!("there is no method {path}"));
        return status.into_http::<axum::body::Body>();
    }
    not_yet(&request).unwrap_or_else(|| ApiError::no_route(path)).into_response()
}

async fn method_not_allowed(request: Request) -> ApiError {
    let refusal = || ApiError::method_not_allowed(request.method().as_str(), request.uri().path());
    not_yet(&request).unwrap_or_else(refusal)
}

/// Others have something there.
fn not_yet(request: &Request) -> Option<ApiError> {
    let what = super::rest::not_yet(request.method(), request.uri().path())?;
    Some(ApiError::unsupported("", format!("{what} {}", super::json::NOT_SUPPORTED)))
}

/// The id of the request being served, for gRPC answers that outlive this frame.
pub(super) fn request_id() -> String {
    context::current().id().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::Body as HttpBody;
    use axum::http::{Method, StatusCode};
    use axum::routing::{get, post};
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::serve::answer::Answer;
    use crate::serve::json::Body;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Echo {
        number: f64,
    }

    async fn echo(body: Body) -> Result<Answer<f64>, ApiError> {
        body.with(|echo: Echo| Ok(echo.number)).await.map(Answer::new)
    }

    fn app() -> Router {
        let limits = Limits { body_bytes_max: 100, ..Limits::default() };
        around(Router::new().route("/echo/{name}", post(echo)).route("/read", get(async || "read")), limits)
    }

    async fn send(
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<HttpBody>,
    ) -> (Response<()>, Value) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = app().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap_or_default())
    }
    use axum::http::Response;

    #[tokio::test]
    async fn a_good_answer_has_result_status_and_time() {
        let (response, body) =
            send(Method::POST, "/echo/x", &[(REQUEST_ID, "r-7")], r#"{"number": 1.5}"#).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[REQUEST_ID], "r-7");
        assert_eq!((&body["result"], &body["status"]), (&1.5.into(), &"ok".into()));
        assert!(body["time"].is_number());
        assert!(body.get("freshness").is_none());
    }

    #[tokio::test]
    async fn refusals_carry_the_id_of_the_request() {
        let (response, body) =
            send(Method::POST, "/echo/x", &[(REQUEST_ID, "r-8")], r#"{"numbre": 1}"#).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(body["status"]["code"], "unknown_field");
        assert_eq!(body["status"]["error"], "unknown key \"numbre\"; did you mean \"number\"?");
        assert_eq!(body["status"]["details"]["nearest"], "number");
        assert_eq!(body["status"]["request_id"], "r-8");
        let (response, body) = send(Method::POST, "/echo/x", &[], "{").await;
        assert_eq!(
            (response.status(), &body["status"]["code"]),
            (StatusCode::BAD_REQUEST, &"invalid_json".into())
        );
        assert_eq!(response.headers()[REQUEST_ID].to_str().unwrap(), body["status"]["request_id"]);
    }

    #[tokio::test]
    async fn paths_and_verbs_that_do_not_exist_answer_with_the_envelope() {
        let (response, body) = send(Method::GET, "/nowhere", &[], "").await;
        assert_eq!(
            (response.status(), &body["status"]["code"]),
            (StatusCode::NOT_FOUND, &"route_not_found".into())
        );
        let (response, body) = send(Method::PUT, "/read", &[], "").await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(body["status"]["error"], "/read does not take PUT");
        let (response, body) = send(Method::POST, "/collections/c/facet", &[], "{}").await;
        assert_eq!(
            (response.status(), &body["status"]["code"]),
            (StatusCode::BAD_REQUEST, &"unsupported".into())
        );
    }

    #[tokio::test]
    async fn a_body_past_the_limit_is_refused_announced_or_not() {
        let long = format!("{{\"number\": {}}}", "1".repeat(100));
        let (response, body) =
            send(Method::POST, "/echo/x", &[("content-length", "112")], long.clone()).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(body["status"]["details"]["bytes_max"], 100);
        let chunks = futures_util::stream::iter([Ok::<_, std::io::Error>(long)]);
        let (response, _) = send(Method::POST, "/echo/x", &[], HttpBody::from_stream(chunks)).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn an_unknown_grpc_method_is_unimplemented() {
        let grpc = [("content-type", "application/grpc")];
        let (response, _) = send(Method::POST, "/proximadb.v1.Points/Upsret", &grpc, "").await;
        assert_eq!(
            (response.status(), &response.headers()["grpc-status"]),
            (StatusCode::OK, &"12".parse().unwrap())
        );
    }
}
