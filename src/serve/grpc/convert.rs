//! Between messages and the engine's words.
use std::collections::BTreeMap;
use std::time::Duration;

use proximadb_proto::v1;

use super::quantization;
use crate::engine::{IndexReport, RecallReport, SegmentIndex, Wait};
use crate::query::{
    Filter, FreshAsOf, Freshness, Hit, Nearest, PayloadSelection, PointSelector, ReadOptions, Record,
    SearchRequest,
};
use crate::serve::batch::{BatchBuilder, check_payload, check_vector};
use crate::serve::error_map::ApiError;
use crate::serve::limits::Limits;
use crate::serve::wire::payload::top_level_fields;
use crate::serve::wire::query::ef_search;
use crate::serve::wire::read::limit;
use crate::types::{
    CollectionConfig, Distance, GraphParams, GraphPatch, IndexKind, Levels, Lsn, PointId, Position,
    RecallTarget,
};

pub(super) fn point_id(id: Option<v1::PointId>, at: &str) -> Result<PointId, ApiError> {
    match id.and_then(|id| id.form) {
        Some(v1::point_id::Form::Integer(value)) => Ok(PointId::integer(value)),
        Some(v1::point_id::Form::Text(text)) => {
            PointId::text(text).map_err(|error| ApiError::invalid("invalid_id", at, error))
        }
        None => Err(ApiError::invalid("missing_id", at, "is missing: give text or integer")),
    }
}

pub(super) fn point_ids(ids: Vec<v1::PointId>, at: &str) -> Result<Vec<PointId>, ApiError> {
    ids.into_iter().enumerate().map(|(index, id)| point_id(Some(id), &format!("{at}[{index}]"))).collect()
}

fn id_out(id: &PointId) -> v1::PointId {
    let form = match id.to_json().as_u64() {
        Some(value) => v1::point_id::Form::Integer(value),
        None => v1::point_id::Form::Text(id.as_str().to_string()),
    };
    v1::PointId { form: Some(form) }
}

pub(super) fn next_page(next: Option<PointId>) -> Option<v1::PointId> {
    next.as_ref().map(id_out)
}

pub(super) fn wait(wait: i32) -> Result<Wait, ApiError> {
    match v1::Wait::try_from(wait) {
        Ok(v1::Wait::Unspecified) => Ok(Wait::default()),
        Ok(v1::Wait::Ack) => Ok(Wait::Ack),
        Ok(v1::Wait::Durable) => Ok(Wait::Durable),
        Ok(v1::Wait::Searchable) => Ok(Wait::Searchable),
        Ok(v1::Wait::Indexed) => Ok(Wait::Indexed),
        Err(_) => Err(ApiError::invalid("invalid_request", "wait", format!("{wait} is not a value of Wait"))),
    }
}

pub(super) fn add_points(batch: &mut BatchBuilder<'_>, points: Vec<v1::Point>) -> Result<(), ApiError> {
    for (index, point) in points.into_iter().enumerate() {
        let at = || format!("points[{index}]");
        let id = point_id(point.id, &format!("points[{index}].id"))?;
        let payload = json_text(&point.payload_json, || format!("{}.payload_json", at()))?;
        batch.upsert(at, id, &point.vector, payload)?;
    }
    Ok(())
}

/// JSON text, `None` where there is none.
fn json_text(bytes: &[u8], at: impl Fn() -> String) -> Result<Option<&str>, ApiError> {
    match std::str::from_utf8(bytes) {
        Ok("") => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(error) => Err(ApiError::invalid("invalid_payload", &at(), format!("is not UTF-8: {error}"))),
    }
}

pub(super) fn payload_object(bytes: &[u8]) -> Result<serde_json::Map<String, serde_json::Value>, ApiError> {
    let text = json_text(bytes, || "payload_json".to_string())?.unwrap_or("{}");
    check_payload(text)
        .and_then(|()| serde_json::from_str(text).map_err(|error| error.to_string()))
        .map_err(|problem| ApiError::invalid("invalid_payload", "payload_json", problem))
}

pub(super) fn filter(text: &str, at: &str) -> Result<Option<Filter>, ApiError> {
    if text.is_empty() { Ok(None) } else { Ok(Some(Filter::parse_text(text, at)?)) }
}

pub(super) fn selector(points: Option<v1::PointSelector>) -> Result<PointSelector, ApiError> {
    use v1::point_selector::Selector;
    match points.and_then(|points| points.selector) {
        Some(Selector::Ids(ids)) => Ok(PointSelector::Ids(point_ids(ids.ids, "points.ids")?)),
        Some(Selector::FilterJson(text)) => {
            Ok(PointSelector::Filter(Filter::parse_text(&text, "points.filter_json")?))
        }
        None => Err(ApiError::invalid("invalid_request", "points", "which points? give ids or filter_json")),
    }
}

pub(super) fn selection(
    selection: Option<v1::PayloadSelection>,
    default: PayloadSelection,
) -> Result<PayloadSelection, ApiError> {
    use v1::payload_selection::Selection;
    match selection.and_then(|selection| selection.selection) {
        None => Ok(default),
        Some(Selection::Everything(true)) => Ok(PayloadSelection::Everything),
        Some(Selection::Everything(false)) => Ok(PayloadSelection::Nothing),
        Some(Selection::Include(fields)) => {
            top_level_fields(&fields.names, "with_payload.include").map(PayloadSelection::Include)
        }
        Some(Selection::Exclude(fields)) => {
            top_level_fields(&fields.names, "with_payload.exclude").map(PayloadSelection::Exclude)
        }
    }
}

/// How to read, and whether the receipt is wanted. `deadline` is the call's own.
pub(super) fn read_options(
    read: Option<v1::ReadOptions>,
    deadline: Option<Duration>,
    limits: &Limits,
) -> Result<(ReadOptions, bool), ApiError> {
    let read = read.unwrap_or_default();
    let asked = match read.timeout_ms {
        0 => limits.timeout_default,
        given => Duration::from_millis(given).min(limits.timeout_max),
    };
    let timeout = deadline.map_or(asked, |deadline| deadline.min(asked));
    let fresh_as_of = match read.fresh_as_of.and_then(|fresh| fresh.state) {
        None => None,
        Some(v1::fresh_as_of::State::Lsn(lsn)) => Some(FreshAsOf::Lsn(Lsn(lsn))),
        Some(v1::fresh_as_of::State::Positions(positions)) => Some(fresh_positions(positions)?),
    };
    Ok((ReadOptions { fresh_as_of, timeout }, read.with_freshness))
}

fn fresh_positions(given: v1::SourcePositions) -> Result<FreshAsOf, ApiError> {
    let mut positions: BTreeMap<String, BTreeMap<String, Position>> = BTreeMap::new();
    for (index, place) in given.positions.into_iter().enumerate() {
        let position = place.position.parse().map(Position).map_err(|_| {
            let at = format!("read.fresh_as_of.positions[{index}].position");
            ApiError::invalid(
                "invalid_request",
                &at,
                format!("{:?} is not an unsigned integer", place.position),
            )
        })?;
        positions.entry(place.source).or_default().insert(place.partition, position);
    }
    Ok(FreshAsOf::Positions(positions))
}

pub(super) fn freshness(freshness: Freshness) -> v1::Freshness {
    let positions = freshness.positions.into_iter().flat_map(|(source, partitions)| {
        partitions.into_iter().map(move |(partition, at)| v1::SourcePosition {
            source: source.clone(),
            partition,
            position: at.position.map(|position| position.to_string()).unwrap_or_default(),
            epoch: at.epoch,
        })
    });
    v1::Freshness {
        lsn: freshness.lsn.0,
        positions: positions.collect(),
        watermark_ms: freshness.watermark_ms,
        scanned_fraction: freshness.scanned_fraction,
    }
}

/// What is asked for, and whether the receipt is wanted. `at` is `queries[3].` in a batch, else empty.
pub(super) fn search(
    query: v1::QueryRequest,
    config: &CollectionConfig,
    deadline: Option<Duration>,
    limits: &Limits,
    at: &str,
) -> Result<(SearchRequest, bool), ApiError> {
    let nearest = match query.nearest {
        Some(v1::query_request::Nearest::Vector(vector)) => {
            check_vector(&vector.components, config, || format!("{at}vector"))?;
            Nearest::Vector(vector.components)
        }
        Some(v1::query_request::Nearest::Id(id)) => Nearest::Id(point_id(Some(id), &format!("{at}id"))?),
        None => {
            let problem = "near to what? give vector or id";
            return Err(ApiError::invalid("invalid_request", &format!("{at}nearest"), problem));
        }
    };
    let (read, with_freshness) = read_options(query.read, deadline, limits)?;
    let ef = (query.ef_search > 0).then(|| size(query.ef_search));
    let offset = size(query.offset);
    if offset > limits.limit_max {
        let problem = format!("{offset} is more than {}; read page by page with Scroll", limits.limit_max);
        return Err(ApiError::invalid("offset_too_large", &format!("{at}offset"), problem));
    }
    let request = SearchRequest {
        nearest,
        limit: limit_of(query.limit, limits, &format!("{at}limit"))?,
        offset,
        filter: filter(&query.filter_json, &format!("{at}filter_json"))?,
        with_payload: selection(query.with_payload, PayloadSelection::Nothing)?,
        with_vector: query.with_vector,
        score_threshold: query.score_threshold,
        exact: query.exact,
        ef_search: ef_search(ef, limits, at.trim_end_matches('.'))?,
        codes: quantization::codes(query.codes, at)?,
        read,
    };
    Ok((request, with_freshness))
}

/// 0 is the default.
pub(super) fn limit_of(given: u64, limits: &Limits, at: &str) -> Result<usize, ApiError> {
    limit((given > 0).then(|| size(given)), limits, at)
}

fn size(given: u64) -> usize {
    usize::try_from(given).unwrap_or(usize::MAX)
}

pub(super) fn record(record: Record) -> v1::Record {
    // A map of JSON values is always JSON again.
    let payload = record.payload.map(|payload| serde_json::to_vec(&payload).unwrap_or_default());
    v1::Record {
        id: Some(id_out(&record.id)),
        version: record.version.0,
        payload_json: payload.unwrap_or_default(),
        vector: record.vector.unwrap_or_default(),
    }
}

pub(super) fn hit(hit: Hit) -> v1::Hit {
    v1::Hit { score: hit.score, record: Some(record(hit.record)) }
}

pub(super) fn distance(distance: i32) -> Result<Distance, ApiError> {
    match v1::Distance::try_from(distance) {
        Ok(v1::Distance::Unspecified | v1::Distance::Cosine) => Ok(Distance::Cosine),
        Ok(v1::Distance::Dot) => Ok(Distance::Dot),
        Ok(v1::Distance::L2) => Ok(Distance::L2),
        Err(_) => {
            let problem = format!("{distance} is not a value of Distance");
            Err(ApiError::invalid("invalid_request", "distance", problem))
        }
    }
}

fn distance_out(distance: Distance) -> v1::Distance {
    match distance {
        Distance::Cosine => v1::Distance::Cosine,
        Distance::Dot => v1::Distance::Dot,
        Distance::L2 => v1::Distance::L2,
    }
}

pub(super) fn graph(graph: Option<v1::GraphParams>) -> Result<GraphParams, ApiError> {
    let (given, default) = (graph.unwrap_or_default(), GraphParams::default());
    Ok(GraphParams {
        m: if given.m == 0 { default.m } else { given.m },
        ef_construct: if given.ef_construct == 0 { default.ef_construct } else { given.ef_construct },
        full_scan_threshold: given.full_scan_threshold.unwrap_or(default.full_scan_threshold),
        levels: levels(given.levels)?.unwrap_or_default(),
        quantization: quantization::read(given.quantization)?.flatten(),
    })
}

/// `None` where nothing is said.
fn levels(given: i32) -> Result<Option<Levels>, ApiError> {
    match v1::Levels::try_from(given) {
        Ok(v1::Levels::Unspecified) => Ok(None),
        Ok(v1::Levels::Auto) => Ok(Some(Levels::Auto)),
        Ok(v1::Levels::On) => Ok(Some(Levels::On)),
        Ok(v1::Levels::Off) => Ok(Some(Levels::Off)),
        Err(_) => {
            let problem = format!("{given} is not a value of Levels");
            Err(ApiError::invalid("invalid_request", "graph.levels", problem))
        }
    }
}

fn levels_out(levels: Levels) -> v1::Levels {
    match levels {
        Levels::Auto => v1::Levels::Auto,
        Levels::On => v1::Levels::On,
        Levels::Off => v1::Levels::Off,
    }
}

pub(super) fn config(config: &CollectionConfig) -> v1::CollectionConfig {
    v1::CollectionConfig {
        collection: config.name.clone(),
        id: config.id.to_string(),
        dim: config.dim,
        distance: distance_out(config.distance).into(),
        graph: Some(v1::GraphParams {
            m: config.graph.m,
            ef_construct: config.graph.ef_construct,
            full_scan_threshold: Some(config.graph.full_scan_threshold),
            levels: levels_out(config.graph.levels).into(),
            quantization: Some(quantization::write(config.graph.quantization)),
        }),
        created_ms: config.created_ms,
        recall_target: config.recall_target.map(RecallTarget::share),
        index: index_kind_out(config.index).into(),
        clusters: config.clusters,
    }
}

pub(super) fn graph_patch(graph: v1::GraphParams) -> Result<GraphPatch, ApiError> {
    let given = |value: u32| Some(value).filter(|value| *value > 0);
    Ok(GraphPatch {
        m: given(graph.m),
        ef_construct: given(graph.ef_construct),
        full_scan_threshold: graph.full_scan_threshold,
        levels: levels(graph.levels)?,
        quantization: quantization::read(graph.quantization)?,
    })
}

/// `None` where none is named.
pub(super) fn index_kind(kind: i32) -> Result<Option<IndexKind>, ApiError> {
    match v1::IndexKind::try_from(kind) {
        Ok(v1::IndexKind::Unspecified) => Ok(None),
        Ok(v1::IndexKind::Flat) => Ok(Some(IndexKind::Flat)),
        Ok(v1::IndexKind::Hnsw) => Ok(Some(IndexKind::Hnsw)),
        Ok(v1::IndexKind::Ivf) => Ok(Some(IndexKind::Ivf)),
        Err(_) => Err(ApiError::invalid("invalid_request", "index", format!("there is no kind {kind}"))),
    }
}

fn index_kind_out(kind: IndexKind) -> v1::IndexKind {
    match kind {
        IndexKind::Flat => v1::IndexKind::Flat,
        IndexKind::Hnsw => v1::IndexKind::Hnsw,
        IndexKind::Ivf => v1::IndexKind::Ivf,
    }
}

pub(super) fn index(report: &IndexReport) -> v1::Index {
    let segment = |segment: &SegmentIndex| v1::SegmentIndex {
        id: segment.id.to_string(),
        rows: segment.rows.into(),
        kind: index_kind_out(segment.serves.map_or(IndexKind::Flat, |built| built.kind)).into(),
        m: segment.serves.map_or(0, |built| built.m),
        ef_construct: segment.serves.map_or(0, |built| built.ef_construct),
        ready: segment.is_ready(),
        rows_done: u64::from(segment.rows) - segment.rows_pending(),
        clusters: segment.serves.and_then(|built| built.clusters),
    };
    v1::Index {
        ready: report.is_ready(),
        progress: report.progress(),
        segments: report.segments.iter().map(segment).collect(),
    }
}

pub(super) fn recall_target(share: f64) -> Result<RecallTarget, ApiError> {
    RecallTarget::new(share).map_err(|problem| ApiError::invalid("invalid_request", "recall_target", problem))
}

pub(super) fn recall(report: RecallReport) -> v1::Recall {
    v1::Recall {
        target: report.target.share(),
        measured: report.measured,
        confidence_low: report.confidence.map(|(low, _)| low),
        confidence_high: report.confidence.map(|(_, high)| high),
        samples: report.samples,
        ef_search: u32::try_from(report.ef_search).unwrap_or(u32::MAX),
        measured_at_ms: report.measured_at_ms,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::serve::batch::tests::collection;
    use crate::types::PartitionPosition;

    fn text_id(text: &str) -> v1::PointId {
        v1::PointId { form: Some(v1::point_id::Form::Text(text.into())) }
    }

    #[test]
    fn ids_come_back_in_the_form_in_which_they_came() {
        for form in [v1::point_id::Form::Integer(u64::MAX), v1::point_id::Form::Text("42".into())] {
            let id = v1::PointId { form: Some(form) };
            assert_eq!(id_out(&point_id(Some(id.clone()), "id").unwrap()), id);
        }
        assert_eq!(point_id(None, "id").unwrap_err().code(), "missing_id");
        assert_eq!(
            point_id(Some(text_id("")), "id").unwrap_err().message(),
            "id: id is empty; give 1 to 512 bytes"
        );
    }

    #[test]
    fn a_bad_point_is_named_with_place_id_and_reason() {
        let config = collection(Distance::Cosine);
        let good = v1::Point {
            id: Some(text_id("a")),
            vector: vec![1.0, 0.0],
            payload_json: b"{\"a\": 1}".to_vec(),
        };
        let refusal = |bad: v1::Point| {
            let mut batch = BatchBuilder::new(&config);
            add_points(&mut batch, vec![good.clone(), bad]).unwrap_err().message().to_string()
        };
        assert_eq!(
            refusal(v1::Point { vector: vec![f32::NAN, 1.0], ..good.clone() }),
            "points[1].vector (id \"a\"): component 0 is NaN as a 32-bit float; it must be finite"
        );
        assert_eq!(
            refusal(v1::Point { payload_json: b"[]".to_vec(), ..good.clone() }),
            "points[1].payload (id \"a\"): must be an object"
        );
        assert!(
            refusal(v1::Point { payload_json: vec![0xff], ..good.clone() })
                .starts_with("points[1].payload_json")
        );
        assert!(refusal(v1::Point { id: None, ..good.clone() }).starts_with("points[1].id: is missing"));
    }

    #[test]
    fn a_query_becomes_a_search_with_the_defaults_of_rest() {
        let config = collection(Distance::Cosine);
        let query = v1::QueryRequest {
            nearest: Some(v1::query_request::Nearest::Vector(v1::Vector { components: vec![1.0, 2.0] })),
            filter_json: "{\"must\": {\"key\": \"a\", \"match\": {\"value\": 1}}}".into(),
            ..Default::default()
        };
        let limits = Limits::default();
        let (request, with_freshness) =
            search(query.clone(), &config, Some(Duration::from_secs(1)), &limits, "").unwrap();
        assert_eq!((request.limit, request.ef_search, with_freshness), (10, None, false));
        assert_eq!(request.with_payload, PayloadSelection::Nothing);
        assert_eq!(request.read.timeout, Duration::from_secs(1));
        assert!(request.filter.is_some());
        let bad = v1::QueryRequest { filter_json: "{".into(), ..query.clone() };
        let error = search(bad, &config, None, &limits, "queries[2].").unwrap_err();
        assert!(error.message().starts_with("queries[2].filter_json: is not JSON"), "{}", error.message());
        let near_nothing = v1::QueryRequest { nearest: None, ..query };
        assert!(search(near_nothing, &config, None, &limits, "").is_err());
    }

    #[test]
    fn positions_keep_all_their_digits_both_ways() {
        let place = v1::SourcePosition {
            source: "s".into(),
            partition: "t/0".into(),
            position: u128::MAX.to_string(),
            epoch: 0,
        };
        let state = v1::fresh_as_of::State::Positions(v1::SourcePositions { positions: vec![place.clone()] });
        let read = v1::ReadOptions {
            fresh_as_of: Some(v1::FreshAsOf { state: Some(state) }),
            timeout_ms: 5,
            with_freshness: true,
        };
        let (read, with_freshness) = read_options(Some(read), None, &Limits::default()).unwrap();
        let expected = BTreeMap::from([("t/0".to_string(), Position(u128::MAX))]);
        assert_eq!(
            read.fresh_as_of,
            Some(FreshAsOf::Positions(BTreeMap::from([("s".to_string(), expected)])))
        );
        assert!(with_freshness);
        let at = PartitionPosition { epoch: 0, position: Some(Position(u128::MAX)) };
        let receipt = Freshness {
            lsn: Lsn(3),
            positions: BTreeMap::from([("s".to_string(), BTreeMap::from([("t/0".to_string(), at)]))]),
            watermark_ms: None,
            scanned_fraction: 1.0,
        };
        assert_eq!(freshness(receipt).positions, [place]);
    }
}
