//! The command line. Results go to stdout, logs and progress to stderr; 0 done, 1 failed, 2 wrong use.
mod client;
mod collection;
mod demo;
mod inspect;
mod pipeline;
mod search;
mod serve;
mod table;
mod upsert;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Publish vectors to a topic, and search them within milliseconds, exactly once.
#[derive(Debug, Parser)]
#[command(name = "proximadb", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve REST and gRPC, and run pipelines, until SIGTERM or Ctrl-C.
    Serve(serve::ServeArgs),
    /// Load a real data set, ask it questions, and leave a server to try.
    Demo(demo::DemoArgs),
    /// Check pipelines, try them, and look after running ones.
    Pipeline {
        #[command(subcommand)]
        command: pipeline::PipelineCommand,
    },
    /// List, create, describe and delete collections.
    Collection {
        #[command(subcommand)]
        command: collection::CollectionCommand,
    },
    /// Write points from JSON lines.
    Upsert(upsert::UpsertArgs),
    /// Find the nearest points.
    Search(search::SearchArgs),
    /// What is in a data directory, and is it sound?
    Inspect(inspect::InspectArgs),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// 0
    Done,
    /// 1
    Failed,
    /// 2
    WrongUse,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Done => Self::SUCCESS,
            Ended::Failed => Self::from(1),
            Ended::WrongUse => Self::from(2),
        }
    }
}

/// Parses the process's arguments and does what they say.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // The HTTP client refuses to start without a provider. An error means that there is one already.
    #[cfg(feature = "tls")]
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Pipeline { command } => pipeline::run(command).await,
            Command::Collection { command } => collection::run(command).await,
            Command::Upsert(args) => upsert::run(args).await,
            Command::Search(args) => search::run(args).await,
            Command::Inspect(args) => inspect::run(args).await,
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    ended.into()
}

/// Tells an error with its causes, one line each.
pub(crate) fn complain(error: &dyn std::error::Error) -> Ended {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
    Ended::Failed
}
