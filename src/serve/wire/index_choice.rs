//! Which kind of index a request asks for.
use serde::Deserialize;
use serde::de::Deserializer;

use crate::serve::error_map::ApiError;
use crate::serve::json::checked;
use crate::types::{IndexKind, IndexSpec};

/// What is there, null among it; a field that isn't has its default.
pub(super) fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `index`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IndexChoice {
    kind: Option<KindName>,
    /// Null: by the rows of each segment.
    #[serde(default, deserialize_with = "given")]
    clusters: Option<Option<Clusters>>,
}

impl IndexChoice {
    /// What is said of kind and clusters, of which the first is `before` where nothing is.
    pub(super) fn checked(
        self,
        before: IndexKind,
    ) -> Result<(Option<IndexKind>, Option<Option<u32>>), ApiError> {
        let kind = self.kind.map(|kind| kind.0);
        let clusters = self.clusters.map(|clusters| clusters.map(|clusters| clusters.0));
        check_clusters(kind.unwrap_or(before), clusters.flatten(), "index.clusters")?;
        Ok((kind, clusters))
    }
}

#[derive(Debug)]
struct Clusters(u32);

impl<'de> Deserialize<'de> for Clusters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) => Ok(Self(count)),
            None => {
                let (least, most) = (IndexSpec::CLUSTERS.start(), IndexSpec::CLUSTERS.end());
                Err(format!("must be a whole number between {least} and {most}, not {value}"))
            }
        })
    }
}

#[derive(Debug)]
struct KindName(IndexKind);

impl<'de> Deserialize<'de> for KindName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value.as_str() {
            Some(word) => IndexKind::parse(word).map(Self),
            None => Err(format!("{value} is no text")),
        })
    }
}

/// Clusters that can be asked for.
pub fn check_clusters(kind: IndexKind, clusters: Option<u32>, at: &str) -> Result<(), ApiError> {
    IndexSpec::check_clusters(kind, clusters)
        .map_err(|problem| ApiError::invalid("invalid_index_parameters", at, problem))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::NewCollection;
    use crate::serve::json::parse;
    use crate::serve::wire::collection::CreateBody;

    fn create(text: &str) -> Result<NewCollection, ApiError> {
        parse::<CreateBody>(text.as_bytes())?.build("c".into())
    }

    #[test]
    fn clusters_are_asked_for_by_their_number() {
        let with = |index: &str| {
            create(&format!(r#"{{"vectors": {{"size": 4, "distance": "Dot"}}, "index": {index}}}"#))
        };
        let new = with(r#"{"kind": "ivf", "clusters": 64}"#).unwrap();
        assert_eq!((new.index, new.clusters), (IndexKind::Ivf, Some(64)));
        for automatic in [r#"{"kind": "ivf"}"#, r#"{"kind": "ivf", "clusters": null}"#] {
            assert_eq!(with(automatic).unwrap().clusters, None);
        }
        for (index, code, message) in [
            (
                r#"{"kind": "ivf", "clusters": 0}"#,
                "invalid_index_parameters",
                "index.clusters: must be between 1 and 65536, not 0",
            ),
            (
                r#"{"kind": "ivf", "clusters": 65537}"#,
                "invalid_index_parameters",
                "index.clusters: must be between 1 and 65536, not 65537",
            ),
            (
                r#"{"kind": "ivf", "clusters": -3}"#,
                "invalid_request",
                "index.clusters: must be a whole number between 1 and 65536, not -3",
            ),
            (
                r#"{"kind": "ivf", "clusters": "many"}"#,
                "invalid_request",
                "index.clusters: must be a whole number between 1 and 65536, not \"many\"",
            ),
            (
                r#"{"clusters": 64}"#,
                "invalid_index_parameters",
                "index.clusters: only the kind \"ivf\" has clusters, and the kind is \"hnsw\"",
            ),
            (
                r#"{"kind": "ivf", "cluster": 64}"#,
                "unknown_field",
                "index: unknown key \"cluster\"; did you mean \"clusters\"?",
            ),
        ] {
            let error = with(index).unwrap_err();
            assert_eq!((error.code(), error.message()), (code, message), "{index}");
        }
    }
}
