//! Which code kernels this machine runs, decided once.
use std::sync::OnceLock;

use super::layout::Bits;
use super::{BLOCK, DIM_MAX};
use crate::simd::Tier;

type Block<T> = [T; BLOCK];
type Many = unsafe fn(&[Block<i8>], &[Block<u8>], &mut [i32]);
type Ids = unsafe fn(&[Block<i8>], &[Block<u8>], usize, &[u32], &mut [i32]);

/// The code kernels of one level. Every value of this type that can be had is safe to call here:
/// [`Kernels::of`] hands out only what the CPU was found to support.
pub struct Kernels {
    name: &'static str,
    tier: Tier,
    supported: fn() -> bool,
    /// By [`Bits`], in its order.
    many: [Many; 4],
    ids: [Ids; 4],
}

macro_rules! level {
    ($name:literal, $tier:ident, $module:ident $(, $feature:tt)*) => {
        Kernels {
            name: $name,
            tier: Tier::$tier,
            supported: || Tier::$tier.is_here() $(&& feature!($feature))*,
            many: [
                super::$module::dot_many::<1>,
                super::$module::dot_many::<2>,
                super::$module::dot_many::<4>,
                super::$module::dot_many::<7>,
            ],
            ids: [
                super::$module::dot_ids::<1>,
                super::$module::dot_ids::<2>,
                super::$module::dot_ids::<4>,
                super::$module::dot_ids::<7>,
            ],
        }
    };
}

/// Best first; the last one runs everywhere.
static LEVELS: &[Kernels] = &[
    #[cfg(target_arch = "x86_64")]
    level!("avx512vnni", Avx512, avx512_vnni, "avx512vnni"),
    #[cfg(target_arch = "x86_64")]
    level!("avx512bw", Avx512, avx512),
    #[cfg(target_arch = "x86_64")]
    level!("avxvnni", Avx2, avx_vnni, "avxvnni"),
    #[cfg(target_arch = "x86_64")]
    level!("avx2", Avx2, avx2),
    #[cfg(target_arch = "x86_64")]
    level!("sse4", Sse4, sse4),
    #[cfg(target_arch = "aarch64")]
    level!("neondot", Neon, neon_dot, "dotprod"),
    #[cfg(target_arch = "aarch64")]
    level!("neon", Neon, neon),
    SCALAR,
];

const SCALAR: Kernels = level!("scalar", Scalar, scalar);

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
        LEVELS.iter().filter(|level| (level.supported)())
    }

    /// The level of that name, if this machine has it.
    pub fn of(name: &str) -> Option<&'static Kernels> {
        Kernels::available().find(|level| level.name == name)
    }

    /// The level's name: a [`Tier`]'s, or a part of one.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// See [`super::dot_many`].
    #[inline]
    pub fn dot_many(&self, bits: Bits, query: &[i8], codes: &[u8], out: &mut [i32]) {
        let (query, codes) = (query_blocks(bits, query), code_blocks(codes));
        let blocks = query.len() / bits.fields();
        assert_eq!(Some(codes.len()), blocks.checked_mul(out.len()), "rows and results differ in number");
        // SAFETY: this level's CPU features were detected before anyone got hold of it.
        unsafe { (self.many[bits as usize])(query, codes, out) }
    }

    /// See [`super::dot_ids`].
    #[inline]
    pub fn dot_ids(&self, bits: Bits, query: &[i8], codes: &[u8], ids: &[u32], out: &mut [i32]) {
        self.dot_prefixes(bits, query, codes, query.len() / bits.fields(), ids, out);
    }

    /// See [`super::dot_prefixes`].
    #[inline]
    pub fn dot_prefixes(
        &self,
        bits: Bits,
        query: &[i8],
        codes: &[u8],
        stride: usize,
        ids: &[u32],
        out: &mut [i32],
    ) {
        assert_eq!(ids.len(), out.len(), "ids and results differ in number");
        assert!(stride.is_multiple_of(BLOCK), "rows of codes are whole blocks of {BLOCK} bytes");
        let (query, codes) = (query_blocks(bits, query), code_blocks(codes));
        // SAFETY: as in `dot_many`.
        unsafe { (self.ids[bits as usize])(query, codes, stride / BLOCK, ids, out) }
    }
}

#[inline]
fn query_blocks(bits: Bits, query: &[i8]) -> &[Block<i8>] {
    let (blocks, rest) = query.as_chunks::<BLOCK>();
    assert!(
        rest.is_empty() && blocks.len().is_multiple_of(bits.fields()),
        "a query for codes is padded to whole blocks"
    );
    assert!(query.len() <= DIM_MAX, "a query for codes has at most {DIM_MAX} dimensions");
    blocks
}

#[inline]
fn code_blocks(codes: &[u8]) -> &[Block<u8>] {
    let (blocks, rest) = codes.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "rows of codes are whole blocks of {BLOCK} bytes");
    blocks
}
