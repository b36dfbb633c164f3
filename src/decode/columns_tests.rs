#![allow(clippy::unwrap_used)]
use std::sync::Arc;

use arrow_array::builder::{FixedSizeListBuilder, Float32Builder, ListBuilder, MapBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, DictionaryArray, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use arrow_schema::{DataType, Field};
use serde_json::{Value, json};

use crate::config::pipeline::PipelineSpec;
use crate::decode::test_support::{decoder, shown};
use crate::decode::{Decoder, NoSchemas};
use crate::types::{Distance, RawBatch, RawRows};

fn make(map: &str) -> Box<dyn Decoder> {
    let text = format!(
        "version: 1\npipeline: p\nsource: {{file: {{path: a.parquet}}}}\nmap: {{{map}}}\nsink: {{collection: c}}\n"
    );
    let spec = PipelineSpec::from_yaml(&text, "x").unwrap_or_else(|errors| unreachable!("{errors}"));
    decoder(&spec, Distance::L2, Arc::new(NoSchemas))
}

fn run(map: &str, columns: Vec<(&str, ArrayRef)>) -> (Vec<Value>, Vec<Value>) {
    let rows = RecordBatch::try_from_iter(
        columns.into_iter().map(|(name, array)| (name, array, true)).map(|(name, array, _)| (name, array)),
    )
    .unwrap();
    let to = (99 + rows.num_rows() as u64).into();
    let batch = RawBatch {
        partition: "a.parquet".into(),
        epoch: 0,
        from: None,
        to,
        rows: RawRows::Columns { rows, first: 100.into() },
    };
    shown(&make(map).decode(&batch).unwrap())
}

fn fixed(rows: &[Option<[f32; 2]>]) -> ArrayRef {
    let mut builder = FixedSizeListBuilder::new(Float32Builder::new(), 2);
    for row in rows {
        builder.values().append_slice(&row.unwrap_or_default());
        builder.append(row.is_some());
    }
    Arc::new(builder.finish())
}

fn list<T: arrow_array::ArrowPrimitiveType>(rows: &[&[T::Native]]) -> ArrayRef {
    let mut builder = ListBuilder::new(arrow_array::builder::PrimitiveBuilder::<T>::new());
    for row in rows {
        builder.values().append_slice(row);
        builder.append(true);
    }
    Arc::new(builder.finish())
}

#[test]
fn columns_become_points_and_bad_rows_are_rejected_alone() {
    let map = "id: $.id, vector: {field: $.v, dim: 2}, event_time: {field: $.ts, unit: s}, payload: {rename: {n: m}}";
    let (rows, rejects) = run(
        map,
        vec![
            ("id", Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d")]))),
            ("v", fixed(&[Some([1.0, 2.0]), Some([3.0, 4.0]), None, Some([5.0, 6.0])])),
            ("ts", Arc::new(Int64Array::from(vec![Some(7), Some(7), Some(7), Some(8)]))),
            ("n", Arc::new(Float64Array::from(vec![Some(0.1), None, Some(1.0), None]))),
        ],
    );
    assert_eq!(
        rows,
        [
            json!([100, "a", [1.0, 2.0], {"ts": 7, "m": 0.1}, 7000]),
            json!([103, "d", [5.0, 6.0], {"ts": 8, "m": null}, 8000]),
        ]
    );
    assert_eq!(rejects, [json!([101, "missing_id"]), json!([102, "missing_vector"])]);
}

#[test]
fn vectors_come_in_every_list_type() {
    let le: Vec<u8> = [1.0_f32, 2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let ids: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX]));
    for vector in [
        list::<arrow_array::types::Float32Type>(&[&[1.0, 2.0]]),
        list::<arrow_array::types::Float64Type>(&[&[1.0, 2.0]]),
        list::<arrow_array::types::UInt8Type>(&[&[1, 2]]),
        list::<arrow_array::types::Int32Type>(&[&[1, 2]]),
        fixed(&[Some([1.0, 2.0])]),
        Arc::new(BinaryArray::from(vec![le.as_slice()])),
    ] {
        let (rows, _) = run(
            "id: $.id, vector: {field: $.v, dim: 2}, event_time: $.t",
            vec![
                ("id", ids.clone()),
                ("v", vector.slice(0, 1)),
                ("t", Arc::new(TimestampMicrosecondArray::from(vec![5_999]))),
            ],
        );
        assert_eq!(rows, [json!([100, u64::MAX, [1.0, 2.0], {"t": 5}, 5])], "{:?}", vector.data_type());
    }
    let (rows, rejects) = run(
        "id: $.id, vector: {field: $.v, dim: 2}",
        vec![
            ("id", Arc::new(Int32Array::from(vec![1, -1, 3]))),
            ("v", list::<arrow_array::types::Float32Type>(&[&[1.0], &[1.0, 2.0], &[f32::NAN, 2.0]])),
        ],
    );
    assert!(rows.is_empty());
    assert_eq!(
        rejects,
        [json!([100, "dimension_mismatch"]), json!([101, "bad_id"]), json!([102, "not_finite"])]
    );
}

#[test]
fn every_cell_type_becomes_json_as_documented() {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("k");
    map.values().append_value("x");
    map.append(true).unwrap();
    let inner = StructArray::from(vec![
        (
            Arc::new(Field::new("v", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["in"])) as ArrayRef,
        ),
        (
            Arc::new(Field::new("e", fixed(&[Some([1.0, 2.0])]).data_type().clone(), true)),
            fixed(&[Some([1.0, 2.0])]),
        ),
        (
            Arc::new(Field::new("id", DataType::Utf8, true)),
            Arc::new(StringArray::from(vec!["x1"])) as ArrayRef,
        ),
    ]);
    let words: DictionaryArray<arrow_array::types::Int32Type> = vec!["red"].into_iter().collect();
    let (rows, rejects) = run(
        "id: $.s.id, vector: {field: $.s.e, dim: 2}, event_time: $.d",
        vec![
            ("s", Arc::new(inner)),
            ("b", Arc::new(BooleanArray::from(vec![true]))),
            ("u", Arc::new(UInt8Array::from(vec![200]))),
            ("d", Arc::new(Date32Array::from(vec![1]))),
            ("bin", Arc::new(BinaryArray::from(vec![b"foo".as_slice()]))),
            ("list", list::<arrow_array::types::Int32Type>(&[&[1, 2]])),
            ("map", Arc::new(map.finish())),
            ("dict", Arc::new(words)),
            ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
        ],
    );
    assert!(rejects.is_empty(), "{rejects:?}");
    let payload = json!({
        "s": {"v": "in", "id": "x1"}, "b": true, "u": 200, "d": "1970-01-02", "bin": "Zm9v", "list": [1, 2], "map": {"k": "x"},
        "dict": "red", "nan": null,
    });
    assert_eq!(rows, [json!([100, "x1", [1.0, 2.0], payload, 86_400_000])]);
}

#[test]
fn marked_rows_delete() {
    let (rows, _) = run(
        "id: $.id, vector: {field: $.v, dim: 2}, delete_when: {equals: {field: $.gone, value: true}}",
        vec![
            ("id", Arc::new(StringArray::from(vec!["a", "b"]))),
            ("v", fixed(&[None, Some([1.0, 2.0])])),
            ("gone", Arc::new(BooleanArray::from(vec![true, false]))),
        ],
    );
    assert_eq!(rows[0], json!([100, "a"]));
    assert_eq!(rows[1][1], "b");
}
