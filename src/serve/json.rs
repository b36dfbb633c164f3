//! Bodies as JSON: read within the limit, parsed once, mistakes named with their path and the nearest key.
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error_map::ApiError;
use super::json_path;
use super::limits::Limits;

/// Parsing more than this would hold an async thread for too long; it goes to the blocking pool.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// What ends the message of everything that is refused because we do not have it yet.
pub const NOT_SUPPORTED: &str = "is not supported yet";

/// A request's body.
pub struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let max = request
            .extensions()
            .get::<Limits>()
            .map_or_else(|| Limits::default().body_bytes_max, |limits| limits.body_bytes_max);
        let announced = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        if announced.and_then(|length| length.parse::<usize>().ok()).is_some_and(|length| length > max) {
            return Err(ApiError::body_too_large(max));
        }
        match axum::body::to_bytes(request.into_body(), max).await {
            Ok(bytes) => Ok(Self(bytes)),
            Err(error) if is_length_limit(&error) => Err(ApiError::body_too_large(max)),
            Err(error) => Err(ApiError::body_unreadable(&error)),
        }
    }
}

fn is_length_limit(error: &dyn std::error::Error) -> bool {
    // The limit's own type is not exported; its text is all there is to know it by.
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        cause = error.source();
    }
    false
}

impl Body {
    /// Parses the body on this thread if it is small, else on the blocking pool, and hands it to `build`.
    pub async fn with<T, R>(
        self,
        build: impl FnOnce(T) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<R, ApiError>
    where
        T: for<'de> Deserialize<'de>,
        R: Send + 'static,
    {
        self.on_bytes(move |bytes| build(parse(bytes)?)).await
    }

    /// The same for what borrows from the body.
    pub async fn on_bytes<R: Send + 'static>(
        self,
        work: impl FnOnce(&[u8]) -> Result<R, ApiError> + Send + 'static,
    ) -> Result<R, ApiError> {
        if self.0.len() <= INLINE_BYTES_MAX {
            return work(&self.0);
        }
        let done = tokio::task::spawn_blocking(move || work(&self.0)).await;
        done.unwrap_or_else(|_| Err(ApiError::internal("a worker stopped while it parsed the request body")))
    }
}

/// Parses a body; an empty one counts as `{}`.
pub fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| explain(bytes, &error))
}

fn explain(bytes: &[u8], error: &serde_json::Error) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&text);
    if !error.is_data() {
        let problem = format!("the body is not JSON: {text} at line {line} column {column}");
        return ApiError::invalid("invalid_json", "", problem).with("line", line).with("column", column);
    }
    let path = json_path::at(bytes, line, column);
    if let Some((key, known)) = unknown_key(text) {
        // The path ends with the unknown key itself: what matters is the object that holds it.
        let parent = path.strip_suffix(&key).map_or(path.as_str(), |parent| parent.trim_end_matches('.'));
        return unknown_key_error(parent, &key, &known);
    }
    let code = if text.contains("not supported yet") { "unsupported" } else { "invalid_request" };
    ApiError::invalid(code, &path, text)
}

/// Refuses a key that nobody knows, naming the nearest that somebody does.
pub fn unknown_key_error(parent: &str, key: &str, known: &[String]) -> ApiError {
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2.max(candidate.len() / 3))
        .min();
    match nearest {
        Some((_, nearest)) => {
            let problem = format!("unknown key {key:?}; did you mean {nearest:?}?");
            ApiError::invalid("unknown_field", parent, problem).with("nearest", nearest.as_str())
        }
        None => {
            let problem = format!("unknown key {key:?}; known are {}", known.join(", "));
            ApiError::invalid("unknown_field", parent, problem)
        }
    }
}

/// The unknown key and the known ones, from serde's "unknown field `x`, expected one of `a`, `b`".
fn unknown_key(text: &str) -> Option<(String, Vec<String>)> {
    let rest = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `"))?;
    let (key, rest) = rest.split_once('`')?;
    let known = rest.split('`').skip(1).step_by(2).map(str::to_string).collect();
    Some((key.to_string(), known))
}

/// Reads a small value and converts it; a refusal is placed at the value.
///
/// An error made after a value has been read would be placed where the *enclosing* object ends, so the conversion
/// happens while the parser still stands at the value.
pub fn checked<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    convert: impl FnOnce(Value) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Checked { convert })
}

struct Checked<F> {
    convert: F,
}

impl<F> Checked<F> {
    fn finish<T, E: serde::de::Error>(self, value: Value) -> Result<T, E>
    where
        F: FnOnce(Value) -> Result<T, String>,
    {
        (self.convert)(value).map_err(E::custom)
    }
}

impl<'de, T, F: FnOnce(Value) -> Result<T, String>> Visitor<'de> for Checked<F> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<T, E> {
        self.finish(value.into())
    }
    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<T, E> {
        self.finish(value.into())
    }
    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<T, E> {
        self.finish(value.into())
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<T, E> {
        self.finish(value.into())
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<T, E> {
        self.finish(value.into())
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<T, E> {
        self.finish(Value::Null)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<T, A::Error> {
        self.finish(Value::deserialize(SeqAccessDeserializer::new(list))?)
    }
    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
        self.finish(Value::deserialize(MapAccessDeserializer::new(fields))?)
    }
}

/// A known key that means something we do not have yet: anything but null is refused.
#[derive(Debug, Default)]
pub struct Unsupported;

impl<'de> Deserialize<'de> for Unsupported {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self),
            _ => Err(NOT_SUPPORTED.to_string()),
        })
    }
}

/// A known key that changes nothing here: a hint about placement or tuning that others need.
#[derive(Debug, Default)]
pub struct NoEffect;

impl<'de> Deserialize<'de> for NoEffect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Outer {
        points: Vec<Inner>,
        #[serde(default)]
        prefetch: Unsupported,
        #[serde(default)]
        wal_config: NoEffect,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Inner {
        id: u64,
        limit: Option<u32>,
    }

    fn refusal(body: &str) -> (String, String) {
        let error = parse::<Outer>(body.as_bytes()).unwrap_err();
        (error.code().to_string(), error.message().to_string())
    }

    #[test]
    fn mistakes_are_named_with_path_and_nearest_key() {
        let cases = [
            (
                r#"{"points": [{"id": 1}, {"id": 2, "limt": 3}]}"#,
                "unknown_field",
                "points[1]: unknown key \"limt\"; did you mean \"limit\"?",
            ),
            (r#"{"point": []}"#, "unknown_field", "unknown key \"point\"; did you mean \"points\"?"),
            (
                r#"{"whatever": []}"#,
                "unknown_field",
                "unknown key \"whatever\"; known are points, prefetch, wal_config",
            ),
            (
                r#"{"points": [{"id": "x"}]}"#,
                "invalid_request",
                "points[0].id: invalid type: string \"x\", expected u64",
            ),
            (r#"{"points": [{"limit": 1}]}"#, "invalid_request", "points[0]: missing field `id`"),
            ("", "invalid_request", "missing field `points`"),
            (r#"{"points": [], "prefetch": [1]}"#, "unsupported", "prefetch: is not supported yet"),
            (
                "{\"points\": [\n{\"id\": 1},\n]}",
                "invalid_json",
                "the body is not JSON: trailing comma at line 3 column 1",
            ),
            (
                r#"{"points": ["#,
                "invalid_json",
                "the body is not JSON: EOF while parsing a list at line 1 column 12",
            ),
            (r#"3"#, "invalid_request", "invalid type: integer `3`, expected struct Outer"),
        ];
        for (body, code, message) in cases {
            assert_eq!(refusal(body), (code.to_string(), message.to_string()), "{body}");
        }
        assert!(parse::<Outer>(br#"{"points": [], "prefetch": null, "wal_config": {"x": [1]}}"#).is_ok());
    }
}
