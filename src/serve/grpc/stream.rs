//! `UpsertStream`: many batches in flight, acknowledged in order.
//!
//! ```text
//!  messages ─▶ check ─▶ room? same point in flight? ─▶ write ┐
//!                            (else wait for the oldest)       │ bounded by batches and bytes
//!  acks     ◀──────────── in the order of the messages ◀──────┘
//! ```
//! I1 operations on one point take effect in the order in which they were sent: a batch that names a point of a
//! batch in flight waits for it. I2 what is in flight is bounded, so a client that sends faster than the log
//! takes is slowed by HTTP/2's own flow control. I3 a refused batch ends nothing but itself.
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use proximadb_proto::v1;
use tonic::{Status, Streaming};

use super::convert;
use crate::engine::{Collection, Wait};
use crate::serve::batch::BatchBuilder;
use crate::serve::doors::{self, Doors};
use crate::serve::error_map::ApiError;
use crate::serve::frame::request_id;
use crate::serve::metrics;
use crate::serve::wire::points::Write;
use crate::types::{PointId, WriteBatch};

/// Acks in the order of their batches.
pub(super) type Acks = Pin<Box<dyn Stream<Item = Result<v1::UpsertAck, Status>> + Send>>;

/// Writes each message's batch.
pub(super) fn acks(doors: Doors, messages: Streaming<v1::UpsertStreamRequest>) -> Acks {
    let state = InFlight {
        doors,
        messages: messages.boxed(),
        collection: String::new(),
        request_id: request_id(),
        writes: FuturesOrdered::new(),
        loads: std::collections::VecDeque::new(),
        next: None,
        ended: None,
    };
    futures_util::stream::unfold(state, |mut state| async move {
        let ack = state.next_ack().await?;
        Some((ack, state))
    })
    .boxed()
}

type Pending = Pin<Box<dyn Future<Output = v1::UpsertAck> + Send>>;

/// What a batch holds while it is in flight.
struct Load {
    ids: HashSet<PointId>,
    bytes: usize,
}

/// A checked batch that waits for room.
struct Ready {
    tag: u64,
    collection: Arc<Collection>,
    batch: WriteBatch,
    wait: Wait,
    load: Load,
}

struct InFlight {
    doors: Doors,
    messages: futures_util::stream::BoxStream<'static, Result<v1::UpsertStreamRequest, Status>>,
    /// The collection that the last message named which named one.
    collection: String,
    request_id: String,
    writes: FuturesOrdered<Pending>,
    /// One for each of `writes`, in the same order.
    loads: std::collections::VecDeque<Load>,
    next: Option<Ready>,
    /// The client sends no more: `Some(Some(status))` if its stream broke.
    ended: Option<Option<Status>>,
}

impl InFlight {
    /// The next ack; `None` at the end.
    async fn next_ack(&mut self) -> Option<Result<v1::UpsertAck, Status>> {
        loop {
            if let Some(ready) = self.next.take_if(|ready| has_room(&self.doors, &self.loads, &ready.load)) {
                self.begin(ready);
                continue;
            }
            let may_read = self.next.is_none() && self.ended.is_none();
            if self.writes.is_empty() && !may_read {
                // Everything is answered; a broken stream is told last.
                return self.ended.take().flatten().map(Err);
            }
            tokio::select! {
                biased;
                Some(ack) = self.writes.next(), if !self.writes.is_empty() => {
                    self.loads.pop_front();
                    return Some(Ok(ack));
                }
                message = self.messages.next(), if may_read => match message {
                    None => self.ended = Some(None),
                    Some(Err(status)) => self.ended = Some(Some(status)),
                    Some(Ok(message)) => self.take(message),
                },
            }
        }
    }

    fn take(&mut self, message: v1::UpsertStreamRequest) {
        let tag = message.tag;
        match self.check(message) {
            Ok(ready) => self.next = Some(ready),
            Err(error) => {
                // In its turn, like every ack.
                let ack = ack(tag, Err(error));
                self.writes.push_back(Box::pin(std::future::ready(ack)));
                self.loads.push_back(Load { ids: HashSet::new(), bytes: 0 });
            }
        }
    }

    fn check(&mut self, message: v1::UpsertStreamRequest) -> Result<Ready, ApiError> {
        if !message.collection.is_empty() {
            self.collection = message.collection;
        }
        if self.collection.is_empty() {
            let problem = "is missing: the first message must name it";
            return Err(ApiError::invalid("invalid_request", "collection", problem));
        }
        // Each time anew: a stream may outlive its collection.
        let collection = self.doors.engine.collection(&self.collection)?;
        let wait = convert::wait(message.wait)?;
        let config = collection.config();
        let mut batch = BatchBuilder::new(&config);
        convert::add_points(&mut batch, message.points)?;
        for id in convert::point_ids(message.delete_ids, "delete_ids")? {
            batch.delete(id);
        }
        let batch = batch.finish();
        let load = Load { ids: batch.ops.iter().map(|op| op.id.clone()).collect(), bytes: batch.bytes() };
        Ok(Ready { tag: message.tag, collection, batch, wait, load })
    }

    fn begin(&mut self, ready: Ready) {
        let Ready { tag, collection, batch, wait, load } = ready;
        let timeout = self.doors.limits.timeout_default;
        let write = async move {
            let written = doors::write(&collection, Write::Batch(batch), wait, timeout).await;
            ack(tag, written.map(|lsn| lsn.0))
        };
        // A task of its own, so that it goes on while the client reads no acks.
        let task = tokio::spawn(write);
        let request_id = self.request_id.clone();
        self.writes.push_back(Box::pin(async move {
            task.await.unwrap_or_else(|error| {
                tracing::error!(%error, request_id, "a stream's write stopped");
                ack(tag, Err(ApiError::internal("the write stopped; its outcome is unknown")))
            })
        }));
        self.loads.push_back(load);
    }
}

/// May a batch begin beside those in flight? An empty stream takes any.
fn has_room(doors: &Doors, in_flight: &std::collections::VecDeque<Load>, load: &Load) -> bool {
    let limits = &doors.limits;
    let bytes: usize = in_flight.iter().map(|load| load.bytes).sum();
    in_flight.is_empty()
        || (in_flight.len() < limits.stream_batches_max
            && bytes.saturating_add(load.bytes) <= limits.stream_bytes_max
            && in_flight.iter().all(|other| other.ids.is_disjoint(&load.ids)))
}

fn ack(tag: u64, outcome: Result<u64, ApiError>) -> v1::UpsertAck {
    let outcome = match outcome {
        Ok(lsn) => {
            metrics::stream_batch("written");
            v1::upsert_ack::Outcome::Lsn(lsn)
        }
        Err(error) => {
            metrics::stream_batch("refused");
            v1::upsert_ack::Outcome::Refusal(v1::Refusal {
                code: error.code().to_string(),
                message: error.message().to_string(),
                grpc_status: error.grpc_code() as i32,
            })
        }
    };
    v1::UpsertAck { tag, outcome: Some(outcome) }
}
