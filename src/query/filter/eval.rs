//! Which rows match: conditions over columns, sets over conditions.
use std::cmp::Ordering;

use arrow_array::{Array, StringArray};
use serde_json::Value;

use super::condition::{Bounds, Condition, Test, ValueSet};
use super::key::Key;
use super::number::{Number, NumberKey};
use super::{Filter, FilterError, PayloadView};
use crate::types::Column;
use crate::types::RowSet;

/// Sets up to this size are compared one by one: cheaper than hashing each row's value.
const LINEAR_MAX: usize = 8;

impl Filter {
    /// Which of the rows match.
    pub fn evaluate(&self, view: &dyn PayloadView) -> Result<RowSet, FilterError> {
        let mut rows = RowSet::all(view.rows());
        for condition in &self.must {
            if rows.is_empty() {
                return Ok(rows);
            }
            rows.and(&condition.evaluate(view)?);
        }
        for condition in &self.must_not {
            if rows.is_empty() {
                return Ok(rows);
            }
            rows.and_not(&condition.evaluate(view)?);
        }
        if !self.should.is_empty() && !rows.is_empty() {
            let mut some = RowSet::none(view.rows());
            for condition in &self.should {
                some.or(&condition.evaluate(view)?);
            }
            rows.and(&some);
        }
        if let Some(min_should) = self.min_should.as_ref().filter(|min_should| min_should.min_count > 0) {
            rows.and(&at_least(min_should.min_count, &min_should.conditions, view)?);
        }
        Ok(rows)
    }
}

fn at_least(
    min_count: usize,
    conditions: &[Condition],
    view: &dyn PayloadView,
) -> Result<RowSet, FilterError> {
    let mut counts = vec![0_usize; view.rows()];
    for condition in conditions {
        for row in condition.evaluate(view)?.iter() {
            if let Some(count) = counts.get_mut(row as usize) {
                *count += 1;
            }
        }
    }
    Ok(RowSet::from_fn(counts.len(), |row| counts[row] >= min_count))
}

impl Condition {
    fn evaluate(&self, view: &dyn PayloadView) -> Result<RowSet, FilterError> {
        match self {
            Self::Filter(filter) => filter.evaluate(view),
            Self::HasId(ids) => {
                let mut rows = RowSet::none(view.rows());
                view.for_each_id(&mut |row, id| {
                    if ids.contains(id) {
                        rows.insert(row);
                    }
                });
                Ok(rows)
            }
            Self::Field(key, test) => {
                let column = view
                    .column(&key.field)
                    .map_err(|source| FilterError::Payload { field: key.field.clone(), source })?;
                match column {
                    Some(Column::Json(texts)) => json(key, test, &texts),
                    Some(column) if key.tail.is_empty() => Ok(typed(key, test, &column)),
                    // A scalar has nothing inside: to a path it is absent.
                    _ => Ok(same(view.rows(), test.holds(key, None))),
                }
            }
        }
    }
}

fn same(rows: usize, matches: bool) -> RowSet {
    if matches { RowSet::all(rows) } else { RowSet::none(rows) }
}

/// Rows of any shape, each value parsed.
fn json(key: &Key, test: &Test, texts: &StringArray) -> Result<RowSet, FilterError> {
    let absent = test.holds(key, None);
    let mut rows = RowSet::none(texts.len());
    for row in 0..texts.len() {
        let matches = if texts.is_null(row) {
            absent
        } else {
            let value: Value = serde_json::from_str(texts.value(row)).map_err(|error| {
                FilterError::Payload { field: key.field.clone(), source: Box::new(error) }
            })?;
            test.holds(key, Some(&value))
        };
        if matches {
            rows.insert(row as u32);
        }
    }
    Ok(rows)
}

/// Rows whose values are scalars of one type.
fn typed(key: &Key, test: &Test, column: &Column) -> RowSet {
    let array = column.array();
    let mut rows = match (test, column) {
        // Said of presence alone: a scalar is not null, is not empty, and counts as one value.
        (Test::IsEmpty(wanted), _) => {
            return RowSet::from_fn(array.len(), |row| *wanted == array.is_null(row));
        }
        (Test::IsNull(wanted), _) => return same(array.len(), !*wanted),
        (Test::Count(bounds), _) => {
            let one = bounds.admit(|bound| 1.cmp(&bound));
            let none = test.holds(key, None);
            return RowSet::from_fn(array.len(), |row| if array.is_null(row) { none } else { one });
        }
        (Test::OneOf(set), column) => members(set, column),
        (Test::Except(set), column) => {
            let mut rows = members(set, column);
            rows.not();
            rows
        }
        (Test::Text(test), Column::Text(texts)) => {
            RowSet::from_fn(texts.len(), |row| texts.is_valid(row) && test.matches(texts.value(row)))
        }
        (Test::Instants(bounds), Column::Text(texts)) => {
            RowSet::from_fn(texts.len(), |row| texts.is_valid(row) && bounds.admit_text(texts.value(row)))
        }
        (Test::Range(bounds), Column::Int(integers)) => {
            let (least, greatest) = integer_bounds(bounds);
            let values = integers.values();
            RowSet::from_fn(values.len(), |row| (least..=greatest).contains(&i128::from(values[row])))
        }
        (Test::Range(bounds), Column::Float(floats)) => in_float_range(bounds, floats.values()),
        _ => RowSet::none(array.len()),
    };
    if let Some(nulls) = array.logical_nulls() {
        rows.and(&RowSet::from_fn(array.len(), |row| nulls.is_valid(row)));
    }
    rows
}

/// Rows whose value is in the set; what is said of a null row means nothing.
fn members(set: &ValueSet, column: &Column) -> RowSet {
    match column {
        Column::Bool(values) => RowSet::from_fn(values.len(), |row| set.contains_bool(values.value(row))),
        Column::Int(array) => {
            let values = array.values();
            let wanted: Vec<i64> = set.numbers.iter().filter_map(NumberKey::as_i64).collect();
            match wanted.as_slice() {
                [] => RowSet::none(values.len()),
                [one] => RowSet::from_fn(values.len(), |row| values[row] == *one),
                few if few.len() <= LINEAR_MAX => {
                    RowSet::from_fn(values.len(), |row| few.contains(&values[row]))
                }
                _ => {
                    RowSet::from_fn(values.len(), |row| set.contains_number(Number::Int(values[row].into())))
                }
            }
        }
        Column::Float(array) => {
            let values = array.values();
            RowSet::from_fn(values.len(), |row| set.contains_number(Number::Float(values[row])))
        }
        Column::Text(texts) => {
            let wanted: Vec<&str> = set.texts.iter().map(String::as_str).collect();
            match wanted.as_slice() {
                [] => RowSet::none(texts.len()),
                [one] => RowSet::from_fn(texts.len(), |row| texts.value(row) == *one),
                few if few.len() <= LINEAR_MAX => {
                    RowSet::from_fn(texts.len(), |row| few.contains(&texts.value(row)))
                }
                _ => RowSet::from_fn(texts.len(), |row| set.texts.contains(texts.value(row))),
            }
        }
        Column::Json(texts) => RowSet::none(texts.len()),
    }
}

/// The integers that the bounds admit, both ends inclusive.
fn integer_bounds(bounds: &Bounds<Number>) -> (i128, i128) {
    let least = [bounds.gt.map(|bound| bound.floor().saturating_add(1)), bounds.gte.map(Number::ceil)];
    let greatest = [bounds.lt.map(|bound| bound.ceil().saturating_sub(1)), bounds.lte.map(Number::floor)];
    (
        least.into_iter().flatten().max().unwrap_or(i128::MIN),
        greatest.into_iter().flatten().min().unwrap_or(i128::MAX),
    )
}

fn in_float_range(bounds: &Bounds<Number>, values: &[f64]) -> RowSet {
    let exact = |bound: Option<Number>| bound.map(Number::exact_f64);
    match (exact(bounds.gt), exact(bounds.gte), exact(bounds.lt), exact(bounds.lte)) {
        // An integer bound that no float equals: compare exactly.
        (Some(None), ..) | (_, Some(None), ..) | (_, _, Some(None), _) | (.., Some(None)) => {
            RowSet::from_fn(values.len(), |row| bounds.admit_number(Number::Float(values[row])))
        }
        (gt, gte, lt, lte) => {
            let bounds =
                Bounds { gt: gt.flatten(), gte: gte.flatten(), lt: lt.flatten(), lte: lte.flatten() };
            RowSet::from_fn(values.len(), |row| {
                bounds.admit(|bound| values[row].partial_cmp(&bound).unwrap_or(Ordering::Equal))
            })
        }
    }
}
