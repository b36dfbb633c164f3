//! How small numbers lie in bytes.
use super::BLOCK;

/// Bits of a code: one dimension's share of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bits {
    /// 0..=1, 256 dimensions a block.
    One,
    /// 0..=3, 128 dimensions a block.
    Two,
    /// 0..=15, 64 dimensions a block.
    Four,
    /// 0..=127, a byte each: 32 dimensions a block. The eighth bit would overflow a sum of two products.
    Seven,
}

impl Bits {
    /// All of them, narrowest first.
    pub const ALL: [Bits; 4] = [Bits::One, Bits::Two, Bits::Four, Bits::Seven];

    /// The kind of that many bits, if there is one.
    pub const fn of(count: u32) -> Option<Bits> {
        match count {
            1 => Some(Bits::One),
            2 => Some(Bits::Two),
            4 => Some(Bits::Four),
            7 => Some(Bits::Seven),
            _ => None,
        }
    }

    /// How many bits.
    pub const fn count(self) -> u32 {
        match self {
            Bits::One => 1,
            Bits::Two => 2,
            Bits::Four => 4,
            Bits::Seven => 7,
        }
    }

    /// The greatest code.
    pub const fn max(self) -> u8 {
        (1 << self.count()) - 1
    }

    /// Codes in a byte.
    pub(super) const fn fields(self) -> usize {
        fields(self.count() as i32)
    }

    /// Dimensions of a block.
    pub const fn per_block(self) -> usize {
        BLOCK * self.fields()
    }

    /// Bytes of a row of `dim` codes: whole blocks.
    pub const fn stride(self, dim: usize) -> usize {
        dim.div_ceil(self.per_block()) * BLOCK
    }

    /// Dimensions that `dim` is padded to, with zeros.
    pub const fn padded_dim(self, dim: usize) -> usize {
        self.stride(dim) * self.fields()
    }
}

/// Codes in a byte.
pub(super) const fn fields(bits: i32) -> usize {
    if bits == 7 { 1 } else { 8 / bits as usize }
}

/// Writes one row. Dimensions beyond `values` become 0, bits of a value beyond [`Bits::max`] are cut
/// off. Panics unless `row` is whole blocks with room for `values`.
pub fn pack(bits: Bits, values: &[u8], row: &mut [u8]) {
    let (blocks, rest) = row.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty(), "a row is whole blocks of {BLOCK} bytes");
    assert!(values.len() <= blocks.len() * BLOCK * bits.fields(), "more values than the row has room for");
    let mut groups = values.chunks(BLOCK);
    for block in blocks {
        *block = [0; BLOCK];
        for field in 0..bits.fields() {
            let shift = field as u32 * bits.count();
            for (byte, &value) in block.iter_mut().zip(groups.next().unwrap_or_default()) {
                *byte |= (value & bits.max()) << shift;
            }
        }
    }
}

/// Reads one row back: as many values as `values` has room for. Panics unless `row` is whole blocks that
/// hold so many.
pub fn unpack(bits: Bits, row: &[u8], values: &mut [u8]) {
    let (blocks, rest) = row.as_chunks::<BLOCK>();
    assert!(rest.is_empty(), "a row is whole blocks of {BLOCK} bytes");
    assert!(values.len() <= blocks.len() * BLOCK * bits.fields(), "fewer values in the row than asked for");
    for (at, group) in values.chunks_mut(BLOCK).enumerate() {
        let block = &blocks[at / bits.fields()];
        let shift = (at % bits.fields()) as u32 * bits.count();
        for (value, &byte) in group.iter_mut().zip(block) {
            *value = (byte >> shift) & bits.max();
        }
    }
}
