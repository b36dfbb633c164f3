//! The service `Collections`.
use proximadb_proto::v1;
use proximadb_proto::v1::collections_server::Collections;
use tonic::Request;

use super::{Reply, Service, convert, deadline, reply};
use crate::engine::{CollectionPatch, NewCollection};
use crate::serve::doors::to_the_end;
use crate::serve::error_map::ApiError;
use crate::serve::wire::collection::{check_dim, check_graph, check_name};
use crate::serve::wire::index_choice::check_clusters;
use crate::types::CollectionConfig;

fn new_collection(request: v1::CreateCollectionRequest) -> Result<NewCollection, ApiError> {
    check_name(&request.collection)?;
    let graph = convert::graph(request.graph)?;
    check_graph(graph, "graph")?;
    let dim = check_dim(request.dim.into(), "dim")?;
    let distance = convert::distance(request.distance)?;
    let recall_target = request.recall_target.map(convert::recall_target).transpose()?;
    let index = convert::index_kind(request.index)?.unwrap_or_default();
    let clusters = request.clusters;
    check_clusters(index, clusters, "clusters")?;
    Ok(NewCollection { name: request.collection, dim, distance, index, clusters, graph, recall_target })
}

fn patch(
    request: &v1::UpdateCollectionRequest,
    config: &CollectionConfig,
) -> Result<CollectionPatch, ApiError> {
    let recall_target = match (request.recall_target, request.remove_recall_target) {
        (None, is_removed) => is_removed.then_some(None),
        (Some(share), false) => Some(Some(convert::recall_target(share)?)),
        (Some(_), true) => {
            let problem = "is given together with recall_target; give one of them";
            return Err(ApiError::invalid("invalid_request", "remove_recall_target", problem));
        }
    };
    let graph = convert::graph_patch(request.graph.unwrap_or_default())?;
    check_graph(graph.over(config.graph), "graph")?;
    let index = convert::index_kind(request.index)?;
    let clusters = match (request.clusters, request.remove_clusters) {
        (None, is_removed) => is_removed.then_some(None),
        (Some(count), false) => Some(Some(count)),
        (Some(_), true) => {
            let problem = "is given together with clusters; give one of them";
            return Err(ApiError::invalid("invalid_request", "remove_clusters", problem));
        }
    };
    check_clusters(index.unwrap_or(config.index), clusters.flatten(), "clusters")?;
    Ok(CollectionPatch { recall_target, index, clusters, graph })
}

#[tonic::async_trait]
impl Collections for Service {
    async fn create(
        &self,
        request: Request<v1::CreateCollectionRequest>,
    ) -> Reply<v1::CreateCollectionResponse> {
        let timeout = deadline(&request).unwrap_or(self.0.limits.timeout_default);
        let created = async {
            let new = new_collection(request.into_inner())?;
            let engine = self.0.engine.clone();
            let work = async move { engine.create_collection(new).await };
            to_the_end(timeout, "creation of the collection", work).await?;
            Ok(v1::CreateCollectionResponse {})
        };
        reply(created.await)
    }

    async fn list(&self, _: Request<v1::ListCollectionsRequest>) -> Reply<v1::ListCollectionsResponse> {
        let collections = self.0.engine.collections().iter().map(|config| convert::config(config)).collect();
        reply(Ok(v1::ListCollectionsResponse { collections }))
    }

    async fn describe(
        &self,
        request: Request<v1::DescribeCollectionRequest>,
    ) -> Reply<v1::DescribeCollectionResponse> {
        let found = self.0.engine.collection(&request.get_ref().collection).map_err(ApiError::from);
        reply(found.map(|collection| {
            let info = collection.info();
            v1::DescribeCollectionResponse {
                config: Some(convert::config(&collection.config())),
                status: info.status.to_string(),
                points: info.points,
                indexed_points: info.indexed_points,
                segments: info.segments,
                memory_bytes: info.memory_bytes,
                disk_bytes: info.disk_bytes,
                durable_lsn: info.durable_lsn.0,
                applied_lsn: info.applied_lsn.0,
                flushed_lsn: info.flushed_lsn.0,
                quarantined: info.quarantined,
                recall: collection.recall().map(convert::recall),
                index: Some(convert::index(&collection.index())),
            }
        }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateCollectionRequest>,
    ) -> Reply<v1::UpdateCollectionResponse> {
        let timeout = deadline(&request).unwrap_or(self.0.limits.timeout_default);
        let updated = async {
            let request = request.into_inner();
            let engine = self.0.engine.clone();
            let patch = patch(&request, &engine.collection(&request.collection)?.config())?;
            let work = async move { engine.patch_collection(&request.collection, patch).await };
            to_the_end(timeout, "change of the collection", work).await?;
            Ok(v1::UpdateCollectionResponse {})
        };
        reply(updated.await)
    }

    async fn exists(
        &self,
        request: Request<v1::CollectionExistsRequest>,
    ) -> Reply<v1::CollectionExistsResponse> {
        let name = &request.get_ref().collection;
        let exists = self.0.engine.collections().iter().any(|config| config.name == *name);
        reply(Ok(v1::CollectionExistsResponse { exists }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteCollectionRequest>,
    ) -> Reply<v1::DeleteCollectionResponse> {
        let timeout = deadline(&request).unwrap_or(self.0.limits.timeout_default);
        let (engine, name) = (self.0.engine.clone(), request.into_inner().collection);
        let work = async move { engine.delete_collection(&name).await };
        let deleted = to_the_end(timeout, "deletion of the collection", work).await;
        reply(deleted.map(|deleted| v1::DeleteCollectionResponse { deleted }))
    }
}
