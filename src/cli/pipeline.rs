//! `proximadb pipeline …`: check a pipeline, try it, run it, and look after running ones.
use std::path::{Path, PathBuf};

use serde_json::json;

use super::client::{ClientArgs, PipelineAction, pipeline_act, pipeline_status};
use super::serve::{serve, spec_errors};
use super::{Ended, complain};
use crate::assemble::{PipelineError, dry_run};
use crate::config::ServerConfig;
use crate::config::pipeline::{PipelineSpec, load};
use crate::ingest::DryRun;

#[derive(Debug, clap::Subcommand)]
pub enum PipelineCommand {
    /// Check a pipeline's file, and with --dry-run decode real records and show what would be written.
    Validate {
        /// The file.
        file: PathBuf,
        /// Read this many records from the source, decode them, and write nothing.
        #[arg(long, value_name = "RECORDS")]
        dry_run: Option<usize>,
        /// One JSON object on stdout; mistakes as JSON on stderr.
        #[arg(long)]
        json: bool,
    },
    /// Serve with this one pipeline.
    Run {
        /// The file.
        file: PathBuf,
        /// Everything durable lies under it.
        #[arg(long, env = "PROXIMADB_DATA_DIR", default_value = "proximadb-data")]
        data_dir: PathBuf,
        /// Where REST and gRPC are served.
        #[arg(long, env = "PROXIMADB_LISTEN", default_value = "127.0.0.1:5678")]
        listen: std::net::SocketAddr,
        /// One JSON object on stdout when it listens; logs and errors as JSON lines on stderr.
        #[arg(long)]
        json: bool,
    },
    /// What a server's pipelines are doing.
    Status {
        /// Only this one.
        name: Option<String>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Stop reading; it stays paused across restarts.
    Pause {
        /// The pipeline.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Read again, after a pause or a failure.
    Resume {
        /// The pipeline.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// Does it.
pub async fn run(command: PipelineCommand) -> Ended {
    match command {
        PipelineCommand::Validate { file, dry_run, json } => {
            let checked = tokio::task::spawn_blocking(move || validate(&file, dry_run, json));
            checked.await.unwrap_or(Ended::Failed)
        }
        PipelineCommand::Run { file, data_dir, listen, json } => {
            crate::telemetry::init_logs(json);
            let config = ServerConfig { data_dir, listen, pipelines: Some(file), ..ServerConfig::default() };
            serve(&config, json).await
        }
        PipelineCommand::Status { name, client } => pipeline_status(name, client).await,
        PipelineCommand::Pause { name, client } => pipeline_act(name, PipelineAction::Pause, client).await,
        PipelineCommand::Resume { name, client } => pipeline_act(name, PipelineAction::Resume, client).await,
    }
}

fn validate(file: &Path, records: Option<usize>, json: bool) -> Ended {
    let spec = match load(file) {
        Ok(spec) => spec,
        Err(errors) => {
            if json {
                eprintln!("{}", spec_errors(&errors));
            } else {
                eprintln!("{errors}");
            }
            return Ended::WrongUse;
        }
    };
    match records {
        None if json => println!("{}", json!({"pipeline": spec.pipeline, "valid": true})),
        None => println!("{}: pipeline {} is valid", file.display(), spec.pipeline),
        Some(records) => match dry_run(&spec, records) {
            Ok(run) => show(&spec, &run, json),
            Err(error @ PipelineError::Source(_)) => return complain(&error, json),
            Err(error) => {
                complain(&error, json);
                return Ended::WrongUse;
            }
        },
    }
    Ended::Done
}

/// What would be written, a line each.
fn show(spec: &PipelineSpec, run: &DryRun, as_json: bool) {
    if as_json {
        println!("{}", json!({"pipeline": spec.pipeline, "valid": true, "dry_run": run}));
        return;
    }
    for row in &run.rows {
        match serde_json::to_string(row) {
            Ok(line) => println!("{line}"),
            Err(error) => println!("{}: {error}", row.id),
        }
    }
    for reject in &run.rejects {
        println!("reject {} at {} of {}: {}", reject.code, reject.position, reject.partition, reject.reason);
    }
    println!(
        "{}: {} operations, {} rejects, {} skipped; nothing was written",
        spec.pipeline,
        run.rows.len(),
        run.rejects.len(),
        run.skipped
    );
}
