#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decode::NoSchemas;
use crate::decode::test_support::{batch, cases, decoder, failure, json_decoder, one, shown, spec, values};
use crate::types::Distance;

const MAP: &str = "id: $.id, vector: {field: $.v, dim: 2}";

#[test]
fn fields_become_id_vector_time_and_payload() {
    let map = "id: $.id, vector: {field: $.v, dim: 2}, event_time: $.at, payload: {exclude: [html], rename: {ts: updated}}";
    let mut decoder = json_decoder(map, "transform: [{constant: {field: origin, value: [1]}}]");
    let record = br#"{"id": "a", "v": [1, -2.5e0], "at": "1970-01-01T00:00:01Z", "html": "<p>", "ts": 3, "lang": "en", "updated": 0}"#;
    let expected = json!([10, "a", [1.0, -2.5], {"at": "1970-01-01T00:00:01Z", "updated": 3, "lang": "en", "origin": [1]}, 1000]);
    assert_eq!(one(decoder.as_mut(), record).unwrap(), expected);
    let mut included =
        json_decoder("id: $.id, vector: {field: $.v, dim: 2}, payload: {include: [id, x]}", "");
    let row = one(included.as_mut(), br#"{"id": 7, "v": [1, 2], "x": null, "y": 1}"#).unwrap();
    assert_eq!(row, json!([10, 7, [1.0, 2.0], {"id": 7, "x": null}, 1000]));
}

#[test]
fn nested_fields_are_found_and_the_vector_never_lands_in_the_payload() {
    let map = "id: $.doc.id, vector: {field: $.doc.deep.v, dim: 2}, event_time: {field: $.doc.at, unit: s}";
    let mut decoder = json_decoder(map, "");
    let record = br#"{"doc": {"id": "a", "deep": {"v": [1, 2], "w": [ 1.10 ]}, "at": 5}, "x": {"y": [1, {"z": null}]}}"#;
    let row = one(decoder.as_mut(), record).unwrap();
    let payload = json!({"doc": {"id": "a", "deep": {"w": [1.10]}, "at": 5}, "x": {"y": [1, {"z": null}]}});
    assert_eq!(row, json!([10, "a", [1.0, 2.0], payload, 5000]));
    for record in
        [r#"{"doc": null}"#, r#"{"doc": [1, {"a": 2}]}"#, r#"{"doc": "x"}"#, r#"{"x": 1}"#, r#"{"doc": {}}"#]
    {
        assert!(one(decoder.as_mut(), record.as_bytes()).unwrap_err().starts_with("missing_id"), "{record}");
    }
}

#[test]
fn every_fault_has_its_code_and_says_what_was_wrong() {
    let mut decoder = json_decoder(&format!("{MAP}, event_time: $.at"), "");
    for (record, expected) in [
        (r#"{"v": [1, 2]}"#, "missing_id: the record has no id at $.id"),
        (r#"{"id": null, "v": [1, 2]}"#, "missing_id"),
        (
            r#"{"id": -1, "v": [1, 2]}"#,
            "bad_id: $.id: id must be a string or an unsigned integer, not the number -1",
        ),
        (r#"{"id": 1.5, "v": [1, 2]}"#, "bad_id"),
        (r#"{"id": "", "v": [1, 2]}"#, "bad_id"),
        (
            r#"{"id": [1], "v": [1, 2]}"#,
            "bad_id: $.id: id must be a string or an unsigned integer, not an array",
        ),
        (r#"{"id": 1}"#, "missing_vector: the record has no vector at $.v"),
        (r#"{"id": 1, "v": null}"#, "missing_vector"),
        (r#"{"id": 1, "v": [1]}"#, "dimension_mismatch: the vector has 1 components; the collection takes 2"),
        (r#"{"id": 1, "v": [1, 1e300]}"#, "not_finite: component 1 of the vector is inf"),
        (r#"{"id": 1, "v": [1, "x"]}"#, "decode: invalid type: string \"x\", expected f64"),
        (
            r#"{"id": 1, "v": 3}"#,
            "decode: invalid type: integer `3`, expected a vector as an array of numbers",
        ),
        (r#"{"id": 1, "v": [1, NaN]}"#, "decode"),
        (r#"{"id": 1, "v": [1, 2]"#, "decode: EOF"),
        (r#"{"id": 1, "v": [1, 2]} x"#, "decode: trailing characters"),
        (r#"{"id": 1, "id": 2, "v": [1, 2]}"#, "decode: field \"id\" is given twice"),
        (r#"{"id": 1, "v": [1, 2], "x": "\ud800"}"#, "decode: a string holds half of a surrogate pair"),
        (r#"{"id": 1, "v": [1, 2], "x": 1e999}"#, "decode: the number 1e999"),
        ("[1]", "decode"),
        ("null", "decode"),
        ("", "decode"),
        (
            r#"{"id": 1, "v": [1, 2], "at": "yesterday"}"#,
            "bad_event_time: event time $.at is the text \"yesterday\"",
        ),
        (r#"{"id": 1, "v": [1, 2], "at": true}"#, "bad_event_time"),
    ] {
        let found = one(decoder.as_mut(), record.as_bytes()).unwrap_err();
        assert!(found.starts_with(expected), "{record}: {found}");
    }
    assert!(one(decoder.as_mut(), b"\xff").unwrap_err().starts_with("decode: the record is not UTF-8"));
    let long_id = format!(r#"{{"id": "{}", "v": [1, 2]}}"#, "x".repeat(513));
    assert!(one(decoder.as_mut(), long_id.as_bytes()).unwrap_err().starts_with("bad_id"));
    let large = format!(r#"{{"id": 1, "v": [1, 2], "x": "{}"}}"#, "x".repeat(1 << 20));
    assert!(one(decoder.as_mut(), large.as_bytes()).unwrap_err().starts_with("payload_too_large"));
    assert!(
        one(decoder.as_mut(), br#"{"id": 1, "v": [1, 2], "at": null}"#).is_ok(),
        "no time: the record's own"
    );
}

#[test]
fn a_bad_record_does_not_touch_its_neighbours() {
    let mut decoder = json_decoder(MAP, "");
    let good = r#"{"id": "a", "v": [1, 2]}"#;
    let decoded = decoder
        .decode(&values(&[good, r#"{"id": "b", "v": [1, 2, 3]}"#, r#"{"id": "c", "v": [7, "#, good]))
        .unwrap();
    let (rows, rejects) = shown(&decoded);
    assert_eq!(rows, [json!([10, "a", [1.0, 2.0], {}, 1000]), json!([13, "a", [1.0, 2.0], {}, 1003])]);
    assert_eq!(rejects, [json!([11, "dimension_mismatch"]), json!([12, "decode"])]);
    assert_eq!(decoded.rejects[1].value.as_deref(), Some("eyJpZCI6ICJjIiwgInYiOiBbNywg"));
    assert_eq!(decoded.rejects[1].timestamp_ms, Some(1002));
}

#[test]
fn null_values_and_marks_delete() {
    let record = Some(r#"{"id": "a", "v": [1, 2]}"#);
    let mut decoder = json_decoder(&format!("{MAP}, delete_when: tombstone"), "");
    let keys = batch(&[
        (Some("a"), record),
        (Some("a"), None),
        (Some("\"b\""), None),
        (Some("{\"id\": 3}"), None),
        (None, None),
    ]);
    let (rows, rejects) = shown(&decoder.decode(&keys).unwrap());
    assert_eq!(rows[1..], [json!([11, "a"]), json!([12, "b"]), json!([13, 3])]);
    assert_eq!(rejects, [json!([14, "missing_id"])]);
    let mut keep = json_decoder(MAP, "");
    let decoded = keep.decode(&batch(&[(Some("a"), None::<&str>)])).unwrap();
    assert_eq!(decoded.rejects[0].code, "unexpected_null");
    let mut marked = json_decoder(&format!("{MAP}, delete_when: {{equals: {{field: $.op, value: d}}}}"), "");
    assert_eq!(one(marked.as_mut(), br#"{"id": "a", "op": "d"}"#).unwrap(), json!([10, "a"]));
    assert_eq!(one(marked.as_mut(), br#"{"id": "a", "op": "d", "v": [1]}"#).unwrap(), json!([10, "a"]));
    assert!(one(marked.as_mut(), br#"{"id": "a", "op": "u"}"#).unwrap_err().starts_with("missing_vector"));
}

#[test]
fn ids_come_from_the_key_or_the_position() {
    let value = Some(r#"{"v": [1, 2]}"#);
    let mut keyed = json_decoder("id: $key, vector: {field: $.v, dim: 2}", "");
    let (rows, rejects) = shown(
        &keyed
            .decode(&batch(&[(Some(b"k".as_slice()), value), (None, value), (Some(b"\xff"), value)]))
            .unwrap(),
    );
    assert_eq!(rows[0][1], "k");
    assert_eq!(rejects, [json!([11, "missing_id"]), json!([12, "bad_id"])]);
    let mut placed = json_decoder("id: {uuid5: position}, vector: {field: $.v, dim: 2}", "");
    let twice: Vec<_> = (0..2)
        .map(|_| shown(&placed.decode(&batch(&[(None::<&str>, value), (None, value)])).unwrap()).0)
        .collect();
    assert_eq!(twice[0], twice[1], "the same record gets the same id");
    assert_ne!(twice[0][0][1], twice[0][1][1]);
    assert_eq!(twice[0][0][1], "b6390b9d-e3b7-5030-a30f-8d70b82ee6b8", "made-up ids never change");
}

#[test]
fn cosine_collections_get_unit_vectors() {
    let mut decoder = decoder(&spec("{format: json}", MAP, ""), Distance::Cosine, Arc::new(NoSchemas));
    assert_eq!(one(decoder.as_mut(), br#"{"id": "a", "v": [3, 4]}"#).unwrap()[2], json!([0.6_f32, 0.8_f32]));
    assert!(one(decoder.as_mut(), br#"{"id": "a", "v": [0, 0]}"#).unwrap_err().starts_with("zero_vector"));
}

#[test]
fn policies_skip_stop_and_open_the_circuit() {
    let bad = [r#"{"id": "a", "v": [1]}"#, "nonsense"];
    let mut skip = json_decoder(MAP, "errors: {decode: skip, validate: skip}");
    let decoded = skip.decode(&values(&bad)).unwrap();
    assert_eq!((decoded.skipped, decoded.rejects.len(), decoded.batch.ops.len()), (2, 0, 0));
    let mut stop = json_decoder(MAP, "errors: {validate: stop}");
    assert!(
        failure(stop.decode(&values(&bad))).starts_with("dimension_mismatch at t/0/10: the vector has 1")
    );
    let mut stop = json_decoder(MAP, "errors: {decode: stop}");
    assert!(failure(stop.decode(&values(&bad))).starts_with("decode at t/0/11"));
    let mut circuit = json_decoder(MAP, "errors: {circuit: {max_ratio: 0.5, window: 10}}");
    assert!(circuit.decode(&values(&[bad[1]; 5])).is_ok());
    let message = failure(circuit.decode(&values(&[bad[1]])));
    assert!(
        message
            .starts_with("6 of the last 6 records were rejected (limit 0.5); the last one: decode at t/0/10"),
        "{message}"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("\\PC{0,4}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn payloads_read_back_as_they_were_written(fields in prop::collection::btree_map("[a-h\"\\\\é]{1,3}", any_json(), 0..5), pretty: bool) {
        let mut record: serde_json::Map<String, Value> = fields.clone().into_iter().collect();
        record.insert("id!".into(), "x".into());
        record.insert("v!".into(), json!([1, 2]));
        let text = if pretty { serde_json::to_string_pretty(&record) } else { serde_json::to_string(&record) }.unwrap();
        let mut decoder = json_decoder("id: '$[\"id!\"]', vector: {field: '$[\"v!\"]', dim: 2}", "");
        let row = one(decoder.as_mut(), text.as_bytes()).unwrap();
        prop_assert_eq!(&row[3], &fields.into_iter().collect::<Value>());
    }

    #[test]
    fn torn_and_flipped_records_never_panic_and_never_vanish(cut in 0_usize..120, at in 0_usize..120, to: u8) {
        let good = r#"{"id": "aé", "v": [1, 2.5e-3], "doc": {"x": [true, null, "\ud83d\ude00"], "y": {"z": -1}}, "t": "1970-01-01T00:00:01Z"}"#.as_bytes();
        let map = "id: $.id, vector: {field: $.v, dim: 2}, event_time: $.t, delete_when: {equals: {field: $.doc.y.z, value: 0}}";
        let mut decoder = json_decoder(map, "");
        prop_assert!(one(decoder.as_mut(), good).is_ok());
        prop_assert!(one(decoder.as_mut(), &good[..cut.min(good.len() - 1)]).is_err(), "a prefix is no record");
        let mut flipped = good.to_vec();
        let index = at % flipped.len();
        flipped[index] = to;
        let _ = one(decoder.as_mut(), &flipped);
    }
}
