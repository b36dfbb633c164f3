//! The kinds of codes, as a file names them, and what each takes.
use proximadb_kernels::codes::{Bits, DIM_MAX};

use super::{Bytes, Half, Product, coder::Coder};
use crate::types::{BinaryEncoding, Quantization, RabitqBits, ScalarType};

/// A kind of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::index) enum Kind {
    /// Levels of few bits per rotated component.
    Rabitq(Bits),
    /// Half floats.
    Half,
    /// A signed byte per component.
    Bytes,
    /// A byte per `width` components.
    Product {
        /// Components that share a byte.
        width: usize,
    },
}

impl Kind {
    /// What a collection asks for; `None` for no codes.
    pub(super) fn asked(quantization: Quantization) -> Option<Kind> {
        Some(match quantization {
            Quantization::None {} => return None,
            Quantization::F16 {} => Kind::Half,
            Quantization::Scalar(scalar) => match scalar.r#type {
                ScalarType::Int8 => Kind::Bytes,
            },
            Quantization::Binary(binary) => Kind::Rabitq(match binary.encoding {
                BinaryEncoding::OneBit => Bits::One,
                BinaryEncoding::TwoBits => Bits::Two,
            }),
            Quantization::Rabitq(rabitq) => Kind::Rabitq(match rabitq.bits {
                RabitqBits::One => Bits::One,
                RabitqBits::Two => Bits::Two,
                RabitqBits::Four => Bits::Four,
                RabitqBits::Seven => Bits::Seven,
            }),
            Quantization::Product(product) => {
                Kind::Product { width: product.compression.components() as usize }
            }
        })
    }

    /// Its number in a file.
    pub(in crate::index) fn number(self) -> u32 {
        match self {
            Kind::Rabitq(_) => 1,
            Kind::Half => 2,
            Kind::Bytes => 3,
            Kind::Product { .. } => 4,
        }
    }

    /// What else a file says of it: bits, or components that share a byte.
    pub(in crate::index) fn parameter(self) -> u32 {
        match self {
            Kind::Rabitq(bits) => bits.count(),
            Kind::Half => 16,
            Kind::Bytes => 8,
            Kind::Product { width } => width as u32,
        }
    }

    /// The kind of that number and parameter, if there is one.
    pub(in crate::index) fn of(number: u32, parameter: u32) -> Option<Kind> {
        let kind = match number {
            1 => Kind::Rabitq(Bits::of(parameter)?),
            2 => Kind::Half,
            3 => Kind::Bytes,
            4 if (1..=64).contains(&parameter) => Kind::Product { width: parameter as usize },
            _ => return None,
        };
        (kind.parameter() == parameter).then_some(kind)
    }

    /// Components of a code's vector, for vectors of `dim`.
    pub(in crate::index) fn padded(self, dim: usize) -> usize {
        match self {
            Kind::Rabitq(bits) => bits.padded_dim(dim),
            Kind::Half => Half::new(dim).padded(),
            Kind::Bytes => Bytes::new(dim).padded(),
            Kind::Product { width } => Product::padded_dim(dim, width),
        }
    }

    /// Bytes of a code.
    pub(in crate::index) fn stride(self, dim: usize) -> usize {
        match self {
            Kind::Rabitq(bits) => bits.stride(dim),
            Kind::Half => Half::new(dim).stride(),
            Kind::Bytes => Bytes::new(dim).stride(),
            Kind::Product { width } => dim.div_ceil(width),
        }
    }

    /// Numbers of its codebooks.
    pub(in crate::index) fn codebook_len(self, dim: usize) -> usize {
        match self {
            Kind::Product { width } => Product::codebook_len(dim, width),
            _ => 0,
        }
    }

    /// May vectors of `dim` components be written in it? Sums of whole numbers have room for so many.
    pub(in crate::index) fn fits(self, dim: usize) -> bool {
        let sums_whole_numbers = matches!(self, Kind::Rabitq(_) | Kind::Bytes);
        dim > 0 && (!sums_whole_numbers || self.padded(dim) <= DIM_MAX)
    }

    /// Are its estimates good enough to choose links by? By coarser ones graphs become worse than what they save.
    pub(super) fn is_fine(self) -> bool {
        match self {
            Kind::Rabitq(bits) => bits >= Bits::Four,
            Kind::Half | Kind::Bytes => true,
            Kind::Product { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_name_kinds() {
        let kinds = Bits::ALL.map(Kind::Rabitq).into_iter();
        for kind in kinds.chain([Kind::Half, Kind::Bytes, Kind::Product { width: 8 }]) {
            assert_eq!(Kind::of(kind.number(), kind.parameter()), Some(kind));
        }
        for (number, parameter) in [(0, 0), (1, 3), (2, 8), (3, 16), (4, 0), (4, 65), (5, 1)] {
            assert_eq!(Kind::of(number, parameter), None, "{number} {parameter}");
        }
    }

    #[test]
    fn sums_of_whole_numbers_bound_the_dimensions() {
        assert!(Kind::Bytes.fits(65_536) && !Kind::Bytes.fits(65_537));
        assert!(Kind::Half.fits(65_537) && Kind::Product { width: 4 }.fits(65_537));
        assert!(!Kind::Half.fits(0));
    }
}
