//! Collections, and what can be asked of one.
use axum::extract::State;
use serde_json::{Value, json};

use super::Names;
use crate::serve::answer::Answer;
use crate::serve::doors::{Doors, to_the_end};
use crate::serve::error_map::ApiError;
use crate::serve::json::Body;
use crate::serve::params::Params;
use crate::serve::wire::collection::{self, CreateBody, IndexBody, PatchBody};
use crate::serve::wire::payload::top_level_fields;
use crate::serve::wire::records::UpdateResult;

/// Records in quarantine listed where the request names no limit.
const QUARANTINE_LIMIT_DEFAULT: usize = 100;

type Reply<T> = Result<Answer<T>, ApiError>;

/// `GET /collections`.
pub async fn list(State(doors): State<Doors>, params: Params) -> Reply<Value> {
    params.known(&[])?;
    let names: Vec<Value> =
        doors.engine.collections().into_iter().map(|config| json!({"name": config.name})).collect();
    Ok(Answer::new(json!({ "collections": names })))
}

/// `PUT /collections/{c}`.
pub async fn create(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<bool> {
    params.known(&["timeout"])?;
    let timeout = params.timeout(&doors.limits)?.unwrap_or(doors.limits.timeout_default);
    let new = body.with(|body: CreateBody| body.build(name)).await?;
    let work = async move { doors.engine.create_collection(new).await };
    to_the_end(timeout, "creation of the collection", work).await?;
    Ok(Answer::new(true))
}

/// `GET /collections/{c}`.
pub async fn describe(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
) -> Reply<Value> {
    params.known(&[])?;
    let found = doors.engine.collection(&name)?;
    let (config, info) = (found.config(), found.info());
    Ok(Answer::new(collection::describe(&config, &info, &found.index(), found.recall())))
}

/// `GET /collections/{c}/exists`.
pub async fn exists(State(doors): State<Doors>, Names(name): Names<String>, params: Params) -> Reply<Value> {
    params.known(&[])?;
    let exists = doors.engine.collections().iter().any(|config| config.name == name);
    Ok(Answer::new(json!({ "exists": exists })))
}

/// `PATCH /collections/{c}`.
pub async fn patch(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<bool> {
    params.known(&["timeout"])?;
    let timeout = params.timeout(&doors.limits)?.unwrap_or(doors.limits.timeout_default);
    let found = doors.engine.collection(&name)?;
    let patch = body.with(move |body: PatchBody| body.patch(&found.config())).await?;
    let work = async move { doors.engine.patch_collection(&name, patch).await };
    to_the_end(timeout, "change of the collection", work).await?;
    Ok(Answer::new(true))
}

/// `DELETE /collections/{c}`.
pub async fn delete(State(doors): State<Doors>, Names(name): Names<String>, params: Params) -> Reply<bool> {
    params.known(&["timeout"])?;
    let timeout = params.timeout(&doors.limits)?.unwrap_or(doors.limits.timeout_default);
    let work = async move { doors.engine.delete_collection(&name).await };
    let deleted = to_the_end(timeout, "deletion of the collection", work).await?;
    Ok(Answer::new(deleted))
}

/// `PUT /collections/{c}/index`.
pub async fn create_index(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<UpdateResult> {
    let write = params.write(&doors.limits)?;
    let found = doors.engine.collection(&name)?;
    body.with(|body: IndexBody| body.check()).await?;
    Ok(Answer::new(UpdateResult::new(found.info().applied_lsn, write.wait)))
}

/// `DELETE /collections/{c}/index/{field}`.
pub async fn delete_index(
    State(doors): State<Doors>,
    Names((name, field)): Names<(String, String)>,
    params: Params,
) -> Reply<UpdateResult> {
    let write = params.write(&doors.limits)?;
    let found = doors.engine.collection(&name)?;
    top_level_fields(&[field], "field")?;
    Ok(Answer::new(UpdateResult::new(found.info().applied_lsn, write.wait)))
}

/// `GET /aliases`: there are none.
pub async fn aliases(params: Params) -> Reply<Value> {
    params.known(&[])?;
    Ok(Answer::new(json!({"aliases": []})))
}

/// `GET /collections/{c}/aliases`: there are none.
pub async fn aliases_of(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
) -> Reply<Value> {
    params.known(&[])?;
    doors.engine.collection(&name)?;
    Ok(Answer::new(json!({"aliases": []})))
}

/// `GET /collections/{c}/freshness`: the receipt that a search would carry now, and the marks of the log.
pub async fn freshness(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
) -> Reply<Value> {
    params.known(&[])?;
    let found = doors.engine.collection(&name)?;
    let (freshness, info) = (found.freshness(), found.info());
    Ok(Answer::new(json!({
        "lsn": freshness.lsn,
        "positions": freshness.positions,
        "watermark_ms": freshness.watermark_ms,
        "scanned_fraction": freshness.scanned_fraction,
        "durable_lsn": info.durable_lsn,
        "applied_lsn": info.applied_lsn,
        "flushed_lsn": info.flushed_lsn,
    })))
}

/// `GET /collections/{c}/quarantine`: the latest records, newest first.
pub async fn quarantine(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
) -> Reply<Value> {
    params.known(&["limit"])?;
    let max = doors.limits.limit_max;
    let limit = match params.get("limit").map(str::parse) {
        None => QUARANTINE_LIMIT_DEFAULT,
        Some(Ok(limit)) if (1..=max).contains(&limit) => limit,
        Some(_) => {
            let problem = format!("must be a number between 1 and {max}");
            return Err(ApiError::invalid("invalid_parameter", "limit", problem));
        }
    };
    let found = doors.engine.collection(&name)?;
    let records = found.quarantine(limit).await?;
    Ok(Answer::new(json!({"records": records, "count": found.info().quarantined})))
}
