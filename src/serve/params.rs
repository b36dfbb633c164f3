//! Query parameters: `wait`, `ordering`, `consistency`, `timeout`.
use std::time::Duration;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::error_map::ApiError;
use super::json::unknown_key_error;
use super::limits::Limits;
use crate::engine::Wait;

/// The parameters of a request, as they came.
pub struct Params(Vec<(String, String)>);

/// The parameters of a write.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WriteParams {
    /// When to answer.
    pub wait: Wait,
    /// When to give up; the outcome is unknown then.
    pub timeout: Duration,
}

/// The parameters of a read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadParams {
    /// `None`: the body may name one.
    pub timeout: Option<Duration>,
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        pairs
            .map(|Query(pairs)| Self(pairs))
            .map_err(|error| ApiError::invalid("invalid_parameter", "", format!("query string: {error}")))
    }
}

impl Params {
    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, &str)]) -> Self {
        Self(pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    /// Those of a write. `ordering` changes nothing: the log of a collection has one order.
    pub fn write(&self, limits: &Limits) -> Result<WriteParams, ApiError> {
        self.known(&["wait", "ordering", "timeout"])?;
        self.one_of("ordering", &["weak", "medium", "strong"])?;
        let wait = self.get("wait").map_or(Ok(Wait::default()), parse_wait)?;
        let timeout = self.timeout(limits)?.unwrap_or(limits.timeout_default);
        Ok(WriteParams { wait, timeout })
    }

    /// Those of a read. `consistency` changes nothing while a collection lives on one node: every read is strong.
    pub fn read(&self, limits: &Limits) -> Result<ReadParams, ApiError> {
        self.known(&["consistency", "timeout"])?;
        if self.get("consistency").is_some_and(|value| value.parse::<u32>().is_err()) {
            let words = ["majority", "quorum", "all", "strong", "session", "eventual"];
            self.one_of("consistency", &words)?;
        }
        Ok(ReadParams { timeout: self.timeout(limits)? })
    }

    /// Refuses every parameter but these.
    pub fn known(&self, known: &[&str]) -> Result<(), ApiError> {
        match self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some((key, _)) => {
                let known: Vec<String> = known.iter().map(|name| name.to_string()).collect();
                Err(unknown_key_error("query string", key, &known))
            }
        }
    }

    /// A parameter's value; the last one where it is given twice.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// `timeout`, in seconds.
    pub fn timeout(&self, limits: &Limits) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.get("timeout") else { return Ok(None) };
        match text.parse() {
            Ok(seconds) => parse_timeout(seconds, limits).map(Some),
            Err(_) => Err(ApiError::invalid(
                "invalid_parameter",
                "timeout",
                format!("{text:?} is not a number of seconds"),
            )),
        }
    }

    fn one_of(&self, key: &str, words: &[&str]) -> Result<(), ApiError> {
        match self.get(key) {
            Some(value) if !words.contains(&value) => {
                let problem = format!("{value:?} is none of {}", words.join(", "));
                Err(ApiError::invalid("invalid_parameter", key, problem))
            }
            _ => Ok(()),
        }
    }
}

/// A timeout in seconds, within its limit.
pub fn parse_timeout(seconds: f64, limits: &Limits) -> Result<Duration, ApiError> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if !timeout.is_zero() && timeout <= limits.timeout_max => Ok(timeout),
        _ => {
            let problem = format!("{seconds} s is not between 0 and {:?}", limits.timeout_max);
            Err(ApiError::invalid("invalid_parameter", "timeout", problem))
        }
    }
}

fn parse_wait(text: &str) -> Result<Wait, ApiError> {
    match text {
        "true" | "durable" => Ok(Wait::Durable),
        "false" | "ack" => Ok(Wait::Ack),
        "searchable" => Ok(Wait::Searchable),
        "indexed" => Ok(Wait::Indexed),
        other => {
            let problem = format!("{other:?} is none of ack, durable, searchable, indexed, true, false");
            Err(ApiError::invalid("invalid_parameter", "wait", problem))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_wait() {
        let wait = |word| Params::of(&[("wait", word)]).write(&Limits::default()).map(|write| write.wait);
        assert_eq!(wait("true").unwrap(), Wait::Durable);
        assert_eq!(wait("false").unwrap(), Wait::Ack);
        assert_eq!(wait("searchable").unwrap(), Wait::Searchable);
        assert_eq!(wait("indexed").unwrap(), Wait::Indexed);
        assert_eq!(Params::of(&[]).write(&Limits::default()).unwrap().wait, Wait::Durable);
        assert_eq!(
            wait("yes").unwrap_err().message(),
            "wait: \"yes\" is none of ack, durable, searchable, indexed, true, false"
        );
    }

    #[test]
    fn unknown_parameters_and_bad_timeouts_are_refused() {
        let limits = Limits::default();
        let error = Params::of(&[("wiat", "true")]).write(&limits).unwrap_err();
        assert_eq!(error.message(), "query string: unknown key \"wiat\"; did you mean \"wait\"?");
        assert!(Params::of(&[("timeout", "0")]).read(&limits).is_err());
        assert!(Params::of(&[("timeout", "-1")]).read(&limits).is_err());
        assert!(Params::of(&[("timeout", "inf")]).read(&limits).is_err());
        assert!(Params::of(&[("consistency", "2"), ("timeout", "5")]).read(&limits).is_ok());
        assert!(Params::of(&[("consistency", "hopeful")]).read(&limits).is_err());
        assert!(Params::of(&[("ordering", "weakest")]).write(&limits).is_err());
    }
}
