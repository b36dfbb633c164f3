//! Settings: file, environment, flags; unknown keys are errors.
