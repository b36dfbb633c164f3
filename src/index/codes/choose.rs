//! How many bits a segment's rows need, told by a sample.
use proximadb_kernels::codes::{Bits, DIM_MAX};

use super::{CodedQuery, Codes, EncodeWork, FACTORS, Quantizer};
use crate::index::random::Random;
use crate::index::space::Space;

/// Rows compared; all others are taken to be like them.
const SAMPLE: usize = 2048;

/// Rows of the sample that are asked about.
const QUERIES: usize = 64;

/// Nearest rows that codes must not lose …
const NEAREST: usize = 10;

/// … among so many that they take for nearest. A walk keeps more than that.
const KEPT: usize = 20;

/// The share of nearest rows that must be kept.
const KEPT_SHARE: f64 = 0.985;

/// Rows longer than this many times the median don't move the centre: one huge row would put it where
/// no other is.
const FAR: f32 = 8.0;

/// The fewest bits that keep apart what is apart; `None` if none do, or floats are as small.
///
/// One and two bits are not tried: in memory they save little beside links, and they ask for more rows
/// to be looked at again.
pub(in crate::index) fn choose(space: &Space<'_>, seed: u64) -> Option<Quantizer> {
    let mut random = Random::new(seed);
    let rows: Vec<u32> = sample(space.len(), &mut random);
    let centre = centre(space, &rows)?;
    [Bits::Four, Bits::Seven].into_iter().find_map(|bits| {
        let floats = space.dim() * size_of::<f32>();
        if 2 * bits.stride(space.dim()) >= floats || bits.padded_dim(space.dim()) > DIM_MAX {
            return None;
        }
        let mut quantizer = Quantizer::new(bits, space.dim(), seed, Vec::new(), 0.0);
        let mut rotated = Vec::new();
        quantizer.residual(&centre, None, &mut rotated);
        quantizer.centre = rotated;
        let trial = try_out(&quantizer, space, &rows);
        quantizer.error = trial.error;
        (trial.kept >= KEPT_SHARE).then_some(quantizer)
    })
}

/// The same quantizer for other rows, its error measured anew, if it keeps apart what is apart among them.
pub(in crate::index) fn still_fits(quantizer: &Quantizer, space: &Space<'_>, seed: u64) -> Option<Quantizer> {
    let rows = sample(space.len(), &mut Random::new(seed));
    let trial = try_out(quantizer, space, &rows);
    let again = || {
        let Quantizer { bits, dim, seed, centre, .. } = quantizer;
        Quantizer::new(*bits, *dim, *seed, centre.clone(), trial.error)
    };
    (quantizer.dim == space.dim() && trial.kept >= KEPT_SHARE).then(again)
}

/// What codes of a sample do.
struct Trial {
    /// Share of the nearest rows that are among those with the least estimates.
    kept: f64,
    /// See [`Quantizer::error`].
    error: f32,
}

fn try_out(quantizer: &Quantizer, space: &Space<'_>, rows: &[u32]) -> Trial {
    let stride = quantizer.stride();
    let mut packed = vec![0; rows.len() * stride];
    let mut factors = vec![0.0; rows.len() * FACTORS];
    let mut work = EncodeWork::default();
    for ((&row, code), factors) in rows.iter().zip(packed.chunks_mut(stride)).zip(factors.chunks_mut(FACTORS))
    {
        factors.copy_from_slice(&quantizer.encode(space.block.row(row), space.lift_of(row), code, &mut work));
    }
    let codes = Codes { quantizer, factors: &factors, packed: &packed };
    let places: Vec<u32> = (0..rows.len() as u32).collect();
    let (mut exact, mut estimates) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
    let mut query = CodedQuery::default();
    let (mut kept, mut wanted, mut squares, mut measured) = (0, 0, 0.0, 0);
    // Spread as well: in a merged segment the first rows are those of one of its inputs.
    for &row in rows.iter().step_by((rows.len() / QUERIES).max(1)).take(QUERIES) {
        let vector = space.block.row(row);
        space.distances_from_query(vector, rows, &mut exact);
        quantizer.prepare(vector, space.query_lift(), &mut query);
        codes.distances(&query, &places, &mut estimates);
        let nearest = least(&exact, NEAREST);
        let taken = least(&estimates, KEPT);
        // By distance: of rows equally near any will do.
        let farthest = nearest.last().map_or(f32::INFINITY, |&at| exact[at]);
        kept += taken.iter().filter(|&&at| exact[at] <= farthest).count().min(nearest.len());
        wanted += nearest.len();
        for (at, (exact, estimate)) in exact.iter().zip(&estimates).enumerate() {
            let unit = 2.0 * (query.square * factors[at * FACTORS]).sqrt();
            let error = (exact - estimate) / unit;
            if error.is_finite() {
                squares += f64::from(error * error);
                measured += 1;
            }
        }
    }
    Trial {
        kept: f64::from(kept as u32) / f64::from(wanted.max(1) as u32),
        error: (squares / f64::from(measured.max(1))).sqrt() as f32,
    }
}

/// Places of the least values, least first.
fn least(values: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    places.truncate(count);
    places
}

fn sample(rows: usize, random: &mut Random) -> Vec<u32> {
    if rows <= SAMPLE {
        return (0..rows as u32).collect();
    }
    // A row from each of so many equal stretches: spread evenly, none twice.
    (0..SAMPLE)
        .map(|at| {
            let (first, next) = (rows * at / SAMPLE, rows * (at + 1) / SAMPLE);
            (first + random.below(next - first)) as u32
        })
        .collect()
}

/// The mean of rows of ordinary length, in the space of the build. `None` if there are none.
fn centre(space: &Space<'_>, rows: &[u32]) -> Option<Vec<f32>> {
    let squares: Vec<f32> = rows.iter().map(|&row| space.square(row)).collect();
    let mut finite: Vec<f32> = squares.iter().copied().filter(|square| square.is_finite()).collect();
    finite.sort_unstable_by(f32::total_cmp);
    let median = *finite.get(finite.len() / 2)?;
    let mut sum = vec![0.0f64; space.dim()];
    let mut count = 0;
    for (&row, _) in rows.iter().zip(&squares).filter(|(_, square)| **square <= median * FAR * FAR) {
        let components = space.block.row(row).iter().copied().chain(space.lift_of(row));
        sum.iter_mut().zip(components).for_each(|(sum, x)| *sum += f64::from(x));
        count += 1;
    }
    let scale = 1.0 / f64::from(count.max(1));
    Some(sum.into_iter().map(|sum| (sum * scale) as f32).collect())
}
