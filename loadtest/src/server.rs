//! `proximadb serve` as a process of its own.
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Connection;
use crate::{Trouble, process};

/// How long a start may take: a large log is read first.
const START_WAIT: Duration = Duration::from_secs(300);
/// How long the last flush may take.
const STOP_WAIT: Duration = Duration::from_secs(120);

/// Which program, and where its data goes.
#[derive(Debug, Clone, clap::Args)]
pub struct ServerArgs {
    /// The program that is measured.
    #[arg(long, env = "PROXIMADB_BIN", default_value = "target/release/proximadb")]
    bin: PathBuf,
    /// Directory below which the server's data lies while it is measured. Default: the system's own for
    /// temporary files; on a memory file system durable means nothing.
    #[arg(long, env = "PROXIMADB_BENCH_DIR")]
    bench_dir: Option<PathBuf>,
    /// Settings file of the server.
    #[arg(long)]
    config: Option<PathBuf>,
}

impl ServerArgs {
    /// A new directory where data lies, gone when it is dropped.
    pub fn folder(&self) -> Result<TempDir, Trouble> {
        Ok(match &self.bench_dir {
            Some(dir) => tempfile::tempdir_in(dir)?,
            None => tempfile::tempdir()?,
        })
    }
}

/// A running server over data of its own, both gone when it is dropped.
#[derive(Debug)]
pub struct Server {
    args: ServerArgs,
    folder: TempDir,
    pipeline: Option<PathBuf>,
    child: Option<Child>,
    address: String,
}

impl Server {
    /// Starts one over an empty directory; `pipeline` is the YAML of what it shall run.
    pub async fn start(args: &ServerArgs, pipeline: Option<&str>) -> Result<Self, Trouble> {
        let folder = args.folder()?;
        let pipeline = match pipeline {
            Some(yaml) => {
                let path = folder.path().join("pipeline.yaml");
                std::fs::write(&path, yaml)?;
                Some(path)
            }
            None => None,
        };
        let mut server = Self { args: args.clone(), folder, pipeline, child: None, address: String::new() };
        server.launch().await?;
        Ok(server)
    }

    /// Starts the process over the data that is there and waits until it is ready. Says how long that took.
    pub async fn launch(&mut self) -> Result<Duration, Trouble> {
        let log = std::fs::File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(&self.args.bin);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(self.data());
        if let Some(pipeline) = &self.pipeline {
            command.arg("--pipelines").arg(pipeline);
        }
        if let Some(config) = &self.args.config {
            command.arg("--config").arg(config);
        }
        let started = Instant::now();
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut child = spawned.map_err(|error| {
            format!("cannot run {}: {error}; build it with `make release`", self.args.bin.display())
        })?;
        let stdout = child.stdout.take().ok_or("standard output is not piped")?;
        self.child = Some(child);
        let (sender, address) = tokio::sync::oneshot::channel();
        // Goes on reading, so that the server never waits for a full pipe.
        std::thread::spawn(move || {
            let mut sender = Some(sender);
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(rest) = line.trim().strip_prefix("listening on http://")
                    && let Some(sender) = sender.take()
                {
                    let _ = sender.send(rest.split_whitespace().next().unwrap_or_default().to_owned());
                }
            }
        });
        let address = tokio::time::timeout(START_WAIT, address).await;
        self.address = address.ok().and_then(Result::ok).ok_or_else(|| self.trouble("it does not listen"))?;
        while self.connect().await?.call("GET", "/readyz", b"").await?.0 != 200 {
            if started.elapsed() > START_WAIT {
                return Err(self.trouble("it is not ready"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(started.elapsed())
    }

    fn trouble(&self, what: &str) -> Trouble {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("{what}; the server's log ends with\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
            .into()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// Its data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A new connection to it.
    pub async fn connect(&self) -> Result<Connection, Trouble> {
        Connection::open(&self.address).await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// Processor seconds it has used.
    pub fn cpu_seconds(&self) -> f64 {
        process::cpu_seconds(self.pid()).unwrap_or_default()
    }

    /// Creates a collection.
    pub async fn create(
        &self,
        name: &str,
        dim: usize,
        distance: &str,
        threshold: Option<u32>,
    ) -> Result<(), Trouble> {
        let mut body = json!({"vectors": {"size": dim, "distance": distance}});
        if let Some(threshold) = threshold {
            body["hnsw_config"] = json!({"full_scan_threshold": threshold});
        }
        self.connect().await?.json("PUT", &format!("/collections/{name}"), &body).await?;
        Ok(())
    }

    /// Live rows, counted by the server.
    pub async fn count(&self, name: &str) -> Result<u64, Trouble> {
        let path = format!("/collections/{name}/points/count");
        let answer = self.connect().await?.json("POST", &path, &json!({"exact": true})).await?;
        answer["result"]["count"].as_u64().ok_or_else(|| "no count in the answer".into())
    }

    /// What the server says of a collection.
    pub async fn describe(&self, name: &str) -> Result<Value, Trouble> {
        let mut answer =
            self.connect().await?.json("GET", &format!("/collections/{name}"), &Value::Null).await?;
        Ok(answer["result"].take())
    }

    /// Asks it to end and waits until it has.
    pub async fn stop(&mut self) -> Result<Duration, Trouble> {
        let Some(mut child) = self.child.take() else { return Ok(Duration::ZERO) };
        let started = Instant::now();
        let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        if !status.success() {
            return Err("cannot send SIGTERM".into());
        }
        while child.try_wait()?.is_none() {
            if started.elapsed() > STOP_WAIT {
                child.kill()?;
                child.wait()?;
                return Err(self.trouble("it did not end after SIGTERM"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(started.elapsed())
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Bytes of all files below a directory.
pub fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
