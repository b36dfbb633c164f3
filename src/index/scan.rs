//! A scan by codes: all rows of a list, exact where the codes leave a doubt.
use super::near::Near;
use super::rescore::Rescore;
use super::scratch::Scratch;
use super::walk::Clock;
use super::{IndexError, IndexHits, IndexQuery, TopK};

/// Rows estimated before the bound is looked at again.
const AT_ONCE: usize = 64;

/// The nearest alive rows of `rows`.
///
/// First every row is estimated, and those stay that may be among the `k` nearest, as wrong as estimates may well
/// be; they are then scored exactly, nearest estimate first, while there is a doubt. One in a thousand of those
/// that belong to the answer is missed. Without codes all alive rows are scored exactly.
pub(super) fn scan(
    rescore: &Rescore<'_>,
    rows: impl Iterator<Item = u32>,
    query: &IndexQuery<'_>,
    scratch: &mut Scratch,
    clock: &mut Clock,
) -> Result<IndexHits, IndexError> {
    let mut rows = rows;
    let mut top = TopK::new(query.k);
    let mut visited = 0;
    let Scratch { ids, distances, near, .. } = scratch;
    near.clear();
    loop {
        clock.tick()?;
        ids.clear();
        ids.extend(rows.by_ref().take(AT_ONCE));
        if ids.is_empty() {
            break;
        }
        visited += ids.len() as u64;
        distances.resize(ids.len(), 0.0);
        if !rescore.estimates(ids, distances) {
            ids.retain(|&row| (query.alive)(row));
            distances.resize(ids.len(), 0.0);
            rescore.exact(ids, distances);
            for (&row, &distance) in ids.iter().zip(distances.iter()) {
                top.push(distance, row);
            }
            continue;
        }
        // `top` holds the least upper bounds for now: no row of the answer lies beyond the k-th.
        let mut bound = top.bound();
        for (&row, &estimate) in ids.iter().zip(distances.iter()) {
            if !rescore.may_be_within(row, estimate, bound) || !(query.alive)(row) {
                continue;
            }
            near.push(Near::new(estimate, row));
            if top.push(rescore.at_most(row, estimate), row) {
                bound = top.bound();
            }
        }
    }
    if near.is_empty() {
        return Ok(IndexHits { rows: top.into_sorted(), visited, scanned: true });
    }
    let bound = top.bound();
    near.retain(|near| rescore.may_be_within(near.row(), near.distance(), bound));
    near.sort_unstable();
    let mut top = TopK::new(query.k);
    rescore.look(near, ids, distances, |distance, row| {
        top.push(distance, row);
        Some(top.bound())
    });
    Ok(IndexHits { rows: top.into_sorted(), visited, scanned: true })
}
