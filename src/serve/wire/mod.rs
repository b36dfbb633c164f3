//! The JSON of requests and answers, in the shapes that published clients send and parse.
//!
//! I1 a body says everything or is refused: unknown keys are errors, known keys that we do not have yet are
//! errors unless null, and what changes nothing here is listed where it is accepted ([`super::json::NoEffect`]).
pub(super) mod collection;
pub(super) mod index_choice;
pub(super) mod payload;
pub(super) mod points;
pub(super) mod quantization;
pub(super) mod query;
pub(super) mod read;
pub(super) mod records;
pub(super) mod selection;
