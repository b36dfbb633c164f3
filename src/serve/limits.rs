//! What one request may ask for.
use std::time::Duration;

/// Bounds of the doors. Each is a promise about memory or time: a request past one is refused, never cut short.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, REST and gRPC. Default 64 MiB: a batch of 20,000 vectors of 768 floats fits gRPC.
    /// Larger lets few clients fill the memory; smaller refuses batches that others' servers take.
    pub body_bytes_max: usize,
    /// Most hits or points in one answer, and the furthest `offset`. Default 100,000: an answer is built in
    /// memory before it is sent. Page with scroll beyond it.
    pub limit_max: usize,
    /// Most queries in one batch. Default 1,024.
    pub queries_max: usize,
    /// How long a request may take that names no timeout. Default 60 s.
    pub timeout_default: Duration,
    /// How long a request with a large body waits for room in the process's memory. Default 5 s.
    pub room_wait: Duration,
    /// The longest timeout that a request may name. Default 1 h.
    pub timeout_max: Duration,
    /// Batches of one gRPC stream that may be unanswered. Default 16: enough for every group commit to carry
    /// some while the next ones are read.
    pub stream_batches_max: usize,
    /// Bytes of these batches. Default 64 MiB: bounds a stream's memory whatever the size of its batches.
    pub stream_bytes_max: usize,
    /// Connections at once; further ones wait in the kernel's queue. Default 10,000.
    pub connections_max: usize,
    /// How long requests in flight may go on after shutdown begins. Default 10 s.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            limit_max: 100_000,
            queries_max: 1_024,
            timeout_default: Duration::from_secs(60),
            room_wait: Duration::from_secs(5),
            timeout_max: Duration::from_secs(3_600),
            stream_batches_max: 16,
            stream_bytes_max: 64 << 20,
            connections_max: 10_000,
            drain: Duration::from_secs(10),
        }
    }
}
