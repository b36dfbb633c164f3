//! A topic for records that could not be taken in.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TryRecvError, bounded};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};

use super::context::log;
use super::errors::{Standing, Trouble, classify, transient};
use super::options::refuse_owned;
use crate::source::SourceError;
use crate::types::Position;

/// One rejected record with where it came from and why it was rejected.
#[derive(Debug, Clone, Copy)]
pub struct DeadLetter<'a> {
    /// `topic/partition` it came from.
    pub partition: &'a str,
    /// Its offset there.
    pub position: Position,
    /// Its timestamp, milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
    /// Its key, as it came.
    pub key: Option<&'a [u8]>,
    /// Its value, as it came.
    pub value: Option<&'a [u8]>,
    /// A short, stable code: `dimension_mismatch`.
    pub code: &'a str,
    /// What is wrong, for people.
    pub reason: &'a str,
    /// The pipeline that rejected it.
    pub pipeline: &'a str,
}

/// Writes rejected records to a Kafka topic and waits until the brokers hold them.
///
/// The pipeline sends a letter before it proposes the entry whose position passes the record, so a crash may
/// send it again but never loses it.
pub struct DeadLetterTopic {
    topic: String,
    producer: BaseProducer<LetterContext>,
}

/// How long one poll waits for acknowledgements.
const POLL_WAIT: Duration = Duration::from_millis(20);

impl DeadLetterTopic {
    /// Builds the client; talks to nobody yet. `client`: settings passed through, as for a source; consumer
    /// settings among them are ignored by the client with a warning.
    ///
    /// Errors: `Fatal` for settings that can never work.
    pub fn open(
        brokers: &[String],
        topic: &str,
        client: &BTreeMap<String, String>,
    ) -> Result<Self, SourceError> {
        refuse_owned(client, OWNED)?;
        let mut config = ClientConfig::new();
        config.set("client.id", "proximadb").set("linger.ms", "5").set("reconnect.backoff.max.ms", "2000");
        for (key, value) in client {
            config.set(key, value);
        }
        config
            .set("bootstrap.servers", brokers.join(","))
            // All replicas in sync, each letter once for as long as this client lives.
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("allow.auto.create.topics", "false")
            // As large as a broker would ever take; what it refuses goes without its value.
            .set("message.max.bytes", "67108864");
        let producer = config
            .create_with_context(LetterContext)
            .map_err(|error| classify("building the dead-letter producer", error, None, STANDING))?;
        Ok(Self { topic: topic.to_owned(), producer })
    }

    /// Sends the letters and returns once every one is acknowledged.
    ///
    /// A record that the brokers refuse for its size is sent without its value, with the header
    /// `proximadb.error.value_bytes_dropped`; a position is passed only once its letter is safe, so the
    /// alternative would be to stop for ever. Errors: `Transient` where acknowledgements are missing after
    /// `wait` (some letters may have arrived: send all again); `Fatal` where the brokers refuse us.
    pub fn send(&self, letters: &[DeadLetter<'_>], wait: Duration) -> Result<(), SourceError> {
        let deadline = Instant::now() + wait;
        let too_large = self.send_once(letters, false, deadline)?;
        let without_value: Vec<DeadLetter<'_>> = too_large.into_iter().map(|index| letters[index]).collect();
        self.send_once(&without_value, true, deadline).map(|_| ())
    }

    /// Says which letters were refused for their size.
    fn send_once(
        &self,
        letters: &[DeadLetter<'_>],
        drop_values: bool,
        deadline: Instant,
    ) -> Result<Vec<usize>, SourceError> {
        // Room for every answer, since the callback that brings one must never wait.
        let (sender, answers) = bounded(letters.len().max(1));
        let mut too_large = Vec::new();
        let mut pending = 0;
        for (index, letter) in letters.iter().enumerate() {
            let answer = Box::new(Answer { index, sender: sender.clone() });
            match self.enqueue(letter, drop_values, answer, deadline) {
                Ok(()) => pending += 1,
                Err(error) if is_too_large(&error) && !drop_values => too_large.push(index),
                Err(error) => return Err(classify(&self.action(), error, None, STANDING)),
            }
        }
        drop(sender);
        while pending > 0 {
            match answers.try_recv() {
                Ok((_, Ok(()))) => pending -= 1,
                Ok((index, Err(error))) if is_too_large(&error) && !drop_values => {
                    pending -= 1;
                    too_large.push(index);
                }
                Ok((_, Err(error))) => return Err(classify(&self.action(), error, None, STANDING)),
                Err(TryRecvError::Empty) if Instant::now() < deadline => self.producer.poll(POLL_WAIT),
                Err(_) => {
                    let trouble = Trouble::Unacknowledged { missing: pending, sent: letters.len() };
                    return Err(transient(self.action(), trouble));
                }
            }
        }
        Ok(too_large)
    }

    fn enqueue(
        &self,
        letter: &DeadLetter<'_>,
        drop_value: bool,
        mut answer: Box<Answer>,
        deadline: Instant,
    ) -> Result<(), KafkaError> {
        loop {
            let mut record = BaseRecord::<[u8], [u8], Box<Answer>>::with_opaque_to(&self.topic, answer)
                .headers(headers(letter, drop_value));
            record.key = letter.key;
            record.payload = letter.value.filter(|_| !drop_value);
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused))
                    if Instant::now() < deadline =>
                {
                    answer = refused.delivery_opaque;
                    self.producer.poll(POLL_WAIT);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    fn action(&self) -> String {
        format!("writing to the dead-letter topic {:?}", self.topic)
    }
}

const STANDING: Standing = Standing { is_group: false, has_connected: false };

/// What the promise of `send` depends on.
const OWNED: &[(&str, &str)] = &[
    ("bootstrap.servers", "use `brokers`"),
    ("acks", "a letter must be on all replicas in sync"),
    ("request.required.acks", "a letter must be on all replicas in sync"),
    ("enable.idempotence", "a retry must not double a letter"),
    ("transactional.id", "letters are not part of a transaction"),
];

fn is_too_large(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{InvalidMessageSize, MessageSizeTooLarge};
    matches!(error.rdkafka_error_code(), Some(MessageSizeTooLarge | InvalidMessageSize))
}

fn headers(letter: &DeadLetter<'_>, drop_value: bool) -> OwnedHeaders {
    let (topic, number) = letter.partition.split_once('/').unwrap_or((letter.partition, ""));
    let mut headers = OwnedHeaders::new_with_capacity(8);
    let mut add = |key: &str, value: &str| {
        let owned = std::mem::take(&mut headers);
        headers = owned.insert(Header { key, value: Some(value) });
    };
    add("proximadb.error.topic", topic);
    add("proximadb.error.partition", number);
    add("proximadb.error.offset", &letter.position.to_string());
    if let Some(timestamp_ms) = letter.timestamp_ms {
        add("proximadb.error.timestamp", &timestamp_ms.to_string());
    }
    add("proximadb.error.code", letter.code);
    add("proximadb.error.reason", letter.reason);
    add("proximadb.error.pipeline", letter.pipeline);
    if drop_value {
        add("proximadb.error.value_bytes_dropped", &letter.value.map_or(0, <[u8]>::len).to_string());
    }
    headers
}

/// Where the answer to one letter goes.
struct Answer {
    index: usize,
    sender: Sender<(usize, Result<(), KafkaError>)>,
}

struct LetterContext;

impl ClientContext for LetterContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log(level, facility, text);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "dead-letter client error");
    }
}

impl ProducerContext for LetterContext {
    type DeliveryOpaque = Box<Answer>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Box<Answer>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // The sender of these letters may have given up.
        let _ = answer.sender.send((answer.index, result));
    }
}
