//! From the JSON of a request to a [`Filter`]: every mistake is named with its path.
use std::collections::HashSet;

use serde_json::{Map, Value};

use super::condition::{Bounds, Condition, Test, TextTest, ValueSet, words};
use super::datetime::Instant;
use super::key::Key;
use super::number::Number;
use super::{FILTER_CONDITIONS_MAX, FILTER_DEPTH_MAX, Filter, FilterError, MinShould};
use crate::types::PointId;

const FILTER_KEYS: &[&str] = &["must", "should", "must_not", "min_should"];
const CONDITION_KEYS: &[&str] = &[
    "key",
    "match",
    "range",
    "values_count",
    "is_empty",
    "is_null",
    "has_id",
    "must",
    "should",
    "must_not",
    "min_should",
    "geo_bounding_box",
    "geo_radius",
    "geo_polygon",
    "nested",
    "has_vector",
    "slice",
];
const UNSUPPORTED: &[&str] =
    &["geo_bounding_box", "geo_radius", "geo_polygon", "nested", "has_vector", "slice"];
const TESTS: &[&str] = &["match", "range", "values_count", "is_empty", "is_null"];
const FIELD_KEYS: &[&str] = &["key", "match", "range", "values_count", "is_empty", "is_null"];
const MATCH_KEYS: &[&str] = &["value", "any", "except", "text", "text_any", "phrase", "prefix", "substring"];
const RANGE_KEYS: &[&str] = &["gt", "gte", "lt", "lte"];

impl Filter {
    /// Parses a filter. `path` is where it stands in the request, for messages: `filter`, `searches[3].filter`.
    pub fn parse(value: &Value, path: &str) -> Result<Self, FilterError> {
        Parser { conditions: 0 }.filter(value, path, 1)
    }

    /// Parses a filter from JSON text.
    pub fn parse_text(text: &str, path: &str) -> Result<Self, FilterError> {
        let value =
            serde_json::from_str(text).map_err(|error| malformed(path, format!("is not JSON: {error}")))?;
        Self::parse(&value, path)
    }
}

struct Parser {
    conditions: usize,
}

impl Parser {
    fn filter(&mut self, value: &Value, path: &str, depth: usize) -> Result<Filter, FilterError> {
        if depth > FILTER_DEPTH_MAX {
            return Err(FilterError::TooLarge { path: path.into(), what: "levels", max: FILTER_DEPTH_MAX });
        }
        let fields = object(value, path)?;
        known_keys(fields, path, FILTER_KEYS)?;
        Ok(Filter {
            must: self.conditions(fields.get("must"), &child(path, "must"), depth)?,
            should: self.conditions(fields.get("should"), &child(path, "should"), depth)?,
            must_not: self.conditions(fields.get("must_not"), &child(path, "must_not"), depth)?,
            min_should: match present(fields, "min_should") {
                Some(value) => Some(self.min_should(value, &child(path, "min_should"), depth)?),
                None => None,
            },
        })
    }

    fn min_should(&mut self, value: &Value, path: &str, depth: usize) -> Result<MinShould, FilterError> {
        let fields = object(value, path)?;
        known_keys(fields, path, &["conditions", "min_count"])?;
        let min_count = fields
            .get("min_count")
            .and_then(Value::as_u64)
            .ok_or_else(|| malformed(&child(path, "min_count"), "must be an unsigned integer"))?;
        let conditions = self.conditions(fields.get("conditions"), &child(path, "conditions"), depth)?;
        Ok(MinShould { conditions, min_count: usize::try_from(min_count).unwrap_or(usize::MAX) })
    }

    /// A list of conditions, or one.
    fn conditions(
        &mut self,
        value: Option<&Value>,
        path: &str,
        depth: usize,
    ) -> Result<Vec<Condition>, FilterError> {
        match value {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(list)) => list
                .iter()
                .enumerate()
                .map(|(index, condition)| self.condition(condition, &format!("{path}[{index}]"), depth))
                .collect(),
            Some(one) => Ok(vec![self.condition(one, path, depth)?]),
        }
    }

    fn condition(&mut self, value: &Value, path: &str, depth: usize) -> Result<Condition, FilterError> {
        self.conditions += 1;
        if self.conditions > FILTER_CONDITIONS_MAX {
            let what = "conditions";
            return Err(FilterError::TooLarge { path: path.into(), what, max: FILTER_CONDITIONS_MAX });
        }
        let fields = object(value, path)?;
        known_keys(fields, path, CONDITION_KEYS)?;
        if let Some(what) = UNSUPPORTED.iter().find(|key| present(fields, key).is_some()) {
            return Err(FilterError::Unsupported {
                path: path.into(),
                what: format!("the condition {what:?}"),
            });
        }
        if FILTER_KEYS.iter().any(|key| fields.contains_key(*key)) {
            return Ok(Condition::Filter(self.filter(value, path, depth + 1)?));
        }
        if let Some(ids) = present(fields, "has_id") {
            known_keys(fields, path, &["has_id"])?;
            return has_id(ids, &child(path, "has_id"));
        }
        if let Some(what) =
            ["is_empty", "is_null"].into_iter().find(|key| fields.get(*key).is_some_and(Value::is_object))
        {
            return key_of_nothing(fields, what, path);
        }
        known_keys(fields, path, FIELD_KEYS)?;
        field_condition(fields, path)
    }
}

/// `{"is_empty": {"key": "a"}}`.
fn key_of_nothing(
    fields: &Map<String, Value>,
    what: &'static str,
    path: &str,
) -> Result<Condition, FilterError> {
    let known: &'static [&'static str] = if what == "is_empty" { &["is_empty"] } else { &["is_null"] };
    known_keys(fields, path, known)?;
    let path = child(path, what);
    let inner = object(&fields[what], &path)?;
    known_keys(inner, &path, &["key"])?;
    let test = if what == "is_empty" { Test::IsEmpty(true) } else { Test::IsNull(true) };
    Ok(Condition::Field(key(inner, &path)?, test))
}

fn field_condition(fields: &Map<String, Value>, path: &str) -> Result<Condition, FilterError> {
    let key = key(fields, path)?;
    let given: Vec<&str> = TESTS.iter().copied().filter(|test| present(fields, test).is_some()).collect();
    let test = match given.as_slice() {
        [test] => *test,
        [] => {
            return Err(malformed(
                path,
                format!("says nothing about its key; add one of {}", TESTS.join(", ")),
            ));
        }
        several => {
            let problem =
                format!("tests several things ({}); write one condition for each", several.join(", "));
            return Err(malformed(path, problem));
        }
    };
    let (value, path) = (&fields[test], child(path, test));
    let test = match test {
        "match" => match_test(value, &path)?,
        "range" => range(value, &path)?,
        "values_count" => Test::Count(bounds(value, &path, |value, path| {
            value.as_u64().ok_or_else(|| malformed(path, format!("must be an unsigned integer, not {value}")))
        })?),
        "is_empty" => Test::IsEmpty(boolean(value, &path)?),
        _ => Test::IsNull(boolean(value, &path)?),
    };
    Ok(Condition::Field(key, test))
}

fn match_test(value: &Value, path: &str) -> Result<Test, FilterError> {
    let fields = object(value, path)?;
    known_keys(fields, path, MATCH_KEYS)?;
    let (kind, value) =
        match fields.iter().filter(|(_, value)| !value.is_null()).collect::<Vec<_>>().as_slice() {
            [(kind, value)] => (kind.as_str(), *value),
            _ => return Err(malformed(path, format!("must hold exactly one of {}", MATCH_KEYS.join(", ")))),
        };
    let path = child(path, kind);
    match kind {
        "value" => value_set(std::slice::from_ref(value), &path, false).map(Test::OneOf),
        "any" => value_set(array(value, &path)?, &path, true).map(Test::OneOf),
        "except" => value_set(array(value, &path)?, &path, true).map(Test::Except),
        _ => {
            let text =
                value.as_str().ok_or_else(|| malformed(&path, format!("must be a text, not {value}")))?;
            text_test(kind, text, &path).map(Test::Text)
        }
    }
}

fn text_test(kind: &str, text: &str, path: &str) -> Result<TextTest, FilterError> {
    let words: Vec<String> = words(text).collect();
    let by_words: fn(Vec<String>) -> TextTest = match kind {
        "substring" => return Ok(TextTest::Substring(text.to_string())),
        "prefix" => return Ok(TextTest::Prefix(text.to_string())),
        "text_any" => TextTest::AnyWord,
        "phrase" => TextTest::Phrase,
        _ => TextTest::AllWords,
    };
    if words.is_empty() {
        return Err(malformed(path, format!("{text:?} holds no word (letters or digits) to look for")));
    }
    Ok(by_words(words))
}

fn value_set(values: &[Value], path: &str, is_list: bool) -> Result<ValueSet, FilterError> {
    let mut set = ValueSet::default();
    for (index, value) in values.iter().enumerate() {
        if !set.add(value) {
            let path = if is_list { format!("{path}[{index}]") } else { path.to_string() };
            return Err(malformed(&path, format!("must be a text, a number or a boolean, not {value}")));
        }
    }
    Ok(set)
}

fn range(value: &Value, path: &str) -> Result<Test, FilterError> {
    let fields = object(value, path)?;
    if fields.values().any(Value::is_string) {
        return bounds(value, path, |value, path| {
            let text = value
                .as_str()
                .ok_or_else(|| malformed(path, "must be an instant (RFC 3339 text) like the other bounds"))?;
            Instant::parse(text).ok_or_else(|| {
                malformed(path, format!("{text:?} is not an instant; write it as 2026-11-05T10:00:00Z"))
            })
        })
        .map(Test::Instants);
    }
    bounds(value, path, |value, path| {
        let number = if let Value::Number(number) = value { Number::of(number) } else { None };
        number.ok_or_else(|| malformed(path, format!("must be a number or an RFC 3339 text, not {value}")))
    })
    .map(Test::Range)
}

fn bounds<T: Copy>(
    value: &Value,
    path: &str,
    parse: impl Fn(&Value, &str) -> Result<T, FilterError>,
) -> Result<Bounds<T>, FilterError> {
    let fields = object(value, path)?;
    known_keys(fields, path, RANGE_KEYS)?;
    let bound = |name: &str| match present(fields, name) {
        Some(value) => parse(value, &child(path, name)).map(Some),
        None => Ok(None),
    };
    let bounds = Bounds { gt: bound("gt")?, gte: bound("gte")?, lt: bound("lt")?, lte: bound("lte")? };
    if bounds.each().next().is_none() {
        return Err(malformed(path, format!("has no bound; add one of {}", RANGE_KEYS.join(", "))));
    }
    Ok(bounds)
}

fn has_id(value: &Value, path: &str) -> Result<Condition, FilterError> {
    let ids: Result<HashSet<String>, FilterError> = array(value, path)?
        .iter()
        .enumerate()
        .map(|(index, id)| match PointId::from_json(id) {
            Ok(id) => Ok(id.as_str().to_string()),
            Err(error) => Err(malformed(&format!("{path}[{index}]"), error)),
        })
        .collect();
    ids.map(Condition::HasId)
}

fn key(fields: &Map<String, Value>, path: &str) -> Result<Key, FilterError> {
    let text = match fields.get("key") {
        Some(Value::String(text)) => text,
        Some(other) => return Err(malformed(&child(path, "key"), format!("must be a text, not {other}"))),
        None => return Err(malformed(path, "needs a \"key\": the payload field that it is about")),
    };
    Key::parse(text).map_err(|problem| malformed(&child(path, "key"), format!("{text:?}: {problem}")))
}

fn boolean(value: &Value, path: &str) -> Result<bool, FilterError> {
    value.as_bool().ok_or_else(|| malformed(path, format!("must be true or false, not {value}")))
}

fn object<'a>(value: &'a Value, path: &str) -> Result<&'a Map<String, Value>, FilterError> {
    value.as_object().ok_or_else(|| malformed(path, format!("must be an object, not {}", short(value))))
}

fn array<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], FilterError> {
    let list = value.as_array().map(Vec::as_slice);
    list.ok_or_else(|| malformed(path, format!("must be a list, not {}", short(value))))
}

/// A key that is there and not null: clients write null for what they leave out.
fn present<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    fields.get(key).filter(|value| !value.is_null())
}

fn known_keys(
    fields: &Map<String, Value>,
    path: &str,
    known: &'static [&'static str],
) -> Result<(), FilterError> {
    // Null under a key that conditions have elsewhere says nothing.
    let says_nothing = |key: &str, value: &Value| value.is_null() && CONDITION_KEYS.contains(&key);
    let mut strange = fields.iter().filter(|(key, _)| !known.contains(&key.as_str()));
    let Some((key, _)) = strange.find(|(key, value)| !says_nothing(key, value)) else { return Ok(()) };
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min()
        .map(|(_, candidate)| candidate);
    Err(FilterError::UnknownKey { path: path.to_string(), key: key.clone(), nearest, known })
}

fn child(path: &str, key: &str) -> String {
    format!("{path}.{key}")
}

/// A value in a message: its beginning will do.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn malformed(path: &str, problem: impl ToString) -> FilterError {
    FilterError::Malformed { path: path.to_string(), problem: problem.to_string() }
}
