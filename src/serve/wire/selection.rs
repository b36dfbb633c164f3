//! Which points, which fields, which vectors.
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::Value;

use crate::query::{Filter, PayloadSelection, PointSelector, top_level_field};
use crate::serve::error_map::ApiError;
use crate::serve::json::{NOT_SUPPORTED, Unsupported, checked};
use crate::types::PointId;

/// `with_payload`: a boolean, a list of fields, `{"include": […]}` or `{"exclude": […]}`.
#[derive(Debug, Default, PartialEq)]
pub struct WithPayload(Option<PayloadSelection>);

impl WithPayload {
    /// What was asked for; `default` where nothing was said.
    pub fn or(self, default: PayloadSelection) -> PayloadSelection {
        self.0.unwrap_or(default)
    }
}

impl<'de> Deserialize<'de> for WithPayload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Selector {
            include: Option<Vec<String>>,
            exclude: Option<Vec<String>>,
        }
        checked(deserializer, |value| {
            let selection = match value {
                Value::Null => return Ok(Self(None)),
                Value::Bool(true) => PayloadSelection::Everything,
                Value::Bool(false) => PayloadSelection::Nothing,
                list @ Value::Array(_) => PayloadSelection::Include(fields(from_value(list)?)?),
                other => match from_value(other)? {
                    Selector { include: Some(names), exclude: None } => {
                        PayloadSelection::Include(fields(names)?)
                    }
                    Selector { include: None, exclude: Some(names) } => {
                        PayloadSelection::Exclude(fields(names)?)
                    }
                    _ => return Err("give either \"include\" or \"exclude\"".to_string()),
                },
            };
            Ok(Self(Some(selection)))
        })
    }
}

fn from_value<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn fields(names: Vec<String>) -> Result<Vec<String>, String> {
    names.iter().map(|name| top_level_field(name)).collect()
}

/// `with_vector`: a boolean, or a list of vector names, of which there is only the empty one.
#[derive(Debug, Default, PartialEq)]
pub struct WithVector(pub bool);

impl<'de> Deserialize<'de> for WithVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self(false)),
            Value::Bool(wanted) => Ok(Self(wanted)),
            Value::Array(names) if names.iter().all(|name| name == "") => Ok(Self(!names.is_empty())),
            Value::Array(_) => Err(format!("a vector by its name {NOT_SUPPORTED}; give true or false")),
            other => Err(format!("must be true or false, not {other}")),
        })
    }
}

/// `{"points": [ids]}` or `{"filter": {…}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectorBody {
    points: Option<Vec<PointId>>,
    filter: Option<Value>,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
}

impl SelectorBody {
    /// `at`: where it stands in the request, empty for the whole body.
    pub fn selector(self, at: &str) -> Result<PointSelector, ApiError> {
        selector(self.points, self.filter, at)
    }
}

/// Exactly one of the two.
pub fn selector(
    points: Option<Vec<PointId>>,
    filter: Option<Value>,
    at: &str,
) -> Result<PointSelector, ApiError> {
    match (points, filter) {
        (Some(ids), None) => Ok(PointSelector::Ids(ids)),
        (None, Some(filter)) => Ok(PointSelector::Filter(Filter::parse(&filter, &within(at, "filter"))?)),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid("invalid_request", at, "give \"points\" or \"filter\", not both"))
        }
        (None, None) => {
            let problem = "which points? give \"points\" (a list of ids) or \"filter\"";
            Err(ApiError::invalid("invalid_request", at, problem))
        }
    }
}

/// The path of a key at a place.
pub fn within(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_string() } else { format!("{at}.{key}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::json::parse;
    use serde_json::json;

    #[test]
    fn every_form_of_with_payload_and_with_vector() {
        let payload = |value: Value| serde_json::from_value::<WithPayload>(value).map(|with| with.0);
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(payload(json!(null)).unwrap(), None);
        assert_eq!(payload(json!(true)).unwrap(), Some(PayloadSelection::Everything));
        assert_eq!(payload(json!(false)).unwrap(), Some(PayloadSelection::Nothing));
        assert_eq!(
            payload(json!(["a", "\"b.c\""])).unwrap(),
            Some(PayloadSelection::Include(names(&["a", "b.c"])))
        );
        assert_eq!(
            payload(json!({"exclude": ["a"]})).unwrap(),
            Some(PayloadSelection::Exclude(names(&["a"])))
        );
        assert!(payload(json!(["a.b"])).unwrap_err().to_string().contains("only whole top-level fields"));
        assert!(payload(json!({"include": ["a"], "exclude": ["b"]})).is_err());
        assert!(payload(json!({"exlude": ["a"]})).is_err());
        let vector = |value: Value| serde_json::from_value::<WithVector>(value).map(|with| with.0);
        assert_eq!(
            [json!(null), json!(true), json!([""]), json!([])].map(|value| vector(value).unwrap()),
            [false, true, true, false]
        );
        assert!(vector(json!(["title"])).is_err());
    }

    #[test]
    fn a_selector_is_ids_or_a_filter() {
        let selector = |text: &str| parse::<SelectorBody>(text.as_bytes()).and_then(|body| body.selector(""));
        let ids = [PointId::integer(1), PointId::text("a").unwrap()];
        assert!(matches!(selector(r#"{"points": [1, "a"]}"#), Ok(PointSelector::Ids(given)) if given == ids));
        assert!(matches!(selector(r#"{"filter": {"must": []}}"#), Ok(PointSelector::Filter(_))));
        assert!(selector("{}").unwrap_err().message().starts_with("which points?"));
        assert!(selector(r#"{"points": [], "filter": {}}"#).is_err());
        assert_eq!(
            selector(r#"{"points": [1, ""]}"#).unwrap_err().message(),
            "points[1]: id is empty; give 1 to 512 bytes"
        );
        assert_eq!(selector(r#"{"points": [1], "shard_key": "x"}"#).unwrap_err().code(), "unsupported");
    }
}
