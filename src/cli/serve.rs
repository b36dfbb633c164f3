//! `proximadb serve`
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Ended, complain};
use crate::assemble::{Server, StartError};
use crate::config::pipeline::SpecErrors;
use crate::config::{ConfigError, ServerConfig};
use crate::types::ErrorKind;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file; see config/proximadb.toml for every key.
    #[arg(long, env = "PROXIMADB_CONFIG")]
    config: Option<PathBuf>,
    /// Everything durable lies under it.
    #[arg(long, env = "PROXIMADB_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where REST and gRPC are served; port 0 takes a free one.
    #[arg(long, env = "PROXIMADB_LISTEN")]
    listen: Option<SocketAddr>,
    /// A pipeline file, or a directory whose *.yaml are all run.
    #[arg(long, env = "PROXIMADB_PIPELINES")]
    pipelines: Option<PathBuf>,
    /// One JSON object on stdout when it listens; logs and errors as JSON lines on stderr.
    #[arg(long)]
    json: bool,
}

impl ServeArgs {
    fn config(self) -> Result<ServerConfig, ConfigError> {
        let mut config = match &self.config {
            Some(path) => ServerConfig::load(path)?,
            None => ServerConfig::default(),
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.data_dir = self.data_dir.unwrap_or(config.data_dir);
        config.pipelines = self.pipelines.or(config.pipelines);
        Ok(config)
    }
}

/// Serves until somebody says stop.
pub async fn run(args: ServeArgs) -> Ended {
    let json = args.json;
    crate::telemetry::init_logs(json);
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => {
            complain(&error, json);
            return Ended::WrongUse;
        }
    };
    serve(&config, json).await
}

/// Starts a server on these settings and stays until somebody says stop.
pub async fn serve(config: &ServerConfig, json: bool) -> Ended {
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return refuse(&error, json),
    };
    announce(&server, json);
    until_stopped(server, json).await
}

/// A mistake of the user's is wrong use, anything else is failure.
pub(super) fn refuse(error: &StartError, json: bool) -> Ended {
    match error {
        StartError::Spec(errors) if json => eprintln!("{}", spec_errors(errors)),
        error => _ = complain(error, json),
    }
    if error.kind() == ErrorKind::Invalid { Ended::WrongUse } else { Ended::Failed }
}

/// The line that scripts wait for.
fn announce(server: &Server, json: bool) {
    let url = format!("http://{}", server.address);
    if json {
        println!("{}", json!({"listening": url}));
    } else {
        println!("listening on {url}");
    }
    let _ = std::io::stdout().flush();
}

/// What is wrong with a pipeline's file: all of it as text, and each mistake with its place.
pub(super) fn spec_errors(errors: &SpecErrors) -> Value {
    let problems = errors.0.iter().map(|one| {
        let line = (one.line > 0).then_some((one.line, one.column));
        json!({
            "file": one.file,
            "line": line.map(|(line, _)| line),
            "column": line.map(|(_, column)| column),
            "key": one.key,
            "problem": one.problem,
            "expected": one.expected,
        })
    });
    json!({"error": errors.to_string(), "problems": problems.collect::<Vec<_>>()})
}

/// Drains at the first SIGTERM or Ctrl-C; a second one ends the process at once.
pub(super) async fn until_stopped(server: Server, json: bool) -> Ended {
    if let Err(error) = stop_signal().await {
        return complain(&error, json);
    }
    tracing::info!("stopping: sources first, then doors, then logs");
    tokio::select! {
        () = server.stop() => Ended::Done,
        _ = stop_signal() => {
            tracing::warn!("stopped at once; the next start recovers from the log");
            std::process::exit(1)
        }
    }
}

async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::pipeline::PipelineSpec;

    #[test]
    fn mistakes_in_a_pipeline_are_told_one_by_one_with_their_places() {
        let text = "version: 1\npipeline: p\nsource: {push: {}}\nmapp: {}\n";
        let told = spec_errors(&PipelineSpec::from_yaml(text, "p.yaml").unwrap_err());
        assert!(told["error"].as_str().unwrap().contains("p.yaml:4"), "{told}");
        let first = &told["problems"][0];
        assert_eq!((&first["file"], &first["line"]), (&json!("p.yaml"), &json!(4)), "{told}");
        let absent = crate::config::pipeline::load("/surely/not/there.yaml".as_ref()).unwrap_err();
        assert_eq!(spec_errors(&absent)["problems"][0]["line"], Value::Null);
    }
}
