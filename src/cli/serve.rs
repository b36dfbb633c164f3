//! `proximadb serve`
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Ended, complain};
use crate::assemble::{Server, StartError};
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
    crate::telemetry::init_logs();
    let config = match args.config() {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Ended::WrongUse;
        }
    };
    serve(&config, "").await
}

/// Starts a server on these settings and stays until somebody says stop.
pub async fn serve(config: &ServerConfig, greeting: &str) -> Ended {
    let server = match Server::start(config).await {
        Ok(server) => server,
        Err(error) => return refuse(&error),
    };
    announce(&server, greeting);
    until_stopped(server).await
}

/// A mistake of the user's is wrong use, anything else is failure.
pub(super) fn refuse(error: &StartError) -> Ended {
    complain(error);
    if error.kind() == ErrorKind::Invalid { Ended::WrongUse } else { Ended::Failed }
}

/// The line that scripts wait for.
fn announce(server: &Server, greeting: &str) {
    println!("listening on http://{}{greeting}", server.address);
    let _ = std::io::stdout().flush();
}

/// Drains at the first SIGTERM or Ctrl-C; a second one ends the process at once.
pub(super) async fn until_stopped(server: Server) -> Ended {
    if let Err(error) = stop_signal().await {
        return complain(&error);
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
