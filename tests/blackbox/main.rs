//! The real program, its files and real brokers: what a user would see, also when things are killed.
//!
//! `PROXIMADB_REQUIRE=kafka` turns missing brokers into failures, `PROXIMADB_WITHOUT=kafka` skips them;
//! brokers are started by the scripts in `tests/services/`, unless the environment names some.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod harness;

mod cli;
mod clusters;
mod damage;
mod durability;
#[cfg(debug_assertions)] // a release has no fail points
mod fail_points;
mod file_pipeline;
mod freshness;
mod full_disk;
mod live_index;
mod memory_budget;
mod quantization;
mod recall;
mod recall_target;
mod restart;

#[cfg(feature = "kafka")]
mod kafka_source;
#[cfg(feature = "kafka")]
mod kafka_exactly_once;
#[cfg(feature = "kafka")]
mod kafka_bad_records;
#[cfg(feature = "kafka")]
mod kafka_dry_run;
#[cfg(feature = "kafka")]
mod kafka_backpressure;
