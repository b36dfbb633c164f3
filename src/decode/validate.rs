//! What makes a record no point, and the checks for it.
use proximadb_kernels::distance as kernels;

use crate::types::Distance;

/// Largest payload as JSON text. Payloads are kept in memory until they are flushed; larger documents belong
/// into a store of their own, with their key in the payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Why a record makes no point; the text of the code is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultCode {
    /// The bytes are not what the format or the schema says.
    Decode,
    /// The frame before the record is missing or wrong.
    BadFraming,
    /// The registry does not know the schema.
    UnknownSchema,
    /// A null value where the pipeline does not say that it deletes.
    UnexpectedNull,
    /// The id's field, or the key, is missing or null.
    MissingId,
    /// The id is of the wrong type, empty or too long.
    BadId,
    /// The vector's field is missing or null.
    MissingVector,
    /// The vector has another number of components than the collection.
    DimensionMismatch,
    /// A component is NaN or infinite.
    NotFinite,
    /// A vector of length zero has no direction, which cosine compares.
    ZeroVector,
    /// The payload is larger than [`PAYLOAD_BYTES_MAX`].
    PayloadTooLarge,
    /// The event time is no time.
    BadEventTime,
}

impl FaultCode {
    /// The code as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::BadFraming => "bad_framing",
            Self::UnknownSchema => "unknown_schema",
            Self::UnexpectedNull => "unexpected_null",
            Self::MissingId => "missing_id",
            Self::BadId => "bad_id",
            Self::MissingVector => "missing_vector",
            Self::DimensionMismatch => "dimension_mismatch",
            Self::NotFinite => "not_finite",
            Self::ZeroVector => "zero_vector",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BadEventTime => "bad_event_time",
        }
    }

    /// Were the bytes unreadable (`errors.decode` decides), or read but no valid point (`errors.validate`)?
    pub fn is_unreadable(self) -> bool {
        matches!(self, Self::Decode | Self::BadFraming | Self::UnknownSchema | Self::UnexpectedNull)
    }
}

/// One record's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind.
    pub code: FaultCode,
    /// What was wrong, and with what.
    pub reason: String,
}

impl Fault {
    pub(super) fn new(code: FaultCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(super) fn decode(reason: impl Into<String>) -> Self {
        Self::new(FaultCode::Decode, reason)
    }
}

/// Checks one vector and brings it into the stored form: cosine collections hold unit vectors.
pub(super) fn settle_vector(vector: &mut [f32], dim: usize, distance: Distance) -> Result<(), Fault> {
    if vector.len() != dim {
        let reason = format!("the vector has {} components; the collection takes {dim}", vector.len());
        return Err(Fault::new(FaultCode::DimensionMismatch, reason));
    }
    if !kernels::all_finite(vector) {
        let (index, value) =
            vector.iter().enumerate().find(|(_, value)| !value.is_finite()).unwrap_or((0, &f32::NAN));
        return Err(Fault::new(FaultCode::NotFinite, format!("component {index} of the vector is {value}")));
    }
    if distance == Distance::Cosine {
        let norm = kernels::normalize(vector);
        if norm == 0.0 {
            let reason = "the vector has length zero, so it has no direction to compare by cosine";
            return Err(Fault::new(FaultCode::ZeroVector, reason));
        }
        if !norm.is_finite() {
            let reason = format!("the vector's length overflows ({norm})");
            return Err(Fault::new(FaultCode::NotFinite, reason));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn code(values: &[f32], distance: Distance) -> Option<&'static str> {
        settle_vector(&mut values.to_vec(), 2, distance).err().map(|fault| fault.code.as_str())
    }

    #[test]
    fn vectors_that_cannot_be_compared_are_refused() {
        assert_eq!(code(&[1.0], Distance::L2), Some("dimension_mismatch"));
        assert_eq!(code(&[1.0, f32::NAN], Distance::L2), Some("not_finite"));
        assert_eq!(code(&[f32::INFINITY, 1.0], Distance::Dot), Some("not_finite"));
        assert_eq!(code(&[0.0, 0.0], Distance::Cosine), Some("zero_vector"));
        assert_eq!(code(&[0.0, 0.0], Distance::L2), None);
    }

    #[test]
    fn cosine_vectors_become_unit_vectors() {
        let mut vector = [3.0, 4.0];
        settle_vector(&mut vector, 2, Distance::Cosine).unwrap();
        assert_eq!(vector, [0.6, 0.8]);
        settle_vector(&mut vector, 2, Distance::L2).unwrap();
    }
}
