//! A consumer that is closed within a deadline.
use std::ops::Deref;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::SourceContext;

/// Leaving the group and closing connections; a broker that does not answer must not hold up a shutdown.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

/// The consumer, dropped on a thread of its own since that may hang.
pub(super) struct OwnedConsumer(Option<BaseConsumer<SourceContext>>);

impl OwnedConsumer {
    pub(super) fn new(consumer: BaseConsumer<SourceContext>) -> Self {
        Self(Some(consumer))
    }

    /// Leaves the group and closes the connections, or gives up after [`CLOSE_WAIT`].
    pub(super) fn close(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        consumer.context().close();
        let (done, closed) = crossbeam_channel::bounded::<()>(1);
        let spawned = std::thread::Builder::new().name("kafka-close".into()).spawn(move || {
            drop(consumer);
            drop(done);
        });
        match spawned {
            Err(error) => tracing::warn!(%error, "no thread to close the kafka client on"),
            Ok(_) => {
                if closed.recv_timeout(CLOSE_WAIT) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                    tracing::warn!(?CLOSE_WAIT, "the kafka client does not close; leaving it behind");
                }
            }
        }
    }
}

impl Deref for OwnedConsumer {
    type Target = BaseConsumer<SourceContext>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("the consumer is taken only when the source is dropped")
    }
}
