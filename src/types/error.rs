//! What a caller should do about an error; only `serve` knows the status codes.

/// The one thing a caller must know about an error: what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Fix the request; the message names the field.
    Invalid,
    /// Present a credential.
    Unauthenticated,
    /// Ask for a role.
    Forbidden,
    /// The thing named does not exist.
    NotFound,
    /// The thing named exists already.
    AlreadyExists,
    /// Re-read, then retry.
    Conflict,
    /// Back off and retry: backpressure has reached the edge.
    Overloaded,
    /// Retry on the leader.
    NotLeader,
    /// Retry later.
    Unavailable,
    /// Retry with the same id; the outcome of a write is unknown.
    Timeout,
    /// Data failed its checksum or is gone; report it.
    DataLoss,
    /// A broken invariant; report it.
    Internal,
}
