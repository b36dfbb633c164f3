//! Collections, schemas and pipelines.
