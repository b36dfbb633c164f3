//! The service `Points`.
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use proximadb_proto::v1;
use proximadb_proto::v1::points_server::Points;
use tonic::{Request, Streaming};

use super::{Reply, Service, convert, deadline, reply, stream as streams};
use crate::engine::Collection;
use crate::query::{PayloadEdit, PayloadSelection, ScrollRequest, SearchAnswer};
use crate::serve::batch::BatchBuilder;
use crate::serve::doors::{self, SEARCHES_AT_ONCE, receipt};
use crate::serve::error_map::ApiError;
use crate::serve::wire::payload::top_level_fields;
use crate::serve::wire::points::Write;
use crate::serve::wire::read::check_ids;

impl Service {
    fn collection(&self, name: &str) -> Result<Arc<Collection>, ApiError> {
        Ok(self.0.engine.collection(name)?)
    }

    async fn write(
        &self,
        collection: &str,
        wait: i32,
        deadline: Option<Duration>,
        build: impl FnOnce(&Collection) -> Result<Write, ApiError>,
    ) -> Reply<v1::WriteResult> {
        let written = async {
            let wait = convert::wait(wait)?;
            let collection = self.collection(collection)?;
            let write = build(&collection)?;
            let timeout = deadline.unwrap_or(self.0.limits.timeout_default);
            let lsn = doors::write(&collection, write, wait, timeout).await?;
            Ok(v1::WriteResult { lsn: lsn.0 })
        };
        reply(written.await)
    }
}

fn response(answer: SearchAnswer, with_freshness: bool) -> v1::QueryResponse {
    v1::QueryResponse {
        hits: answer.hits.into_iter().map(convert::hit).collect(),
        freshness: with_freshness.then(|| convert::freshness(answer.freshness)),
    }
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(&self, request: Request<v1::UpsertRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::UpsertRequest { collection, points, wait } = request.into_inner();
        self.write(&collection, wait, deadline, |collection| {
            let config = collection.config();
            let mut batch = BatchBuilder::new(&config);
            convert::add_points(&mut batch, points)?;
            Ok(Write::Batch(batch.finish()))
        })
        .await
    }

    type UpsertStreamStream = streams::Acks;

    async fn upsert_stream(
        &self,
        request: Request<Streaming<v1::UpsertStreamRequest>>,
    ) -> Reply<Self::UpsertStreamStream> {
        reply(Ok(streams::acks(self.0.clone(), request.into_inner())))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Reply<v1::GetResponse> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let found = async {
            let collection = self.collection(&request.collection)?;
            let ids = convert::point_ids(request.ids, "ids")?;
            check_ids(&ids, &self.0.limits)?;
            let with_payload = convert::selection(request.with_payload, PayloadSelection::Everything)?;
            let (read, with_freshness) = convert::read_options(request.read, deadline, &self.0.limits)?;
            let freshness = receipt(&collection, &read, with_freshness).await?.map(convert::freshness);
            let records = collection.get(ids, with_payload, request.with_vector, read).await?;
            Ok(v1::GetResponse { points: records.into_iter().map(convert::record).collect(), freshness })
        };
        reply(found.await)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::DeleteRequest { collection, points, wait } = request.into_inner();
        let build =
            |collection: &Collection| Ok(Write::delete(convert::selector(points)?, &collection.config()));
        self.write(&collection, wait, deadline, build).await
    }

    async fn set_payload(&self, request: Request<v1::SetPayloadRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::SetPayloadRequest { collection, points, payload_json, wait } = request.into_inner();
        let build = |_: &Collection| {
            let edit = PayloadEdit::Set(convert::payload_object(&payload_json)?);
            Ok(Write::Edit(convert::selector(points)?, edit))
        };
        self.write(&collection, wait, deadline, build).await
    }

    async fn overwrite_payload(&self, request: Request<v1::SetPayloadRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::SetPayloadRequest { collection, points, payload_json, wait } = request.into_inner();
        let build = |_: &Collection| {
            let edit = PayloadEdit::Overwrite(convert::payload_object(&payload_json)?);
            Ok(Write::Edit(convert::selector(points)?, edit))
        };
        self.write(&collection, wait, deadline, build).await
    }

    async fn delete_payload(&self, request: Request<v1::DeletePayloadRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::DeletePayloadRequest { collection, points, keys, wait } = request.into_inner();
        let build = |_: &Collection| {
            let edit = PayloadEdit::Delete(top_level_fields(&keys, "keys")?);
            Ok(Write::Edit(convert::selector(points)?, edit))
        };
        self.write(&collection, wait, deadline, build).await
    }

    async fn clear_payload(&self, request: Request<v1::ClearPayloadRequest>) -> Reply<v1::WriteResult> {
        let deadline = deadline(&request);
        let v1::ClearPayloadRequest { collection, points, wait } = request.into_inner();
        let build = |_: &Collection| Ok(Write::Edit(convert::selector(points)?, PayloadEdit::Clear));
        self.write(&collection, wait, deadline, build).await
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Reply<v1::QueryResponse> {
        let deadline = deadline(&request);
        let query = request.into_inner();
        let answered = async {
            let collection = self.collection(&query.collection)?;
            let limits = &self.0.limits;
            let (request, with_freshness) =
                convert::search(query, &collection.config(), deadline, limits, "")?;
            Ok(response(collection.search(request).await?, with_freshness))
        };
        reply(answered.await)
    }

    async fn query_batch(&self, request: Request<v1::QueryBatchRequest>) -> Reply<v1::QueryBatchResponse> {
        let deadline = deadline(&request);
        let v1::QueryBatchRequest { collection: name, queries } = request.into_inner();
        let answered = async {
            let limits = &self.0.limits;
            if queries.len() > limits.queries_max {
                let problem =
                    format!("has {} queries; at most {} are allowed", queries.len(), limits.queries_max);
                return Err(ApiError::invalid("too_many_queries", "queries", problem));
            }
            let collection = self.collection(&name)?;
            let mut requests = Vec::with_capacity(queries.len());
            for (index, query) in queries.into_iter().enumerate() {
                let at = format!("queries[{index}].");
                if !query.collection.is_empty() && query.collection != name {
                    let problem = format!("{:?} is not the batch's collection {name:?}", query.collection);
                    return Err(ApiError::invalid("invalid_request", &format!("{at}collection"), problem));
                }
                requests.push(convert::search(query, &collection.config(), deadline, limits, &at)?);
            }
            let answers = requests.into_iter().map(|(request, with_freshness)| {
                let collection = &collection;
                async move {
                    let answer = collection.search_beside_others(request).await?;
                    Ok::<_, ApiError>(response(answer, with_freshness))
                }
            });
            let answers = stream::iter(answers).buffered(SEARCHES_AT_ONCE).try_collect().await?;
            Ok(v1::QueryBatchResponse { answers })
        };
        reply(answered.await)
    }

    async fn scroll(&self, request: Request<v1::ScrollRequest>) -> Reply<v1::ScrollResponse> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let answered = async {
            let collection = self.collection(&request.collection)?;
            let limits = &self.0.limits;
            let (read, with_freshness) = convert::read_options(request.read, deadline, limits)?;
            let page = ScrollRequest {
                filter: convert::filter(&request.filter_json, "filter_json")?,
                limit: convert::limit_of(request.limit, limits, "limit")?,
                offset: request.offset.map(|id| convert::point_id(Some(id), "offset")).transpose()?,
                with_payload: convert::selection(request.with_payload, PayloadSelection::Everything)?,
                with_vector: request.with_vector,
                read,
            };
            let page = collection.scroll(page).await?;
            Ok(v1::ScrollResponse {
                points: page.points.into_iter().map(convert::record).collect(),
                next_page_offset: convert::next_page(page.next),
                freshness: with_freshness.then(|| convert::freshness(page.freshness)),
            })
        };
        reply(answered.await)
    }

    async fn count(&self, request: Request<v1::CountRequest>) -> Reply<v1::CountResponse> {
        let deadline = deadline(&request);
        let request = request.into_inner();
        let answered = async {
            let collection = self.collection(&request.collection)?;
            let (read, with_freshness) = convert::read_options(request.read, deadline, &self.0.limits)?;
            let filter = convert::filter(&request.filter_json, "filter_json")?;
            let freshness = receipt(&collection, &read, with_freshness).await?.map(convert::freshness);
            Ok(v1::CountResponse { count: collection.count(filter, read).await?, freshness })
        };
        reply(answered.await)
    }
}
