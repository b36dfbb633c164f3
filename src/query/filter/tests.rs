//! Columns against a naive evaluator that walks each payload's JSON.
#![allow(clippy::unwrap_used)]
use std::cmp::Ordering;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::types::RowSet;
use crate::types::columns_of;

struct Rows {
    ids: Vec<String>,
    payloads: Vec<Option<Map<String, Value>>>,
}

impl Rows {
    fn new(payloads: &[Value]) -> Self {
        let ids = (0..payloads.len()).map(|row| format!("p{row}")).collect();
        Self { ids, payloads: payloads.iter().map(|payload| payload.as_object().cloned()).collect() }
    }

    fn matching(&self, filter: &Value) -> Vec<u32> {
        Filter::parse(filter, "filter").unwrap().evaluate(self).unwrap().iter().collect()
    }
}

impl PayloadView for Rows {
    fn rows(&self) -> usize {
        self.payloads.len()
    }
    fn column(&self, field: &str) -> Result<Option<Column>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(columns_of(&self.payloads).remove(field))
    }
    fn for_each_id(&self, visit: &mut dyn FnMut(u32, &str)) {
        self.ids.iter().enumerate().for_each(|(row, id)| visit(row as u32, id));
    }
}

/// The reference: reads the filter's JSON and the payload's JSON and nothing of ours.
mod naive {
    use super::*;

    pub fn filter(filter: &Value, id: &str, payload: &Value) -> bool {
        let list = |key: &str| match &filter[key] {
            Value::Null => vec![],
            Value::Array(list) => list.clone(),
            one => vec![one.clone()],
        };
        let holds = |condition: &Value| self::condition(condition, id, payload);
        list("must").iter().all(holds)
            && !list("must_not").iter().any(holds)
            && (list("should").is_empty() || list("should").iter().any(holds))
            && match &filter["min_should"] {
                Value::Null => true,
                min => {
                    let count = min["conditions"].as_array().unwrap().iter().filter(|c| holds(c)).count();
                    count as u64 >= min["min_count"].as_u64().unwrap()
                }
            }
    }

    fn condition(condition: &Value, id: &str, payload: &Value) -> bool {
        if let Some(ids) = condition["has_id"].as_array() {
            return ids.iter().any(|wanted| wanted == id);
        }
        if condition.get("key").is_none() {
            return filter(condition, id, payload);
        }
        let values = select(condition["key"].as_str().unwrap(), payload);
        let elements: Vec<Value> = values
            .iter()
            .flat_map(|value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]))
            .collect();
        let test = &condition["match"];
        if let Some(wanted) = test.get("value") {
            return elements.iter().any(|value| equal(value, wanted));
        }
        if let Some(wanted) = test["any"].as_array() {
            return elements.iter().any(|value| wanted.iter().any(|wanted| equal(value, wanted)));
        }
        if let Some(wanted) = test["except"].as_array() {
            return elements
                .iter()
                .any(|value| !value.is_null() && !wanted.iter().any(|wanted| equal(value, wanted)));
        }
        if let Some(range) = condition.get("range") {
            return elements.iter().any(|value| in_range(value, range));
        }
        if let Some(range) = condition.get("values_count") {
            let counts: Vec<Value> = values
                .iter()
                .map(|value| match value {
                    Value::Null => json!(0),
                    Value::Array(list) => json!(list.len()),
                    _ => json!(1),
                })
                .collect();
            let counts = if counts.is_empty() { vec![json!(0)] } else { counts };
            return counts.iter().any(|count| in_range(count, range));
        }
        if let Some(wanted) = condition["is_empty"].as_bool() {
            let empty = values.iter().all(|value| value.is_null() || *value == json!([]));
            return wanted == empty;
        }
        let null = values
            .iter()
            .any(|value| value.is_null() || value.as_array().is_some_and(|list| list.contains(&Value::Null)));
        condition["is_null"].as_bool().unwrap() == null
    }

    fn select(key: &str, payload: &Value) -> Vec<Value> {
        let mut values = vec![payload.clone()];
        for part in key.split('.') {
            let (name, each) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
            values = values.iter().filter_map(|value| value.as_object()?.get(name).cloned()).collect();
            if each {
                values = values.iter().filter_map(|value| value.as_array().cloned()).flatten().collect();
            }
        }
        values
    }

    fn equal(a: &Value, b: &Value) -> bool {
        if a.is_number() && b.is_number() { compare(a, b) == Some(Ordering::Equal) } else { a == b }
    }

    fn in_range(value: &Value, range: &Value) -> bool {
        let bound = |key: &str, admits: fn(Ordering) -> bool| match &range[key] {
            Value::Null => true,
            bound => compare(value, bound).is_some_and(admits),
        };
        bound("gt", Ordering::is_gt)
            && bound("gte", Ordering::is_ge)
            && bound("lt", Ordering::is_lt)
            && bound("lte", Ordering::is_le)
    }

    fn compare(a: &Value, b: &Value) -> Option<Ordering> {
        match (a, b) {
            (Value::String(a), Value::String(b)) => Some(Instant::parse(a)?.cmp(&Instant::parse(b)?)),
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                // The numbers of these tests that are floats have few digits, so this loses nothing.
                _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
            },
            _ => None,
        }
    }
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        (-3_i64..4).prop_map(|number| json!(number)),
        Just(json!(i64::MAX)),
        Just(json!(i64::MAX - 1)),
        (-6_i64..7).prop_map(|halves| json!(halves as f64 / 2.0)),
        any::<bool>().prop_map(|boolean| json!(boolean)),
        prop::sample::select(vec!["a", "b", "en", "2026-11-05", "2026-11-05T01:00:00+01:00", "2026-11-06"])
            .prop_map(|text| json!(text)),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![6 => scalar(), 1 => Just(Value::Null)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map("[bc]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Payloads in which some fields keep to one type (so that they become typed columns) and some don't.
fn payload() -> impl Strategy<Value = Value> {
    let maybe = |strategy: BoxedStrategy<Value>| prop::option::of(strategy);
    (
        maybe((-3_i64..4).prop_map(|number| json!(number)).boxed()),
        maybe((-6_i64..7).prop_map(|halves| json!(halves as f64 / 2.0)).boxed()),
        maybe(prop::sample::select(vec!["a", "b", "en", "2026-11-05"]).prop_map(|text| json!(text)).boxed()),
        maybe(any::<bool>().prop_map(|boolean| json!(boolean)).boxed()),
        maybe(value().boxed()),
    )
        .prop_map(|(int, float, text, boolean, a)| {
            let fields = [("int", int), ("float", float), ("text", text), ("bool", boolean), ("a", a)];
            let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
            Value::Object(given.collect())
        })
}

fn range_of(bound: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    let names = prop::sample::subsequence(vec!["gt", "gte", "lt", "lte"], 1..3);
    (names, prop::collection::vec(bound, 2)).prop_map(|(names, bounds)| {
        Value::Object(names.into_iter().map(str::to_string).zip(bounds).collect())
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "int", "float", "text", "bool", "a", "a[]", "a.b", "a[].b", "a.b.c", "a.b[].c", "int.b", "text[]",
        "none",
    ]);
    let number = prop_oneof![
        (-3_i64..4).prop_map(|number| json!(number)),
        (-6_i64..7).prop_map(|halves| json!(halves as f64 / 2.0)),
    ];
    let instant = prop::sample::select(vec!["2026-11-05", "2026-11-05T00:00:00Z", "2026-11-05T12:00:00Z"])
        .prop_map(|text| json!(text));
    let test = prop_oneof![
        scalar().prop_map(|value| ("match", json!({ "value": value }))),
        prop::collection::vec(scalar(), 0..12).prop_map(|values| ("match", json!({ "any": values }))),
        prop::collection::vec(scalar(), 0..12).prop_map(|values| ("match", json!({ "except": values }))),
        range_of(number).prop_map(|range| ("range", range)),
        range_of(instant).prop_map(|range| ("range", range)),
        range_of((0_u64..4).prop_map(|count| json!(count))).prop_map(|range| ("values_count", range)),
        any::<bool>().prop_map(|wanted| ("is_empty", json!(wanted))),
        any::<bool>().prop_map(|wanted| ("is_null", json!(wanted))),
    ];
    prop_oneof![
        12 => (key, test).prop_map(|(key, (name, test))| json!({"key": key, name: test})),
        1 => prop::collection::vec("p[0-9]", 0..4).prop_map(|ids| json!({"has_id": ids})),
    ]
}

fn filter() -> impl Strategy<Value = Value> {
    let level = |inner: BoxedStrategy<Value>| {
        let list = prop::collection::vec(inner, 0..3);
        (list.clone(), list.clone(), list.clone(), prop::option::of((list, 0_u64..3))).prop_map(
            |(must, should, must_not, min_should)| {
                let min_should = min_should
                    .map(|(conditions, min_count)| json!({"conditions": conditions, "min_count": min_count}));
                json!({"must": must, "should": should, "must_not": must_not, "min_should": min_should})
            },
        )
    };
    level(prop_oneof![4 => condition(), 1 => level(condition().boxed())].boxed())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn columns_give_what_each_payload_alone_gives(
        payloads in prop::collection::vec(payload(), 0..10),
        filter in filter(),
    ) {
        let rows = Rows::new(&payloads);
        let expected: Vec<u32> = (0..payloads.len())
            .filter(|row| naive::filter(&filter, &rows.ids[*row], &payloads[*row]))
            .map(|row| row as u32)
            .collect();
        prop_assert_eq!(rows.matching(&filter), expected, "{}", filter);
    }

    #[test]
    fn one_condition_over_columns_gives_what_each_payload_alone_gives(
        payloads in prop::collection::vec(payload(), 0..10),
        condition in condition(),
    ) {
        let rows = Rows::new(&payloads);
        let filter = json!({"must": condition});
        let expected: Vec<u32> = (0..payloads.len())
            .filter(|row| naive::filter(&filter, &rows.ids[*row], &payloads[*row]))
            .map(|row| row as u32)
            .collect();
        prop_assert_eq!(rows.matching(&filter), expected, "{}", filter);
    }

    #[test]
    fn equality_any_of_and_range_agree_on_a_set_of_numbers(
        values in prop::collection::vec(-20_i64..20, 0..200),
        low in -20_i64..20,
        length in 0_i64..20,
        as_floats in any::<bool>(),
    ) {
        let high = low + length;
        let number = |value: i64| if as_floats { json!(value as f64) } else { json!(value) };
        let payloads: Vec<Value> = values.iter().map(|value| json!({"v": number(*value)})).collect();
        let rows = Rows::new(&payloads);
        let range = rows.matching(&json!({"must": {"key": "v", "range": {"gte": low, "lte": high}}}));
        let open = rows.matching(&json!({"must": {"key": "v", "range": {"gt": low as f64 - 0.5, "lt": high + 1}}}));
        let wanted: Vec<i64> = (low..=high).collect();
        let any = rows.matching(&json!({"must": {"key": "v", "match": {"any": wanted}}}));
        let each: Vec<Value> = wanted.iter().map(|value| json!({"key": "v", "match": {"value": value}})).collect();
        let except = rows.matching(&json!({"must_not": {"key": "v", "match": {"except": wanted}}}));
        prop_assert_eq!(&range, &open);
        prop_assert_eq!(&range, &any);
        prop_assert_eq!(&range, &rows.matching(&json!({"should": each})));
        prop_assert_eq!(&range, &except);
    }
}

#[test]
fn words_phrases_substrings_and_prefixes() {
    let rows = Rows::new(&[
        json!({"t": "The quick brown Fox"}),
        json!({"t": "foxes are quick, brown!"}),
        json!({"t": ["slow", "brown fox"]}),
        json!({}),
    ]);
    let matching = |test: Value| rows.matching(&json!({"must": {"key": "t", "match": test}}));
    assert_eq!(matching(json!({"text": "FOX quick"})), [0]);
    assert_eq!(matching(json!({"text": "brown"})), [0, 1, 2]);
    assert_eq!(matching(json!({"text_any": "slow fox"})), [0, 2]);
    assert_eq!(matching(json!({"phrase": "quick brown"})), [0, 1]);
    assert_eq!(matching(json!({"phrase": "brown quick"})), Vec::<u32>::new());
    assert_eq!(matching(json!({"substring": "ox"})), [0, 1, 2]);
    assert_eq!(matching(json!({"substring": "FOX"})), Vec::<u32>::new());
    assert_eq!(matching(json!({"prefix": "The"})), [0]);
    assert_eq!(matching(json!({"prefix": "brown"})), [2]);
}

#[test]
fn integers_too_long_for_a_float_are_told_apart() {
    let rows = Rows::new(&[json!({"v": 9_007_199_254_740_993_i64}), json!({"v": 9_007_199_254_740_992_i64})]);
    assert_eq!(
        rows.matching(&json!({"must": {"key": "v", "match": {"value": 9_007_199_254_740_993_i64}}})),
        [0]
    );
    assert_eq!(rows.matching(&json!({"must": {"key": "v", "range": {"gt": 9_007_199_254_740_992.0}}})), [0]);
    let floats = Rows::new(&[json!({"v": 9_007_199_254_740_992.0}), json!({"v": 0.5})]);
    assert_eq!(
        floats.matching(&json!({"must": {"key": "v", "range": {"lt": 9_007_199_254_740_993_i64}}})),
        [0, 1]
    );
    assert_eq!(
        floats.matching(&json!({"must": {"key": "v", "range": {"gte": 9_007_199_254_740_993_i64}}})),
        Vec::<u32>::new()
    );
}

#[test]
fn ids_match_in_either_form_and_stand_alone_forms_of_absence_work() {
    let mut rows = Rows::new(&[json!({"a": null}), json!({"a": 1}), json!({})]);
    rows.ids = vec!["1".into(), "2".into(), "x".into()];
    assert_eq!(rows.matching(&json!({"must": [{"has_id": [1, "x"]}]})), [0, 2]);
    assert_eq!(rows.matching(&json!({"must": [{"is_empty": {"key": "a"}}]})), [0, 2]);
    assert_eq!(rows.matching(&json!({"must": [{"is_null": {"key": "a"}}]})), [0]);
    assert_eq!(rows.matching(&json!({})), [0, 1, 2]);
    assert_eq!(rows.matching(&json!({"must": null, "should": []})), [0, 1, 2]);
}

fn refusal(filter: Value) -> String {
    let error = Filter::parse(&filter, "filter").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.path().is_some_and(|path| path.starts_with("filter")));
    error.to_string()
}

#[test]
fn mistakes_are_named_with_their_path_and_the_nearest_key() {
    let cases = [
        (json!({"musst": []}), "filter: unknown key \"musst\"; did you mean \"must\"?"),
        (
            json!({"must": [{"key": "a", "match": {"valeu": 1}}]}),
            "filter.must[0].match: unknown key \"valeu\"; did you mean \"value\"?",
        ),
        (
            json!({"must": [{"key": "a", "mtach": {"value": 1}}]}),
            "filter.must[0]: unknown key \"mtach\"; did you mean \"match\"?",
        ),
        (
            json!({"must": {"key": "a", "range": {"from": 1}}}),
            "filter.must.range: unknown key \"from\"; known are gt, gte, lt, lte",
        ),
        (
            json!({"must": {"key": "a", "match": {"value": [1]}}}),
            "filter.must.match.value: must be a text, a number or a boolean, not [1]",
        ),
        (
            json!({"must": [{"should": {"key": "a", "match": {"any": [1, null]}}}]}),
            "filter.must[0].should.match.any[1]: must be a text, a number or a boolean, not null",
        ),
        (
            json!({"must": {"key": "a", "range": {"gt": "soon"}}}),
            "filter.must.range.gt: \"soon\" is not an instant; write it as 2026-11-05T10:00:00Z",
        ),
        (
            json!({"must": {"key": "a", "range": {"gt": "2026-11-05", "lt": 3}}}),
            "filter.must.range.lt: must be an instant (RFC 3339 text) like the other bounds",
        ),
        (
            json!({"must": {"key": "a", "range": {}}}),
            "filter.must.range: has no bound; add one of gt, gte, lt, lte",
        ),
        (
            json!({"must": {"key": "a"}}),
            "filter.must: says nothing about its key; add one of match, range, values_count, is_empty, is_null",
        ),
        (
            json!({"must": {"key": "a", "match": {"value": 1}, "range": {"gt": 1}}}),
            "filter.must: tests several things (match, range); write one condition for each",
        ),
        (
            json!({"must": {"match": {"value": 1}}}),
            "filter.must: needs a \"key\": the payload field that it is about",
        ),
        (
            json!({"must": {"key": "a[", "is_null": true}}),
            "filter.must.key: \"a[\": the bracket is not closed",
        ),
        (
            json!({"must": {"has_id": [-1]}}),
            "filter.must.has_id[0]: id must be a string or an unsigned integer, not the number -1",
        ),
        (
            json!({"must": {"key": "a", "geo_radius": {"center": {}, "radius": 1}}}),
            "filter.must: the condition \"geo_radius\" is not supported yet",
        ),
        (
            json!({"must": {"has_vector": "v"}}),
            "filter.must: the condition \"has_vector\" is not supported yet",
        ),
        (json!([1]), "filter: must be an object, not [1]"),
        (
            json!({"min_should": {"conditions": []}}),
            "filter.min_should.min_count: must be an unsigned integer",
        ),
        (
            json!({"must": {"key": "a", "match": {"text": "?!"}}}),
            "filter.must.match.text: \"?!\" holds no word (letters or digits) to look for",
        ),
    ];
    for (filter, message) in cases {
        assert_eq!(refusal(filter), message);
    }
}

#[test]
fn depth_and_number_of_conditions_are_bounded() {
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"must": inner_or(inner)}));
    fn inner_or(inner: Value) -> Value {
        if inner == json!({}) { json!({"must": []}) } else { inner }
    }
    assert!(Filter::parse(&nested(FILTER_DEPTH_MAX), "filter").is_ok());
    assert!(refusal(nested(FILTER_DEPTH_MAX + 2)).ends_with("the filter has more than 32 levels"));
    let many = |count: usize| json!({"should": vec![json!({"has_id": []}); count]});
    assert!(Filter::parse(&many(FILTER_CONDITIONS_MAX), "filter").is_ok());
    assert!(refusal(many(FILTER_CONDITIONS_MAX + 1)).ends_with("the filter has more than 4096 conditions"));
}

#[test]
fn sets_of_rows_fit_runs_of_any_length() {
    let payloads: Vec<Value> = (0..130).map(|row| json!({"v": row})).collect();
    let rows = Rows::new(&payloads);
    assert_eq!(rows.matching(&json!({"must_not": {"key": "v", "range": {"lt": 128}}})), [128, 129]);
    assert_eq!(Filter::default().evaluate(&rows).unwrap(), RowSet::all(130));
    assert!(Filter::default().is_empty());
}
