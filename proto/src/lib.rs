//! The gRPC messages, services and clients of ProximaDB, generated from `proto/proximadb/v1/*.proto`.
//!
//! Read those files: they say what each field means.

/// Version 1 of the interface. Fields are added, never changed.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("proximadb.v1");
}
