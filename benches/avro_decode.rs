//! Avro records of 768 floats: our decode plan, through the whole decoder, beside `apache_avro`'s `Value`.
//!
//! `cargo bench --bench avro_decode` prints microseconds per record, the best of several rounds.
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use apache_avro::Schema;
use apache_avro::types::Value;
use bytes::Bytes;
use proximadb::config::pipeline::PipelineSpec;
use proximadb::decode::{SchemaFailure, SchemaSource, SchemaText, Target, build};
use proximadb::types::{Distance, RawBatch, RawRecord, RawRows};

const DIM: usize = 768;
const RECORDS: usize = 256;
const ROUNDS: usize = 40;
const PIPELINE: &str = r#"
version: 1
pipeline: bench
source: {kafka: {brokers: [localhost:1], topics: [t]}}
decode: {format: avro, framing: confluent, registry: {url: "http://localhost:1"}}
map: {id: $.sku, vector: {field: $.embedding, dim: 768}}
sink: {collection: c}
"#;

/// Knows one schema, whatever is asked.
struct One(String);

impl SchemaSource for One {
    fn schema(&self, _: u32) -> Result<SchemaText, SchemaFailure> {
        Ok(SchemaText { schema: self.0.clone(), references: Vec::new() })
    }
}

fn schema(vector: &str) -> String {
    format!(
        r#"{{"type":"record","name":"P","fields":[{{"name":"sku","type":"string"}},{{"name":"embedding","type":{vector}}},
        {{"name":"lang","type":["null","string"]}},{{"name":"price","type":"double"}}]}}"#
    )
}

fn record(index: usize, vector: Value) -> Value {
    Value::Record(vec![
        ("sku".into(), format!("sku-{index}").into()),
        ("embedding".into(), vector),
        ("lang".into(), Value::Union(1, Box::new("en".into()))),
        ("price".into(), Value::Double(index as f64)),
    ])
}

/// Microseconds per record, the best round.
fn best(mut round: impl FnMut()) -> f64 {
    let seconds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed().as_secs_f64()
    });
    seconds.fold(f64::INFINITY, f64::min) * 1e6 / RECORDS as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let floats: Vec<f32> = (0..DIM).map(|index| (index as f32).sin()).collect();
    let bytes: Vec<u8> = floats.iter().flat_map(|value| value.to_le_bytes()).collect();
    let array = Value::Array(floats.iter().map(|value| Value::Float(*value)).collect());
    for (name, kind, vector) in [
        ("array<float>", r#"{"type":"array","items":"float"}"#, array),
        ("bytes", r#""bytes""#, Value::Bytes(bytes)),
    ] {
        let text = schema(kind);
        let avro = Schema::parse_str(&text)?;
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&avro).build()?;
        let bodies: Result<Vec<_>, _> =
            (0..RECORDS).map(|index| writer.write_value_to_vec(record(index, vector.clone()))).collect();
        let bodies = bodies?;
        let records = (0_u64..).zip(&bodies).map(|(index, body)| RawRecord {
            position: index.into(),
            key: None,
            value: Some(Bytes::from([&[0, 0, 0, 0, 1], body.as_slice()].concat())),
            timestamp_ms: Some(1),
        });
        let rows = RawRows::Records(records.collect());
        let batch =
            RawBatch { partition: "t/0".into(), epoch: 0, from: None, to: (RECORDS as u64).into(), rows };

        let spec = PipelineSpec::from_yaml(PIPELINE, "bench.yaml")?;
        for distance in [Distance::L2, Distance::Cosine] {
            let target = Target { dim: spec.map.vector.dim, distance };
            let mut decoder = build(&spec, target, Arc::new(One(text.clone())))?;
            assert_eq!(decoder.decode(&batch)?.batch.vectors.len(), RECORDS * DIM);
            let plan = best(|| {
                let _ = black_box(decoder.decode(black_box(&batch)));
            });
            println!("{name:14} plan, {distance:?}: {plan:.3} µs/record");
        }
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build()?;
        let value = best(|| {
            for body in &bodies {
                let _ = black_box(reader.read_value(&mut body.as_slice()));
            }
        });
        println!("{name:14} apache_avro Value: {value:.3} µs/record");
    }
    Ok(())
}
