//! The newest rows, searchable at once.
