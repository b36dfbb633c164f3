//! Payload filters.
use crate::types::Column;

use super::RowSet;

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {}

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
}

impl Filter {
    /// Which of the rows match.
    pub fn evaluate(&self, view: &dyn PayloadView) -> Result<RowSet, FilterError> {
        Ok(RowSet::all(view.rows()))
    }
}

impl FilterError {
    /// What the caller should do.
    pub fn kind(&self) -> crate::types::ErrorKind {
        match self {
            Self::Payload { .. } => crate::types::ErrorKind::DataLoss,
        }
    }
}
