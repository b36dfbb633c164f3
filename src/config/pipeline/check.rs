//! Relations between keys that the shape alone cannot express.
use std::collections::BTreeSet;

use super::{
    Ack, DecodeSpec, DeleteWhen, FieldPath, FileFormat, FileSpec, Format, Framing, IdSpec, KafkaAssignment,
    KafkaSpec, KafkaStart, MapSpec, PipelineSpec, Secret, SourceSpec, TransformSpec,
};
use crate::types::{self, IndexSpec, RecallTarget};

/// Something wrong: the path of the key, and words.
#[derive(Debug)]
pub(super) struct Finding {
    pub path: Vec<String>,
    pub problem: String,
    pub expected: String,
}

/// Largest dimension of a collection: 256 KiB a vector, so that a batch of one still fits every buffer.
pub(super) const DIM_MAX: u32 = 65_536;

/// Largest batch: decoded, it must fit a log entry.
const BATCH_BYTES_MAX: u64 = 32 << 20;

/// Largest window of `errors.circuit`: one byte a record is kept.
const CIRCUIT_WINDOW_MAX: u32 = 1_000_000;

/// Client settings that decide what is read and when, each with what to do instead.
const KAFKA_KEYS_OWNED: [(&str, &str); 20] = [
    ("bootstrap.servers", "say it with `brokers`"),
    ("metadata.broker.list", "say it with `brokers`"),
    ("group.id", "say it with `group_id`"),
    ("auto.offset.reset", "say it with `start`; positions come from our log"),
    ("topic.auto.offset.reset", "say it with `start`; positions come from our log"),
    ("enable.auto.commit", "positions are committed with the rows"),
    ("auto.commit.enable", "positions are committed with the rows"),
    ("auto.commit.interval.ms", "positions are committed with the rows"),
    ("enable.auto.offset.store", "positions are committed with the rows"),
    ("offset.store.method", "positions are committed with the rows"),
    ("offset.store.path", "positions are committed with the rows"),
    ("enable.partition.eof", "it is always on: positions move past transaction markers by it"),
    ("partition.assignment.strategy", "say it with `assignment`"),
    ("group.protocol", "say it with `assignment`"),
    ("group.remote.assignor", "say it with `assignment`"),
    ("queued.min.messages", "say it with `limits.in_flight_bytes`"),
    ("queued.max.messages.kbytes", "say it with `limits.in_flight_bytes`"),
    ("consume.callback.max.messages", "the source polls"),
    ("allow.auto.create.topics", "a source never creates topics"),
    ("plugin.library.paths", "native plugins are not loaded"),
];

/// Parts of client settings' names whose values are secrets.
const KAFKA_KEYS_SECRET: [&str; 5] = ["password", "secret", "key.pem", "private.key", "jaas"];

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let path = path.split('.').map(str::to_string).collect();
        self.0.push(Finding { path, problem: problem.into(), expected: expected.into() });
    }

    fn add_below(&mut self, path: &str, key: &str, problem: impl Into<String>, expected: impl Into<String>) {
        let path = path.split('.').chain([key]).map(str::to_string).collect();
        self.0.push(Finding { path, problem: problem.into(), expected: expected.into() });
    }
}

/// Everything wrong with a specification whose shape is right.
pub(super) fn check(spec: &PipelineSpec) -> Vec<Finding> {
    let mut found = Findings(Vec::new());
    if spec.version != 1 {
        found.add("version", format!("version {} is not known", spec.version), "write version: 1");
    }
    check_name(&mut found, "pipeline", &spec.pipeline);
    check_name(&mut found, "sink.collection", &spec.sink.collection);
    if let Some(Err((key, problem))) = spec.sink.create.as_ref().map(|create| create.hnsw.check()) {
        found.add(&format!("sink.create.hnsw.{key}"), problem, "leave it out for the default");
    }
    let index = spec.sink.create.as_ref().map(|create| &create.index);
    if let Some(Err(problem)) = index.map(|index| IndexSpec::check_clusters(index.kind, index.clusters)) {
        found.add(
            "sink.create.index.clusters",
            problem,
            "leave it out for twice the square root of the rows",
        );
    }
    let target = spec.sink.create.as_ref().and_then(|create| create.recall_target);
    if let Some(Err(problem)) = target.map(RecallTarget::new) {
        found.add("sink.create.recall_target", problem, "give a share such as 0.98, or leave it out");
    }
    match &spec.source {
        SourceSpec::Kafka(kafka) => check_kafka(&mut found, kafka),
        SourceSpec::File(file) => {
            check_file(&mut found, file);
            check_keys(&mut found, &spec.map);
        }
        SourceSpec::Push(_) => {}
    }
    if matches!(spec.sink.ack, Ack::Ack | Ack::Indexed) {
        found.add(
            "sink.ack",
            "a position moves when the log holds its records, neither before nor when a graph does",
            "write durable or searchable, which come together, or leave it out",
        );
    }
    if spec.batch.max_bytes.0 > BATCH_BYTES_MAX {
        found.add("batch.max_bytes", "a batch becomes one log entry", "give at most 32MiB");
    }
    check_decode(&mut found, spec);
    check_map(&mut found, &spec.map);
    check_payload(&mut found, &spec.map);
    check_transform(&mut found, &spec.transform);
    check_bounds(&mut found, spec);
    found.0
}

fn check_name(found: &mut Findings, path: &str, name: &str) {
    if let Err(why) = types::check_name(name) {
        let expected = "use 1 to 255 of letters, digits, _, - and ., beginning with none of the last";
        found.add(path, format!("{name:?} is not a name: {why}"), expected);
    }
}

fn check_kafka(found: &mut Findings, kafka: &KafkaSpec) {
    if kafka.brokers.is_empty() {
        found.add("source.kafka.brokers", "no broker is given", "give at least one, as host:port");
    }
    for (index, broker) in kafka.brokers.iter().enumerate() {
        if broker.trim().is_empty() || broker.contains([',', ' ']) {
            let key = index.to_string();
            found.add_below(
                "source.kafka.brokers",
                &key,
                format!("{broker:?} is not one broker"),
                "write host:port",
            );
        }
    }
    if kafka.topics.is_empty() {
        found.add("source.kafka.topics", "no topic is given", "give at least one");
    }
    for (index, topic) in kafka.topics.iter().enumerate() {
        let legal = topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if topic.is_empty() || topic.len() > 249 || !legal {
            let expected = "use its exact name; patterns are not supported";
            found.add_below(
                "source.kafka.topics",
                &index.to_string(),
                format!("{topic:?} is not a topic"),
                expected,
            );
        }
    }
    if let KafkaStart::Positions(positions) = &kafka.start {
        for key in positions.keys() {
            check_start_key(found, kafka, key);
        }
    }
    if kafka.assignment == KafkaAssignment::Pinned && kafka.group_id.is_some() {
        found.add(
            "source.kafka.group_id",
            "a pinned pipeline joins no group",
            "write assignment: group, or leave the group out",
        );
    }
    if kafka.assignment == KafkaAssignment::Group && kafka.group_id.as_deref() == Some("") {
        found.add("source.kafka.group_id", "the group has no name", "leave it out for proximadb-<pipeline>");
    }
    if kafka.assignment == KafkaAssignment::Group && kafka.bounded {
        let problem = "a bounded pipeline cannot share partitions with a group";
        found.add("source.kafka.bounded", problem, "use assignment: pinned, or leave bounded out");
    }
    for (key, value) in &kafka.client {
        let owned = KAFKA_KEYS_OWNED.iter().find(|(name, _)| *name == key.as_str());
        if let Some((_, instead)) = owned {
            found.add_below("source.kafka.client", key, format!("client setting `{key}` is ours"), *instead);
        }
        let is_secret = KAFKA_KEYS_SECRET.iter().any(|part| key.contains(part));
        if is_secret && matches!(value, super::ClientValue::Plain(_)) {
            let problem = format!("client setting `{key}` holds a secret");
            found.add_below("source.kafka.client", key, problem, "give it as ${env:NAME} or file:PATH");
        }
    }
}

fn check_start_key(found: &mut Findings, kafka: &KafkaSpec, key: &str) {
    let (topic, partition) = match key.rsplit_once('/') {
        Some((topic, partition)) => (Some(topic), partition),
        None => (None, key),
    };
    let path = "source.kafka.start.positions";
    if partition.parse::<i32>().map_or(true, |number| number < 0) {
        let expected = "use a partition's number, or topic/number";
        found.add_below(path, key, format!("{key:?} names no partition"), expected);
    } else if topic.is_none() && kafka.topics.len() > 1 {
        let expected = format!("there are {} topics: write topic/{partition}", kafka.topics.len());
        found.add_below(path, key, format!("partition {key} of which topic?"), expected);
    } else if let Some(topic) = topic.filter(|topic| !kafka.topics.iter().any(|known| known == topic)) {
        found.add_below(path, key, format!("{topic:?} is not among the topics"), "name one of `topics`");
    }
}

fn check_file(found: &mut Findings, file: &FileSpec) {
    if file.path.is_empty() {
        found.add(
            "source.file.path",
            "no file is given",
            "give a path, a list of paths, or a pattern such as data/*.jsonl",
        );
    }
    let mut formats = BTreeSet::new();
    for path in &file.path {
        match file.format_of(path) {
            Some(format) => {
                formats.insert(format!("{format:?}"));
                if file.follow && format != FileFormat::Jsonl {
                    let problem = format!("{path:?} cannot be followed: only JSON lines grow line by line");
                    found.add("source.file.follow", problem, "leave `follow` out, or write JSON lines");
                }
            }
            None => {
                let expected = "add `format: jsonl`, `parquet` or `avro`";
                found.add("source.file.path", format!("{path:?} does not tell its format"), expected);
            }
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if folder.contains(['*', '?']) {
            let problem = format!("{path:?} has a pattern in a folder's name");
            found.add("source.file.path", problem, "patterns are for the last part only: data/*.jsonl");
        }
    }
    if formats.len() > 1 {
        found.add(
            "source.file.path",
            "files of several formats in one pipeline",
            "make one pipeline for each format",
        );
    }
}

/// Files hold values alone: no keys, and no nulls that could be tombstones.
fn check_keys(found: &mut Findings, map: &MapSpec) {
    if map.id == IdSpec::Key {
        found.add("map.id", "records of a file have no key", "name the id's field, such as $.id");
    }
    if map.delete_when == Some(DeleteWhen::Tombstone) {
        let expected = "use delete_when: {equals: {field: $.deleted, value: true}}";
        found.add("map.delete_when", "a file has no null values that could delete", expected);
    }
}

fn check_decode(found: &mut Findings, spec: &PipelineSpec) {
    let Some(decode) = &spec.decode else {
        if !matches!(spec.source, SourceSpec::File(_)) {
            found.add(
                "source",
                "`decode` is missing",
                "say how records are read, for example decode: {format: json}",
            );
        }
        return;
    };
    check_format(found, spec, decode);
    let is_container = matches!(&spec.source, SourceSpec::File(_));
    if decode.format == Format::Avro && !is_container {
        match (decode.framing, &decode.registry, &decode.schema) {
            (Framing::Confluent, None, _) => {
                found.add(
                    "decode.framing",
                    "Avro with framing: confluent needs a registry",
                    "add `registry: {url: …}`",
                );
            }
            (Framing::Confluent, Some(_), Some(_)) => {
                let problem = "`schema` is not used with framing: confluent";
                found.add("decode.schema", problem, "remove it; schemas come from the registry");
            }
            (Framing::None, _, None) => {
                let expected = "add `schema: file.avsc`, or `framing: confluent` with a registry";
                found.add(
                    "decode.format",
                    "Avro without framing needs the schema it was written with",
                    expected,
                );
            }
            _ => {}
        }
    }
    if decode.format != Format::Avro {
        if decode.framing == Framing::Confluent {
            found.add("decode.framing", "framing: confluent is for Avro", "remove it, or set format: avro");
        }
        if decode.schema.is_some() {
            found.add("decode.schema", "`schema` is for Avro", "remove it, or set format: avro");
        }
    }
    if let Some(registry) = &decode.registry {
        if decode.framing == Framing::None {
            let expected = "remove it, or add `framing: confluent`";
            found.add("decode.registry", "a registry is used with framing: confluent only", expected);
        }
        let is_url = registry.url.starts_with("http://") || registry.url.starts_with("https://");
        if !is_url || registry.url.contains(['?', '#', ' ']) {
            let problem = format!("{:?} is not the base URL of a registry", registry.url);
            found.add("decode.registry.url", problem, "write http(s)://host:port/path");
        } else if registry.url.split('/').nth(2).is_some_and(|authority| authority.contains('@')) {
            found.add(
                "decode.registry.url",
                "the URL holds credentials",
                "put them into `auth`, as references",
            );
        }
        if registry.timeout.0.is_zero() {
            found.add("decode.registry.timeout", "a timeout of 0 never succeeds", "leave it out for 2s");
        }
    }
}

fn check_format(found: &mut Findings, spec: &PipelineSpec, decode: &DecodeSpec) {
    let SourceSpec::File(file) = &spec.source else {
        if decode.format == Format::Columns {
            found.add("decode.format", "format: columns is for Parquet files", "use json or avro");
        }
        return;
    };
    if decode.schema.is_some() && decode.format == Format::Avro {
        found.add("decode.schema", "an Avro file holds its own schema", "remove `schema`");
    }
    if decode.framing == Framing::Confluent && decode.format == Format::Avro {
        found.add("decode.framing", "records of an Avro file are not framed", "remove `framing`");
    }
    for format in file.path.iter().filter_map(|path| file.format_of(path)) {
        let expected = format.records();
        if decode.format != expected {
            let problem =
                format!("format: {:?} does not fit the files ({format:?})", decode.format).to_lowercase();
            found.add(
                "decode.format",
                problem,
                format!("remove `decode`, or write {expected:?}").to_lowercase(),
            );
            return;
        }
    }
}

fn check_map(found: &mut Findings, map: &MapSpec) {
    let dim = map.vector.dim;
    if dim == 0 || dim > DIM_MAX {
        found.add(
            "map.vector.dim",
            format!("a vector cannot have {dim} components"),
            format!("use 1 to {DIM_MAX}"),
        );
    }
    if let IdSpec::Field(id) = &map.id
        && overlaps(id, &map.vector.field)
    {
        found.add("map.id", format!("id and vector are both read from {id}"), "give each a field of its own");
    }
    if let Some(time) = &map.event_time
        && overlaps(&time.field, &map.vector.field)
    {
        let problem = format!("event_time and vector are both read from {}", time.field);
        found.add("map.event_time", problem, "give each a field of its own");
    }
    if map.id == IdSpec::Uuid5Position && map.delete_when.is_some() {
        let problem = "with id: {uuid5: position} no later record can name a point, so none can delete it";
        found.add("map.delete_when", problem, "remove it, or take the id from a field or $key");
    }
    if let Some(DeleteWhen::Equals { field, value }) = &map.delete_when {
        if overlaps(field, &map.vector.field) {
            found.add("map.delete_when", "the vector cannot be compared", "compare another field");
        }
        let is_scalar = value.is_string() || value.is_boolean() || value.is_i64() || value.is_u64();
        if !is_scalar {
            found.add(
                "map.delete_when",
                format!("{value} cannot be compared"),
                "use text, an integer or a boolean",
            );
        }
    }
}

/// Is one of the paths the other, or inside it?
fn overlaps(a: &FieldPath, b: &FieldPath) -> bool {
    a.segments().iter().zip(b.segments()).all(|(a, b)| a == b)
}

fn check_payload(found: &mut Findings, map: &MapSpec) {
    let payload = &map.payload;
    if payload.include.is_some() && payload.exclude.is_some() {
        let problem = "`include` and `exclude` exclude each other";
        found.add(
            "map.payload.exclude",
            problem,
            "keep one: `include` lists what is kept, `exclude` what is not",
        );
    }
    let names = payload.include.iter().chain(&payload.exclude).flatten().chain(payload.rename.keys());
    for name in names {
        if name.starts_with("$.") || name.is_empty() {
            let problem = format!("{name:?} is not the name of a top-level field");
            found.add("map.payload", problem, "write the name alone, without $.");
        }
    }
    let mut targets = BTreeSet::new();
    for (from, to) in &payload.rename {
        if !targets.insert(to) {
            found.add_below(
                "map.payload.rename",
                from,
                format!("two fields are renamed to `{to}`"),
                "choose another name",
            );
        }
        if to.is_empty() {
            found.add_below("map.payload.rename", from, "the new name is empty", "choose another name");
        }
        if payload.exclude.iter().flatten().any(|name| name == from) {
            found.add_below(
                "map.payload.rename",
                from,
                format!("`{from}` is excluded and renamed"),
                "choose one",
            );
        }
        if payload.include.iter().flatten().any(|name| name == to) && !payload.rename.contains_key(to) {
            let problem = format!("`{to}` is both a field that is included and a new name of `{from}`");
            found.add_below("map.payload.rename", from, problem, "choose another name");
        }
    }
    let vector = map.vector.field.root();
    let is_top_level = map.vector.field.is_top_level();
    let listed = payload.include.iter().flatten().chain(payload.rename.keys()).any(|name| name == vector);
    if is_top_level && listed {
        let problem = format!("`{vector}` is the vector; it is not repeated in the payload");
        found.add("map.payload", problem, "remove it there; vectors are returned with with_vector");
    }
}

fn check_transform(found: &mut Findings, transform: &[TransformSpec]) {
    let mut fields = BTreeSet::new();
    for (index, TransformSpec::Constant { field, .. }) in transform.iter().enumerate() {
        if field.is_empty() {
            found.add_below("transform", &index.to_string(), "the field has no name", "give one");
        }
        if !fields.insert(field) {
            let problem = format!("field `{field}` is set twice");
            found.add_below("transform", &index.to_string(), problem, "keep one");
        }
    }
}

fn check_bounds(found: &mut Findings, spec: &PipelineSpec) {
    let (batch, limits) = (&spec.batch, &spec.limits);
    if batch.max_bytes.0 == 0 {
        found.add("batch.max_bytes", "a batch of 0 bytes holds nothing", "leave it out for 512KiB");
    }
    if batch.max_records == 0 {
        found.add("batch.max_records", "a batch of 0 records holds nothing", "leave it out for 256");
    }
    if limits.in_flight_bytes.0 < batch.max_bytes.0.saturating_mul(2) {
        let problem = format!(
            "in_flight_bytes ({}) holds less than two batches ({})",
            limits.in_flight_bytes, batch.max_bytes
        );
        found.add("limits.in_flight_bytes", problem, "raise it, or lower batch.max_bytes");
    }
    let circuit = spec.errors.circuit;
    if !(0.0..=1.0).contains(&circuit.max_ratio) {
        let problem = format!("max_ratio {} is not a share", circuit.max_ratio);
        found.add("errors.circuit.max_ratio", problem, "use 0 to 1; 1 never stops");
    }
    if !(1..=CIRCUIT_WINDOW_MAX).contains(&circuit.window) {
        let problem = format!("a window of {} records cannot be kept", circuit.window);
        found.add("errors.circuit.window", problem, format!("use 1 to {CIRCUIT_WINDOW_MAX}"));
    }
    if spec.errors.dead_letter.is_some() && !matches!(spec.source, SourceSpec::Kafka(_)) {
        let problem = "a dead-letter topic needs a source with brokers";
        found.add("errors.dead_letter", problem, "remove it; rejected records are kept in quarantine");
    }
    if let Some(auth) = spec.decode.as_ref().and_then(|decode| decode.registry.as_ref()?.auth.as_ref())
        && let super::RegistryAuth::Basic { username, .. } = auth
        && (username.is_empty() || Secret::is_reference(username))
    {
        found.add(
            "decode.registry.auth",
            "username is plain text",
            "write the user's name; only the password is a reference",
        );
    }
}
