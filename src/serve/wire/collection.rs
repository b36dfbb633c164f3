//! Bodies that create and change collections, and what describes them.
use serde::Deserialize;
use serde::de::Deserializer;
use serde_json::{Value, json};

use super::index_choice::{IndexChoice, given};
use super::quantization;
use crate::engine::{
    CollectionInfo, CollectionPatch, IndexReport, NewCollection, RecallReport, SegmentIndex,
};
use crate::query::Instant;
use crate::serve::error_map::ApiError;
use crate::serve::json::{NOT_SUPPORTED, NoEffect, Unsupported, checked, parse};
use crate::types::{
    self, CollectionConfig, DIM_MAX, Distance, GraphParams, GraphPatch, IndexKind, Levels, Quantization,
    RecallTarget,
};

/// `PUT /collections/{c}`.
///
/// Accepted without effect, since they place or tune what is placed and tuned here otherwise: `on_disk_payload`,
/// `payload`, `id_tracker`, `optimizers_config`, `wal_config`, and beside `m`,
/// `ef_construct` and `full_scan_threshold` all of `hnsw_config`. Refused, since ignoring them would break a
/// promise: several shards or replicas, named, sparse and multi-vectors, datatypes other than `float32`,
/// strict mode, metadata.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    vectors: Value,
    hnsw_config: Option<HnswBody>,
    index: Option<IndexChoice>,
    #[serde(default)]
    recall_target: TargetBody,
    #[serde(default, rename = "shard_number")]
    _shard_number: OnlyOne,
    #[serde(default, rename = "replication_factor")]
    _replication_factor: OnlyOne,
    #[serde(default, rename = "write_consistency_factor")]
    _write_consistency_factor: OnlyOne,
    #[serde(default, rename = "sharding_method")]
    _sharding_method: OnlyAuto,
    #[serde(default, rename = "sparse_vectors")]
    _sparse_vectors: NothingIn,
    #[serde(default, rename = "strict_mode_config")]
    _strict_mode_config: NotEnabled,
    #[serde(default, rename = "metadata")]
    _metadata: NothingIn,
    #[serde(default, rename = "init_from")]
    _init_from: Unsupported,
    #[serde(default, rename = "on_disk_payload")]
    _on_disk_payload: NoEffect,
    #[serde(default, rename = "payload")]
    _payload: NoEffect,
    #[serde(default, rename = "id_tracker")]
    _id_tracker: NoEffect,
    #[serde(default, rename = "optimizers_config")]
    _optimizers_config: NoEffect,
    #[serde(default, rename = "wal_config")]
    _wal_config: NoEffect,
    quantization_config: Option<Quantization>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorParams {
    size: u64,
    distance: DistanceName,
    hnsw_config: Option<HnswBody>,
    #[serde(default, rename = "multivector_config")]
    _multivector_config: Unsupported,
    #[serde(default, rename = "datatype")]
    _datatype: OnlyFloat32,
    #[serde(default, rename = "on_disk")]
    _on_disk: NoEffect,
    #[serde(default, rename = "memory")]
    _memory: NoEffect,
    quantization_config: Option<Quantization>,
}

impl VectorParams {
    fn of(vectors: &Value) -> Result<Self, ApiError> {
        let expected = "give {\"size\": n, \"distance\": name}";
        let Some(fields) = vectors.as_object() else {
            return Err(ApiError::invalid("invalid_request", "vectors", expected));
        };
        if !fields.contains_key("size") && (fields.is_empty() || fields.values().any(Value::is_object)) {
            let what = "a collection with named vectors (or without any)";
            return Err(ApiError::unsupported("vectors", format!("{what} {NOT_SUPPORTED}; {expected}")));
        }
        // Through text, so that a mistake inside is named with its path.
        parse(vectors.to_string().as_bytes()).map_err(|error| error.under("vectors"))
    }
}

/// `hnsw_config`, complete or in part.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HnswBody {
    m: Option<u32>,
    ef_construct: Option<u32>,
    full_scan_threshold: Option<u32>,
    levels: Option<Levels>,
    #[serde(default, rename = "max_indexing_threads")]
    _max_indexing_threads: NoEffect,
    #[serde(default, rename = "on_disk")]
    _on_disk: NoEffect,
    #[serde(default, rename = "memory")]
    _memory: NoEffect,
    #[serde(default, rename = "payload_m")]
    _payload_m: NoEffect,
    #[serde(default, rename = "inline_storage")]
    _inline_storage: NoEffect,
}

impl HnswBody {
    fn patch(self) -> GraphPatch {
        GraphPatch {
            m: self.m,
            ef_construct: self.ef_construct,
            full_scan_threshold: self.full_scan_threshold,
            levels: self.levels,
            quantization: None,
        }
    }
}

/// `recall_target`: a share, or null for none.
#[derive(Debug, Default, PartialEq)]
enum TargetBody {
    #[default]
    Absent,
    Given(Option<RecallTarget>),
}

impl<'de> Deserialize<'de> for TargetBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| match value {
            Value::Null => Ok(Self::Given(None)),
            value => match value.as_f64() {
                Some(share) => RecallTarget::new(share).map(|target| Self::Given(Some(target))),
                None => Err(format!(
                    "{value} is no number; give the share of the nearest to be found, such as 0.98"
                )),
            },
        })
    }
}

impl TargetBody {
    fn into_patch(self) -> Option<Option<RecallTarget>> {
        match self {
            Self::Absent => None,
            Self::Given(target) => Some(target),
        }
    }
}

#[derive(Debug)]
struct DistanceName(Distance);

impl<'de> Deserialize<'de> for DistanceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked(deserializer, |value| {
            let name = value.as_str().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "cosine" => Ok(Self(Distance::Cosine)),
                "dot" => Ok(Self(Distance::Dot)),
                "euclid" | "l2" => Ok(Self(Distance::L2)),
                "manhattan" => Err(format!("{value} {NOT_SUPPORTED}; there are Cosine, Dot, Euclid")),
                _ => Err(format!("{value} is none of Cosine, Dot, Euclid")),
            }
        })
    }
}

/// Declares a type that takes null and what `accepts` says, and refuses the rest in these words.
macro_rules! accepts_only {
    ($name:ident, $accepts:expr, $words:expr) => {
        #[derive(Debug, Default)]
        struct $name;

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let accepts: fn(&Value) -> bool = $accepts;
                checked(deserializer, |value| match value {
                    Value::Null => Ok(Self),
                    value if accepts(&value) => Ok(Self),
                    other => Err(format!("{other} {NOT_SUPPORTED}; {}", $words)),
                })
            }
        }
    };
}

accepts_only!(OnlyOne, |value| *value == 1, "leave it out or give 1");
accepts_only!(OnlyAuto, |value| value == "auto", "leave it out or give \"auto\"");
accepts_only!(OnlyFloat32, |value| value == "float32", "leave it out or give \"float32\"");
accepts_only!(NothingIn, |value| value.as_object().is_some_and(|fields| fields.is_empty()), "leave it out");
accepts_only!(
    NotEnabled,
    |value| value["enabled"] != true && value.is_object(),
    "leave it out or give {\"enabled\": false}"
);

impl CreateBody {
    /// The collection to be created.
    pub fn build(self, name: String) -> Result<NewCollection, ApiError> {
        check_name(&name)?;
        let VectorParams { size, distance, hnsw_config, quantization_config, .. } =
            VectorParams::of(&self.vectors)?;
        let graph = self.hnsw_config.unwrap_or_default().patch().over(GraphParams::default());
        let mut graph = hnsw_config.unwrap_or_default().patch().over(graph);
        graph.quantization = quantization_config.or(self.quantization_config);
        let dim = check_dim(size, "vectors.size")?;
        check_graph(graph, "hnsw_config")?;
        let recall_target = self.recall_target.into_patch().flatten();
        let (index, clusters) = self.index.unwrap_or_default().checked(IndexKind::default())?;
        let (index, clusters) = (index.unwrap_or_default(), clusters.flatten());
        Ok(NewCollection { name, dim, distance: distance.0, index, clusters, graph, recall_target })
    }
}

/// `PATCH /collections/{c}`: changes the recall target, the kind of index, the parameters of graphs and their codes.
/// What changes nothing is accepted, so that scripts written for others run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchBody {
    hnsw_config: Option<HnswBody>,
    index: Option<IndexChoice>,
    #[serde(default)]
    recall_target: TargetBody,
    #[serde(default, rename = "vectors")]
    _vectors: NothingIn,
    #[serde(default, rename = "sparse_vectors")]
    _sparse_vectors: NothingIn,
    #[serde(default, rename = "strict_mode_config")]
    _strict_mode_config: NotEnabled,
    #[serde(default, rename = "metadata")]
    _metadata: NothingIn,
    #[serde(default, rename = "params")]
    _params: ParamsPatch,
    #[serde(default, rename = "optimizers_config")]
    _optimizers_config: NoEffect,
    /// Null: as each segment's sample says.
    #[serde(default, deserialize_with = "given")]
    quantization_config: Option<Option<Quantization>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ParamsPatch {
    #[serde(rename = "replication_factor")]
    _replication_factor: OnlyOne,
    #[serde(rename = "write_consistency_factor")]
    _write_consistency_factor: OnlyOne,
    #[serde(rename = "read_fan_out_factor")]
    _read_fan_out_factor: NoEffect,
    #[serde(rename = "read_fan_out_delay_ms")]
    _read_fan_out_delay_ms: NoEffect,
    #[serde(rename = "on_disk_payload")]
    _on_disk_payload: NoEffect,
    #[serde(rename = "payload")]
    _payload: NoEffect,
    #[serde(rename = "id_tracker")]
    _id_tracker: NoEffect,
}

impl PatchBody {
    /// What changes; refuses what can't.
    pub fn patch(self, config: &CollectionConfig) -> Result<CollectionPatch, ApiError> {
        let mut graph = self.hnsw_config.unwrap_or_default().patch();
        graph.quantization = self.quantization_config;
        check_graph(graph.over(config.graph), "hnsw_config")?;
        let (index, clusters) = self.index.unwrap_or_default().checked(config.index)?;
        Ok(CollectionPatch { recall_target: self.recall_target.into_patch(), index, clusters, graph })
    }
}

/// `PUT /collections/{c}/index`: every payload field is a typed column that filters read, so there is nothing to
/// build; the request is checked and answered as completed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexBody {
    field_name: String,
    field_schema: Option<Value>,
}

/// Kinds of payload indexes that columns serve.
const SERVED_SCHEMAS: [&str; 7] = ["keyword", "integer", "float", "bool", "datetime", "uuid", "text"];

impl IndexBody {
    /// Refuses kinds whose conditions we don't have.
    pub fn check(&self) -> Result<(), ApiError> {
        if self.field_name.is_empty() {
            return Err(ApiError::invalid("invalid_request", "field_name", "is empty"));
        }
        let kind = match &self.field_schema {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(kind)) => kind.as_str(),
            Some(other) => other["type"].as_str().unwrap_or_default(),
        };
        match kind {
            kind if SERVED_SCHEMAS.contains(&kind) => Ok(()),
            "geo" => Err(ApiError::unsupported("field_schema", format!("\"geo\" {NOT_SUPPORTED}"))),
            other => {
                let problem = format!("{other:?} is none of {}", SERVED_SCHEMAS.join(", "));
                Err(ApiError::invalid("invalid_request", "field_schema", problem))
            }
        }
    }
}

/// The name of a collection, see [`types::check_name`].
pub fn check_name(name: &str) -> Result<(), ApiError> {
    types::check_name(name)
        .map_err(|why| ApiError::invalid("invalid_name", "collection", format!("{name:?} is no name: {why}")))
}

/// 1–65,536.
pub fn check_dim(dim: u64, at: &str) -> Result<u32, ApiError> {
    match u32::try_from(dim) {
        Ok(fits) if (1..=DIM_MAX).contains(&fits) => Ok(fits),
        _ => Err(ApiError::invalid(
            "invalid_dimension",
            at,
            format!("must be between 1 and {DIM_MAX}, not {dim}"),
        )),
    }
}

/// Index parameters that can be built with.
pub fn check_graph(graph: GraphParams, at: &str) -> Result<(), ApiError> {
    graph.check().map_err(|(key, problem)| {
        ApiError::invalid("invalid_index_parameters", &format!("{at}.{key}"), problem)
    })
}

/// The answer to `GET /collections/{c}`, with what clients require of it and our marks beside.
pub fn describe(
    config: &CollectionConfig,
    info: &CollectionInfo,
    index: &IndexReport,
    recall: Option<RecallReport>,
) -> Value {
    json!({
        "status": info.status,
        "optimizer_status": "ok",
        "points_count": info.points,
        "indexed_vectors_count": info.indexed_points,
        "segments_count": info.segments,
        "config": {
            "params": {
                "vectors": {"size": config.dim, "distance": config.distance.client_name()},
                "shard_number": 1,
                "replication_factor": 1,
                "write_consistency_factor": 1,
                "on_disk_payload": true,
            },
            "hnsw_config": {
                "m": config.graph.m,
                "ef_construct": config.graph.ef_construct,
                "full_scan_threshold": config.graph.full_scan_threshold,
                "levels": config.graph.levels,
            },
            "quantization_config": quantization::describe(config.graph.quantization),
            // Clients require these two; segments and flushes follow sizes and ages instead.
            "optimizer_config": {"default_segment_number": 0, "flush_interval_sec": 0},
        },
        "payload_schema": {},
        "created_at": Instant::format_millis(config.created_ms),
        "memory_bytes": info.memory_bytes,
        "disk_bytes": info.disk_bytes,
        "durable_lsn": info.durable_lsn,
        "applied_lsn": info.applied_lsn,
        "flushed_lsn": info.flushed_lsn,
        "quarantined": info.quarantined,
        "index": {
            "kind": index.wanted.kind,
            "clusters": index.wanted.clusters,
            "params": {
                "m": index.wanted.graph.m,
                "ef_construct": index.wanted.graph.ef_construct,
                "full_scan_threshold": index.wanted.graph.full_scan_threshold,
            },
            "state": if index.is_ready() { "ready" } else { "building" },
            "progress": index.progress(),
            "segments": index.segments.iter().map(segment).collect::<Vec<_>>(),
        },
        "recall": recall.map(|report| json!({
            "target": report.target,
            "k": RecallTarget::K,
            "measured": report.measured,
            "confidence": report.confidence.map(|(low, high)| [low, high]),
            "samples": report.samples,
            "ef_search": report.ef_search,
            "measured_at": report.measured_at_ms.map(Instant::format_millis),
        })),
    })
}

/// One segment of `index.segments`.
fn segment(segment: &SegmentIndex) -> Value {
    let state = match segment.done {
        _ if segment.is_ready() => "ready",
        Some(_) => "building",
        None => "waiting",
    };
    json!({
        "id": segment.id,
        "rows": segment.rows,
        "kind": segment.serves.map_or(IndexKind::Flat, |built| built.kind),
        "m": segment.serves.map(|built| built.m),
        "ef_construct": segment.serves.map(|built| built.ef_construct),
        "clusters": segment.serves.and_then(|built| built.clusters),
        "state": state,
        "rows_done": u64::from(segment.rows) - segment.rows_pending(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::batch::tests::collection;

    fn create(text: &str) -> Result<NewCollection, ApiError> {
        parse::<CreateBody>(text.as_bytes())?.build("c".into())
    }

    #[test]
    fn the_everyday_call_creates() {
        let new = create(r#"{"vectors": {"size": 4, "distance": "Cosine"}}"#).unwrap();
        assert_eq!((new.dim, new.distance, new.graph), (4, Distance::Cosine, GraphParams::default()));
        let new = create(
            r#"{"vectors": {"size": 4, "distance": "Euclid", "on_disk": true, "hnsw_config": {"m": 32}},
                "hnsw_config": {"m": 8, "ef_construct": 200, "levels": "on", "on_disk": false}, "shard_number": 1,
                "optimizers_config": {"indexing_threshold": 0}, "quantization_config": {"scalar": {"type": "int8"}},
                "sparse_vectors": null, "strict_mode_config": {"enabled": false}, "metadata": {}}"#,
        )
        .unwrap();
        assert_eq!(new.distance, Distance::L2);
        assert_eq!((new.graph.m, new.graph.ef_construct), (32, 200));
        assert_eq!((new.graph.levels, new.graph.quantization), (Levels::On, Some(Quantization::INT8)));
    }

    #[test]
    fn what_would_be_ignored_wrongly_is_refused() {
        let vectors = r#""vectors": {"size": 4, "distance": "Dot"}"#;
        let cases = [
            (
                r#"{"vectors": {"title": {"size": 4, "distance": "Dot"}}}"#.to_string(),
                "unsupported",
                "vectors: a collection with named",
            ),
            (
                r#"{"vectors": {"size": 4, "distance": "Manhattan"}}"#.to_string(),
                "unsupported",
                "vectors.distance: \"Manhattan\"",
            ),
            (
                r#"{"vectors": {"size": 4, "distance": "cosin"}}"#.to_string(),
                "invalid_request",
                "vectors.distance: \"cosin\" is none of",
            ),
            (
                r#"{"vectors": {"size": 4, "distnace": "Dot"}}"#.to_string(),
                "unknown_field",
                "vectors: unknown key \"distnace\"; did you mean \"distance\"?",
            ),
            (
                r#"{"vectors": {"size": 0, "distance": "Dot"}}"#.to_string(),
                "invalid_dimension",
                "vectors.size: must be between",
            ),
            (
                r#"{"vectors": {"size": 4, "distance": "Dot", "datatype": "uint8"}}"#.to_string(),
                "unsupported",
                "vectors.datatype: \"uint8\"",
            ),
            (
                format!(r#"{{{vectors}, "shard_number": 2}}"#),
                "unsupported",
                "shard_number: 2 is not supported yet",
            ),
            (format!(r#"{{{vectors}, "sparse_vectors": {{"s": {{}}}}}}"#), "unsupported", "sparse_vectors: "),
            (format!(r#"{{{vectors}, "metadata": {{"a": 1}}}}"#), "unsupported", "metadata: "),
            (
                format!(r#"{{{vectors}, "hnsw_config": {{"m": 0}}}}"#),
                "invalid_index_parameters",
                "hnsw_config.m: ",
            ),
            (
                format!(r#"{{{vectors}, "hnsw_confg": {{}}}}"#),
                "unknown_field",
                "unknown key \"hnsw_confg\"; did you mean \"hnsw_config\"?",
            ),
            (
                format!(r#"{{{vectors}, "hnsw_config": {{"levels": "onn"}}}}"#),
                "unknown_field",
                "hnsw_config.levels: unknown key \"onn\"; did you mean \"on\"?",
            ),
            (
                format!(r#"{{{vectors}, "quantization_config": {{"scaler": {{}}}}}}"#),
                "unknown_field",
                "quantization_config: unknown key \"scaler\"; did you mean \"scalar\"?",
            ),
            (
                format!(r#"{{{vectors}, "quantization_config": {{"rabitq": {{"bits": 3}}}}}}"#),
                "invalid_request",
                "quantization_config.rabitq",
            ),
            ("{}".to_string(), "invalid_request", "missing field `vectors`"),
        ];
        for (body, code, message) in cases {
            let error = create(&body).unwrap_err();
            assert!(error.message().starts_with(message), "{body}: {}", error.message());
            assert_eq!(error.code(), code, "{body}");
        }
    }

    #[test]
    fn names_that_urls_and_people_can_take() {
        for name in ["a", "products.v1", "A-b_0", &"x".repeat(255)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "ä", "a b", &"x".repeat(256)] {
            assert_eq!(check_name(name).unwrap_err().code(), "invalid_name", "{name}");
        }
    }

    #[test]
    fn a_patch_changes_indexes_and_may_repeat_what_is() {
        let config = collection(Distance::Dot);
        let patch = |text: &str| parse::<PatchBody>(text.as_bytes()).and_then(|body| body.patch(&config));
        assert!(patch(r#"{"optimizers_config": {"indexing_threshold": 10000}}"#).is_ok());
        assert!(
            patch(r#"{"hnsw_config": {"m": 16, "on_disk": true}, "params": {"replication_factor": 1}}"#)
                .is_ok()
        );
        let changed = patch(r#"{"hnsw_config": {"m": 32}, "index": {"kind": "flat"}}"#).unwrap();
        assert_eq!(changed.graph, GraphPatch { m: Some(32), ..GraphPatch::default() });
        assert_eq!((changed.index, changed.recall_target), (Some(IndexKind::Flat), None));
        let codes = |text: &str| patch(text).unwrap().graph.quantization;
        assert_eq!(codes("{}"), None);
        assert_eq!(codes(r#"{"quantization_config": null}"#), Some(None));
        let int8 = r#"{"quantization_config": {"scalar": {"type": "int8"}}}"#;
        assert_eq!(codes(int8), Some(Some(Quantization::INT8)));
        assert_eq!(patch(r#"{"hnsw_config": {"m": 1}}"#).unwrap_err().code(), "invalid_index_parameters");
        let error = patch(r#"{"index": {"kind": "hsnw"}}"#).unwrap_err();
        assert_eq!(error.message(), "index.kind: \"hsnw\" is none of flat, hnsw, ivf");
        assert_eq!(patch(r#"{"index": {"knid": "flat"}}"#).unwrap_err().code(), "unknown_field");
        let graphs = patch(r#"{"index": {"clusters": 9}}"#).unwrap_err();
        assert_eq!(
            graphs.message(),
            "index.clusters: only the kind \"ivf\" has clusters, and the kind is \"hnsw\""
        );
        assert_eq!(patch(r#"{"index": {}}"#).unwrap(), CollectionPatch::default());
        let config = CollectionConfig { index: IndexKind::Ivf, clusters: Some(7), ..config.clone() };
        let patch = |text: &str| parse::<PatchBody>(text.as_bytes()).and_then(|body| body.patch(&config));
        let index = |text: &str| patch(text).map(|patch| (patch.index, patch.clusters)).unwrap();
        assert_eq!(index(r#"{"index": {"clusters": 9}}"#), (None, Some(Some(9))));
        assert_eq!(index(r#"{"index": {"kind": "ivf"}}"#), (Some(IndexKind::Ivf), None));
        assert_eq!(index(r#"{"index": {"clusters": null}}"#), (None, Some(None)));
        assert!(patch(r#"{"index": {"kind": "hnsw", "clusters": 9}}"#).is_err());
        assert!(patch(r#"{"index": {"kind": "hnsw", "clusters": null}}"#).is_ok());
        assert_eq!(patch(r#"{"metadata": {"a": 1}}"#).unwrap_err().code(), "unsupported");
    }

    #[test]
    fn a_recall_target_is_set_changed_and_taken_back() {
        let vectors = r#""vectors": {"size": 4, "distance": "Dot"}"#;
        let target = |share| RecallTarget::new(share).ok();
        let new = create(&format!(r#"{{{vectors}, "recall_target": 0.98}}"#)).unwrap();
        assert_eq!(new.recall_target, target(0.98));
        assert_eq!(create(&format!(r#"{{{vectors}, "recall_target": null}}"#)).unwrap().recall_target, None);
        let config = collection(Distance::Dot);
        let patch = |text: &str| parse::<PatchBody>(text.as_bytes()).and_then(|body| body.patch(&config));
        assert_eq!(patch("{}").unwrap(), CollectionPatch::default());
        assert_eq!(patch(r#"{"recall_target": 1}"#).unwrap().recall_target, Some(target(1.0)));
        assert_eq!(patch(r#"{"recall_target": null}"#).unwrap().recall_target, Some(None));
        for (body, message) in [
            (r#"{"recall_target": 0.5}"#, "recall_target: must be above 0.5 and at most 1, not 0.5"),
            (r#"{"recall_target": 98}"#, "recall_target: must be above 0.5"),
            (r#"{"recall_target": "high"}"#, "recall_target: \"high\" is no number"),
            (r#"{"recal_target": 0.9}"#, "unknown key \"recal_target\"; did you mean \"recall_target\"?"),
        ] {
            let error = patch(body).unwrap_err();
            assert!(error.message().starts_with(message), "{body}: {}", error.message());
        }
    }

    #[test]
    fn payload_indexes_of_kinds_that_filters_know() {
        let index = |text: &str| parse::<IndexBody>(text.as_bytes()).and_then(|body| body.check());
        assert!(index(r#"{"field_name": "a", "field_schema": "keyword"}"#).is_ok());
        assert!(
            index(r#"{"field_name": "a", "field_schema": {"type": "text", "tokenizer": "word"}}"#).is_ok()
        );
        assert!(index(r#"{"field_name": "a"}"#).is_ok());
        assert_eq!(index(r#"{"field_name": "a", "field_schema": "geo"}"#).unwrap_err().code(), "unsupported");
        assert!(index(r#"{"field_name": "a", "field_schema": "keywrd"}"#).is_err());
    }
}
