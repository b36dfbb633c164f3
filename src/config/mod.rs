//! Settings: file, environment, flags; unknown keys are errors.
pub mod pipeline;
