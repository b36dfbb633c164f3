//! Cells against trees.
#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use arrow_array::Array;
use proptest::prelude::*;

use super::*;

fn value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_string()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        (0_i64..9).prop_map(|value| value.to_string()),
        Just(u64::MAX.to_string()),
        (-9.0..9.0_f64).prop_map(|value| format!("{value:?}")),
        "[a-zé\\\\\"]{0,4}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(|all| format!("[{}]", all.join(","))),
            inner.prop_map(|value| format!("{{\"in\": {value}}}")),
        ]
    })
}

/// Names come twice now and then; `one` mostly has one type.
fn payload() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        ("[ab\\\\]", value()),
        (Just("one".to_string()), (0_i64..9).prop_map(|value| value.to_string())),
        (Just("text".to_string()), "[a-z]{0,3}".prop_map(|text| format!("{text:?}"))),
    ];
    let object = prop::collection::vec(field, 0..6).prop_map(|fields| {
        let fields: Vec<String> =
            fields.into_iter().map(|(name, value)| format!("{}: {value}", Value::from(name))).collect();
        format!("{{{}}}", fields.join(", "))
    });
    prop_oneof![9 => object, 1 => Just(String::new())]
}

proptest! {
    /// The same columns, types and rest as from whole trees, whatever comes.
    #[test]
    fn cells_are_what_trees_would_give(payloads in prop::collection::vec(payload(), 0..30), split in 0_usize..30) {
        let trees: Vec<Option<Map<String, Value>>> =
            payloads.iter().map(|payload| serde_json::from_str(payload).ok()).collect();
        let mut expected = FieldTypes::default();
        trees.iter().flatten().for_each(|tree| expected.observe(tree));
        // Two runs of rows, with the types of both.
        let split = split.min(payloads.len());
        let mut types = FieldTypes::default();
        let mut parts = Vec::new();
        for (part, trees) in [(&payloads[..split], &trees[..split]), (&payloads[split..], &trees[split..])] {
            let mut cells = PayloadCells::default();
            part.iter().for_each(|payload| cells.push(payload.as_bytes()).unwrap());
            cells.observe(&mut types);
            parts.push((cells, trees));
        }
        prop_assert!(types.iter().eq(expected.iter()));
        for (cells, trees) in parts {
            for (field, kind, _) in expected.iter() {
                let (found, column) = (cells.column(field, kind), expected.column(trees, field).unwrap());
                prop_assert_eq!(found.to_data(), column.array().to_data(), "{}", field);
            }
            let rest = cells.objects(|name| name != "one");
            for (row, tree) in trees.iter().enumerate() {
                let kept: BTreeMap<&String, &Value> =
                    tree.iter().flatten().filter(|(name, _)| *name != "one").collect();
                let text = (!kept.is_empty()).then(|| serde_json::to_string(&kept).unwrap());
                prop_assert_eq!(rest.iter().nth(row).unwrap(), text.as_deref());
            }
        }
    }
}

#[test]
fn what_is_no_object_is_refused() {
    for bad in ["[1]", "1", "null", "{\"a\": 1} x", "{\"a\": ", "{\"a\": 1, \"a\": 2"] {
        let was = serde_json::from_str::<Map<String, Value>>(bad).unwrap_err();
        assert!(PayloadCells::default().push(bad.as_bytes()).is_err(), "{bad}: {was}");
    }
}
