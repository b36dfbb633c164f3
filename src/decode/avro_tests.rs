#![allow(clippy::unwrap_used)]
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::decode::test_support::{AVRO, batch, decoder, failure, one, shown, spec, values};
use crate::decode::{Decoder, SchemaFailure, SchemaSource, SchemaText};
use crate::types::Distance;

const V1: &str = r#"{"type":"record","name":"P","fields":[{"name":"id","type":"string"},{"name":"v","type":{"type":"array","items":"float"}}]}"#;
const V2: &str = r#"{"type":"record","name":"P","fields":[{"name":"lang","type":"string"},{"name":"v","type":{"type":"array","items":"float"}},{"name":"id","type":"string"}]}"#;
const MAP: &str = "id: $.id, vector: {field: $.v, dim: 1}, delete_when: tombstone";

/// 1 and 2 are records, 3 a long, 4 a record with an id, 5 Protobuf, 6 is away, others unknown.
#[derive(Default)]
struct Schemas {
    asked: AtomicUsize,
}

impl SchemaSource for Schemas {
    fn schema(&self, id: u32) -> Result<SchemaText, SchemaFailure> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let schema = match id {
            1 => V1,
            2 => V2,
            3 => "\"long\"",
            4 => {
                r#"{"type":"record","name":"K","fields":[{"name":"x","type":"int"},{"name":"id","type":"string"}]}"#
            }
            5 => return Err(SchemaFailure::Unusable { reason: "it is a PROTOBUF schema".into() }),
            6 => {
                return Err(SchemaFailure::Unavailable {
                    registry: "http://r".into(),
                    reason: "away".into(),
                });
            }
            _ => return Err(SchemaFailure::Unknown { registry: "http://r".into() }),
        };
        Ok(SchemaText { schema: schema.into(), references: Vec::new() })
    }
}

fn make(more: &str) -> (Box<dyn Decoder>, Arc<Schemas>) {
    let schemas = Arc::new(Schemas::default());
    (decoder(&spec(AVRO, MAP, more), Distance::L2, schemas.clone()), schemas)
}

fn framed(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}

fn v1(id: &str) -> Vec<u8> {
    let length = u8::try_from(id.len() * 2).unwrap();
    framed(1, &[&[length], id.as_bytes(), &[2], &1.5_f32.to_le_bytes(), &[0]].concat())
}

#[test]
fn each_schema_is_asked_for_once_and_versions_mix() {
    let (mut decoder, schemas) = make("");
    let v2 = framed(2, &[&[4], b"en".as_slice(), &[2], &2.5_f32.to_le_bytes(), &[0], &[2], b"b"].concat());
    let decoded = decoder.decode(&values(&[v1("a"), v2.clone(), v1("c"), v2])).unwrap();
    let (rows, rejects) = shown(&decoded);
    assert!(rejects.is_empty());
    assert_eq!(rows[0], json!([10, "a", [1.5], {}, 1000]));
    assert_eq!(rows[1], json!([11, "b", [2.5], {"lang": "en"}, 1001]));
    assert_eq!(rows.len(), 4);
    assert_eq!(schemas.asked.load(Ordering::Relaxed), 2);
}

#[test]
fn broken_frames_and_bodies_are_rejected_alone() {
    let (mut decoder, _) = make("");
    let mut torn = v1("a");
    torn.truncate(torn.len() - 2);
    for (record, expected) in [
        (b"".to_vec(), "bad_framing: the record is empty"),
        (b"{\"id\": 1}".to_vec(), "bad_framing: the record begins with '{': it looks like JSON"),
        (vec![7, 0, 0, 0, 1], "bad_framing: the record begins with byte 0x07"),
        (vec![0, 0, 0], "bad_framing: the record has 3 bytes"),
        (torn, "decode: schema 1: a block claims 1 items, more than its bytes hold (byte 3 of 6)"),
        (framed(1, &[]), "decode: schema 1: the record ends inside"),
        (framed(3, &[2]), "decode: schema 3: the Avro schema is not a record"),
        (framed(5, &[2]), "decode: schema 5: it is a PROTOBUF schema"),
    ] {
        let found = one(decoder.as_mut(), &record).unwrap_err();
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn unknown_schemas_wait_or_go_to_quarantine() {
    let (mut waiting, _) = make("");
    let error = waiting.decode(&values(&[v1("a"), framed(9, &[])])).unwrap_err();
    assert!(
        error.is_transient() && error.to_string().contains("schema 9 cannot be had from http://r"),
        "{error}"
    );
    let (mut keeping, _) = make("errors: {schema_unknown: quarantine, decode: skip}");
    let (rows, rejects) = shown(&keeping.decode(&values(&[v1("a"), framed(9, &[])])).unwrap());
    assert_eq!(
        (rows.len(), rejects),
        (1, vec![json!([11, "unknown_schema"])]),
        "good once the schema is there, so never skipped"
    );
    assert!(
        failure(keeping.decode(&values(&[framed(6, &[])]))).contains("away"),
        "no answer is no reason to reject"
    );
    assert!(keeping.decode(&values(&[v1("b")])).is_ok(), "a failed batch leaves nothing behind");
}

#[test]
fn tombstones_take_their_id_from_text_or_framed_keys() {
    let (mut decoder, _) = make("");
    let (rows, rejects) = shown(
        &decoder
            .decode(&batch::<Vec<u8>, Vec<u8>>(&[
                (Some(b"plain".to_vec()), None),
                (Some(framed(3, &[84])), None),
                (Some(framed(4, &[2, 4, b'x', b'y'])), None),
                (Some(framed(3, &[84, 0])), None),
            ]))
            .unwrap(),
    );
    assert_eq!(rows, [json!([10, "plain"]), json!([11, 42]), json!([12, "xy"])]);
    assert_eq!(rejects, [json!([13, "decode"])]);
}

#[test]
fn one_schema_may_serve_all_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.avsc");
    std::fs::write(&path, V1).unwrap();
    let decode = format!("{{format: avro, schema: \"{}\"}}", path.display());
    let mut decoder = decoder(&spec(&decode, MAP, ""), Distance::L2, Arc::new(Schemas::default()));
    assert_eq!(one(decoder.as_mut(), &v1("a")[5..]).unwrap(), json!([10, "a", [1.5], {}, 1000]));
}
