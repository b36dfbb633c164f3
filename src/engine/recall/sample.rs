//! One measurement: the exact answer of a query, and how much of it searches find.
use std::sync::Arc;
use std::time::Instant;

use super::queries::Query;
use super::random::Random;
use crate::query::{
    Hit, Nearest, PayloadSelection, QueryError, ReadOptions, Search, SearchRequest, prepare_vector,
};
use crate::types::{Distance, PointId, RecallTarget};
use crate::view::{LiveSegment, Snapshot};

/// Rows tried until one is alive.
const TRIES: usize = 16;
/// Two forms of one distance may differ by their last bits.
const TIE: f32 = 1e-6;

/// For each `ef_search`, the share of the exact nearest that a search finds; `None` where no row matches.
pub fn measure(
    snapshot: &Snapshot,
    distance: Distance,
    query: &Query,
    efs: &[usize],
    deadline: Instant,
) -> Result<Option<Vec<f64>>, QueryError> {
    let asked = Asked { snapshot, distance, vector: &query.vector, except: None, deadline };
    let mut request = request(query.filter.as_deref().cloned());
    request.exact = true;
    let exact = asked.run(&request)?;
    let Some(farthest) = exact.last().map(|hit| hit.score) else { return Ok(None) };
    request.exact = false;
    let shares = efs.iter().map(|ef| -> Result<f64, QueryError> {
        request.ef_search = Some(*ef);
        let found =
            asked.run(&request)?.iter().filter(|hit| is_as_good(distance, hit.score, farthest)).count();
        Ok(found.min(exact.len()) as f64 / exact.len() as f64)
    });
    shares.collect::<Result<_, QueryError>>().map(Some)
}

fn is_as_good(distance: Distance, score: f32, farthest: f32) -> bool {
    let slack = farthest.abs() * TIE;
    if distance.higher_is_better() { score >= farthest - slack } else { score <= farthest + slack }
}

/// A point that might be asked for: a neighbour of a stored row, mirrored at that row, so that it is as far from the
/// rows as they are from each other, in the directions in which they lie. A row itself, or a point between rows, would
/// be easier to find neighbours of than what users ask. `None` where no try hit a living row.
pub fn mirrored_row(
    snapshot: &Snapshot,
    distance: Distance,
    random: &mut Random,
    ef: usize,
    deadline: Instant,
) -> Result<Option<Query>, QueryError> {
    let Some((segment, row)) = living_row(snapshot, random) else { return Ok(None) };
    let (vector, id) = (segment.vectors()?.row(row), segment.ids().id(row));
    let asked = Asked { snapshot, distance, vector, except: Some(&id), deadline };
    let mut request = request(None);
    (request.ef_search, request.with_vector) = (Some(ef), true);
    let near = asked.run(&request)?;
    let neighbour = near.get(near.len() / 2).and_then(|hit| hit.record.vector.as_deref()).unwrap_or(vector);
    let mirrored = vector.iter().zip(neighbour).map(|(row, neighbour)| 2.0 * row - neighbour).collect();
    // The zero vector has no direction.
    let vector = prepare_vector(distance, mirrored, "query").unwrap_or_else(|_| vector.to_vec());
    Ok(Some(Query { vector: vector.into(), filter: None }))
}

/// A row of a segment with a graph, each as likely as the next.
fn living_row<'a>(snapshot: &'a Snapshot, random: &mut Random) -> Option<(&'a Arc<LiveSegment>, u32)> {
    let walked = || snapshot.view.segments.iter().filter(|live| live.graph.load().is_some());
    let rows: u64 = walked().map(|live| u64::from(live.rows())).sum();
    let mut pick = || {
        let mut number = random.below(rows);
        for segment in walked() {
            match u32::try_from(number) {
                Ok(row) if row < segment.rows() => return Some((segment, row)),
                _ => number -= u64::from(segment.rows()),
            }
        }
        None
    };
    (0..TRIES).filter_map(|_| pick()).find(|(segment, row)| segment.is_visible(*row, snapshot.lsn))
}

struct Asked<'a> {
    snapshot: &'a Snapshot,
    distance: Distance,
    vector: &'a [f32],
    except: Option<&'a PointId>,
    deadline: Instant,
}

impl Asked<'_> {
    fn run(&self, request: &SearchRequest) -> Result<Vec<Hit>, QueryError> {
        let search = Search {
            request,
            vector: self.vector,
            distance: self.distance,
            except: self.except,
            deadline: self.deadline,
            ef_search_default: RecallTarget::K,
        };
        Ok(search.run(self.snapshot)?.hits)
    }
}

fn request(filter: Option<crate::query::Filter>) -> SearchRequest {
    SearchRequest {
        nearest: Nearest::Vector(Vec::new()),
        limit: RecallTarget::K,
        offset: 0,
        filter,
        with_payload: PayloadSelection::Nothing,
        with_vector: false,
        score_threshold: None,
        exact: false,
        ef_search: None,
        codes: Default::default(),
        read: ReadOptions::default(),
    }
}
