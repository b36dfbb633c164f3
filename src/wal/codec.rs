//! The boundary between entries and the bytes that the log keeps of them.
use bytes::Bytes;

use super::WalError;
use crate::types::Entry;

/// Turns an entry into a frame's body and back.
///
/// Contract
/// * `decode(encode(e)) == e`, including the bits of every float.
/// * The first byte of a body names the codec, the second its version; both are refused when unknown.
/// * `decode` never panics and never allocates more than a small multiple of `body.len()`, whatever the bytes.
/// * Both run in the callers' threads: they hold no locks and keep no state.
pub trait WalCodec: Send + Sync {
    /// The body of the frame that will hold `entry`.
    fn encode(&self, entry: &Entry) -> Result<Bytes, WalError>;

    /// The entry in `body`.
    fn decode(&self, body: &[u8]) -> Result<Entry, WalError>;
}
