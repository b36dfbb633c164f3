//! Pipelines: what they are doing, and how far behind.
use axum::extract::State;
use serde_json::{Value, json};

use super::Names;
use crate::engine::{EngineError, PipelineStatus};
use crate::serve::answer::Answer;
use crate::serve::doors::{Doors, to_the_end};
use crate::serve::error_map::ApiError;
use crate::serve::params::Params;

type Reply<T> = Result<Answer<T>, ApiError>;

fn find(doors: &Doors, name: &str) -> Result<PipelineStatus, ApiError> {
    let all = doors.engine.pipelines();
    let known = || all.iter().map(|pipeline| pipeline.name.clone()).collect();
    match all.iter().find(|pipeline| pipeline.name == name) {
        Some(found) => Ok(found.clone()),
        None => Err(EngineError::PipelineNotFound { name: name.to_string(), known: known() }.into()),
    }
}

/// `GET /pipelines`.
pub async fn list(State(doors): State<Doors>, params: Params) -> Reply<Value> {
    params.known(&[])?;
    Ok(Answer::new(json!({"pipelines": doors.engine.pipelines()})))
}

/// `GET /pipelines/{p}`.
pub async fn describe(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
) -> Reply<PipelineStatus> {
    params.known(&[])?;
    find(&doors, &name).map(Answer::new)
}

/// `GET /pipelines/{p}/lag`. Of each partition both what was read last and what of it is searchable, since what was
/// read may wait: for a schema, for room in the log.
pub async fn lag(State(doors): State<Doors>, Names(name): Names<String>, params: Params) -> Reply<Value> {
    params.known(&[])?;
    let found = find(&doors, &name)?;
    let collection = doors.engine.collection(&found.collection).ok();
    let applied = collection.and_then(|collection| collection.freshness().positions.remove(&found.name));
    // Only where every partition knows its end is there a sum.
    let behind: Option<u64> = found.lag.iter().map(|partition| partition.behind).sum();
    let partitions = found.lag.iter().map(|partition| {
        let mut told = json!(partition);
        let applied = applied.as_ref().and_then(|applied| applied.get(&partition.partition));
        told["applied"] = json!(applied.and_then(|applied| applied.position));
        told
    });
    Ok(Answer::new(json!({
        "pipeline": found.name,
        "state": found.state,
        "reason": found.reason,
        "behind": behind,
        "partitions": partitions.collect::<Vec<_>>(),
    })))
}

/// `POST /pipelines/{p}/pause`.
pub async fn pause(State(doors): State<Doors>, Names(name): Names<String>, params: Params) -> Reply<bool> {
    params.known(&["timeout"])?;
    let timeout = params.timeout(&doors.limits)?.unwrap_or(doors.limits.timeout_default);
    let work = async move { doors.engine.pause_pipeline(&name).await };
    to_the_end(timeout, "pause of the pipeline", work).await?;
    Ok(Answer::new(true))
}

/// `POST /pipelines/{p}/resume`.
pub async fn resume(State(doors): State<Doors>, Names(name): Names<String>, params: Params) -> Reply<bool> {
    params.known(&["timeout"])?;
    let timeout = params.timeout(&doors.limits)?.unwrap_or(doors.limits.timeout_default);
    let work = async move { doors.engine.resume_pipeline(&name).await };
    to_the_end(timeout, "resume of the pipeline", work).await?;
    Ok(Answer::new(true))
}
