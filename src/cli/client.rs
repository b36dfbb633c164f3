//! Talking to a server: what the commands that need one share.
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::{Value, json};

use super::Ended;
use super::table::Table;

/// A server on this or another machine either accepts by then or is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// The server.
    #[arg(long, env = "PROXIMADB_URL", default_value = "http://127.0.0.1:5678")]
    pub url: String,
    /// JSON on stdout, and errors as JSON on stderr.
    #[arg(long)]
    pub json: bool,
}

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An argument means nothing.
    #[error("{0}")]
    WrongUse(String),
    /// A file cannot be read.
    #[error("cannot read {name}")]
    Input {
        /// The file, or `stdin`.
        name: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Nobody answers.
    #[error(
        "no server answers at {url}; start one with `proximadb serve`, or name it with --url or PROXIMADB_URL"
    )]
    Unreachable {
        /// The server.
        url: String,
        /// What the connection said.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not in our words.
    #[error("{url} answered {status}, but not as ProximaDB does; is it the right server?")]
    Foreign {
        /// The server.
        url: String,
        /// Its status.
        status: StatusCode,
    },
    /// The server said no.
    #[error("{message} (request {request_id})")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// A stable code for programs.
        code: String,
        /// What people read.
        message: String,
        /// For the server's logs.
        request_id: String,
        /// Evidence.
        details: Value,
        /// When to try again.
        retry_after: Option<Duration>,
    },
}

impl ClientError {
    /// What a batch job should wait before it tries the same again; `None` where that is pointless.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { status: StatusCode::TOO_MANY_REQUESTS, retry_after, .. } => {
                Some(retry_after.unwrap_or(Duration::from_secs(1)))
            }
            _ => None,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Refused { code, message, request_id, details, .. } => {
                json!({"error": message, "code": code, "details": details, "request_id": request_id})
            }
            other => super::error_json(other),
        }
    }
}

/// A connection to a server.
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

impl Client {
    /// Checks the URL; connects at the first request.
    pub fn new(args: &ClientArgs) -> Result<Self, ClientError> {
        let base = Url::parse(&args.url).ok().filter(|url| url.has_host() && !url.cannot_be_a_base());
        let base = base.ok_or_else(|| {
            ClientError::WrongUse(format!("{:?} is not a URL; write it as http://HOST:PORT", args.url))
        })?;
        #[cfg(feature = "tls")]
        {
            // An error means that a provider is installed, which is all that is needed.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        if matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")) {
            // A proxy would look for the server on its own machine.
            http = http.no_proxy();
        }
        let http =
            http.build().map_err(|source| ClientError::Unreachable { url: args.url.clone(), source })?;
        Ok(Self { http, base })
    }

    /// Sends a request to the path made of `segments`; the answer's `result`.
    pub async fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Value, ClientError> {
        self.envelope(method, segments, query, body).await.map(|mut envelope| envelope["result"].take())
    }

    /// The same with all that stands beside the `result`.
    pub async fn envelope(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Value, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.base.to_string(), source };
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        let mut request = self.http.request(method, url).query(query);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let bytes = response.bytes().await.map_err(unreachable)?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if status.is_success() && answer.get("result").is_some() {
            return Ok(answer);
        }
        let text = |key: &str| answer["status"][key].as_str().map(str::to_string);
        match (text("error"), text("code")) {
            (Some(message), Some(code)) if !status.is_success() => Err(ClientError::Refused {
                status,
                code,
                message,
                request_id: text("request_id").unwrap_or_default(),
                details: answer["status"]["details"].clone(),
                retry_after,
            }),
            _ => Err(ClientError::Foreign { url: self.base.to_string(), status }),
        }
    }
}

/// Tells how a command ended.
pub fn finish(done: Result<(), ClientError>, json: bool) -> Ended {
    let Err(error) = done else { return Ended::Done };
    if json {
        eprintln!("{}", error.json());
    } else {
        super::complain(&error, false);
    }
    match error {
        ClientError::WrongUse(_) => Ended::WrongUse,
        ClientError::Refused { status: StatusCode::BAD_REQUEST, .. } => Ended::WrongUse,
        _ => Ended::Failed,
    }
}

/// Prints a value for programs: one line.
pub fn print_json(value: &Value) {
    println!("{value}");
}

/// What to do with a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineAction {
    /// Stop reading.
    Pause,
    /// Read again.
    Resume,
}

/// `proximadb pipeline status`
pub async fn pipeline_status(name: Option<String>, args: ClientArgs) -> Ended {
    let shown = async {
        let client = Client::new(&args)?;
        let pipelines = match &name {
            Some(name) => vec![client.call(Method::GET, &["pipelines", name], &[], None).await?],
            None => {
                let mut all = client.call(Method::GET, &["pipelines"], &[], None).await?;
                all["pipelines"].as_array_mut().map(std::mem::take).unwrap_or_default()
            }
        };
        if args.json {
            print_json(&json!(pipelines));
        } else {
            print_pipelines(&pipelines);
        }
        Ok(())
    };
    finish(shown.await, args.json)
}

fn print_pipelines(pipelines: &[Value]) {
    if pipelines.is_empty() {
        println!("no pipelines");
        return;
    }
    let mut table =
        Table::new(&["PIPELINE", "COLLECTION", "STATE", "READ", "APPLIED", "REJECTED", "SKIPPED", "BEHIND"]);
    for pipeline in pipelines {
        let text = |key: &str| pipeline[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| pipeline[key].as_u64().unwrap_or_default().to_string();
        let behind: Option<u64> =
            pipeline["lag"].as_array().and_then(|lag| lag.iter().map(|one| one["behind"].as_u64()).sum());
        table.row([
            text("name"),
            text("collection"),
            text("state"),
            number("records_read"),
            number("records_applied"),
            number("records_rejected"),
            number("records_skipped"),
            behind.map_or_else(|| "?".to_string(), |behind| behind.to_string()),
        ]);
    }
    print!("{table}");
    for pipeline in pipelines {
        if let (Some(name), Some(reason)) = (pipeline["name"].as_str(), pipeline["reason"].as_str()) {
            println!("{name}: {reason}");
        }
    }
}

/// `proximadb pipeline pause` and `resume`
pub async fn pipeline_act(name: String, action: PipelineAction, args: ClientArgs) -> Ended {
    let (verb, past) = match action {
        PipelineAction::Pause => ("pause", "paused"),
        PipelineAction::Resume => ("resume", "resumed"),
    };
    let done = async {
        let client = Client::new(&args)?;
        client.call(Method::POST, &["pipelines", &name, verb], &[], None).await?;
        if args.json {
            print_json(&json!({"pipeline": name, "done": past}));
        } else {
            println!("{past} {name}");
        }
        Ok(())
    };
    finish(done.await, args.json)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn args(url: &str) -> ClientArgs {
        ClientArgs { url: url.to_string(), json: false }
    }

    #[test]
    fn what_is_no_url_is_wrong_use() {
        for url in ["localhost:5678", "127.0.0.1:5678", "", "mailto:a@b"] {
            let error = Client::new(&args(url)).err().unwrap();
            assert_eq!(finish(Err(error), false), Ended::WrongUse, "{url}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_fails_with_advice() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = Client::new(&args(&format!("http://{address}"))).unwrap();
        let error = client.call(Method::GET, &["collections"], &[], None).await.unwrap_err();
        assert!(error.to_string().contains("start one with `proximadb serve`"), "{error}");
        assert_eq!(finish(Err(error), true), Ended::Failed);
    }
}
