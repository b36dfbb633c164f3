//! Building a write: each point is checked here, once, for every door.
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error_map::ApiError;
use crate::engine::EngineError;
use crate::types::{CollectionConfig, Distance, PointId, WriteBatch};

/// Cosine vectors are divided by their length in 32 bits, whose square must neither vanish nor overflow.
const COSINE_LENGTHS: std::ops::RangeInclusive<f64> = 1e-18..=1e18;

/// A batch of checked points.
pub struct BatchBuilder<'a> {
    config: &'a CollectionConfig,
    batch: WriteBatch,
    now_ms: i64,
}

impl<'a> BatchBuilder<'a> {
    /// An empty batch for this collection. Its points happen now.
    pub fn new(config: &'a CollectionConfig) -> Self {
        Self { config, batch: WriteBatch::new(config.dim), now_ms: now_ms() }
    }

    /// Adds a point. `at` is its place in the request, such as `points[3]`: a refusal names place, id and reason.
    pub fn upsert(
        &mut self,
        at: impl Fn() -> String,
        id: PointId,
        vector: &[f32],
        payload: Option<&str>,
    ) -> Result<(), ApiError> {
        let named = |field: &str| format!("{}.{field} (id {:?})", at(), id.as_str());
        check_vector(vector, self.config, || named("vector"))
            .map_err(|error| of_point(error.into(), &at(), &id))?;
        let payload = match payload {
            None => Bytes::new(),
            Some(text) => {
                check_payload(text).map_err(|problem| {
                    of_point(ApiError::invalid("invalid_payload", &named("payload"), problem), &at(), &id)
                })?;
                // A copy: a view would keep the whole request alive for as long as the memtable keeps the point.
                Bytes::copy_from_slice(text.as_bytes())
            }
        };
        self.batch.upsert(id, vector, payload, self.now_ms);
        Ok(())
    }

    /// Adds a delete.
    pub fn delete(&mut self, id: PointId) {
        self.batch.delete(id);
    }

    /// The batch.
    pub fn finish(self) -> WriteBatch {
        self.batch
    }
}

fn of_point(error: ApiError, at: &str, id: &PointId) -> ApiError {
    error.with("point", at).with("id", id.to_json())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Does the collection take this vector? `field` names it in the error.
pub fn check_vector(
    vector: &[f32],
    config: &CollectionConfig,
    field: impl Fn() -> String,
) -> Result<(), EngineError> {
    if vector.len() != config.dim as usize {
        return Err(EngineError::DimensionMismatch {
            field: field(),
            collection: config.name.clone(),
            given: vector.len(),
            expected: config.dim as usize,
        });
    }
    if let Some(index) = vector.iter().position(|component| !component.is_finite()) {
        let problem = format!("component {index} is {} as a 32-bit float; it must be finite", vector[index]);
        return Err(EngineError::Invalid { field: field(), problem, code: "not_finite" });
    }
    if config.distance == Distance::Cosine {
        let squares: f64 = vector.iter().map(|component| f64::from(*component).powi(2)).sum();
        let length = squares.sqrt();
        if length == 0.0 {
            let problem = "all components are 0, which has no direction to compare by cosine".to_string();
            return Err(EngineError::Invalid { field: field(), problem, code: "zero_vector" });
        }
        if !COSINE_LENGTHS.contains(&length) {
            let problem = format!("its length {length:e} cannot be normalised in 32 bits; scale the vector");
            return Err(EngineError::Invalid { field: field(), problem, code: "not_normalizable" });
        }
    }
    Ok(())
}

/// Is the text a JSON object that can be read back? Parses it without building anything.
pub fn check_payload(text: &str) -> Result<(), String> {
    if !text.trim_start().starts_with('{') {
        return Err("must be an object".to_string());
    }
    serde_json::from_str::<Readable>(text).map(|Readable| ()).map_err(|error| error.to_string())
}

/// Anything that a parser of values would take: unlike skipping, this meets numbers out of range, broken
/// escapes and too much nesting now, not when the stored payload is read.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        while fields.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// A dense vector in a body: numbers straight to 32-bit floats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DenseVector(pub Vec<f32>);

/// Room for the vectors that people use most, so that few reads grow the list more than once.
const USUAL_COMPONENTS: usize = 768;

const OTHER_VECTORS: &str = "must be a list of numbers; named, sparse and multi-vectors \
                             are not supported yet, nor is inference";

impl<'de> Deserialize<'de> for DenseVector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DenseVisitor)
    }
}

struct DenseVisitor;

impl<'de> Visitor<'de> for DenseVisitor {
    type Value = DenseVector;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<DenseVector, A::Error> {
        components(list)
    }

    /// `{"": [...]}`: the unnamed vector by its name.
    fn visit_map<A: MapAccess<'de>>(self, mut names: A) -> Result<DenseVector, A::Error> {
        match names.next_key::<String>()? {
            Some(name) if name.is_empty() => {}
            _ => return Err(A::Error::custom(OTHER_VECTORS)),
        }
        let vector = names.next_value()?;
        match names.next_key::<String>()? {
            None => Ok(vector),
            Some(_) => Err(A::Error::custom(OTHER_VECTORS)),
        }
    }
}

/// The rest of a list of numbers.
pub fn components<'de, A: SeqAccess<'de>>(mut list: A) -> Result<DenseVector, A::Error> {
    let mut vector = Vec::with_capacity(list.size_hint().unwrap_or(USUAL_COMPONENTS));
    while let Some(Component(component)) = list.next_element()? {
        vector.push(component);
    }
    vector.shrink_to_fit();
    Ok(DenseVector(vector))
}

struct Component(f32);

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f32::deserialize(deserializer).map(Component)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::types::{CollectionId, GraphParams, IndexKind, OpKind};

    /// A collection of two components.
    pub fn collection(distance: Distance) -> CollectionConfig {
        CollectionConfig {
            id: CollectionId(uuid::Uuid::nil()),
            name: "c".into(),
            dim: 2,
            distance,
            graph: GraphParams::default(),
            index: IndexKind::default(),
            clusters: None,
            recall_target: None,
            ef_search: None,
            created_ms: 0,
        }
    }

    fn refusal(distance: Distance, vector: &[f32], payload: Option<&str>) -> (String, String) {
        let config = collection(distance);
        let id = PointId::integer(7);
        let error =
            BatchBuilder::new(&config).upsert(|| "points[3]".into(), id, vector, payload).unwrap_err();
        (error.code().to_string(), error.message().to_string())
    }

    #[test]
    fn a_bad_point_is_named_with_place_id_and_reason() {
        let cases = [
            (
                refusal(Distance::Dot, &[1.0], None),
                "dimension_mismatch",
                "points[3].vector (id \"7\"): vector has 1 components, collection \"c\" has 2",
            ),
            (
                refusal(Distance::Dot, &[1.0, f32::NAN], None),
                "not_finite",
                "points[3].vector (id \"7\"): component 1 is NaN as a 32-bit float; it must be finite",
            ),
            (
                refusal(Distance::L2, &[f32::INFINITY, 0.0], None),
                "not_finite",
                "points[3].vector (id \"7\"): component 0 is inf as a 32-bit float; it must be finite",
            ),
            (
                refusal(Distance::Cosine, &[0.0, -0.0], None),
                "zero_vector",
                "points[3].vector (id \"7\"): all components are 0, which has no direction to compare by cosine",
            ),
            (
                refusal(Distance::Cosine, &[1e30, 0.0], None),
                "not_normalizable",
                "points[3].vector (id \"7\"): its length 1.0000000150474662e30 cannot be normalised in 32 bits; \
                 scale the vector",
            ),
            (
                refusal(Distance::Dot, &[1.0, 0.0], Some("[1]")),
                "invalid_payload",
                "points[3].payload (id \"7\"): must be an object",
            ),
        ];
        for (refusal, code, message) in cases {
            assert_eq!(refusal, (code.to_string(), message.to_string()));
        }
    }

    #[test]
    fn payloads_that_could_not_be_read_back_are_refused() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(200), "]".repeat(200));
        for payload in ["{\"a\": 1e999}", "{\"a\": \"\\ud800\"}", deep.as_str(), "{\"a\": 1} x", "{\"a\"}"] {
            assert!(check_payload(payload).is_err(), "{payload}");
            assert!(serde_json::from_str::<serde_json::Value>(payload).is_err(), "{payload}");
        }
        assert_eq!(check_payload(" {\"a\": [1, -2, 3.5, null, true, \"\\u00e9\", {\"b\": {}}]}"), Ok(()));
    }

    #[test]
    fn zero_and_large_vectors_are_fine_where_nothing_is_normalised() {
        let config = collection(Distance::L2);
        let mut batch = BatchBuilder::new(&config);
        batch.upsert(String::new, PointId::integer(1), &[0.0, 0.0], Some("{\"a\": 1}")).unwrap();
        batch.upsert(String::new, PointId::integer(2), &[1e30, 0.0], None).unwrap();
        batch.delete(PointId::integer(3));
        let batch = batch.finish();
        assert_eq!(batch.vectors, [0.0, 0.0, 1e30, 0.0]);
        assert!(matches!(&batch.ops[0].kind, OpKind::Upsert { payload, .. } if payload == "{\"a\": 1}"));
        assert!(matches!(&batch.ops[1].kind, OpKind::Upsert { payload, .. } if payload.is_empty()));
        assert!(matches!(&batch.ops[2].kind, OpKind::Delete));
    }

    #[test]
    fn vectors_in_bodies() {
        let parse = |text: &str| serde_json::from_str::<DenseVector>(text).map(|vector| vector.0);
        assert_eq!(parse("[1, -2.5, 3e2]").unwrap(), [1.0, -2.5, 300.0]);
        assert_eq!(parse("{\"\": [1]}").unwrap(), [1.0]);
        assert_eq!(parse("[0.1]").unwrap(), [0.1_f32]);
        for text in
            ["{\"title\": [1]}", "{\"indices\": [1], \"values\": [1]}", "{}", "{\"\": [1], \"b\": [1]}"]
        {
            assert!(parse(text).unwrap_err().to_string().starts_with(OTHER_VECTORS), "{text}");
        }
        assert!(parse("[[1]]").is_err());
        assert!(parse("[null]").is_err());
        assert!(parse("\"x\"").is_err());
    }
}
