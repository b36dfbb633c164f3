//! What every kind of code does.
use super::{Bytes, CodedQuery, Half, Product, Rabitq};

/// A way to write a vector `r` as a code: a shorter description of some `v` that points nearly where `r` does.
///
/// Contract
/// * `encode` writes `stride` bytes whatever the components are, and returns `⟨v, r⟩`.
/// * `products` of a query `q` are `⟨v, q⟩`, up to what `prepare` or `decode` made of `q`.
/// * The same input gives the same code.
pub(super) trait Coder {
    /// Components of `r`: those of a vector and zeros.
    fn padded(&self) -> usize;

    /// Bytes of a code.
    fn stride(&self) -> usize;

    /// Writes the code of `r`, `padded` components; returns `⟨v, r⟩`. `levels`: memory.
    fn encode(&self, residual: &[f32], code: &mut [u8], levels: &mut Vec<u8>) -> f32;

    /// Makes of `query.rotated`, `padded` components, what `products` asks for.
    fn prepare(&self, query: &mut CodedQuery);

    /// Sets the query to `scale · v` of a code.
    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery);

    /// `out[i] = ⟨v, q⟩` of row `ids[i]`. Panics if a row isn't there.
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]);
}

/// The coders there are. Which one is asked once per list of rows, and the loop over the list is its own.
pub(in crate::index) enum AnyCoder {
    Rabitq(Rabitq),
    Half(Half),
    Bytes(Bytes),
    Product(Product),
}

/// Calls a coder's function, whichever it is.
macro_rules! either {
    ($any:expr, $coder:ident => $call:expr) => {
        match $any {
            AnyCoder::Rabitq($coder) => $call,
            AnyCoder::Half($coder) => $call,
            AnyCoder::Bytes($coder) => $call,
            AnyCoder::Product($coder) => $call,
        }
    };
}

impl Coder for AnyCoder {
    fn padded(&self) -> usize {
        either!(self, coder => coder.padded())
    }

    fn stride(&self) -> usize {
        either!(self, coder => coder.stride())
    }

    fn encode(&self, residual: &[f32], code: &mut [u8], levels: &mut Vec<u8>) -> f32 {
        either!(self, coder => coder.encode(residual, code, levels))
    }

    fn prepare(&self, query: &mut CodedQuery) {
        either!(self, coder => coder.prepare(query))
    }

    #[inline]
    fn decode(&self, code: &[u8], scale: f32, query: &mut CodedQuery) {
        either!(self, coder => coder.decode(code, scale, query))
    }

    #[inline]
    fn products(&self, query: &CodedQuery, packed: &[u8], ids: &[u32], out: &mut [f32]) {
        either!(self, coder => coder.products(query, packed, ids, out))
    }
}
