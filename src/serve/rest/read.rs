//! Reading points: by id, by nearness, page by page.
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::Names;
use crate::engine::EngineError;
use crate::query::{Filter, PayloadSelection};
use crate::serve::answer::Answer;
use crate::serve::doors::{self, Doors};
use crate::serve::error_map::ApiError;
use crate::serve::json::Body;
use crate::serve::params::Params;
use crate::serve::wire::query::{QueryBatchBody, QueryBody, SearchBatchBody, SearchBody};
use crate::serve::wire::read::{CountBody, GetBody, ScrollBody, check_ids, read_options};
use crate::serve::wire::records::{QueryResult, RecordOut, ScoredPoint, ScrollResult};
use crate::types::PointId;

type Reply<T> = Result<Answer<T>, ApiError>;

/// `POST /collections/{c}/points`.
pub async fn get(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<Vec<RecordOut>> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let body = body.with(|body: GetBody| Ok(body)).await?;
    check_ids(&body.ids, &doors.limits)?;
    let read = read_options(body.fresh_as_of, body.timeout, params, &doors.limits)?;
    let with_payload = body.with_payload.or(PayloadSelection::Everything);
    let freshness = doors::receipt(&collection, &read, body.with_freshness).await?;
    let records = collection.get(body.ids, with_payload, body.with_vector.0, read).await?;
    Ok(Answer::with_freshness(records.into_iter().map(RecordOut::from).collect(), freshness))
}

/// `GET /collections/{c}/points/{id}`: digits are an integer id, everything else is text; either form finds both.
pub async fn get_one(
    State(doors): State<Doors>,
    Names((name, id)): Names<(String, String)>,
    params: Params,
) -> Reply<RecordOut> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let id = PointId::text(&id).map_err(|error| ApiError::invalid("invalid_id", "id", error))?;
    let read = read_options(None, None, params, &doors.limits)?;
    let found = collection.get(vec![id.clone()], PayloadSelection::Everything, true, read).await?;
    let record = found.into_iter().next().ok_or(EngineError::PointNotFound { id })?;
    Ok(Answer::new(record.into()))
}

/// `POST /collections/{c}/points/query`.
pub async fn query(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<QueryResult> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let (config, limits) = (collection.config(), doors.limits.clone());
    let (ask, with_freshness) =
        body.with(move |body: QueryBody| body.ask(&config, params, &limits, "")).await?;
    let (hits, freshness) = doors::ask(&collection, ask).await?;
    Ok(Answer::with_freshness(QueryResult::new(hits), with_freshness.then_some(freshness)))
}

/// `POST /collections/{c}/points/query/batch`. Receipts, where asked for, stand in each answer.
pub async fn query_batch(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<Vec<Value>> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let (config, limits) = (collection.config(), doors.limits.clone());
    let asked = body.with(move |body: QueryBatchBody| body.ask(&config, params, &limits)).await?;
    let answers = asked.into_iter().map(|(ask, with_freshness)| {
        let collection = &collection;
        async move {
            let (hits, freshness) = doors::ask_beside_others(collection, ask).await?;
            let mut answer = json!(QueryResult::new(hits));
            if with_freshness {
                answer["freshness"] = json!(freshness);
            }
            Ok::<_, ApiError>(answer)
        }
    });
    Ok(Answer::new(stream::iter(answers).buffered(doors::SEARCHES_AT_ONCE).try_collect().await?))
}

/// `POST /collections/{c}/points/search`.
pub async fn search(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<Vec<ScoredPoint>> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let (config, limits) = (collection.config(), doors.limits.clone());
    let (ask, with_freshness) = body.with(move |body: SearchBody| body.ask(&config, params, &limits)).await?;
    let (hits, freshness) = doors::ask(&collection, ask).await?;
    let points = hits.into_iter().map(ScoredPoint::from).collect();
    Ok(Answer::with_freshness(points, with_freshness.then_some(freshness)))
}

/// `POST /collections/{c}/points/search/batch`.
pub async fn search_batch(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<Vec<Vec<ScoredPoint>>> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let (config, limits) = (collection.config(), doors.limits.clone());
    let asked = body.with(move |body: SearchBatchBody| body.ask(&config, params, &limits)).await?;
    let answers = asked.into_iter().map(|(ask, _)| {
        let collection = &collection;
        async move {
            let (hits, _) = doors::ask_beside_others(collection, ask).await?;
            Ok::<_, ApiError>(hits.into_iter().map(ScoredPoint::from).collect())
        }
    });
    Ok(Answer::new(stream::iter(answers).buffered(doors::SEARCHES_AT_ONCE).try_collect().await?))
}

/// `POST /collections/{c}/points/scroll`.
pub async fn scroll(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<ScrollResult> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let limits = doors.limits.clone();
    let (request, with_freshness) = body
        .with(move |body: ScrollBody| {
            let with_freshness = body.with_freshness;
            Ok((body.request(params, &limits)?, with_freshness))
        })
        .await?;
    let page = collection.scroll(request).await?;
    let points = page.points.into_iter().map(RecordOut::from).collect();
    let result = ScrollResult { points, next_page_offset: page.next };
    Ok(Answer::with_freshness(result, with_freshness.then_some(page.freshness)))
}

/// `POST /collections/{c}/points/count`.
pub async fn count(
    State(doors): State<Doors>,
    Names(name): Names<String>,
    params: Params,
    body: Body,
) -> Reply<Value> {
    let params = params.read(&doors.limits)?;
    let collection = doors.engine.collection(&name)?;
    let body = body.with(|body: CountBody| Ok(body)).await?;
    let filter = body.filter.map(|filter| Filter::parse(&filter, "filter")).transpose()?;
    let read = read_options(body.fresh_as_of, body.timeout, params, &doors.limits)?;
    let freshness = doors::receipt(&collection, &read, body.with_freshness).await?;
    let count = collection.count(filter, read).await?;
    Ok(Answer::with_freshness(json!({ "count": count }), freshness))
}
