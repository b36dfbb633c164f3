//! The service `Pipelines`.
use proximadb_proto::v1;
use proximadb_proto::v1::pipelines_server::Pipelines;
use tonic::Request;

use super::{Reply, Service, deadline, reply};
use crate::engine::PipelineStatus;
use crate::serve::doors::to_the_end;
use crate::source::PartitionLag;
use crate::types::Position;

fn status(status: PipelineStatus) -> v1::PipelineStatus {
    v1::PipelineStatus {
        pipeline: status.name,
        collection: status.collection,
        state: status.state,
        reason: status.reason.unwrap_or_default(),
        records_read: status.records_read,
        records_applied: status.records_applied,
        records_rejected: status.records_rejected,
        records_skipped: status.records_skipped,
        lag: status.lag.into_iter().map(lag).collect(),
    }
}

fn lag(lag: PartitionLag) -> v1::PartitionLag {
    let text = |position: Option<Position>| position.map(|position| position.to_string()).unwrap_or_default();
    v1::PartitionLag {
        partition: lag.partition,
        position: text(lag.position),
        end: text(lag.end),
        behind: lag.behind,
    }
}

#[tonic::async_trait]
impl Pipelines for Service {
    async fn list(&self, _: Request<v1::ListPipelinesRequest>) -> Reply<v1::ListPipelinesResponse> {
        let pipelines = self.0.engine.pipelines().into_iter().map(status).collect();
        reply(Ok(v1::ListPipelinesResponse { pipelines }))
    }

    async fn pause(&self, request: Request<v1::PausePipelineRequest>) -> Reply<v1::PausePipelineResponse> {
        let timeout = deadline(&request).unwrap_or(self.0.limits.timeout_default);
        let (engine, name) = (self.0.engine.clone(), request.into_inner().pipeline);
        let work = async move { engine.pause_pipeline(&name).await };
        let done = to_the_end(timeout, "pause of the pipeline", work).await;
        reply(done.map(|()| v1::PausePipelineResponse {}))
    }

    async fn resume(&self, request: Request<v1::ResumePipelineRequest>) -> Reply<v1::ResumePipelineResponse> {
        let timeout = deadline(&request).unwrap_or(self.0.limits.timeout_default);
        let (engine, name) = (self.0.engine.clone(), request.into_inner().pipeline);
        let work = async move { engine.resume_pipeline(&name).await };
        let done = to_the_end(timeout, "resume of the pipeline", work).await;
        reply(done.map(|()| v1::ResumePipelineResponse {}))
    }
}
