//! The gRPC door, as small as tests need.
use proximadb_proto::v1;
use proximadb_proto::v1::points_client::PointsClient;
use tonic::transport::{Channel, Endpoint};

/// Batches of a stream that are not answered yet.
const IN_FLIGHT: usize = 8;

/// One connection, and a runtime for its calls.
pub struct Grpc {
    points: PointsClient<Channel>,
    runtime: tokio::runtime::Runtime,
}

impl Grpc {
    /// `base`: that of the REST door, which is the same. `Err` where nobody listens.
    pub fn connect(base: &str) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(base.to_owned()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).map_err(|error| error.to_string())?;
        Ok(Self { points: PointsClient::new(channel), runtime })
    }

    /// Searches.
    pub fn query(&mut self, request: v1::QueryRequest) -> v1::QueryResponse {
        self.runtime.block_on(self.points.query(request)).unwrap().into_inner()
    }

    /// Points by id, with payload and vector.
    pub fn get(&mut self, collection: &str, ids: impl Iterator<Item = String>) -> Vec<v1::Record> {
        let ids = ids.map(id).collect();
        let request =
            v1::GetRequest { collection: collection.into(), ids, with_vector: true, ..Default::default() };
        self.runtime.block_on(self.points.get(request)).unwrap().into_inner().points
    }

    /// Sends batches through one stream, several unanswered at a time, until `next` has none left or the server is
    /// gone. `answered` is told of each ack: the batch's number and whether it was written, or the code of its refusal.
    pub fn upsert_stream(
        &mut self,
        collection: &str,
        mut next: impl FnMut() -> Option<Vec<v1::Point>>,
        mut answered: impl FnMut(u64, Result<(), String>),
    ) {
        let mut message = |tag: u64| {
            let request = v1::UpsertStreamRequest { points: next()?, tag, ..Default::default() };
            Some(v1::UpsertStreamRequest { collection: collection.into(), ..request })
        };
        let points = &mut self.points;
        self.runtime.block_on(async {
            let (sender, receiver) = tokio::sync::mpsc::channel(IN_FLIGHT);
            let messages = futures_util::stream::unfold(receiver, |mut receiver| async move {
                Some((receiver.recv().await?, receiver))
            });
            let Ok(acks) = points.upsert_stream(messages).await else { return };
            let (mut acks, mut sent, mut unanswered) = (acks.into_inner(), 0, 0);
            loop {
                while unanswered < IN_FLIGHT
                    && let Some(message) = message(sent)
                {
                    if sender.send(message).await.is_err() {
                        return;
                    }
                    (sent, unanswered) = (sent + 1, unanswered + 1);
                }
                if unanswered == 0 {
                    return;
                }
                let Ok(Some(ack)) = acks.message().await else { return };
                unanswered -= 1;
                match ack.outcome {
                    Some(v1::upsert_ack::Outcome::Lsn(_)) => answered(ack.tag, Ok(())),
                    Some(v1::upsert_ack::Outcome::Refusal(refusal)) => answered(ack.tag, Err(refusal.code)),
                    None => panic!("an ack without an outcome: {ack:?}"),
                }
            }
        });
    }
}

/// An id that is text.
pub fn id(text: String) -> v1::PointId {
    v1::PointId { form: Some(v1::point_id::Form::Text(text)) }
}

/// The text of an id.
pub fn text_of(record: &v1::Record) -> &str {
    match record.id.as_ref().and_then(|id| id.form.as_ref()) {
        Some(v1::point_id::Form::Text(text)) => text,
        form => panic!("an id that is no text: {form:?}"),
    }
}
