//! REST: which path does what.
mod collections;
mod node;
mod pipelines;
mod read;
mod write;

use axum::Router;
use axum::extract::{FromRequestParts, Path};
use axum::http::Method;
use axum::http::request::Parts;
use axum::routing::{delete, get, post, put};

use super::doors::Doors;
use super::error_map::ApiError;

/// All routes of REST.
pub(super) fn routes() -> Router<Doors> {
    Router::new()
        .route("/", get(node::version))
        .route("/healthz", get(node::alive))
        .route("/livez", get(node::alive))
        .route("/readyz", get(node::ready))
        .route("/metrics", get(node::metrics))
        .route("/collections", get(collections::list))
        .route("/aliases", get(collections::aliases))
        .route("/collections/{collection}/aliases", get(collections::aliases_of))
        .route(
            "/collections/{collection}",
            get(collections::describe)
                .put(collections::create)
                .patch(collections::patch)
                .delete(collections::delete),
        )
        .route("/collections/{collection}/exists", get(collections::exists))
        .route("/collections/{collection}/index", put(collections::create_index))
        .route("/collections/{collection}/index/{field}", delete(collections::delete_index))
        .route("/collections/{collection}/freshness", get(collections::freshness))
        .route("/collections/{collection}/quarantine", get(collections::quarantine))
        .route("/collections/{collection}/points", put(write::upsert).post(read::get))
        .route("/collections/{collection}/points/{id}", get(read::get_one))
        .route("/collections/{collection}/points/delete", post(write::delete))
        .route("/collections/{collection}/points/batch", post(write::operations))
        .route(
            "/collections/{collection}/points/payload",
            post(write::set_payload).put(write::overwrite_payload),
        )
        .route("/collections/{collection}/points/payload/delete", post(write::delete_payload))
        .route("/collections/{collection}/points/payload/clear", post(write::clear_payload))
        .route("/collections/{collection}/points/query", post(read::query))
        .route("/collections/{collection}/points/query/batch", post(read::query_batch))
        .route("/collections/{collection}/points/search", post(read::search))
        .route("/collections/{collection}/points/search/batch", post(read::search_batch))
        .route("/collections/{collection}/points/scroll", post(read::scroll))
        .route("/collections/{collection}/points/count", post(read::count))
        .route("/pipelines", get(pipelines::list))
        .route("/pipelines/{pipeline}", get(pipelines::describe))
        .route("/pipelines/{pipeline}/lag", get(pipelines::lag))
        .route("/pipelines/{pipeline}/pause", post(pipelines::pause))
        .route("/pipelines/{pipeline}/resume", post(pipelines::resume))
}

/// What others have at a path that is empty here: worth another answer than "there is nothing".
pub(super) fn not_yet(method: &Method, path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["collections", "aliases"] if method == Method::POST => Some("switching aliases"),
        ["collections", _, "facet"] => Some("counting by facet"),
        ["collections", _, "points", "vectors"] | ["collections", _, "points", "vectors", "delete"] => {
            Some("changing vectors alone")
        }
        ["collections", _, "points", "query" | "search", "groups"] => Some("grouping hits"),
        ["collections", _, "points", "recommend" | "discover", ..] => Some("recommending and discovering"),
        ["collections", _, "points", "search", "matrix", _] => Some("a matrix of distances"),
        ["collections", _, "vectors", _] => Some("adding and removing named vectors"),
        ["collections", _, "snapshots", ..] | ["snapshots", ..] => Some("taking snapshots"),
        ["collections", _, "cluster" | "shards", ..] | ["cluster", ..] => Some("running as a cluster"),
        _ => None,
    }
}

/// The names in a path.
struct Names<T>(T);

impl<T, S> FromRequestParts<S> for Names<T>
where
    T: serde::de::DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<T>::from_request_parts(parts, state).await {
            Ok(Path(names)) => Ok(Self(names)),
            Err(rejection) => Err(ApiError::invalid("invalid_path", "", rejection.body_text())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_others_have_are_told_from_typos() {
        assert_eq!(not_yet(&Method::POST, "/collections/c/points/query/groups"), Some("grouping hits"));
        assert_eq!(not_yet(&Method::PUT, "/collections/c/points/vectors"), Some("changing vectors alone"));
        assert_eq!(not_yet(&Method::POST, "/collections/c/points/qurey"), None);
        assert_eq!(not_yet(&Method::GET, "/collection"), None);
    }

    #[test]
    fn the_routes_do_not_overlap() {
        // The router panics where two of them do.
        let _ = routes();
    }
}
