//! From a pipeline's specification to its decoder.
use std::path::PathBuf;
use std::sync::Arc;

use super::avro::{Container, Framed, Unframed};
use super::columns::ColumnDecoder;
use super::json::Json;
use super::mapping::Mapping;
use super::records::{RecordDecoder, RecordFormat};
use super::{Decoder, SchemaSource};
use crate::config::pipeline::{Format, Framing, PipelineSpec, SourceSpec};
use crate::types::Distance;

/// The collection that a decoder writes for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Components of each vector.
    pub dim: u32,
    /// How vectors are compared.
    pub distance: Distance,
}

/// Why a decoder cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The pipeline's vectors don't fit the collection.
    #[error(
        "collection {collection} takes vectors of {expected} components, map.vector.dim says {given}; correct it or write another collection"
    )]
    Dimension {
        /// The collection.
        collection: String,
        /// What the pipeline says.
        given: u32,
        /// What the collection has.
        expected: u32,
    },
    /// A schema file cannot be used.
    #[error("schema {path:?}: {reason}")]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The specification was not checked: it says nothing that could be decoded.
    #[error("the pipeline does not say how records are decoded ({missing})")]
    Unspecified {
        /// What is missing.
        missing: &'static str,
    },
}

/// The format of a pipeline's records: as it says, or as its files tell.
fn format(spec: &PipelineSpec) -> Option<Format> {
    if let Some(decode) = &spec.decode {
        return Some(decode.format);
    }
    let SourceSpec::File(file) = &spec.source else { return None };
    file.path.iter().find_map(|path| file.format_of(path)).map(|format| format.records())
}

/// A decoder for a pipeline that was read and checked. `schemas` is asked only for framed Avro.
pub fn build(
    spec: &PipelineSpec,
    target: Target,
    schemas: Arc<dyn SchemaSource>,
) -> Result<Box<dyn Decoder>, BuildError> {
    let mapping = Mapping::compile(spec, target)?;
    let framing = spec.decode.as_ref().map_or(Framing::None, |decode| decode.framing);
    let is_file = matches!(spec.source, SourceSpec::File(_));
    let format: Box<dyn RecordFormat> = match (format(spec), framing) {
        (None, _) => return Err(BuildError::Unspecified { missing: "decode.format" }),
        (Some(Format::Columns), _) => return Ok(Box::new(ColumnDecoder::new(mapping, spec.errors.clone()))),
        (Some(Format::Json), _) => Box::new(Json::default()),
        (Some(Format::Avro), _) if is_file => Box::new(Container::default()),
        (Some(Format::Avro), Framing::Confluent) => {
            Box::new(Framed::new(schemas, spec.errors.schema_unknown))
        }
        (Some(Format::Avro), Framing::None) => {
            let path = spec.decode.as_ref().and_then(|decode| decode.schema.as_ref());
            Box::new(Unframed::new(
                path.ok_or(BuildError::Unspecified { missing: "decode.schema" })?,
                &mapping,
            )?)
        }
    };
    Ok(Box::new(RecordDecoder::new(mapping, spec.errors.clone(), format)))
}
