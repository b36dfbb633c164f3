//! No SIMD: every machine, and what the other levels are tested against.
const UNIT: usize = 8;
const NARROW_MAX: usize = i32::MAX as usize;

/// Eight codes, the first one lowest.
type Codes = u64;
type Query = [i8; UNIT];
type Narrow = i32;
type Wide = i32;

#[inline(always)]
fn zero_narrow() -> Narrow {
    0
}

#[inline(always)]
fn zero_wide() -> Wide {
    0
}

#[inline(always)]
unsafe fn load(at: *const u8, _bytes: usize) -> Codes {
    // SAFETY: the caller says that UNIT bytes can be read; an array of bytes needs no alignment.
    u64::from_le_bytes(unsafe { at.cast::<[u8; UNIT]>().read() })
}

#[inline(always)]
unsafe fn load_query(at: *const i8, _apart: usize, _bytes: usize) -> Query {
    // SAFETY: as in `load`.
    unsafe { at.cast::<Query>().read() }
}

#[inline(always)]
fn low_bits<const BITS: i32>(codes: Codes) -> Codes {
    codes & (u64::MAX / 255 * ((1 << BITS) - 1))
}

#[inline(always)]
fn shift<const BITS: i32>(codes: Codes) -> Codes {
    codes >> BITS // bits of a neighbour come in from above, and `low_bits` cuts them off
}

#[inline(always)]
fn accumulate(sum: Narrow, codes: Codes, query: Query) -> Narrow {
    let mut sum = sum;
    for (code, value) in codes.to_le_bytes().into_iter().zip(query) {
        sum += i32::from(code) * i32::from(value);
    }
    sum
}

#[inline(always)]
fn widen(sum: Wide, narrow: Narrow) -> Wide {
    sum + narrow
}

#[inline(always)]
fn sum(wide: Wide) -> i32 {
    wide
}

#[inline(always)]
fn sums(wide: [Wide; 4]) -> [i32; 4] {
    wide
}

code_kernels!();
