//! Which kernels this machine runs, decided once.
use std::sync::OnceLock;

use crate::simd::Tier;

type Pair = unsafe fn(&[f32], &[f32]) -> f32;
type Many = unsafe fn(&[f32], &[f32], &mut [f32]);
type Ids = unsafe fn(&[f32], &[f32], &[u32], &mut [f32]);
type Block = unsafe fn(&[f32], &[f32], usize, &mut [f32]);

/// The distance functions of one level. Every value of this type that can be had is safe to call here:
/// [`Kernels::of`] hands out only what the CPU was found to support.
pub struct Kernels {
    tier: Tier,
    dot: Pair,
    l2_squared: Pair,
    dot_many: Many,
    l2_squared_many: Many,
    dot_ids: Ids,
    l2_squared_ids: Ids,
    dot_block: Block,
    l2_squared_block: Block,
}

macro_rules! level {
    ($tier:ident, $module:ident) => {
        Kernels {
            tier: Tier::$tier,
            dot: super::$module::dot,
            l2_squared: super::$module::l2_squared,
            dot_many: super::$module::dot_many,
            l2_squared_many: super::$module::l2_squared_many,
            dot_ids: super::$module::dot_ids,
            l2_squared_ids: super::$module::l2_squared_ids,
            dot_block: super::$module::dot_block,
            l2_squared_block: super::$module::l2_squared_block,
        }
    };
}

/// Best first; the last one runs everywhere.
static LEVELS: &[Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    level!(Avx512, avx512),
    #[cfg(target_arch = "x86_64")]
    level!(Avx2, avx2),
    #[cfg(target_arch = "x86_64")]
    level!(Avx, avx),
    #[cfg(target_arch = "x86_64")]
    level!(Sse2, sse2),
    #[cfg(target_arch = "aarch64")]
    level!(Neon, neon),
    SCALAR,
];

const SCALAR: Kernels = level!(Scalar, scalar);

impl Kernels {
    /// The kernels in use: the best that [`Tier::allowed`] includes.
    #[inline]
    pub fn active() -> &'static Kernels {
        static FALLBACK: Kernels = SCALAR;
        static ACTIVE: OnceLock<&'static Kernels> = OnceLock::new();
        ACTIVE.get_or_init(|| {
            Kernels::available().find(|level| level.tier <= Tier::allowed()).unwrap_or(&FALLBACK)
        })
    }

    /// Every level this machine has, best first.
    pub fn available() -> impl Iterator<Item = &'static Kernels> {
        LEVELS.iter().filter(|level| level.tier.is_here())
    }

    /// The level of that name, if this machine has it.
    pub fn of(name: &str) -> Option<&'static Kernels> {
        Kernels::available().find(|level| level.name() == name)
    }

    /// The level's name, as `PROXIMADB_SIMD` spells it.
    pub fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// See [`super::dot`].
    #[inline]
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        check_pair(a, b);
        // SAFETY: K1, this level's CPU features were detected before anyone got hold of it.
        unsafe { (self.dot)(a, b) }
    }

    /// See [`super::l2_squared`].
    #[inline]
    pub fn l2_squared(&self, a: &[f32], b: &[f32]) -> f32 {
        check_pair(a, b);
        // SAFETY: K1, as in `dot`.
        unsafe { (self.l2_squared)(a, b) }
    }

    /// See [`super::dot_many`].
    #[inline]
    pub fn dot_many(&self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        if check_many(query, rows, out) {
            // SAFETY: K1, as in `dot`.
            unsafe { (self.dot_many)(query, rows, out) }
        }
    }

    /// See [`super::l2_squared_many`].
    #[inline]
    pub fn l2_squared_many(&self, query: &[f32], rows: &[f32], out: &mut [f32]) {
        if check_many(query, rows, out) {
            // SAFETY: K1, as in `dot`.
            unsafe { (self.l2_squared_many)(query, rows, out) }
        }
    }

    /// See [`super::dot_ids`].
    #[inline]
    pub fn dot_ids(&self, query: &[f32], rows: &[f32], ids: &[u32], out: &mut [f32]) {
        check_ids(ids, out);
        // SAFETY: K1, as in `dot`.
        unsafe { (self.dot_ids)(query, rows, ids, out) }
    }

    /// See [`super::l2_squared_ids`].
    #[inline]
    pub fn l2_squared_ids(&self, query: &[f32], rows: &[f32], ids: &[u32], out: &mut [f32]) {
        check_ids(ids, out);
        // SAFETY: K1, as in `dot`.
        unsafe { (self.l2_squared_ids)(query, rows, ids, out) }
    }

    /// See [`super::dot_block`].
    #[inline]
    pub fn dot_block(&self, queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
        if check_block(queries, rows, dim, out) {
            // SAFETY: K1, as in `dot`.
            unsafe { (self.dot_block)(queries, rows, dim, out) }
        }
    }

    /// See [`super::l2_squared_block`].
    #[inline]
    pub fn l2_squared_block(&self, queries: &[f32], rows: &[f32], dim: usize, out: &mut [f32]) {
        if check_block(queries, rows, dim, out) {
            // SAFETY: K1, as in `dot`.
            unsafe { (self.l2_squared_block)(queries, rows, dim, out) }
        }
    }
}

#[inline]
fn check_pair(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "vectors differ in length");
}

/// Is there anything to compute? Without components every distance is 0.
#[inline]
fn check_many(query: &[f32], rows: &[f32], out: &mut [f32]) -> bool {
    assert_eq!(Some(rows.len()), query.len().checked_mul(out.len()), "rows and results differ in number");
    if query.is_empty() {
        out.fill(0.0);
    }
    !query.is_empty()
}

#[inline]
fn check_ids(ids: &[u32], out: &[f32]) {
    assert_eq!(ids.len(), out.len(), "ids and results differ in number");
}

/// Is there anything to compute?
#[inline]
fn check_block(queries: &[f32], rows: &[f32], dim: usize, out: &[f32]) -> bool {
    assert!(dim > 0, "vectors of a block have components");
    assert!(
        queries.len().is_multiple_of(dim) && rows.len().is_multiple_of(dim),
        "vectors of a block are whole"
    );
    let pairs = (queries.len() / dim).checked_mul(rows.len() / dim);
    assert_eq!(pairs, Some(out.len()), "pairs and results differ in number");
    !out.is_empty()
}
