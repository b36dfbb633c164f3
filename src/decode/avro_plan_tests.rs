#![allow(clippy::unwrap_used)]
use std::cell::Cell;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::test_support::{AVRO, cases, spec};
use crate::decode::{Target, mapping::Mapping};
use crate::types::Distance;

fn mapping(map: &str) -> Mapping {
    let spec = spec(AVRO, map, "");
    Mapping::compile(&spec, Target { dim: spec.map.vector.dim, distance: Distance::L2 }).unwrap()
}

fn plan(schema: &str, map: &str) -> Plan {
    Plan::compile(AvroSchema::parse(schema, &[]).unwrap(), &mapping(map)).unwrap()
}

fn encode(schema: &Schema, value: &Avro) -> Vec<u8> {
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value.clone()).unwrap()
}

type Read = (Option<Scalar>, Vec<f32>, Value);

/// Id, vector and payload of one record.
fn read(plan: &Plan, bytes: &[u8]) -> Result<Read, Fault> {
    let (mut row, mut vectors) = (Row::default(), Vec::new());
    plan.read(bytes, &mut row, &mut vectors)?;
    let text = [b"{", row.payload.as_slice(), b"}"].concat();
    let payload = serde_json::from_slice(&text)
        .unwrap_or_else(|error| unreachable!("{error}: {}", String::from_utf8_lossy(&text)));
    assert_eq!(row.has_vector, !vectors.is_empty());
    Ok((row.id, vectors, payload))
}

const PRODUCT: &str = r#"{"type":"record","name":"Product","namespace":"shop","fields":[
    {"name":"sku","type":"string"},
    {"name":"embedding","type":{"type":"array","items":"float"}},
    {"name":"price","type":["null","double"],"default":null},
    {"name":"lang","type":{"type":"enum","name":"Lang","symbols":["EN","FR"]}},
    {"name":"tags","type":{"type":"array","items":"string"}},
    {"name":"attrs","type":{"type":"map","values":["null","long","string"]}},
    {"name":"maker","type":["null",{"type":"record","name":"Maker","fields":[
        {"name":"name","type":"string"},{"name":"since","type":{"type":"int","logicalType":"date"}}]}]},
    {"name":"cost","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"hash","type":{"type":"fixed","name":"Hash","size":3}},
    {"name":"uid","type":{"type":"string","logicalType":"uuid"}},
    {"name":"ratio","type":"float"},
    {"name":"ok","type":"boolean"}]}"#;
const PRODUCT_MAP: &str = "id: $.sku, vector: {field: $.embedding, dim: 3}, event_time: $.at";

fn product() -> Avro {
    let maker = Avro::Record(vec![("name".into(), "Böll \"x\"".into()), ("since".into(), Avro::Date(1))]);
    Avro::Record(vec![
        ("sku".into(), "a-1".into()),
        ("embedding".into(), Avro::Array(vec![Avro::Float(0.5), Avro::Float(-1.0), Avro::Float(2.25)])),
        ("price".into(), Avro::Union(1, Box::new(Avro::Double(9.75)))),
        ("lang".into(), Avro::Enum(1, "FR".into())),
        ("tags".into(), Avro::Array(vec!["x".into(), "y".into()])),
        ("attrs".into(), Avro::Map([("n".to_string(), Avro::Union(1, Box::new(Avro::Long(-7))))].into())),
        ("maker".into(), Avro::Union(1, Box::new(maker))),
        ("cost".into(), Avro::Decimal(apache_avro::Decimal::from(1234_i32.to_be_bytes()))),
        ("at".into(), Avro::TimestampMicros(1_500_999)),
        ("hash".into(), Avro::Fixed(3, vec![1, 2, 255])),
        ("uid".into(), Avro::Uuid(apache_avro::Uuid::nil())),
        ("ratio".into(), Avro::Float(0.1)),
        ("ok".into(), Avro::Boolean(true)),
    ])
}

#[test]
fn every_type_becomes_json_as_documented() {
    let bytes = encode(&Schema::parse_str(PRODUCT).unwrap(), &product());
    let plan = plan(PRODUCT, PRODUCT_MAP);
    let (id, vector, payload) = read(&plan, &bytes).unwrap();
    assert_eq!(id, Some(Scalar::Text("a-1".into())));
    assert_eq!(vector, [0.5, -1.0, 2.25]);
    let expected = json!({
        "price": 9.75, "lang": "FR", "tags": ["x", "y"], "attrs": {"n": -7},
        "maker": {"name": "Böll \"x\"", "since": "1970-01-02"}, "cost": "12.34", "at": 1500, "hash": "AQL/",
        "uid": "00000000-0000-0000-0000-000000000000", "ratio": 0.1, "ok": true,
    });
    assert_eq!(payload, expected);
    let mut row = Row::default();
    plan.read(&bytes, &mut row, &mut Vec::new()).unwrap();
    assert_eq!(row.time, Some(Scalar::TimeMs(1500)));
}

#[test]
fn torn_records_and_records_with_more_behind_are_refused() {
    let bytes = encode(&Schema::parse_str(PRODUCT).unwrap(), &product());
    for map in [PRODUCT_MAP, "id: $.maker.name, vector: {field: $.embedding, dim: 3}, payload: {include: []}"]
    {
        let plan = plan(PRODUCT, map);
        for end in 0..bytes.len() {
            assert!(read(&plan, &bytes[..end]).is_err(), "cut to {end} of {}", bytes.len());
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(read(&plan, &longer).unwrap_err().reason.contains("1 bytes follow the record"));
    }
}

#[test]
fn vectors_come_in_every_numeric_form() {
    let expected = [1.0, 2.0, -3.0];
    let le: Vec<u8> = expected.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
    let array = |items: Vec<Avro>| Avro::Array(items);
    let null_or = |value: Avro| Avro::Union(1, Box::new(value));
    for (kind, value) in [
        (r#"{"type":"array","items":"float"}"#, array(expected.map(Avro::Float).into())),
        (
            r#"{"type":"array","items":"double"}"#,
            array(expected.map(|value| Avro::Double(value.into())).into()),
        ),
        (r#"{"type":"array","items":"int"}"#, array(expected.map(|value| Avro::Int(value as i32)).into())),
        (r#"{"type":"array","items":"long"}"#, array(expected.map(|value| Avro::Long(value as i64)).into())),
        (
            r#"{"type":"array","items":["null","float"]}"#,
            array(expected.map(|value| null_or(Avro::Float(value))).into()),
        ),
        (r#""bytes""#, Avro::Bytes(le.clone())),
        (r#"{"type":"fixed","name":"V","size":12}"#, Avro::Fixed(12, le.clone())),
        (r#"["null",{"type":"array","items":"float"}]"#, null_or(array(expected.map(Avro::Float).into()))),
        (r#"["null","bytes"]"#, null_or(Avro::Bytes(le.clone()))),
    ] {
        let schema = format!(
            r#"{{"type":"record","name":"R","fields":[{{"name":"v","type":{kind}}},{{"name":"k","type":"long"}}]}}"#
        );
        let record = Avro::Record(vec![("v".into(), value), ("k".into(), Avro::Long(3))]);
        let bytes = encode(&Schema::parse_str(&schema).unwrap(), &record);
        let plan = plan(&schema, "id: $.k, vector: {field: $.v, dim: 3}");
        assert_eq!(
            read(&plan, &bytes).unwrap(),
            (Some(Scalar::Int(3)), expected.to_vec(), json!({})),
            "{kind}"
        );
    }
}

/// A float array in blocks of these sizes, with or without byte counts.
fn blocks(sizes: &[usize], with_bytes: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let long = |value: i64, out: &mut Vec<u8>| {
        let mut raw = (value << 1 ^ value >> 63) as u64;
        while raw >= 0x80 {
            out.push(raw as u8 | 0x80);
            raw >>= 7;
        }
        out.push(raw as u8);
    };
    let mut next = 0.0_f32;
    for &size in sizes {
        let sign = if with_bytes { -1 } else { 1 };
        long(sign * size as i64, &mut out);
        if with_bytes {
            long(size as i64 * 4, &mut out);
        }
        for _ in 0..size {
            next += 1.0;
            out.extend_from_slice(&next.to_le_bytes());
        }
    }
    out.push(0);
    out
}

#[test]
fn several_blocks_and_negative_counts_make_one_vector() {
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"v","type":{"type":"array","items":"float"}},{"name":"w","type":{"type":"array","items":"float"}}]}"#;
    let plan = plan(schema, "id: $key, vector: {field: $.v, dim: 5}");
    for with_bytes in [false, true] {
        let bytes = [blocks(&[2, 1, 2], with_bytes), blocks(&[1, 1], with_bytes)].concat();
        let (_, vector, payload) = read(&plan, &bytes).unwrap();
        assert_eq!(vector, [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(payload, json!({"w": [1.0, 2.0]}));
    }
    let mut lying = [blocks(&[2], true), blocks(&[], true)].concat();
    lying[1] += 2; // one byte more than the items take
    assert!(read(&plan, &lying).is_err());
}

#[test]
fn size_bombs_are_refused_without_allocating() {
    let bomb = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0];
    for kind in [
        r#"{"type":"array","items":"float"}"#,
        r#"{"type":"array","items":"null"}"#,
        r#"{"type":"array","items":{"type":"record","name":"E","fields":[]}}"#,
        r#"{"type":"map","values":"null"}"#,
        r#""string""#,
        r#""bytes""#,
    ] {
        let schema = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{kind}}}]}}"#);
        for map in [
            "id: $key, vector: {field: $.x, dim: 1}",
            "id: $key, vector: {field: $.v, dim: 1}",
            "id: $.x, vector: {field: $.v, dim: 1}",
        ] {
            assert!(read(&plan(&schema, map), &bomb).is_err(), "{kind} {map}");
        }
    }
    // An enum's symbol is far longer than its bytes.
    let symbol = "x".repeat(100_000);
    let schema = format!(
        r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{{"type":"array","items":{{"type":"enum","name":"E","symbols":["{symbol}"]}}}}}}]}}"#
    );
    let bytes = [vec![0xd0, 0x0f], vec![0; 1001]].concat();
    let fault = read(&plan(&schema, "id: $key, vector: {field: $.v, dim: 1}"), &bytes).unwrap_err();
    assert_eq!(fault.code.as_str(), "payload_too_large");
}

#[test]
fn paths_that_cannot_be_followed_are_errors_of_the_schema() {
    let schema =
        r#"{"type":"record","name":"R","fields":[{"name":"m","type":{"type":"map","values":"string"}}]}"#;
    let parsed = AvroSchema::parse(schema, &[]).unwrap();
    let error = Plan::compile(parsed, &mapping("id: $.m.id, vector: {field: $.v, dim: 1}")).unwrap_err();
    assert!(error.contains("leads into an Avro map"), "{error}");
    let error = Plan::compile(
        AvroSchema::parse("\"long\"", &[]).unwrap(),
        &mapping("id: $key, vector: {field: $.v, dim: 1}"),
    );
    assert!(error.unwrap_err().contains("not a record"));
}

/// A type with a value of it, and the value as JSON.
#[derive(Debug, Clone)]
struct Sample {
    schema: Value,
    avro: Avro,
    json: Value,
}

fn sample() -> impl Strategy<Value = Sample> {
    let leaf = prop_oneof![
        Just(Sample { schema: "null".into(), avro: Avro::Null, json: Value::Null }),
        any::<bool>().prop_map(|value| Sample {
            schema: "boolean".into(),
            avro: Avro::Boolean(value),
            json: value.into()
        }),
        any::<i32>().prop_map(|value| Sample {
            schema: "int".into(),
            avro: Avro::Int(value),
            json: value.into()
        }),
        any::<i64>().prop_map(|value| Sample {
            schema: "long".into(),
            avro: Avro::Long(value),
            json: value.into()
        }),
        (-1000_i32..1000).prop_map(|value| {
            let value = value as f32 / 8.0;
            Sample { schema: "float".into(), avro: Avro::Float(value), json: value.into() }
        }),
        (-1000_i32..1000).prop_map(|value| {
            let value = f64::from(value) / 8.0;
            Sample { schema: "double".into(), avro: Avro::Double(value), json: value.into() }
        }),
        "\\PC{0,6}".prop_map(|value| Sample {
            schema: "string".into(),
            avro: Avro::String(value.clone()),
            json: value.into()
        }),
        prop::collection::vec(any::<u8>(), 0..9).prop_map(|value| {
            let json = crate::decode::base64::encode(&value).into();
            Sample { schema: "bytes".into(), avro: Avro::Bytes(value), json }
        }),
        any::<i64>().prop_map(|value| Sample {
            schema: json!({"type": "long", "logicalType": "timestamp-millis"}),
            avro: Avro::TimestampMillis(value),
            json: value.into(),
        }),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0_usize..4).prop_map(|(item, count)| Sample {
                schema: json!({"type": "array", "items": item.schema}),
                avro: Avro::Array(vec![item.avro; count]),
                json: vec![item.json; count].into(),
            }),
            (inner.clone(), prop::collection::hash_set("[a-c]{1,2}", 0..4)).prop_map(|(item, keys)| Sample {
                schema: json!({"type": "map", "values": item.schema}),
                avro: Avro::Map(keys.iter().map(|key| (key.clone(), item.avro.clone())).collect()),
                json: keys.iter().map(|key| (key.clone(), item.json.clone())).collect(),
            }),
            (inner.clone(), any::<bool>()).prop_map(|(item, is_null)| {
                if item.schema == "null" || item.schema.is_array() {
                    return item;
                }
                let (index, avro, json) =
                    if is_null { (0, Avro::Null, Value::Null) } else { (1, item.avro, item.json) };
                Sample {
                    schema: json!(["null", item.schema]),
                    avro: Avro::Union(index, Box::new(avro)),
                    json,
                }
            }),
            prop::collection::vec(inner, 0..3).prop_map(record),
        ]
    })
}

fn record(fields: Vec<Sample>) -> Sample {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let name = format!("R{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let named: Vec<_> = (0..).map(|index| format!("f{index}")).zip(fields).collect();
    let schemas: Vec<_> =
        named.iter().map(|(name, field)| json!({"name": name, "type": field.schema})).collect();
    Sample {
        schema: json!({"type": "record", "name": name, "fields": schemas}),
        avro: Avro::Record(named.iter().map(|(name, field)| (name.clone(), field.avro.clone())).collect()),
        json: named.into_iter().map(|(name, field)| (name, field.json)).collect(),
    }
}

/// A record with a vector between other fields, and the vector's name.
fn around(before: Vec<Sample>, vector: &[f32], after: Vec<Sample>) -> (Sample, String) {
    let floats = Sample {
        schema: json!({"type": "array", "items": "float"}),
        avro: Avro::Array(vector.iter().map(|value| Avro::Float(*value)).collect()),
        json: Value::Null,
    };
    let field = format!("f{}", before.len());
    let mut whole = record(before.into_iter().chain([floats]).chain(after).collect());
    distinct(&mut whole.schema, &mut 0);
    (whole, field)
}

/// Replaces names so that a record type that stands twice in a schema is defined once: by giving each its own
/// name.
fn distinct(schema: &mut Value, count: &mut usize) {
    match schema {
        Value::Object(object) => {
            if object.get("type").is_some_and(|kind| kind == "record") {
                object.insert("name".into(), format!("N{count}").into());
                *count += 1;
            }
            object.values_mut().for_each(|value| distinct(value, count));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| distinct(value, count)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_avro_writes_the_plan_reads(
        before in prop::collection::vec(sample(), 0..4),
        after in prop::collection::vec(sample(), 0..4),
        vector in prop::collection::vec(-100_i32..100, 1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let vector: Vec<f32> = vector.into_iter().map(|value| value as f32).collect();
        let (whole, field) = around(before, &vector, after);
        let text = whole.schema.to_string();
        let bytes = encode(&Schema::parse_str(&text).unwrap(), &whole.avro);

        let plan = plan(&text, &format!("id: $key, vector: {{field: $.{field}, dim: 3}}"));
        let mut expected = whole.json.as_object().cloned().unwrap();
        expected.remove(&field);
        let (_, found, payload) = read(&plan, &bytes).unwrap();
        prop_assert_eq!(found, vector);
        prop_assert_eq!(payload, Value::Object(expected));

        // Skipping takes the same bytes as reading.
        let schema = AvroSchema::parse(&text, &[]).unwrap();
        let mut cursor = Cursor::new(&bytes);
        schema.skip(schema.root(), &mut cursor).unwrap();
        prop_assert_eq!(cursor.left(), 0);

        let end = cut.index(bytes.len());
        prop_assert!(read(&plan, &bytes[..end]).is_err());
        let mut cursor = Cursor::new(&bytes[..end]);
        prop_assert!(schema.skip(schema.root(), &mut cursor).is_err());
    }
}

/// A change of a record's bytes on its way.
#[derive(Debug, Clone)]
enum Edit {
    Set(u8),
    Insert(u8),
    Remove,
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, Edit)>> {
    let edit = prop_oneof![
        4 => any::<u8>().prop_map(Edit::Set),
        1 => any::<u8>().prop_map(Edit::Insert),
        1 => Just(Edit::Remove),
    ];
    prop::collection::vec((any::<prop::sample::Index>(), edit), 1..4)
}

fn edited(mut bytes: Vec<u8>, edits: &[(prop::sample::Index, Edit)]) -> Vec<u8> {
    for (at, edit) in edits {
        let at = at.index(bytes.len().max(1));
        match edit {
            Edit::Set(byte) => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = *byte),
            Edit::Insert(byte) => bytes.insert(at.min(bytes.len()), *byte),
            Edit::Remove if at < bytes.len() => _ = bytes.remove(at),
            Edit::Remove => {}
        }
    }
    bytes
}

/// A record's bytes, and whether somebody asked for more than there were.
struct Bytes<'a> {
    left: &'a [u8],
    is_short: bool,
}

impl std::io::Read for Bytes<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let count = std::io::Read::read(&mut self.left, out)?;
        self.is_short |= count < out.len();
        Ok(count)
    }
}

/// What a general decoder reads: the record, or nothing where bytes are missing or left over. It takes some values for
/// null that end too early, hence the look at what it asked for.
fn general(schema: &Schema, bytes: &[u8]) -> Option<Avro> {
    let mut reader = Bytes { left: bytes, is_short: false };
    let decoder = apache_avro::reader::datum::GenericDatumReader::builder(schema).build().unwrap();
    let value = decoder.read_value(&mut reader).ok()?;
    (!reader.is_short && reader.left.is_empty()).then_some(value)
}

/// A value of the general decoder as JSON, as the documentation has it.
fn as_json(value: &Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => (*value).into(),
        Avro::Int(value) => (*value).into(),
        Avro::Long(value) | Avro::TimestampMillis(value) => (*value).into(),
        // In the fewest digits: 0.1, not 0.10000000149.
        Avro::Float(value) => serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap(),
        Avro::Double(value) => serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap(),
        Avro::String(value) => value.as_str().into(),
        Avro::Bytes(value) => crate::decode::base64::encode(value).into(),
        Avro::Union(_, value) => as_json(value),
        Avro::Array(items) => items.iter().map(as_json).collect(),
        Avro::Map(items) => items.iter().map(|(key, value)| (key.clone(), as_json(value))).collect(),
        Avro::Record(fields) => fields.iter().map(|(name, value)| (name.clone(), as_json(value))).collect(),
        other => unreachable!("no sample has {other:?}"),
    }
}

/// What we refuse and a general decoder need not: numbers that overflow, sizes of blocks that are wrong, items without
/// bytes by the ten thousand, keys that come twice, payloads without end.
const STRICTER: [&str; 6] = [
    "does not fit 64 bits",
    "a block has the size",
    "a block of",
    "a block claims",
    "has the key",
    "the payload has more than",
];

/// A record that was damaged on its way is refused by both, or is the same record to both.
#[test]
fn damaged_records_are_to_us_what_they_are_to_a_general_decoder() {
    // The first call counts. The default lets a lying count cost half a gigabyte.
    apache_avro::util::max_allocation_bytes(64 << 20);
    let samples = || prop::collection::vec(sample(), 0..4);
    let strategy = (samples(), prop::collection::vec(-1e3_f32..1e3, 1..12), samples(), edits());
    let mut config = cases(2_000);
    config.source_file = Some(file!());
    let (accepted, refused, strict) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let ran = proptest::test_runner::TestRunner::new(config.clone()).run(
        &strategy,
        |(before, vector, after, edits)| {
            let (whole, field) = around(before, &vector, after);
            let text = whole.schema.to_string();
            let schema = Schema::parse_str(&text).unwrap();
            let bytes = edited(encode(&schema, &whole.avro), &edits);
            let plan = plan(&text, &format!("id: $key, vector: {{field: $.{field}, dim: 3}}"));
            let count = |counter: &Cell<u32>| counter.set(counter.get() + 1);
            let (mut row, mut vectors) = (Row::default(), Vec::new());
            let ours = plan.read(&bytes, &mut row, &mut vectors);
            prop_assert!(vectors.len() <= bytes.len(), "a component takes at least a byte");
            prop_assert!(row.payload.len() < 2 << 20);
            match (ours, general(&schema, &bytes)) {
                (Err(_), None) => count(&refused),
                (Err(fault), Some(value)) => {
                    let is_strict = STRICTER.iter().any(|why| fault.reason.contains(why));
                    prop_assert!(is_strict, "refused: {}; read by others as {value:?}", fault.reason);
                    count(&strict);
                }
                (Ok(()), None) => prop_assert!(false, "read, and refused by others: {row:?}"),
                (Ok(()), Some(value)) => {
                    let Avro::Record(fields) = value else { unreachable!("{value:?}") };
                    let (of_vector, of_payload): (Vec<_>, Vec<_>) =
                        fields.into_iter().partition(|(name, _)| *name == field);
                    let [(_, Avro::Array(components))] = of_vector.as_slice() else { unreachable!() };
                    let bits = |value: &Avro| match value {
                        Avro::Float(value) => value.to_bits(),
                        other => unreachable!("{other:?}"),
                    };
                    let found: Vec<u32> = vectors.iter().map(|value| value.to_bits()).collect();
                    prop_assert_eq!(found, components.iter().map(bits).collect::<Vec<_>>());
                    let text = [b"{", row.payload.as_slice(), b"}"].concat();
                    let payload: Value = serde_json::from_slice(&text).unwrap();
                    prop_assert_eq!(payload, as_json(&Avro::Record(of_payload)));
                    count(&accepted);
                }
            }
            Ok(())
        },
    );
    ran.unwrap_or_else(|failure| panic!("{failure}"));
    let counts = (accepted.get(), refused.get(), strict.get());
    println!("{} cases: {counts:?} read by both, refused by both, refused by us", config.cases);
    assert!(counts.0 > config.cases / 10 && counts.1 > config.cases / 10, "{counts:?}");
}
