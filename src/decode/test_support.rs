//! What the decoders' tests share: pipelines in a line, batches from bytes, rows as JSON.
#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::ProptestConfig;
use serde_json::{Value, json};

use super::{DecodeError, Decoded, Decoder, NoSchemas, SchemaSource, Target, build};
use crate::config::pipeline::PipelineSpec;
use crate::types::{Distance, OpKind, RawBatch, RawRecord, RawRows};

/// Settings of a property test: so many cases, or `PROPTEST_CASES`, which makes it a fuzzer that runs for as long as
/// somebody likes to wait.
pub fn cases(count: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    let cases = asked.map_or(count, |text| text.parse().expect("PROPTEST_CASES is a number"));
    ProptestConfig { cases, ..ProptestConfig::default() }
}

pub const AVRO: &str = "{format: avro, framing: confluent, registry: {url: \"http://r\"}}";

/// A Kafka pipeline with this `decode`, this `map` (without braces) and more top-level lines.
pub fn spec(decode: &str, map: &str, more: &str) -> PipelineSpec {
    let text = format!(
        "version: 1\npipeline: p\nsource: {{kafka: {{brokers: [b:1], topics: [t]}}}}\ndecode: {decode}\nmap: {{{map}}}\nsink: {{collection: c}}\n{more}\n"
    );
    PipelineSpec::from_yaml(&text, "test.yaml").unwrap_or_else(|errors| unreachable!("{errors}\n{text}"))
}

pub fn decoder(spec: &PipelineSpec, distance: Distance, schemas: Arc<dyn SchemaSource>) -> Box<dyn Decoder> {
    build(spec, Target { dim: spec.map.vector.dim, distance }, schemas).unwrap()
}

pub fn json_decoder(map: &str, more: &str) -> Box<dyn Decoder> {
    decoder(&spec("{format: json}", map, more), Distance::L2, Arc::new(NoSchemas))
}

/// Records with positions 10, 11, …, timestamps 1000, 1001, ….
pub fn batch<K: AsRef<[u8]>, V: AsRef<[u8]>>(records: &[(Option<K>, Option<V>)]) -> RawBatch {
    let bytes = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let records: Vec<_> = (0_u32..)
        .zip(records)
        .map(|(index, (key, value))| RawRecord {
            position: u64::from(10 + index).into(),
            key: key.as_ref().map(|key| bytes(key.as_ref())),
            value: value.as_ref().map(|value| bytes(value.as_ref())),
            timestamp_ms: Some(1000 + i64::from(index)),
        })
        .collect();
    let to = (9 + records.len() as u64).into();
    RawBatch { partition: "t/0".into(), epoch: 0, from: None, to, rows: RawRows::Records(records) }
}

pub fn values<V: AsRef<[u8]>>(values: &[V]) -> RawBatch {
    let records: Vec<_> = values.iter().map(|value| (None::<&[u8]>, Some(value.as_ref()))).collect();
    batch(&records)
}

/// Rows as `[position, id, vector, payload, time]` or `[position, id]` for deletes; rejects as `[position,
/// code]`.
pub fn shown(decoded: &Decoded) -> (Vec<Value>, Vec<Value>) {
    let mut vectors = decoded.batch.vectors.chunks(decoded.batch.dim.max(1) as usize);
    let rows = decoded.batch.ops.iter().map(|op| match &op.kind {
        OpKind::Delete => json!([op.position, op.id]),
        OpKind::Upsert { payload, event_time_ms } => {
            let text: &[u8] = if payload.is_empty() { b"{}" } else { payload };
            let payload: Value = serde_json::from_slice(text).unwrap();
            json!([op.position, op.id, vectors.next().unwrap(), payload, event_time_ms])
        }
    });
    let rows = rows.collect();
    assert!(vectors.next().is_none(), "a vector belongs to no row");
    (rows, decoded.rejects.iter().map(|reject| json!([reject.position, reject.code])).collect())
}

/// What becomes of one JSON record: its row, or the code and reason of its reject.
pub fn one(decoder: &mut dyn Decoder, value: &[u8]) -> Result<Value, String> {
    let decoded = decoder.decode(&values(&[value])).unwrap();
    assert!(decoded.batch.ops.len() + decoded.rejects.len() == 1, "neither lost nor doubled");
    match decoded.rejects.first() {
        Some(reject) => Err(format!("{}: {}", reject.code, reject.reason)),
        None => Ok(shown(&decoded).0.remove(0)),
    }
}

pub fn failure(result: Result<Decoded, DecodeError>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}
