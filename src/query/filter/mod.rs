//! Payload filters: which points match.
//!
//! ```text
//! {"must": [{"key": "lang", "match": {"value": "en"}}, {"key": "price", "range": {"lt": 10}}]}
//!      │ parse: names every mistake with its path
//!      ▼
//!   Filter ──evaluate──▶ RowSet          reads payload columns: typed where the field is of one type,
//!                                        JSON text row by row where it isn't
//! ```
//! The shape is Qdrant's. What is ours:
//! * numbers are compared as numbers: `match 3` finds 3 and 3.0, and an integer never loses digits to a float;
//! * `match.text` finds values that hold every *word* of the text (runs of letters and digits, any case),
//!   `text_any` one of them, `phrase` all of them in a row; `substring` and `prefix` compare characters;
//! * a range with texts as bounds compares instants (RFC 3339; UTC where no offset is given);
//! * a condition tests one thing: two tests on one key are two conditions, so nobody has to know whether
//!   they would be joined by *and* or by *or*.
//!
//! I1 evaluating columns gives what evaluating each payload alone would. I2 nothing is ignored: a key that is
//! unknown or not supported yet is an error. I3 depth and number of conditions are bounded.
mod condition;
mod datetime;
mod eval;
mod key;
mod number;
mod parse;
mod size;
#[cfg(test)]
mod tests;

use crate::types::{Column, ErrorKind};

use condition::Condition;
pub use datetime::Instant;
use key::Key;

/// Nesting beyond this is refused: evaluation recurses, and nobody means it.
pub const FILTER_DEPTH_MAX: usize = 32;

/// Conditions beyond this are refused: each costs a pass over the rows. Long lists belong into `any` or `has_id`.
pub const FILTER_CONDITIONS_MAX: usize = 4_096;

/// A parsed filter. The default one matches every point.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// All of these.
    must: Vec<Condition>,
    /// At least one of these, if there are any.
    should: Vec<Condition>,
    /// None of these.
    must_not: Vec<Condition>,
    /// At least so many of these.
    min_should: Option<MinShould>,
}

#[derive(Debug, Clone, PartialEq)]
struct MinShould {
    conditions: Vec<Condition>,
    min_count: usize,
}

/// What a filter reads of a run of rows.
pub trait PayloadView {
    /// Rows.
    fn rows(&self) -> usize;
    /// A payload field as a column; `None` where no row has it.
    fn column(&self, field: &str) -> Result<Option<Column>, Box<dyn std::error::Error + Send + Sync>>;
    /// Calls `visit` with each row's id.
    fn for_each_id(&self, visit: &mut dyn FnMut(u32, &str));
}

/// Why a filter cannot be parsed or evaluated.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The rows' payload cannot be read.
    #[error("cannot read payload field {field:?}")]
    Payload {
        /// The field.
        field: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A part that means nothing here.
    #[error("{path}: {problem}")]
    Malformed {
        /// Where in the request, such as `filter.must[0].range`.
        path: String,
        /// What was given and what is expected.
        problem: String,
    },
    /// A key that is not part of a filter.
    #[error("{path}: unknown key {key:?}{}", hint(.nearest, .known))]
    UnknownKey {
        /// The object that holds the key.
        path: String,
        /// The key.
        key: String,
        /// The known key most like it.
        nearest: Option<&'static str>,
        /// What the object may hold.
        known: &'static [&'static str],
    },
    /// A condition that others have and we do not, yet.
    #[error("{path}: {what} is not supported yet")]
    Unsupported {
        /// Where in the request.
        path: String,
        /// The condition.
        what: String,
    },
    /// Too much of it.
    #[error("{path}: the filter has more than {max} {what}")]
    TooLarge {
        /// Where the limit was passed.
        path: String,
        /// `levels` or `conditions`.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}

fn hint(nearest: &Option<&'static str>, known: &[&'static str]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None => format!("; known are {}", known.join(", ")),
    }
}

impl FilterError {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Payload { .. } => ErrorKind::DataLoss,
            Self::Malformed { .. }
            | Self::UnknownKey { .. }
            | Self::Unsupported { .. }
            | Self::TooLarge { .. } => ErrorKind::Invalid,
        }
    }

    /// Where in the request the filter is wrong; `None` where the data is.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Payload { .. } => None,
            Self::Malformed { path, .. }
            | Self::UnknownKey { path, .. }
            | Self::Unsupported { path, .. }
            | Self::TooLarge { path, .. } => Some(path),
        }
    }
}

impl Filter {
    /// Does it let every point pass?
    pub fn is_empty(&self) -> bool {
        self.must.is_empty()
            && self.should.is_empty()
            && self.must_not.is_empty()
            && self.min_should.as_ref().is_none_or(|min| min.min_count == 0)
    }
}

/// The one top-level field that a payload key such as `lang` or `"a.b"` names; `Err` says why it names none.
///
/// Answers select and edits touch whole fields; a path into a field is for filters.
pub fn top_level_field(key: &str) -> Result<String, String> {
    let parsed = Key::parse(key)?;
    match parsed.tail.is_empty() {
        true => Ok(parsed.field),
        false => Err(format!(
            "{key:?} leads into field {:?}; only whole top-level fields can be named here \
             (quote a name that holds dots or brackets)",
            parsed.field
        )),
    }
}
