//! Mistakes in a pipeline's file, each with its place.
use std::fmt;

use crate::types::ErrorKind;

/// One mistake: what, where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecError {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 where there is no place.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
    /// The key, as a path: `source.kafka.topics`.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What was expected, or what to do; may be empty.
    pub expected: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.problem, self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if self.expected.is_empty() { Ok(()) } else { write!(f, "; {}", self.expected) }
    }
}

/// Everything that is wrong with a pipeline's file; one mistake per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecErrors(pub Vec<SpecError>);

impl SpecErrors {
    /// What the operator should do.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Invalid
    }
}
impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, error)| {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")
        })
    }
}
