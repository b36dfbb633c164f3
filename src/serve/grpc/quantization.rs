//! Kinds of codes, and how a search uses them, as messages.
use proximadb_proto::v1;
use proximadb_proto::v1::quantization::Kind;

use crate::serve::error_map::ApiError;
use crate::serve::wire::quantization::oversampling;
use crate::types::{BinaryEncoding, CodedSearch, Compression, Quantization, RabitqBits};

/// `None` where nothing is said, `Some(None)` for what samples choose.
pub(super) fn read(message: Option<v1::Quantization>) -> Result<Option<Option<Quantization>>, ApiError> {
    let refuse = |field: &str, problem: String| {
        ApiError::invalid("invalid_index_parameters", &format!("graph.quantization.{field}"), problem)
    };
    Ok(Some(Some(match message.and_then(|message| message.kind) {
        None => return Ok(None),
        Some(Kind::Auto(_)) => return Ok(Some(None)),
        Some(Kind::None(_)) => Quantization::None {},
        Some(Kind::F16(_)) => Quantization::F16 {},
        Some(Kind::Int8(_)) => Quantization::INT8,
        Some(Kind::RabitqBits(bits)) => Quantization::rabitq(
            RabitqBits::try_from(bits).map_err(|problem| refuse("rabitq_bits", problem))?,
        ),
        Some(Kind::ProductCompression(factor)) => {
            let problem = || format!("must be 4, 8, 16, 32 or 64, not {factor}");
            let compression = Compression::of(factor);
            Quantization::product(compression.ok_or_else(|| refuse("product_compression", problem()))?)
        }
    })))
}

pub(super) fn write(quantization: Option<Quantization>) -> v1::Quantization {
    let kind = match quantization {
        None => Kind::Auto(true),
        Some(Quantization::None {}) => Kind::None(true),
        Some(Quantization::F16 {}) => Kind::F16(true),
        Some(Quantization::Scalar(_)) => Kind::Int8(true),
        Some(Quantization::Binary(binary)) => Kind::RabitqBits(match binary.encoding {
            BinaryEncoding::OneBit => 1,
            BinaryEncoding::TwoBits => 2,
        }),
        Some(Quantization::Rabitq(rabitq)) => Kind::RabitqBits(rabitq.bits.into()),
        Some(Quantization::Product(product)) => {
            Kind::ProductCompression(4 * product.compression.components())
        }
    };
    v1::Quantization { kind: Some(kind) }
}

pub(super) fn codes(message: Option<v1::CodedSearch>, at: &str) -> Result<CodedSearch, ApiError> {
    let Some(given) = message else { return Ok(CodedSearch::default()) };
    let factor = (given.oversampling != 0.0).then_some(given.oversampling);
    Ok(CodedSearch {
        rescore: !given.no_rescore,
        oversampling: oversampling(factor, &format!("{at}codes.oversampling"))?,
        ignore: given.ignore,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_back_as_they_were_sent() {
        let kinds = [
            Kind::None(true),
            Kind::F16(true),
            Kind::Int8(true),
            Kind::RabitqBits(2),
            Kind::ProductCompression(64),
            Kind::Auto(true),
        ];
        for kind in kinds {
            let message = v1::Quantization { kind: Some(kind) };
            assert_eq!(write(read(Some(message)).unwrap().unwrap()), message);
        }
        assert_eq!(read(None).unwrap(), None);
        for kind in [Kind::RabitqBits(3), Kind::ProductCompression(5)] {
            let error = read(Some(v1::Quantization { kind: Some(kind) })).unwrap_err();
            assert!(error.message().starts_with("graph.quantization."), "{}", error.message());
        }
    }

    #[test]
    fn nothing_said_of_codes_is_the_default() {
        assert_eq!(codes(None, "").unwrap(), CodedSearch::default());
        assert_eq!(codes(Some(v1::CodedSearch::default()), "").unwrap(), CodedSearch::default());
        let message = v1::CodedSearch { no_rescore: true, oversampling: 3.0, ignore: true };
        let given = codes(Some(message), "").unwrap();
        assert_eq!(given, CodedSearch { rescore: false, oversampling: 3.0, ignore: true });
        let wrong = v1::CodedSearch { oversampling: f64::NAN, ..message };
        assert_eq!(codes(Some(wrong), "queries[0].").unwrap_err().code(), "invalid_request");
    }
}
