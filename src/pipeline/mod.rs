//! The runtime every stage shares: bounded channels, threads, supervision.
