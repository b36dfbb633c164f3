//! Pipelines as YAML: what a pipeline reads, how records become points, where they go.
//!
//! ```text
//!   text ──▶ load: shape, with line and column of every mistake
//!        ──▶ check: relations between keys, likewise ──▶ PipelineSpec
//! ```
//! I1 unknown keys are errors that name the nearest known key. I2 no setting is accepted that would be
//! ignored. I3 secrets are references (`${env:NAME}`, `file:PATH`) that are resolved when a pipeline starts
//! and never printed.
mod check;
mod decode;
mod load;
mod map;
mod path;
mod policy;
mod problem;
mod schema;
mod secret;
mod source;
mod spec;
mod time;
mod units;

pub use decode::{DecodeSpec, Format, Framing, RegistryAuth, RegistrySpec};
pub use load::load;
pub use map::{DeleteWhen, EventTimeSpec, IdSpec, MapSpec, PayloadSpec, TimeUnit, TransformSpec, VectorSpec};
pub use path::{FieldPath, FieldPathError};
pub use policy::{CircuitSpec, DeadLetterSpec, ErrorsSpec, OnFailure, OnUnknownSchema};
pub use problem::{SpecError, SpecErrors};
pub use schema::json_schema;
pub use secret::{Secret, SecretError, SecretText};
pub use source::{
    ClientValue, FileFormat, FileSpec, KafkaAssignment, KafkaSpec, KafkaStart, PushSpec, SourceSpec,
    Timestamp,
};
pub use spec::{Ack, BatchSpec, CreateSpec, FreshnessSpec, IndexChoice, LimitsSpec, PipelineSpec, SinkSpec};
pub use time::parse_rfc3339_ms;
pub use units::{ByteSize, Span};
