//! A scan by codes: all rows of a list, exact where the codes leave a doubt.
use super::rescore::Rescore;
use super::scratch::Scratch;
use super::walk::Clock;
use super::{IndexError, IndexHits, IndexQuery, TopK};

/// Rows estimated before the bound is looked at again.
const AT_ONCE: usize = 64;

/// The nearest alive rows of `rows`.
///
/// A row is scored exactly unless its estimate, as wrong as it may well be, puts it beyond the `k` best
/// so far: one in a thousand of those that belong there is missed.
pub(super) fn scan(
    rescore: &Rescore<'_>,
    rows: impl Iterator<Item = u32>,
    query: &IndexQuery<'_>,
    scratch: &mut Scratch,
    clock: &mut Clock,
) -> Result<IndexHits, IndexError> {
    let mut rows = rows;
    let mut top = TopK::new(query.k);
    let (mut visited, mut doubtful) = (0, Vec::with_capacity(AT_ONCE));
    let Scratch { ids, distances, .. } = scratch;
    loop {
        clock.tick()?;
        ids.clear();
        ids.extend(rows.by_ref().take(AT_ONCE));
        if ids.is_empty() {
            return Ok(IndexHits { rows: top.into_sorted(), visited });
        }
        visited += ids.len() as u64;
        distances.resize(ids.len(), 0.0);
        doubtful.clear();
        rescore.doubtful(ids, distances, top.bound(), &mut doubtful);
        doubtful.retain(|&row| (query.alive)(row));
        distances.resize(doubtful.len(), 0.0);
        rescore.exact(&doubtful, distances);
        for (&row, &distance) in doubtful.iter().zip(distances.iter()) {
            top.push(distance, row);
        }
    }
}
