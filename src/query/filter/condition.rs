//! Conditions, and what each says of one JSON value.
use std::collections::HashSet;

use serde_json::Value;

use super::Filter;
use super::datetime::Instant;
use super::key::Key;
use super::number::{Number, NumberKey};

/// One condition of a filter.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    /// A test of the values at a key.
    Field(Key, Test),
    /// The point is one of these.
    HasId(HashSet<String>),
    /// A filter within the filter.
    Filter(Filter),
}

/// What must hold of the values at a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// Some value is in the set.
    OneOf(ValueSet),
    /// Some value, not null, is not in the set.
    Except(ValueSet),
    /// Some value is a text like this.
    Text(TextTest),
    /// Some value is a number within.
    Range(Bounds<Number>),
    /// Some value is a text that says an instant within.
    Instants(Bounds<Instant>),
    /// An array has so many elements (null and absent: 0, anything else: 1).
    Count(Bounds<u64>),
    /// Absent, null or `[]` (`false`: not so).
    IsEmpty(bool),
    /// Null, or an array with a null in it (`false`: not so).
    IsNull(bool),
}

/// Scalars to compare with.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct ValueSet {
    pub texts: HashSet<String>,
    pub numbers: HashSet<NumberKey>,
    pub has_true: bool,
    pub has_false: bool,
}

impl ValueSet {
    /// Adds a scalar; `false` where the value is none.
    pub(super) fn add(&mut self, value: &Value) -> bool {
        match value {
            Value::String(text) => {
                self.texts.insert(text.clone());
            }
            Value::Number(number) => match Number::of(number) {
                Some(number) => {
                    self.numbers.insert(number.key());
                }
                None => return false,
            },
            Value::Bool(true) => self.has_true = true,
            Value::Bool(false) => self.has_false = true,
            Value::Null | Value::Array(_) | Value::Object(_) => return false,
        }
        true
    }

    pub(super) fn contains_number(&self, number: Number) -> bool {
        self.numbers.contains(&number.key())
    }

    pub(super) fn contains_bool(&self, value: bool) -> bool {
        if value { self.has_true } else { self.has_false }
    }

    fn contains(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.texts.contains(text),
            Value::Number(number) => Number::of(number).is_some_and(|number| self.contains_number(number)),
            Value::Bool(value) => self.contains_bool(*value),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }
}

/// Ways to look into a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TextTest {
    /// Every one of these words occurs.
    AllWords(Vec<String>),
    /// One of these words occurs.
    AnyWord(Vec<String>),
    /// These words occur in a row.
    Phrase(Vec<String>),
    /// These characters occur.
    Substring(String),
    /// The text begins so.
    Prefix(String),
}

impl TextTest {
    pub(super) fn matches(&self, text: &str) -> bool {
        match self {
            Self::AllWords(wanted) => {
                let found: HashSet<String> = words(text).collect();
                wanted.iter().all(|word| found.contains(word))
            }
            Self::AnyWord(wanted) => words(text).any(|word| wanted.contains(&word)),
            Self::Phrase(wanted) => {
                let found: Vec<String> = words(text).collect();
                found.windows(wanted.len().max(1)).any(|window| window == wanted)
            }
            Self::Substring(part) => text.contains(part.as_str()),
            Self::Prefix(part) => text.starts_with(part.as_str()),
        }
    }
}

/// Runs of letters and digits, in lower case.
pub(super) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// Limits; those absent don't limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds<T> {
    pub gt: Option<T>,
    pub gte: Option<T>,
    pub lt: Option<T>,
    pub lte: Option<T>,
}

impl<T> Default for Bounds<T> {
    fn default() -> Self {
        Self { gt: None, gte: None, lt: None, lte: None }
    }
}

impl<T: Copy> Bounds<T> {
    pub(super) fn admit(&self, compare: impl Fn(T) -> std::cmp::Ordering) -> bool {
        self.gt.is_none_or(|bound| compare(bound).is_gt())
            && self.gte.is_none_or(|bound| compare(bound).is_ge())
            && self.lt.is_none_or(|bound| compare(bound).is_lt())
            && self.lte.is_none_or(|bound| compare(bound).is_le())
    }

    pub(super) fn each(&self) -> impl Iterator<Item = T> {
        [self.gt, self.gte, self.lt, self.lte].into_iter().flatten()
    }
}

impl Bounds<Number> {
    pub(super) fn admit_number(&self, number: Number) -> bool {
        self.admit(|bound| number.compare(bound))
    }
}

impl Bounds<Instant> {
    pub(super) fn admit_text(&self, text: &str) -> bool {
        Instant::parse(text).is_some_and(|instant| self.admit(|bound| instant.cmp(&bound)))
    }
}

impl Test {
    /// Does the test hold of a payload field's value? `None`: the payload lacks the field.
    pub(super) fn holds(&self, key: &Key, value: Option<&Value>) -> bool {
        let mut selected = Vec::new();
        if let Some(value) = value {
            key.each(value, &mut |value| selected.push(value));
        }
        match self {
            Self::IsEmpty(wanted) => *wanted == selected.iter().all(|value| is_empty(value)),
            Self::IsNull(wanted) => *wanted == selected.iter().any(|value| has_null(value)),
            Self::Count(bounds) if selected.is_empty() => bounds.admit(|bound| 0.cmp(&bound)),
            Self::Count(bounds) => {
                selected.iter().any(|value| bounds.admit(|bound| count(value).cmp(&bound)))
            }
            _ => selected.into_iter().any(|value| match value {
                Value::Array(elements) => elements.iter().any(|element| self.holds_of_element(element)),
                scalar => self.holds_of_element(scalar),
            }),
        }
    }

    fn holds_of_element(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::OneOf(set), value) => set.contains(value),
            (Self::Except(set), value) => !value.is_null() && !set.contains(value),
            (Self::Text(test), Value::String(text)) => test.matches(text),
            (Self::Range(bounds), Value::Number(number)) => {
                Number::of(number).is_some_and(|number| bounds.admit_number(number))
            }
            (Self::Instants(bounds), Value::String(text)) => bounds.admit_text(text),
            _ => false,
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(elements) => elements.iter().any(Value::is_null),
        _ => false,
    }
}

fn count(value: &Value) -> u64 {
    match value {
        Value::Null => 0,
        Value::Array(elements) => elements.len() as u64,
        _ => 1,
    }
}
