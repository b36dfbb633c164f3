//! NEON with dot products: four products of bytes summed into 32 bits (ARMv8.2 on).
use std::arch::aarch64::*;

const UNIT: usize = 16;
const NARROW_MAX: usize = i32::MAX as usize; // four products of bytes go straight into 32 bits

type Codes = uint8x16_t;
type Query = int8x16_t;
type Narrow = int32x4_t;
type Wide = int32x4_t;

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn zero_narrow() -> Narrow {
    vdupq_n_s32(0)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn zero_wide() -> Wide {
    vdupq_n_s32(0)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn load(at: *const u8, _bytes: usize) -> Codes {
    // SAFETY: the caller says that UNIT bytes can be read; bytes need no alignment.
    unsafe { vld1q_u8(at) }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn load_query(at: *const i8, _apart: usize, _bytes: usize) -> Query {
    // SAFETY: as in `load`.
    unsafe { vld1q_s8(at) }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    if BITS == 7 { codes } else { vandq_u8(codes, vdupq_n_u8((1 << BITS) - 1)) }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn shift<const BITS: i32>(codes: Codes) -> Codes {
    // A shift by a constant takes no parameter of another function's.
    match BITS {
        1 => vshrq_n_u8::<1>(codes),
        2 => vshrq_n_u8::<2>(codes),
        4 => vshrq_n_u8::<4>(codes),
        _ => codes, // a byte is one field
    }
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    let mut sum = sum;
    // The intrinsic isn't stable yet.
    // SAFETY: SDOT reads and writes registers alone, and `dotprod` is enabled here.
    unsafe {
        std::arch::asm!("sdot {sum:v}.4s, {codes:v}.16b, {query:v}.16b",
            sum = inout(vreg) sum, codes = in(vreg) codes, query = in(vreg) query,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    vaddq_s32(sum, narrow)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sum(wide: Wide) -> i32 {
    vaddvq_s32(wide)
}

#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sums([a, b, c, d]: [Wide; 4]) -> [i32; 4] {
    let four = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
    let mut out = [0; 4];
    // SAFETY: the reference covers the 16 bytes written.
    unsafe { vst1q_s32(out.as_mut_ptr(), four) };
    out
}

code_kernels!(#[target_feature(enable = "neon,dotprod")]);
