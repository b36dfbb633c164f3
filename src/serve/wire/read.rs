//! Bodies that read without searching, and what all reads share.
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;

use super::selection::{WithPayload, WithVector};
use crate::query::{Filter, FreshAsOf, PayloadSelection, ReadOptions, ScrollRequest};
use crate::serve::error_map::ApiError;
use crate::serve::json::{Unsupported, checked};
use crate::serve::limits::Limits;
use crate::serve::params::{ReadParams, parse_timeout};
use crate::types::{Lsn, PointId, Position};

/// Hits and points of an answer where the request names no limit.
pub const LIMIT_DEFAULT: usize = 10;

/// `{"lsn": n}` or `{source: {partition: position}}`.
#[derive(Debug, PartialEq)]
pub struct FreshAsOfBody(pub FreshAsOf);

impl<'de> Deserialize<'de> for FreshAsOfBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| {
            let fields =
                value.as_object().ok_or("must be {\"lsn\": n} or {source: {partition: position}}")?;
            if let (Some(lsn), 1) = (fields.get("lsn").and_then(Value::as_u64), fields.len()) {
                return Ok(Self(FreshAsOf::Lsn(Lsn(lsn))));
            }
            let positions: BTreeMap<String, BTreeMap<String, Position>> = serde_json::from_value(value)
                .map_err(|error| {
                    format!("is neither {{\"lsn\": n}} nor {{source: {{partition: position}}}}: {error}")
                })?;
            Ok(Self(FreshAsOf::Positions(positions)))
        })
    }
}

/// What every read may say of freshness and time.
pub fn read_options(
    fresh_as_of: Option<FreshAsOfBody>,
    timeout: Option<f64>,
    params: ReadParams,
    limits: &Limits,
) -> Result<ReadOptions, ApiError> {
    let timeout = match timeout {
        Some(seconds) => parse_timeout(seconds, limits)?,
        None => params.timeout.unwrap_or(limits.timeout_default),
    };
    Ok(ReadOptions { fresh_as_of: fresh_as_of.map(|body| body.0), timeout })
}

/// A limit within its bounds.
pub fn limit(given: Option<usize>, limits: &Limits, at: &str) -> Result<usize, ApiError> {
    let limit = given.unwrap_or(LIMIT_DEFAULT);
    match limit {
        0 => Err(ApiError::invalid("invalid_request", at, "must be at least 1")),
        limit if limit > limits.limit_max => {
            let problem = format!("{limit} is more than {}; read page by page with scroll", limits.limit_max);
            Err(ApiError::invalid("limit_too_large", at, problem).with("limit_max", limits.limit_max))
        }
        limit => Ok(limit),
    }
}

/// Refuses to read more points by id than an answer may have.
pub fn check_ids(ids: &[PointId], limits: &Limits) -> Result<(), ApiError> {
    if ids.len() <= limits.limit_max {
        return Ok(());
    }
    let problem = format!("{} points are more than {}; ask in several requests", ids.len(), limits.limit_max);
    Err(ApiError::invalid("limit_too_large", "ids", problem).with("limit_max", limits.limit_max))
}

/// `POST /collections/{c}/points`: points by id.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetBody {
    /// The points.
    pub ids: Vec<PointId>,
    /// Everything where nothing is said.
    #[serde(default)]
    pub with_payload: WithPayload,
    /// Nothing where nothing is said.
    #[serde(default, alias = "with_vectors")]
    pub with_vector: WithVector,
    /// Wait for this first.
    pub fresh_as_of: Option<FreshAsOfBody>,
    /// Seconds.
    pub timeout: Option<f64>,
    /// Add the receipt.
    #[serde(default)]
    pub with_freshness: bool,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

/// `POST /collections/{c}/points/scroll`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrollBody {
    offset: Option<PointId>,
    limit: Option<usize>,
    filter: Option<Value>,
    #[serde(default)]
    with_payload: WithPayload,
    #[serde(default, alias = "with_vectors")]
    with_vector: WithVector,
    fresh_as_of: Option<FreshAsOfBody>,
    timeout: Option<f64>,
    /// Add the receipt.
    #[serde(default)]
    pub with_freshness: bool,
    /// Pages come in id order.
    #[serde(default, rename = "order_by")]
    _order_by: Unsupported,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

impl ScrollBody {
    /// What the engine is asked.
    pub fn request(self, params: ReadParams, limits: &Limits) -> Result<ScrollRequest, ApiError> {
        Ok(ScrollRequest {
            filter: self.filter.map(|filter| Filter::parse(&filter, "filter")).transpose()?,
            limit: limit(self.limit, limits, "limit")?,
            offset: self.offset,
            with_payload: self.with_payload.or(PayloadSelection::Everything),
            with_vector: self.with_vector.0,
            read: read_options(self.fresh_as_of, self.timeout, params, limits)?,
        })
    }
}

/// `POST /collections/{c}/points/count`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountBody {
    /// Only points that match.
    pub filter: Option<Value>,
    /// Every count is exact.
    #[serde(default, rename = "exact")]
    _exact: Option<bool>,
    /// Wait for this first.
    pub fresh_as_of: Option<FreshAsOfBody>,
    /// Seconds.
    pub timeout: Option<f64>,
    /// Add the receipt.
    #[serde(default)]
    pub with_freshness: bool,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::serve::json::parse;

    const NO_PARAMS: ReadParams = ReadParams { timeout: None };

    #[test]
    fn freshness_by_lsn_or_by_positions() {
        let scroll = |text: &str| {
            let body = parse::<ScrollBody>(text.as_bytes())?;
            body.request(NO_PARAMS, &Limits::default())
        };
        let fresh = |text: &str| scroll(text).unwrap().read.fresh_as_of.unwrap();
        assert_eq!(fresh(r#"{"fresh_as_of": {"lsn": 5}}"#), FreshAsOf::Lsn(Lsn(5)));
        let positions = fresh(
            r#"{"fresh_as_of": {"lsn": {"t/0": 41, "t/1": "340282366920938463463374607431768211455"}}}"#,
        );
        let expected = [("t/0".to_string(), Position::from(41)), ("t/1".to_string(), Position(u128::MAX))];
        assert_eq!(positions, FreshAsOf::Positions([("lsn".to_string(), expected.into())].into()));
        let message = scroll(r#"{"fresh_as_of": {"lsn": -1}}"#).unwrap_err().message().to_string();
        assert!(message.starts_with("fresh_as_of: is neither {\"lsn\": n} nor"), "{message}");
    }

    #[test]
    fn defaults_and_bounds_of_scroll() {
        let scroll =
            |text: &str| parse::<ScrollBody>(text.as_bytes())?.request(NO_PARAMS, &Limits::default());
        let request = scroll("{}").unwrap();
        assert_eq!((request.limit, request.with_vector), (10, false));
        assert_eq!(request.with_payload, PayloadSelection::Everything);
        assert_eq!(request.read.timeout, Duration::from_secs(60));
        assert_eq!(scroll(r#"{"timeout": 0.5}"#).unwrap().read.timeout, Duration::from_millis(500));
        assert_eq!(scroll(r#"{"limit": 0}"#).unwrap_err().message(), "limit: must be at least 1");
        assert_eq!(scroll(r#"{"limit": 100001}"#).unwrap_err().code(), "limit_too_large");
        assert_eq!(
            scroll(r#"{"order_by": "price"}"#).unwrap_err().message(),
            "order_by: is not supported yet"
        );
        assert!(
            scroll(r#"{"filter": {"must": [{"key": 1}]}}"#)
                .unwrap_err()
                .message()
                .starts_with("filter.must[0].key")
        );
    }
}
