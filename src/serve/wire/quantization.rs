//! `quantization_config` of collections, and `params.quantization` of searches.
use serde::Deserialize;
use serde_json::{Value, json};

use super::selection::within;
use crate::serve::error_map::ApiError;
use crate::types::{CodedSearch, Quantization};

/// `params.quantization`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizationParams {
    ignore: Option<bool>,
    rescore: Option<bool>,
    oversampling: Option<f64>,
}

impl QuantizationParams {
    /// How the search uses codes. `at`: where the body stands in the request.
    pub fn codes(self, at: &str) -> Result<CodedSearch, ApiError> {
        let base = CodedSearch::default();
        Ok(CodedSearch {
            rescore: self.rescore.unwrap_or(base.rescore),
            oversampling: oversampling(self.oversampling, &within(at, "params.quantization.oversampling"))?,
            ignore: self.ignore.unwrap_or(base.ignore),
        })
    }
}

/// 1 to 1,000: more is a scan.
pub fn oversampling(given: Option<f64>, at: &str) -> Result<f32, ApiError> {
    match given.unwrap_or(1.0) {
        factor if (1.0..=1_000.0).contains(&factor) => Ok(factor as f32),
        factor => {
            Err(ApiError::invalid("invalid_request", at, format!("must be between 1 and 1000, not {factor}")))
        }
    }
}

/// As clients read it: null where each segment's sample decides.
pub fn describe(quantization: Option<Quantization>) -> Value {
    json!(quantization)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::json::parse;

    fn codes(text: &str) -> Result<CodedSearch, ApiError> {
        parse::<QuantizationParams>(text.as_bytes())?.codes("searches[1]")
    }

    #[test]
    fn what_a_search_may_say_of_codes() {
        assert_eq!(codes("{}").unwrap(), CodedSearch::default());
        let all = codes(r#"{"ignore": true, "rescore": false, "oversampling": 2.5}"#).unwrap();
        assert_eq!(all, CodedSearch { rescore: false, oversampling: 2.5, ignore: true });
        let error = codes(r#"{"oversampling": 0.5}"#).unwrap_err();
        let message = "searches[1].params.quantization.oversampling: must be between 1 and 1000, not 0.5";
        assert_eq!(error.message(), message);
        let error = codes(r#"{"overampling": 2}"#).unwrap_err();
        assert_eq!(error.message(), "unknown key \"overampling\"; did you mean \"oversampling\"?");
    }
}
