//! Measures a running ProximaDB from outside, through the doors that users have.
//!
//! Each subcommand starts `proximadb serve` over an empty directory, loads it, and prints one JSON line on
//! standard output and one line for people on standard error. `table` turns collected JSON lines into Markdown.
//! Latencies under a rate are counted from the moment a request was due, not from when it could be sent.
#![forbid(unsafe_code)]

mod avro;
mod data;
mod disk;
mod http;
mod kafka;
mod latency;
mod process;
mod report;
mod runs;
mod server;

use clap::{Parser, Subcommand};

/// Whatever went wrong; the text is for the person at the terminal.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// Load and benchmark harness of ProximaDB.
#[derive(Debug, Parser)]
#[command(name = "proximadb-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Durable batch upserts through REST, as fast as they are answered.
    IngestRest(runs::push::PushArgs),
    /// Durable batch upserts through gRPC, as fast as they are answered.
    IngestGrpc(runs::push::PushArgs),
    /// A topic of Avro records drained until all is durable and searchable, against a bare consumer.
    IngestKafka(runs::drain::DrainArgs),
    /// Records produced at a fixed rate: from when each was due until a search found it.
    Freshness(runs::freshness::FreshnessArgs),
    /// Searches on real embeddings: latency and recall, idle and while rows come in.
    Search(runs::search::SearchArgs),
    /// Start-up time, clean and after a kill, and resident memory.
    Startup(runs::startup::StartupArgs),
    /// Markdown of the JSON lines on standard input.
    Table,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let done = match Cli::parse().command {
        Command::IngestRest(args) => runs::push::rest(args).await,
        Command::IngestGrpc(args) => runs::push::grpc(args).await,
        Command::IngestKafka(args) => runs::drain::run(args).await,
        Command::Freshness(args) => runs::freshness::run(args).await,
        Command::Search(args) => runs::search::run(args).await,
        Command::Startup(args) => runs::startup::run(args).await,
        Command::Table => report::table(),
    };
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
