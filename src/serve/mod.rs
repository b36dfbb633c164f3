//! The doors: REST and gRPC on one port.
