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
use serde_json::{Value, json};

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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Which flags there are is what failed, so this one is looked for by hand.
        Err(error) if error.use_stderr() && std::env::args_os().any(|argument| argument == "--json") => {
            eprintln!("{}", usage_json(&error));
            return Ended::WrongUse.into();
        }
        Err(error) => error.exit(),
    };
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

/// What is wrong with the command line, without the word that people see before it.
fn usage_json(error: &clap::Error) -> Value {
    let text = error.to_string();
    json!({"error": text.strip_prefix("error: ").unwrap_or(&text).trim_end()})
}

/// Tells an error with its causes: one line each, or as one JSON object.
pub(crate) fn complain(error: &dyn std::error::Error, json: bool) -> Ended {
    if json {
        eprintln!("{}", error_json(error));
        return Ended::Failed;
    }
    eprintln!("error: {error}");
    for cause in causes(error) {
        eprintln!("  because: {cause}");
    }
    Ended::Failed
}

/// `{"error": text, "because": [cause, …]}`, the latter where there are causes.
pub(crate) fn error_json(error: &dyn std::error::Error) -> Value {
    let causes = causes(error);
    let mut told = json!({"error": error.to_string()});
    if !causes.is_empty() {
        told["because"] = json!(causes);
    }
    told
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |cause| cause.source()).map(ToString::to_string).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Those that do something: commands without commands of their own.
    fn leaves(command: &clap::Command, path: &str, into: &mut Vec<(String, bool)>) {
        let path = format!("{path} {}", command.get_name());
        if !command.has_subcommands() {
            let json = command.get_arguments().any(|argument| argument.get_long() == Some("json"));
            into.push((path, json));
            return;
        }
        command.get_subcommands().for_each(|below| leaves(below, &path, into));
    }

    #[test]
    fn every_command_takes_json() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() >= 14, "{found:?}");
        let without: Vec<_> = found.iter().filter(|(_, json)| !json).collect();
        assert!(without.is_empty(), "{without:?}");
    }

    #[test]
    fn errors_as_json_have_their_causes() {
        let cause = std::io::Error::other("the disk is on fire");
        let error = crate::assemble::StartError::Io { doing: "open", path: "d".into(), source: cause };
        assert_eq!(
            error_json(&error),
            json!({"error": "cannot open \"d\"", "because": ["the disk is on fire"]})
        );
        let alone = crate::assemble::StartError::Locked { path: "d".into() };
        assert_eq!(error_json(&alone).as_object().unwrap().len(), 1);
    }

    #[test]
    fn wrong_use_as_json_says_what_was_wrong() {
        let error = Cli::try_parse_from(["proximadb", "serve", "--json", "--bogus"]).unwrap_err();
        let told = usage_json(&error);
        assert!(told["error"].as_str().unwrap().starts_with("unexpected argument '--bogus'"), "{told}");
    }

    #[test]
    fn updates_take_what_creations_take() {
        let flags = ["--m", "8", "--levels", "on", "--quantization", "rabitq4", "--index", "hnsw"];
        let update = ["proximadb", "collection", "update", "c"].iter().chain(&flags);
        assert!(Cli::try_parse_from(update).is_ok());
        let create = ["proximadb", "collection", "create", "c", "--dim", "2"].iter().chain(&flags);
        assert!(Cli::try_parse_from(create).is_ok());
        for wrong in [["--levels", "maybe"], ["--quantization", "rabitq3"]] {
            let update = ["proximadb", "collection", "update", "c"].iter().chain(&wrong);
            assert!(Cli::try_parse_from(update).is_err(), "{wrong:?}");
        }
    }
}
