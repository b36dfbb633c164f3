//! ProximaDB: publish vectors to a topic and search them within milliseconds, exactly once.
//!
//! The modules below stand in the order of a record's life:
//!
//! ```text
//! source ─▶ decode ─▶ wal ─▶ memtable ─▶ flush ─▶ store ─▶ index
//!                                 ▲                  ▲       ▲
//!                                 └───── query ──────┴───────┘
//!                                  REST · gRPC (serve)
//! ```
#![forbid(unsafe_code)]

pub mod types;
pub mod config;
pub mod faults;
pub mod stage;
pub mod memory;

pub mod source;
pub mod decode;
pub mod wal;
pub mod replicate;
pub mod memtable;
pub mod flush;
pub mod store;
pub mod index;
pub mod catalog;

pub mod view;
pub mod query;
pub mod shard;
pub mod ingest;
pub mod engine;
pub mod serve;

pub mod assemble;
pub mod cli;
pub mod telemetry;
