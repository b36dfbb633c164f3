//! The gRPC messages, services and clients of ProximaDB, generated from `proto/proximadb/v1/*.proto`.
//!
//! Read those files: they say what each field means. After a change to them, run
//! `PROXIMADB_UPDATE=1 scripts/cargo.sh test -p proximadb-proto`; without that its test fails.

/// Version 1 of the interface. Fields are added, never changed.
#[allow(missing_docs, clippy::all)]
pub mod v1 {
    include!("proximadb.v1.rs");
}
