//! Asking the brokers for offsets: watermarks, and the offset of a timestamp.
use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{PartitionKey, SourceContext};
use super::placement::Watermarks;

/// Answers for the partitions whose leaders answered.
pub(super) type Answers<T> = HashMap<PartitionKey, T>;

/// First and first unreadable offset of each partition. Partitions without an answer are left out; `Err`
/// only where there was no answer at all.
pub(super) fn watermarks(
    consumer: &BaseConsumer<SourceContext>,
    keys: &[PartitionKey],
    wait: Duration,
) -> KafkaResult<Answers<Watermarks>> {
    let low = list_offsets(consumer, keys, Offset::Beginning, wait)?;
    let high = list_offsets(consumer, keys, Offset::End, wait)?;
    Ok(low
        .into_iter()
        .filter_map(|(key, low)| high.get(&key).map(|&high| (key.clone(), Watermarks { low, high })))
        .collect())
}

/// The first offset at or after `timestamp_ms`; negative where no record is that young.
pub(super) fn at_timestamp(
    consumer: &BaseConsumer<SourceContext>,
    keys: &[PartitionKey],
    timestamp_ms: i64,
    wait: Duration,
) -> KafkaResult<Answers<i64>> {
    list_offsets(consumer, keys, Offset::Offset(timestamp_ms.max(0)), wait)
}

/// One request per broker where all leaders are there. Otherwise partition by partition, since one partition
/// without a leader fails the whole request and must not hold up the others.
fn list_offsets(
    consumer: &BaseConsumer<SourceContext>,
    keys: &[PartitionKey],
    what: Offset,
    wait: Duration,
) -> KafkaResult<Answers<i64>> {
    let deadline = Instant::now() + wait;
    let together = ask(consumer, keys, what, if keys.len() > 1 { wait / 2 } else { wait });
    let error = match together {
        Ok(answers) => return Ok(answers),
        Err(error) if keys.len() <= 1 => return Err(error),
        Err(error) => error,
    };
    let mut answers = Answers::new();
    for key in keys {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        answers
            .extend(ask(consumer, std::slice::from_ref(key), what, left.min(wait / 8)).unwrap_or_default());
    }
    if answers.is_empty() { Err(error) } else { Ok(answers) }
}

fn ask(
    consumer: &BaseConsumer<SourceContext>,
    keys: &[PartitionKey],
    what: Offset,
    wait: Duration,
) -> KafkaResult<Answers<i64>> {
    let mut list = TopicPartitionList::with_capacity(keys.len());
    for (topic, number) in keys {
        list.add_partition_offset(topic, *number, what)?;
    }
    let list = consumer.offsets_for_times(list, wait)?;
    let mut answers = Answers::with_capacity(keys.len());
    let mut refusal = None;
    for element in list.elements() {
        let key = (element.topic().to_owned(), element.partition());
        match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => {
                answers.insert(key, offset);
            }
            // The answer to a timestamp that no record reaches.
            (Ok(()), Offset::End) if matches!(what, Offset::Offset(_)) => {
                answers.insert(key, -1);
            }
            (Ok(()), _) => {}
            (Err(error), _) => refusal = Some(error),
        }
    }
    match refusal {
        Some(error) if answers.is_empty() => Err(error),
        _ => Ok(answers),
    }
}

/// Is this error about a topic that is not there (yet, or any more)?
pub(super) fn is_unknown_topic(error: &KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode::{
        UnknownPartition, UnknownTopic, UnknownTopicId, UnknownTopicOrPartition,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(UnknownTopicOrPartition | UnknownTopic | UnknownTopicId | UnknownPartition)
    )
}
