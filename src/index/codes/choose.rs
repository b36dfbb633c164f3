//! Which codes a segment's rows get: those asked for, or as few bits as a sample says that they need.
//!
//! ```text
//!   asked for        built on               walked on
//!   nothing          4 or 7 bits, or none   the same     what a sample needs
//!   fine codes       those                  the same     4 or 7 bits, bytes, half floats
//!   coarse codes     as if nothing was      those        1 or 2 bits, product
//! ```
//! Links are chosen by differences of distances, which coarse codes tell wrong; for a walk it is enough to keep
//! more candidates and look at them again. Where a sample says that the codes asked for lose too much, finer ones
//! take their place.
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::io;

use proximadb_kernels::codes::Bits;
use proximadb_kernels::huge::HugeBuffer;

use super::coder::AnyCoder;
use super::{CodedQuery, Codes, EncodeWork, FACTORS, Kind, Product, Quantizer};
use crate::index::random::Random;
use crate::index::space::Space;
use crate::types::Quantization;

/// Rows compared; all others are taken to be like them.
const SAMPLE: usize = 2048;

/// Times as many rows are looked at where most of a sample are equal to others.
const MORE: usize = 8;

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

/// Times more candidates at most. Codes that need more lose some rows however many are kept (dot products of rows of
/// very different lengths in 1 and 2 bits: recall 0.92 at 160 times k); such segments get finer ones.
const WIDENING_MAX: f32 = 8.0;

/// Rows below which codewords would be taught by few and weigh as much as what they save: such segments get
/// RaBitQ of about as many bits.
const PRODUCT_ROWS_MIN: usize = 4096;

/// Rows that codewords are taught by, at most: 32 for each of 256.
const TAUGHT_ROWS: usize = 8192;

/// Components that codewords are taught by, at most, so that a build's memory stays in bounds.
const TAUGHT_COMPONENTS: usize = 16 << 20;

/// The codes that a graph is built on; `None` for the vectors themselves.
pub(in crate::index) fn to_build_on(
    space: &Space<'_>,
    asked: Option<Quantization>,
    seed: u64,
) -> Option<Quantizer> {
    match asked.map(Kind::asked) {
        Some(None) => None,
        Some(Some(kind)) if kind.is_fine() => {
            let asked = Sample::of(space, seed)?.quantizer(space, kind, seed);
            asked.or_else(|| enough(space, seed))
        }
        None | Some(Some(_)) => enough(space, seed),
    }
}

/// The codes that a graph is walked on, if others than it was built on.
pub(in crate::index) fn to_walk_on(
    space: &Space<'_>,
    asked: Option<Quantization>,
    seed: u64,
    threads: usize,
) -> Option<Quantizer> {
    let kind = Kind::asked(asked?).filter(|kind| !kind.is_fine())?;
    let sample = Sample::of(space, seed)?;
    match kind {
        Kind::Product { width } if space.len() >= PRODUCT_ROWS_MIN => {
            sample.product(space, width, seed, threads)
        }
        Kind::Product { width } => sample.quantizer(space, Kind::Rabitq(bits_like(width)), seed),
        kind => sample.quantizer(space, kind, seed),
    }
}

/// The bits per component that take no less than a byte per `width` components.
fn bits_like(width: usize) -> Bits {
    match width {
        ..=1 => Bits::Seven,
        2 => Bits::Four,
        3 | 4 => Bits::Two,
        _ => Bits::One,
    }
}

/// The fewest bits that keep apart what is apart; `None` if none do, or floats are as small.
///
/// One and two bits are not tried: in memory they save little beside links, and they ask for more rows
/// to be looked at again.
fn enough(space: &Space<'_>, seed: u64) -> Option<Quantizer> {
    let sample = Sample::of(space, seed)?;
    [Bits::Four, Bits::Seven].into_iter().find_map(|bits| {
        let floats = space.dim() * size_of::<f32>();
        if 2 * bits.stride(space.dim()) >= floats {
            return None;
        }
        let (quantizer, trial) = sample.tried(space, Kind::Rabitq(bits), seed)?;
        (trial.kept >= KEPT_SHARE).then_some(quantizer)
    })
}

/// Rows that stand for all, and their centre.
struct Sample {
    rows: Vec<u32>,
    centre: Vec<f32>,
}

impl Sample {
    /// `None` if no row is made of numbers.
    fn of(space: &Space<'_>, seed: u64) -> Option<Sample> {
        let rows = distinct(space, SAMPLE, seed);
        let centre = centre(space, &rows)?;
        Some(Sample { rows, centre })
    }

    /// A quantizer that knows its error. `None` if the vectors have too many components, or need finer codes.
    fn quantizer(&self, space: &Space<'_>, kind: Kind, seed: u64) -> Option<Quantizer> {
        let (quantizer, trial) = self.tried(space, kind, seed)?;
        trial.is_of_use().then_some(quantizer)
    }

    fn tried(&self, space: &Space<'_>, kind: Kind, seed: u64) -> Option<(Quantizer, Trial)> {
        if !kind.fits(space.dim()) {
            return None;
        }
        let rotated = matches!(kind, Kind::Rabitq(_));
        let mut quantizer = Quantizer::new(kind, space.dim(), seed, rotated, Vec::new(), Vec::new());
        quantizer.centre = self.centre_for(&quantizer);
        let trial = self.try_out(&mut quantizer, space)?;
        Some((quantizer, trial))
    }

    /// A rotation spreads what few components hold, and takes apart what neighbouring ones have in common:
    /// codewords are taught both ways by the sample, and by more rows the way that loses fewer of the nearest.
    fn product(&self, space: &Space<'_>, width: usize, seed: u64, threads: usize) -> Option<Quantizer> {
        if !(Kind::Product { width }).fits(space.dim()) {
            return None;
        }
        let taught = |rotated, rows: &[u32]| {
            let mut quantizer = self.taught(space, width, seed, threads, rotated, rows)?;
            let trial = self.try_out(&mut quantizer, space)?;
            Some((quantizer, trial))
        };
        let (plain, rotated) = (taught(false, &self.rows)?.1, taught(true, &self.rows)?.1);
        let count = (TAUGHT_COMPONENTS / space.dim()).clamp(SAMPLE, TAUGHT_ROWS);
        let rows = spread(space.len(), count, &mut Random::new(seed));
        let (quantizer, trial) = taught(rotated.rank < plain.rank, &rows)?;
        trial.is_of_use().then_some(quantizer)
    }

    fn taught(
        &self,
        space: &Space<'_>,
        width: usize,
        seed: u64,
        threads: usize,
        rotated: bool,
        rows: &[u32],
    ) -> Option<Quantizer> {
        let dim = space.dim();
        // What is rotated and centred, and needs no codebook yet.
        let blank = Product::new(dim, width, vec![0.0; Product::codebook_len(dim, width)]);
        let mut blank = Quantizer::of(AnyCoder::Product(blank), seed, rotated, Vec::new());
        blank.centre = self.centre_for(&blank);
        let (mut residuals, mut residual) = (Vec::with_capacity(rows.len() * blank.padded()), Vec::new());
        for &row in rows {
            blank.residual(space.block.row(row), space.lift_of(row), &mut residual);
            // One row that isn't numbers would make a codeword of none.
            let fits = residual.iter().all(|x| x.is_finite());
            residuals.extend_from_slice(if fits { &residual } else { &[] });
        }
        if residuals.is_empty() {
            return None;
        }
        let coder = AnyCoder::Product(Product::train(dim, width, &residuals, seed, threads));
        Some(Quantizer::of(coder, seed, rotated, blank.centre))
    }

    fn centre_for(&self, quantizer: &Quantizer) -> Vec<f32> {
        let mut centre = Vec::new();
        quantizer.residual(&self.centre, None, &mut centre);
        centre
    }

    /// Measures what codes do to the sample, and tells the quantizer. `None` where there is no memory for it, or
    /// nothing to measure.
    fn try_out(&self, quantizer: &mut Quantizer, space: &Space<'_>) -> Option<Trial> {
        let trial = try_out(quantizer, space, &self.rows).ok().filter(|trial| trial.is_measured)?;
        quantizer.error = trial.error;
        quantizer.widening = trial.widening();
        Some(trial)
    }
}

/// The same quantizer for other rows, its error measured anew, if it keeps apart what is apart among them. `None` for
/// codebooks too: they are taught by rows that may be gone.
pub(in crate::index) fn still_fits(quantizer: &Quantizer, space: &Space<'_>, seed: u64) -> Option<Quantizer> {
    let kind = quantizer.kind();
    if !kind.is_fine() || kind.padded(space.dim()) != quantizer.padded() {
        return None;
    }
    let Quantizer { seed: rotation, centre, .. } = quantizer;
    let rotated = quantizer.is_rotated();
    let mut again = Quantizer::new(kind, space.dim(), *rotation, rotated, centre.clone(), Vec::new());
    let trial = Sample::of(space, seed)?.try_out(&mut again, space)?;
    (trial.kept >= KEPT_SHARE).then_some(again)
}

/// What codes of a sample do.
struct Trial {
    /// Share of the nearest rows that are among those with the least estimates.
    kept: f64,
    /// How many least estimates hold the share that must be kept, for most rows asked about.
    rank: f32,
    /// See [`Quantizer::error`].
    error: f32,
    /// Was any error measured?
    is_measured: bool,
}

impl Trial {
    /// See [`Quantizer::widening`].
    fn widening(&self) -> f32 {
        (self.rank / KEPT as f32).max(1.0)
    }

    fn is_of_use(&self) -> bool {
        self.widening() <= WIDENING_MAX
    }
}

fn try_out(quantizer: &Quantizer, space: &Space<'_>, rows: &[u32]) -> io::Result<Trial> {
    let stride = quantizer.stride();
    let mut packed = HugeBuffer::zeroed(rows.len() * stride)?;
    let mut factors = vec![0.0; rows.len() * FACTORS];
    let mut work = EncodeWork::default();
    let codes = packed.as_mut_slice().chunks_mut(stride);
    for ((&row, code), factors) in rows.iter().zip(codes).zip(factors.chunks_mut(FACTORS)) {
        factors.copy_from_slice(&quantizer.encode(space.block.row(row), space.lift_of(row), code, &mut work));
    }
    let codes = Codes { quantizer, factors: &factors, packed: packed.as_slice() };
    let places: Vec<u32> = (0..rows.len() as u32).collect();
    let (mut exact, mut estimates) = (vec![0.0; rows.len()], vec![0.0; rows.len()]);
    let mut query = CodedQuery::default();
    let (mut kept, mut wanted, mut squares, mut measured) = (0, 0, 0.0, 0);
    let mut ranks = Vec::with_capacity(QUERIES * NEAREST);
    // Spread as well: in a merged segment the first rows are those of one of its inputs.
    for &row in rows.iter().step_by((rows.len() / QUERIES).max(1)).take(QUERIES) {
        let vector = space.block.row(row);
        space.distances_from_query(vector, rows, &mut exact);
        quantizer.prepare(vector, space.query_lift(), &mut query);
        codes.distances(&query, &places, &mut estimates);
        let nearest = least(&exact, NEAREST);
        let by_estimate = least(&estimates, rows.len());
        let taken = &by_estimate[..KEPT.min(rows.len())];
        // By distance: of rows equally near any will do.
        let farthest = nearest.last().map_or(f32::INFINITY, |&at| exact[at]);
        kept += taken.iter().filter(|&&at| exact[at] <= farthest).count().min(nearest.len());
        wanted += nearest.len();
        let found = by_estimate.iter().enumerate().filter(|(_, at)| exact[**at] <= farthest);
        ranks.extend(found.map(|(rank, _)| rank + 1).take(nearest.len()));
        for (at, (exact, estimate)) in exact.iter().zip(&estimates).enumerate() {
            let unit = 2.0 * query.square.sqrt() * factors[at * FACTORS].sqrt();
            let error = (exact - estimate) / unit;
            if error.is_finite() {
                squares += f64::from(error * error);
                measured += 1;
            }
        }
    }
    ranks.sort_unstable();
    let most = (ranks.len() as f64 * KEPT_SHARE) as usize;
    Ok(Trial {
        kept: f64::from(kept as u32) / f64::from(wanted.max(1) as u32),
        rank: ranks.get(most.min(ranks.len().saturating_sub(1))).map_or(1.0, |&rank| rank as f32),
        error: (squares / f64::from(measured.max(1))).sqrt() as f32,
        is_measured: measured > 0,
    })
}

/// Places of the least values, least first.
fn least(values: &[f32], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_unstable_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    places.truncate(count);
    places
}

/// Up to `count` rows that differ, ascending. Of rows that are all the same codes lose nothing, which says nothing of
/// the others; where most are, more are looked at.
fn distinct(space: &Space<'_>, count: usize, seed: u64) -> Vec<u32> {
    let unlike = |rows: Vec<u32>| {
        let mut seen = HashSet::with_capacity(rows.len());
        let hash = |row: u32| {
            let mut hasher = DefaultHasher::new();
            space.block.row(row).iter().for_each(|x| hasher.write_u32(x.to_bits()));
            hasher.finish()
        };
        rows.into_iter().filter(|&row| seen.insert(hash(row))).collect::<Vec<u32>>()
    };
    let rows = unlike(spread(space.len(), count, &mut Random::new(seed)));
    if 2 * rows.len() >= count.min(space.len()) {
        return rows;
    }
    let more = unlike(spread(space.len(), MORE * count, &mut Random::new(seed)));
    // Not the first of them: in a merged segment these are rows of one of its inputs.
    let step = more.len().div_ceil(count).max(1);
    more.into_iter().step_by(step).collect()
}

/// Up to `count` of `rows` rows, ascending.
fn spread(rows: usize, count: usize, random: &mut Random) -> Vec<u32> {
    if rows <= count {
        return (0..rows as u32).collect();
    }
    // A row from each of so many equal stretches: spread evenly, none twice.
    (0..count)
        .map(|at| {
            let (first, next) = (rows * at / count, rows * (at + 1) / count);
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
