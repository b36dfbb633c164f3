//! Bodies that search: the `query` verb, its batch, and the older `search`.
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::quantization::QuantizationParams;
use super::read::{FreshAsOfBody, limit, read_options};
use super::selection::{WithPayload, WithVector, within};
use crate::query::{Filter, Nearest, PayloadSelection, ReadOptions, SearchRequest};
use crate::serve::batch::{DenseVector, check_vector, components};
use crate::serve::error_map::ApiError;
use crate::serve::json::{NOT_SUPPORTED, NoEffect, Unsupported, checked};
use crate::serve::limits::Limits;
use crate::serve::params::ReadParams;
use crate::types::{CollectionConfig, PointId};

/// `POST /collections/{c}/points/query`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryBody {
    query: Option<QueryInput>,
    filter: Option<Value>,
    params: Option<SearchParams>,
    score_threshold: Option<f32>,
    limit: Option<usize>,
    offset: Option<usize>,
    #[serde(default)]
    with_payload: WithPayload,
    #[serde(default, alias = "with_vectors")]
    with_vector: WithVector,
    #[serde(default, rename = "using")]
    _using: OnlyUnnamed,
    #[serde(default, rename = "prefetch")]
    _prefetch: NoPrefetch,
    #[serde(default, rename = "lookup_from")]
    _lookup_from: Unsupported,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
    fresh_as_of: Option<FreshAsOfBody>,
    timeout: Option<f64>,
    #[serde(default)]
    with_freshness: bool,
}

/// `POST /collections/{c}/points/query/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryBatchBody {
    searches: Vec<QueryBody>,
}

/// `POST /collections/{c}/points/search`: what clients sent before there was `query`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchBody {
    vector: SearchVector,
    filter: Option<Value>,
    params: Option<SearchParams>,
    score_threshold: Option<f32>,
    limit: Option<usize>,
    offset: Option<usize>,
    #[serde(default)]
    with_payload: WithPayload,
    #[serde(default, alias = "with_vectors")]
    with_vector: WithVector,
    #[serde(default, rename = "shard_key")]
    _shard_key: Unsupported,
    fresh_as_of: Option<FreshAsOfBody>,
    timeout: Option<f64>,
    #[serde(default)]
    with_freshness: bool,
}

/// `POST /collections/{c}/points/search/batch`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchBatchBody {
    searches: Vec<SearchBody>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SearchParams {
    hnsw_ef: Option<usize>,
    exact: Option<bool>,
    quantization: Option<QuantizationParams>,
    /// Always as `false`: leaving out what is in no graph yet would break the promise that written is found.
    #[serde(default, rename = "indexed_only")]
    _indexed_only: NeverTrue,
    /// How to walk under a filter is the engine's choice.
    #[serde(default, rename = "acorn")]
    _acorn: NoEffect,
    #[serde(default, rename = "idf")]
    _idf: Unsupported,
}

/// What to search near; `None` in [`QueryBody::query`] pages through the points in id order.
#[derive(Debug, PartialEq)]
enum QueryInput {
    Vector(DenseVector),
    Id(PointId),
}

impl From<QueryInput> for Nearest {
    fn from(input: QueryInput) -> Self {
        match input {
            QueryInput::Vector(vector) => Self::Vector(vector.0),
            QueryInput::Id(id) => Self::Id(id),
        }
    }
}

impl<'de> Deserialize<'de> for QueryInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(QueryVisitor)
    }
}

/// Kinds of queries that others have.
const OTHER_QUERIES: [&str; 13] = [
    "recommend",
    "discover",
    "context",
    "order_by",
    "fusion",
    "rrf",
    "formula",
    "sample",
    "relevance_feedback",
    "text",
    "image",
    "object",
    "indices",
];

struct QueryVisitor;

impl<'de> Visitor<'de> for QueryVisitor {
    type Value = QueryInput;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a vector, a point's id or {\"nearest\": either}")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<QueryInput, A::Error> {
        components(list).map(QueryInput::Vector)
    }
    fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<QueryInput, E> {
        Ok(QueryInput::Id(PointId::integer(id)))
    }
    fn visit_str<E: serde::de::Error>(self, id: &str) -> Result<QueryInput, E> {
        PointId::text(id).map(QueryInput::Id).map_err(E::custom)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<QueryInput, A::Error> {
        let mut nearest = None;
        while let Some(key) = fields.next_key::<String>()? {
            match key.as_str() {
                "nearest" => nearest = Some(fields.next_value::<QueryInput>()?),
                "mmr" => {
                    fields.next_value::<Unsupported>()?;
                }
                other if OTHER_QUERIES.contains(&other) => return Err(A::Error::custom(NOT_SUPPORTED)),
                other => return Err(A::Error::unknown_field(other, &["nearest", "mmr"])),
            }
        }
        nearest.ok_or_else(|| A::Error::custom("missing field `nearest`"))
    }
}

/// The vector of the older search: a list, or a list with the empty name.
#[derive(Debug)]
struct SearchVector(DenseVector);

impl<'de> Deserialize<'de> for SearchVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SearchVectorVisitor).map(Self)
    }
}

struct SearchVectorVisitor;

impl<'de> Visitor<'de> for SearchVectorVisitor {
    type Value = DenseVector;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a vector")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<DenseVector, A::Error> {
        components(list)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<DenseVector, A::Error> {
        let mut vector = None;
        while let Some(key) = fields.next_key::<String>()? {
            match key.as_str() {
                "name" => {
                    fields.next_value::<OnlyUnnamed>()?;
                }
                "vector" => vector = Some(fields.next_value()?),
                other => return Err(A::Error::unknown_field(other, &["name", "vector"])),
            }
        }
        vector.ok_or_else(|| A::Error::custom("missing field `vector`"))
    }
}

/// The name of a vector, of which there is only the empty one.
#[derive(Debug, Default)]
struct OnlyUnnamed;

impl<'de> Deserialize<'de> for OnlyUnnamed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self),
            value if value == "" => Ok(Self),
            name => Err(format!("vector {name}: a collection with named vectors {NOT_SUPPORTED}")),
        })
    }
}

/// `prefetch`: absent, null or empty.
#[derive(Debug, Default)]
struct NoPrefetch;

impl<'de> Deserialize<'de> for NoPrefetch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self),
            Value::Array(list) if list.is_empty() => Ok(Self),
            _ => Err(NOT_SUPPORTED.to_string()),
        })
    }
}

#[derive(Debug, Default)]
struct NeverTrue;

impl<'de> Deserialize<'de> for NeverTrue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null | Value::Bool(false) => Ok(Self),
            _ => Err("must be false: a search here always sees every acknowledged write".to_string()),
        })
    }
}

/// What a request of this module asks of the engine.
#[derive(Debug)]
pub enum Ask {
    /// The points nearest to something.
    Search(SearchRequest),
    /// Points in id order, after `skip` of them: a query that names nothing to be near to.
    Page {
        /// Only points that match.
        filter: Option<Filter>,
        /// Points passed over.
        skip: usize,
        /// Points wanted.
        limit: usize,
        /// Payload of the points.
        with_payload: PayloadSelection,
        /// Vectors of the points?
        with_vector: bool,
        /// Freshness and deadline.
        read: ReadOptions,
    },
}

/// What to ask, and whether the receipt is wanted.
pub type Asked = (Ask, bool);

impl QueryBody {
    /// What the engine is asked. `at`: where the body stands in the request.
    pub fn ask(
        self,
        config: &CollectionConfig,
        params: ReadParams,
        limits: &Limits,
        at: &str,
    ) -> Result<Asked, ApiError> {
        let filter = self.filter.map(|filter| Filter::parse(&filter, &within(at, "filter"))).transpose()?;
        let read = read_options(self.fresh_as_of, self.timeout, params, limits)?;
        let limit = limit(self.limit, limits, &within(at, "limit"))?;
        let offset = offset(self.offset, limits, at)?;
        let with_payload = self.with_payload.or(PayloadSelection::Nothing);
        let with_vector = self.with_vector.0;
        let Some(query) = self.query else {
            let page = Ask::Page { filter, skip: offset, limit, with_payload, with_vector, read };
            return Ok((page, self.with_freshness));
        };
        if let QueryInput::Vector(vector) = &query {
            check_vector(&vector.0, config, || within(at, "query"))?;
        }
        let SearchParams { hnsw_ef, exact, quantization, .. } = self.params.unwrap_or_default();
        let request = SearchRequest {
            nearest: query.into(),
            limit,
            offset,
            filter,
            with_payload,
            with_vector,
            score_threshold: self.score_threshold,
            exact: exact.unwrap_or(false),
            ef_search: ef_search(hnsw_ef, limits, at)?,
            codes: quantization.unwrap_or_default().codes(at)?,
            read,
        };
        Ok((Ask::Search(request), self.with_freshness))
    }
}

impl SearchBody {
    /// The same request in today's words.
    fn query(self) -> QueryBody {
        QueryBody {
            query: Some(QueryInput::Vector(self.vector.0)),
            filter: self.filter,
            params: self.params,
            score_threshold: self.score_threshold,
            limit: self.limit,
            offset: self.offset,
            with_payload: self.with_payload,
            with_vector: self.with_vector,
            _using: OnlyUnnamed,
            _prefetch: NoPrefetch,
            _lookup_from: Unsupported,
            _shard_key: Unsupported,
            fresh_as_of: self.fresh_as_of,
            timeout: self.timeout,
            with_freshness: self.with_freshness,
        }
    }

    /// See [`QueryBody::ask`].
    pub fn ask(
        self,
        config: &CollectionConfig,
        params: ReadParams,
        limits: &Limits,
    ) -> Result<Asked, ApiError> {
        self.query().ask(config, params, limits, "")
    }
}

impl QueryBatchBody {
    /// See [`QueryBody::ask`].
    pub fn ask(
        self,
        config: &CollectionConfig,
        params: ReadParams,
        limits: &Limits,
    ) -> Result<Vec<Asked>, ApiError> {
        if self.searches.len() > limits.queries_max {
            let problem =
                format!("has {} queries; at most {} are allowed", self.searches.len(), limits.queries_max);
            return Err(ApiError::invalid("too_many_queries", "searches", problem));
        }
        let searches = self.searches.into_iter().enumerate();
        searches
            .map(|(index, body)| body.ask(config, params, limits, &format!("searches[{index}]")))
            .collect()
    }
}

impl SearchBatchBody {
    /// See [`QueryBody::ask`].
    pub fn ask(
        self,
        config: &CollectionConfig,
        params: ReadParams,
        limits: &Limits,
    ) -> Result<Vec<Asked>, ApiError> {
        let searches = self.searches.into_iter().map(SearchBody::query).collect();
        QueryBatchBody { searches }.ask(config, params, limits)
    }
}

fn offset(given: Option<usize>, limits: &Limits, at: &str) -> Result<usize, ApiError> {
    match given.unwrap_or(0) {
        offset if offset <= limits.limit_max => Ok(offset),
        offset => {
            let problem =
                format!("{offset} is more than {}; read page by page with scroll", limits.limit_max);
            Err(ApiError::invalid("offset_too_large", &within(at, "offset"), problem))
        }
    }
}

/// `hnsw_ef` within its bounds.
pub fn ef_search(given: Option<usize>, limits: &Limits, at: &str) -> Result<Option<usize>, ApiError> {
    match given {
        Some(ef) if !(1..=limits.limit_max).contains(&ef) => {
            let problem = format!("must be between 1 and {}, not {ef}", limits.limit_max);
            Err(ApiError::invalid("invalid_request", &within(at, "params.hnsw_ef"), problem))
        }
        given => Ok(given),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::batch::tests::collection;
    use crate::serve::json::parse;
    use crate::types::Distance;

    const PARAMS: ReadParams = ReadParams { timeout: None };

    fn ask(text: &str) -> Result<Asked, ApiError> {
        let body = parse::<QueryBody>(text.as_bytes())?;
        body.ask(&collection(Distance::Cosine), PARAMS, &Limits::default(), "")
    }

    fn search(text: &str) -> SearchRequest {
        match ask(text).unwrap().0 {
            Ask::Search(request) => request,
            Ask::Page { .. } => unreachable!("{text} names what to be near to"),
        }
    }

    #[test]
    fn vectors_and_ids_bare_and_as_nearest() {
        for text in [r#"{"query": [1, 2]}"#, r#"{"query": {"nearest": [1, 2]}}"#] {
            assert_eq!(search(text).nearest, Nearest::Vector(vec![1.0, 2.0]));
        }
        assert_eq!(search(r#"{"query": 7}"#).nearest, Nearest::Id(PointId::integer(7)));
        let by_text = search(r#"{"query": {"nearest": "a"}}"#);
        assert_eq!(by_text.nearest, Nearest::Id(PointId::text("a").unwrap()));
    }

    #[test]
    fn everything_a_client_sends_with_a_query() {
        let request = search(
            r#"{"query": [1, 2], "filter": {"must": {"key": "a", "match": {"value": 1}}}, "limit": 3, "offset": 4,
                "params": {"hnsw_ef": 64, "exact": true, "quantization": {"rescore": true}, "indexed_only": false},
                "with_payload": true, "with_vector": true, "score_threshold": 0.5, "using": "", "prefetch": []}"#,
        );
        assert_eq!((request.limit, request.offset, request.ef_search), (3, 4, Some(64)));
        assert!(request.exact && request.with_vector && request.filter.is_some());
        assert_eq!(request.with_payload, PayloadSelection::Everything);
        assert_eq!(request.score_threshold, Some(0.5));
        let plain = search(r#"{"query": [1, 2]}"#);
        assert_eq!((plain.limit, plain.offset, plain.exact, plain.ef_search), (10, 0, false, None));
        assert_eq!(plain.with_payload, PayloadSelection::Nothing);
        assert!(ask(r#"{"query": [1, 2], "with_freshness": true}"#).unwrap().1);
    }

    #[test]
    fn a_query_near_nothing_is_a_page() {
        let (ask, _) = ask(r#"{"limit": 5, "offset": 2}"#).unwrap();
        assert!(matches!(ask, Ask::Page { skip: 2, limit: 5, .. }));
    }

    #[test]
    fn the_older_search_means_the_same() {
        let ask = |text: &str| {
            let body = parse::<SearchBody>(text.as_bytes())?;
            body.ask(&collection(Distance::Cosine), PARAMS, &Limits::default())
        };
        for text in
            [r#"{"vector": [1, 2], "limit": 3}"#, r#"{"vector": {"name": "", "vector": [1, 2]}, "limit": 3}"#]
        {
            let Ask::Search(request) = ask(text).unwrap().0 else { unreachable!("a search") };
            assert_eq!((request.nearest, request.limit), (Nearest::Vector(vec![1.0, 2.0]), 3));
        }
        let named = ask(r#"{"vector": {"name": "title", "vector": [1, 2]}}"#).unwrap_err();
        assert!(named.message().starts_with("vector.name: vector \"title\""), "{}", named.message());
    }

    #[test]
    fn what_is_not_here_yet_or_cannot_be_says_so() {
        let cases = [
            (
                r#"{"query": {"recommend": {"positive": [1]}}}"#,
                "unsupported",
                "query.recommend: is not supported yet",
            ),
            (r#"{"query": {"fusion": "rrf"}}"#, "unsupported", "query.fusion: is not supported yet"),
            (
                r#"{"query": {"nearest": [1, 2], "mmr": {}}}"#,
                "unsupported",
                "query.mmr: is not supported yet",
            ),
            (
                r#"{"query": {"nearst": [1, 2]}}"#,
                "unknown_field",
                "query: unknown key \"nearst\"; did you mean \"nearest\"?",
            ),
            (
                r#"{"query": [1, 2], "prefetch": [{"query": [1, 2]}]}"#,
                "unsupported",
                "prefetch: is not supported yet",
            ),
            (
                r#"{"query": [1, 2], "using": "title"}"#,
                "unsupported",
                "using: vector \"title\": a collection with named vectors is not supported yet",
            ),
            (
                r#"{"query": [1, 2], "params": {"indexed_only": true}}"#,
                "invalid_request",
                "params.indexed_only: must be false: a search here always sees every acknowledged write",
            ),
            (
                r#"{"query": [1, 2], "params": {"hsnw_ef": 3}}"#,
                "unknown_field",
                "params: unknown key \"hsnw_ef\"; did you mean \"hnsw_ef\"?",
            ),
            (
                r#"{"query": [1, 2], "params": {"hnsw_ef": 0}}"#,
                "invalid_request",
                "params.hnsw_ef: must be between 1 and 100000, not 0",
            ),
            (
                r#"{"query": [1, 2, 3]}"#,
                "dimension_mismatch",
                "query: vector has 3 components, collection \"c\" has 2",
            ),
            (
                r#"{"query": [0, 0]}"#,
                "zero_vector",
                "query: all components are 0, which has no direction to compare by cosine",
            ),
            (r#"{"query": -3}"#, "invalid_request", "query: invalid type: integer `-3`, expected a vector, "),
        ];
        for (body, code, message) in cases {
            let error = ask(body).unwrap_err();
            assert!(error.message().starts_with(message), "{body}: {}", error.message());
            assert_eq!(error.code(), code, "{body}");
        }
    }

    #[test]
    fn a_batch_names_the_query_that_is_wrong_and_is_bounded() {
        let ask = |text: &str| {
            let body = parse::<QueryBatchBody>(text.as_bytes())?;
            body.ask(&collection(Distance::Dot), PARAMS, &Limits { queries_max: 2, ..Limits::default() })
        };
        assert_eq!(ask(r#"{"searches": [{"query": [1, 2]}, {"query": 1}]}"#).unwrap().len(), 2);
        let error = ask(r#"{"searches": [{"query": [1, 2]}, {"query": [1]}]}"#).unwrap_err();
        assert!(error.message().starts_with("searches[1].query: vector has 1"), "{}", error.message());
        assert_eq!(ask(r#"{"searches": [{}, {}, {}]}"#).unwrap_err().code(), "too_many_queries");
    }
}
