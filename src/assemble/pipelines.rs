//! A pipeline's specification to its running stages.
use std::path::Path;
use std::sync::Arc;

use crate::catalog::{CatalogError, CatalogStore, DesiredState, PipelineRecord};
use crate::config::pipeline::{PipelineSpec, SourceSpec};
use crate::decode::{
    self, NoSchemas, RegistryClient, RegistryError, SchemaCache, SchemaSource, SchemaText, Target,
};
use crate::engine::{Engine, EngineError, NewCollection};
use crate::ingest::{Bounds, DryRun, DryRunError, Ingest, Parts, PartsError};
use crate::shard::Shard;
use crate::source::file::FileSource;
use crate::source::{PositionLookup, Source, SourceError};
use crate::types::{Distance, ErrorKind, PartitionPosition, RecallTarget};

/// Why a pipeline cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Its collection.
    #[error("pipeline {pipeline:?}: {source}")]
    Engine {
        /// The pipeline.
        pipeline: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The collection exists with another dimension.
    #[error(
        "pipeline {pipeline:?} brings vectors of {given} components, collection {collection:?} has {expected}: change `map.vector.dim` or the collection"
    )]
    Dimension {
        /// The pipeline.
        pipeline: String,
        /// Its collection.
        collection: String,
        /// The pipeline's.
        given: u32,
        /// The collection's.
        expected: u32,
    },
    /// The collection is missing and the pipeline does not create it.
    #[error(
        "pipeline {pipeline:?} writes to collection {collection:?}, which does not exist: create it, or add `sink.create` to the pipeline"
    )]
    NoCollection {
        /// The pipeline.
        pipeline: String,
        /// Its collection.
        collection: String,
    },
    /// This build lacks a part.
    #[error("pipeline {pipeline:?} needs {part}, which this build was made without; use the full build")]
    NotBuilt {
        /// The pipeline.
        pipeline: String,
        /// The part.
        part: &'static str,
    },
    /// Reading records to look at.
    #[error(transparent)]
    Source(#[from] SourceError),
}

impl PipelineError {
    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Engine { source, .. } => source.kind(),
            Self::Source(source) => source.kind(),
            Self::Dimension { .. } | Self::NoCollection { .. } | Self::NotBuilt { .. } => ErrorKind::Invalid,
        }
    }
}

/// Makes sure of the collection and starts the pipeline.
pub async fn add(engine: &Arc<Engine>, path: &Path, spec: PipelineSpec) -> Result<(), PipelineError> {
    if matches!(spec.source, SourceSpec::Push(_)) {
        // Nothing runs: REST and gRPC write the collection themselves.
        collection(engine, &spec).await?;
        return Ok(());
    }
    let collection = collection(engine, &spec).await?;
    let text = std::fs::read_to_string(path).unwrap_or_default();
    keep(&**engine.catalog(), &spec.pipeline, text)
        .await
        .map_err(|error| in_engine(&spec, EngineError::from_catalog(error)))?;
    let shard = Arc::clone(collection.shard());
    let bounds = Bounds {
        in_flight_bytes_max: spec.limits.in_flight_bytes.as_usize(),
        freshness_objective: spec.freshness.objective.0,
    };
    let (name, sink) = (spec.pipeline.clone(), spec.sink.collection.clone());
    let factory = Factory {
        target: Target { dim: collection.config().dim, distance: collection.config().distance },
        shard: Arc::clone(&shard),
        catalog: Arc::clone(engine.catalog()),
        runtime: tokio::runtime::Handle::current(),
        spec,
    };
    let ingest = Ingest::new(name.clone(), sink, shard, bounds, Arc::new(move || factory.parts()));
    let added = engine.add_pipeline(ingest).await;
    added.map_err(|source| PipelineError::Engine { pipeline: name, source })
}

/// Tells the catalog of the pipeline; whether it is paused stays as it was.
async fn keep(catalog: &dyn CatalogStore, name: &str, yaml: String) -> Result<(), CatalogError> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    match catalog.pipeline(name).await {
        Ok(known) if known.yaml == yaml => Ok(()),
        Ok(known) => catalog.update_pipeline(&PipelineRecord { yaml, updated_ms: now, ..known }).await,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let name = name.to_string();
            let desired = DesiredState::Running;
            let record = PipelineRecord { name, yaml, desired, created_ms: now, updated_ms: now };
            catalog.create_pipeline(&record).await
        }
        Err(error) => Err(error),
    }
}

async fn collection(
    engine: &Arc<Engine>,
    spec: &PipelineSpec,
) -> Result<Arc<crate::engine::Collection>, PipelineError> {
    let (name, given) = (&spec.sink.collection, spec.map.vector.dim);
    let found = match (engine.collection(name), &spec.sink.create) {
        (Ok(found), _) => found,
        (Err(_), Some(create)) => {
            let new = NewCollection {
                name: name.clone(),
                dim: given,
                distance: create.distance,
                graph: create.hnsw,
                index: create.index.kind,
                clusters: create.index.clusters,
                recall_target: create.recall_target.and_then(|share| RecallTarget::new(share).ok()),
            };
            engine.create_collection(new).await.map_err(|error| in_engine(spec, error))?
        }
        (Err(_), None) => {
            let (pipeline, collection) = (spec.pipeline.clone(), name.clone());
            return Err(PipelineError::NoCollection { pipeline, collection });
        }
    };
    let expected = found.config().dim;
    if expected != given {
        let (pipeline, collection) = (spec.pipeline.clone(), name.clone());
        return Err(PipelineError::Dimension { pipeline, collection, given, expected });
    }
    Ok(found)
}

fn in_engine(spec: &PipelineSpec, source: EngineError) -> PipelineError {
    PipelineError::Engine { pipeline: spec.pipeline.clone(), source }
}

/// What a run's parts are made from.
struct Factory {
    spec: PipelineSpec,
    target: Target,
    shard: Arc<Shard>,
    catalog: Arc<dyn CatalogStore>,
    runtime: tokio::runtime::Handle,
}

impl Factory {
    fn parts(&self) -> Result<Parts, PartsError> {
        let positions: Arc<dyn PositionLookup> =
            Arc::new(ShardPositions { shard: Arc::clone(&self.shard), source: self.spec.pipeline.clone() });
        let source = open_source(&self.spec, positions).map_err(|error| PartsError {
            transient: matches!(&error, PipelineError::Source(SourceError::Transient { .. })),
            reason: in_full(&error),
        })?;
        let cache: Arc<dyn SchemaCache> =
            Arc::new(CatalogSchemas { catalog: Arc::clone(&self.catalog), runtime: self.runtime.clone() });
        let fatal = |error: &dyn std::error::Error| PartsError { reason: in_full(error), transient: false };
        let schemas: Arc<dyn SchemaSource> =
            schema_source(&self.spec, self.runtime.clone(), Some(cache)).map_err(|error| fatal(&error))?;
        let decoder = decode::build(&self.spec, self.target, schemas).map_err(|error| fatal(&error))?;
        Ok(Parts { source, decoder, dead_letters: dead_letters(&self.spec)? })
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", in_full(cause)),
        None => error.to_string(),
    }
}

fn open_source(
    spec: &PipelineSpec,
    positions: Arc<dyn PositionLookup>,
) -> Result<Box<dyn Source>, PipelineError> {
    match &spec.source {
        SourceSpec::File(file) => Ok(Box::new(FileSource::open(file, &spec.batch, positions)?)),
        #[cfg(feature = "kafka")]
        SourceSpec::Kafka(_) => {
            let options = kafka::options(spec)?;
            Ok(Box::new(crate::source::kafka::KafkaSource::open(options, positions)?))
        }
        #[cfg(not(feature = "kafka"))]
        SourceSpec::Kafka(_) => {
            Err(PipelineError::NotBuilt { pipeline: spec.pipeline.clone(), part: "the Kafka client" })
        }
        SourceSpec::Push(_) => {
            Err(PipelineError::NotBuilt { pipeline: spec.pipeline.clone(), part: "a source to run" })
        }
    }
}

/// Decodes the first records of a pipeline's source; nothing is written, kept or committed anywhere.
///
/// For threads that may block, inside a tokio runtime.
pub fn dry_run(spec: &PipelineSpec, records: usize) -> Result<DryRun, PipelineError> {
    let unusable = |error: &dyn std::error::Error| SourceError::Fatal {
        problem: in_full(error),
        remedy: "change the pipeline".to_string(),
    };
    let distance = spec.sink.create.as_ref().map_or(Distance::Dot, |create| create.distance);
    let target = Target { dim: spec.map.vector.dim, distance };
    let runtime = tokio::runtime::Handle::current();
    let schemas = schema_source(spec, runtime, None).map_err(|error| unusable(&error))?;
    let mut decoder = decode::build(spec, target, schemas).map_err(|error| unusable(&error))?;
    let mut source = first_records(spec, records)?;
    crate::ingest::dry_run(&mut *source, &mut *decoder, records, DRY_RUN_WAIT).map_err(|error| match error {
        DryRunError::Source(error) => PipelineError::Source(error),
        error => PipelineError::Source(unusable(&error)),
    })
}

/// How long a dry run waits for records.
const DRY_RUN_WAIT: std::time::Duration = std::time::Duration::from_secs(5);

#[cfg(not(feature = "kafka"))]
fn first_records(spec: &PipelineSpec, _records: usize) -> Result<Box<dyn Source>, PipelineError> {
    open_source(spec, Arc::new(NoPositions))
}

/// A consumer group would be disturbed by a member that only looks, so Kafka is read without one.
#[cfg(feature = "kafka")]
fn first_records(spec: &PipelineSpec, records: usize) -> Result<Box<dyn Source>, PipelineError> {
    match &spec.source {
        SourceSpec::Kafka(_) => Ok(Box::new(kafka::Peeked::read(spec, records)?)),
        SourceSpec::File(_) | SourceSpec::Push(_) => open_source(spec, Arc::new(NoPositions)),
    }
}

/// The registry that a pipeline names, or one that knows nothing.
fn schema_source(
    spec: &PipelineSpec,
    runtime: tokio::runtime::Handle,
    cache: Option<Arc<dyn SchemaCache>>,
) -> Result<Arc<dyn SchemaSource>, RegistryError> {
    match spec.decode.as_ref().and_then(|decode| decode.registry.as_ref()) {
        Some(registry) => Ok(Arc::new(RegistryClient::new(registry, runtime, cache)?)),
        None => Ok(Arc::new(NoSchemas)),
    }
}

struct NoPositions;

impl PositionLookup for NoPositions {
    fn position(&self, _partition: &str) -> Option<PartitionPosition> {
        None
    }
}

/// What the collection's log holds of a pipeline's partitions.
struct ShardPositions {
    shard: Arc<Shard>,
    source: String,
}

impl PositionLookup for ShardPositions {
    fn position(&self, partition: &str) -> Option<PartitionPosition> {
        self.shard.marks().position(&self.source, partition)
    }
}

/// Schemas seen before, kept in the catalog: decoding goes on while a registry is down.
struct CatalogSchemas {
    catalog: Arc<dyn CatalogStore>,
    runtime: tokio::runtime::Handle,
}

impl SchemaCache for CatalogSchemas {
    fn get(&self, registry: &str, id: u32) -> Option<SchemaText> {
        let text = self.runtime.block_on(self.catalog.schema(registry, id)).ok()??;
        serde_json::from_str(&text).ok()
    }

    fn put(&self, registry: &str, id: u32, schema: &SchemaText) {
        let Ok(text) = serde_json::to_string(schema) else { return };
        if let Err(error) = self.runtime.block_on(self.catalog.put_schema(registry, id, &text)) {
            tracing::warn!(registry, id, %error, "a schema could not be kept; it is needed again after a restart");
        }
    }
}

#[cfg(not(feature = "kafka"))]
fn dead_letters(spec: &PipelineSpec) -> Result<Option<Box<dyn crate::ingest::DeadLetters>>, PartsError> {
    match &spec.errors.dead_letter {
        None => Ok(None),
        Some(_) => Err(PartsError {
            reason: "errors.dead_letter needs the Kafka client, which this build was made without"
                .to_string(),
            transient: false,
        }),
    }
}

#[cfg(feature = "kafka")]
use kafka::dead_letters;

#[cfg(feature = "kafka")]
mod kafka {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::{PartsError, PipelineSpec, SourceError, SourceSpec, in_full};
    use crate::config::pipeline::{KafkaAssignment, KafkaStart, SecretError};
    use crate::ingest::DeadLetters;
    use crate::source::kafka::{Assignment, DeadLetter, DeadLetterTopic, KafkaOptions, KafkaSource, Start};
    use crate::source::{PartitionLag, Polled, Source};
    use crate::types::{Position, RawBatch, RawRows, Reject};

    /// How long rejected records may take to reach their topic before the batch is tried again.
    const DEAD_LETTER_WAIT: Duration = Duration::from_secs(30);

    pub fn options(spec: &PipelineSpec) -> Result<KafkaOptions, SourceError> {
        let SourceSpec::Kafka(kafka) = &spec.source else {
            return Err(SourceError::Fatal {
                problem: format!("pipeline {:?} has no Kafka source", spec.pipeline),
                remedy: "give it one".to_string(),
            });
        };
        let start = match &kafka.start {
            KafkaStart::Earliest => Start::Earliest,
            KafkaStart::Latest => Start::Latest,
            KafkaStart::Timestamp(timestamp) => Start::Timestamp(timestamp.ms),
            // A position is the last record seen; the client wants the first to read.
            KafkaStart::Positions(positions) => Start::Positions(
                positions.iter().map(|(partition, last)| (partition.clone(), last + 1)).collect(),
            ),
        };
        let assignment = match kafka.assignment {
            KafkaAssignment::Pinned => Assignment::Pinned,
            KafkaAssignment::Group => Assignment::Group { group_id: kafka.group_name(&spec.pipeline) },
        };
        Ok(KafkaOptions {
            source_name: spec.pipeline.clone(),
            brokers: kafka.brokers.clone(),
            topics: kafka.topics.clone(),
            start,
            assignment,
            client: kafka.client_settings().map_err(|error| secret_missing(spec, &error))?,
            batch_bytes_max: spec.batch.max_bytes.as_usize(),
            batch_records_max: spec.batch.max_records as usize,
            linger: spec.batch.linger.0,
            bounded: kafka.bounded,
        })
    }

    pub fn dead_letters(spec: &PipelineSpec) -> Result<Option<Box<dyn DeadLetters>>, PartsError> {
        let (Some(letters), SourceSpec::Kafka(kafka)) = (&spec.errors.dead_letter, &spec.source) else {
            return Ok(None);
        };
        let fatal = |error: &dyn std::error::Error| PartsError { reason: in_full(error), transient: false };
        let client = kafka.client_settings().map_err(|error| fatal(&error))?;
        let topic =
            DeadLetterTopic::open(&kafka.brokers, &letters.topic, &client).map_err(|error| fatal(&error))?;
        Ok(Some(Box::new(Letters { topic, pipeline: spec.pipeline.clone() })))
    }

    fn secret_missing(spec: &PipelineSpec, error: &SecretError) -> SourceError {
        SourceError::Fatal {
            problem: format!("pipeline {:?}: {error}", spec.pipeline),
            remedy: "set the secret and resume the pipeline".to_string(),
        }
    }

    /// The first records of the topics, read once.
    pub struct Peeked(VecDeque<RawBatch>);

    impl Peeked {
        pub fn read(spec: &PipelineSpec, records: usize) -> Result<Self, SourceError> {
            Ok(Self(KafkaSource::peek(options(spec)?, records)?.into()))
        }
    }

    impl Source for Peeked {
        fn next_batch(&mut self, _max_wait: Duration) -> Result<Polled, SourceError> {
            Ok(self.0.pop_front().map_or(Polled::Finished, Polled::Batch))
        }

        fn hold(&mut self, _held_for: Duration) -> Result<(), SourceError> {
            Ok(())
        }

        fn durable(&mut self, _partition: &str, _upto: Position) {}

        fn rewind(&mut self, _partition: &str) -> Result<(), SourceError> {
            Ok(())
        }

        fn lag(&self) -> Vec<PartitionLag> {
            Vec::new()
        }
    }

    struct Letters {
        topic: DeadLetterTopic,
        pipeline: String,
    }

    impl DeadLetters for Letters {
        fn send(
            &mut self,
            batch: &RawBatch,
            rejects: &[Reject],
        ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
            let RawRows::Records(records) = &batch.rows else { return Ok(()) };
            let letters: Vec<DeadLetter<'_>> = rejects
                .iter()
                .filter_map(|reject| {
                    let index =
                        records.binary_search_by_key(&reject.position, |record| record.position).ok()?;
                    let record = records.get(index)?;
                    Some(DeadLetter {
                        partition: &batch.partition,
                        position: record.position,
                        timestamp_ms: record.timestamp_ms,
                        key: record.key.as_deref(),
                        value: record.value.as_deref(),
                        code: &reject.code,
                        reason: &reject.reason,
                        pipeline: &self.pipeline,
                    })
                })
                .collect();
            Ok(self.topic.send(&letters, DEAD_LETTER_WAIT)?)
        }
    }
}
