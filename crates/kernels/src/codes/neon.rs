//! NEON: products of bytes, two summed into 16 bits. Every aarch64.
use std::arch::aarch64::*;

const UNIT: usize = 16;
const NARROW_MAX: usize = i16::MAX as usize;

type Codes = uint8x16_t;
type Query = int8x16_t;
type Narrow = int16x8_t;
type Wide = int32x4_t;

#[inline]
#[target_feature(enable = "neon")]
fn zero_narrow() -> Narrow {
    vdupq_n_s16(0)
}

#[inline]
#[target_feature(enable = "neon")]
fn zero_wide() -> Wide {
    vdupq_n_s32(0)
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn load(at: *const u8, _bytes: usize) -> Codes {
    // SAFETY: the caller says that UNIT bytes can be read; bytes need no alignment.
    unsafe { vld1q_u8(at) }
}

#[inline]
#[target_feature(enable = "neon")]
unsafe fn load_query(at: *const i8, _apart: usize, _bytes: usize) -> Query {
    // SAFETY: as in `load`.
    unsafe { vld1q_s8(at) }
}

#[inline]
#[target_feature(enable = "neon")]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    if BITS == 7 { codes } else { vandq_u8(codes, vdupq_n_u8((1 << BITS) - 1)) }
}

#[inline]
#[target_feature(enable = "neon")]
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
#[target_feature(enable = "neon")]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    let codes = vreinterpretq_s8_u8(codes); // at most 127
    let low = vmlal_s8(sum, vget_low_s8(codes), vget_low_s8(query));
    vmlal_high_s8(low, codes, query)
}

#[inline]
#[target_feature(enable = "neon")]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    vpadalq_s16(sum, narrow)
}

#[inline]
#[target_feature(enable = "neon")]
fn sum(wide: Wide) -> i32 {
    vaddvq_s32(wide)
}

#[inline]
#[target_feature(enable = "neon")]
fn sums([a, b, c, d]: [Wide; 4]) -> [i32; 4] {
    let four = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
    let mut out = [0; 4];
    // SAFETY: the reference covers the 16 bytes written.
    unsafe { vst1q_s32(out.as_mut_ptr(), four) };
    out
}

code_kernels!(#[target_feature(enable = "neon")]);
