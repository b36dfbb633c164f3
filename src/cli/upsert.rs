//! `proximadb upsert`: JSON lines to points.
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, stdin};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Ended;
use super::client::{Client, ClientArgs, ClientError, finish, print_json};

/// A batch ends at this size, whatever its points: half of what a server takes at least.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// An overloaded server is asked again this often before the command gives up.
const RETRIES_MAX: u32 = 60;

#[derive(Debug, clap::Args)]
pub struct UpsertArgs {
    /// The collection.
    collection: String,
    /// JSON lines, each a point: {"id": …, "vector": […], "payload": {…}}. `-` is stdin.
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Points per request; each request is written whole or not at all.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// When a request counts as written.
    #[arg(long, default_value = "durable", value_parser = ["ack", "durable", "searchable", "indexed"])]
    wait: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// Does it.
pub async fn run(args: UpsertArgs) -> Ended {
    finish(upsert(&args).await, args.client.json)
}

async fn upsert(args: &UpsertArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.client)?;
    let mut lines = Lines::open(args)?;
    let bar = lines.progress_bar();
    let started = Instant::now();
    let (mut points, mut batches, mut lsn) = (0_u64, 0_u64, Value::Null);
    while let Some(batch) = lines.next_batch(args.batch as usize)? {
        let result = send(&client, args, &batch).await.map_err(|error| batch.explain(error));
        let result = match result {
            Ok(result) => result,
            Err(error) => {
                bar.abandon();
                if points > 0 {
                    eprintln!("{points} points were written before the one refused");
                }
                return Err(error);
            }
        };
        points += batch.lines.len() as u64;
        batches += 1;
        lsn = result["lsn"].clone();
        bar.set_position(lines.bytes_read);
        bar.set_message(format!("{points} points"));
    }
    bar.finish_and_clear();
    let seconds = started.elapsed().as_secs_f64();
    if args.client.json {
        let collection = &args.collection;
        print_json(
            &json!({"collection": collection, "points": points, "batches": batches, "lsn": lsn, "seconds": seconds}),
        );
    } else {
        let rate = points as f64 / seconds.max(1e-9);
        println!("wrote {points} points to {} in {seconds:.2} s ({rate:.0}/s)", args.collection);
    }
    Ok(())
}

async fn send(client: &Client, args: &UpsertArgs, batch: &Batch) -> Result<Value, ClientError> {
    let path = ["collections", &args.collection, "points"];
    let mut tries = 0;
    loop {
        match client.call(Method::PUT, &path, &[("wait", &args.wait)], Some(batch.body())).await {
            Ok(result) => return Ok(result),
            Err(error) => match error.retry_after() {
                Some(wait) if tries < RETRIES_MAX => {
                    tries += 1;
                    tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
                }
                _ => return Err(error),
            },
        }
    }
}

/// Points that travel together, and the lines they came from.
struct Batch {
    /// Line number (from 1) and text.
    lines: Vec<(u64, String)>,
}

impl Batch {
    fn body(&self) -> String {
        let points: Vec<&str> = self.lines.iter().map(|(_, text)| text.as_str()).collect();
        format!("{{\"points\":[{}]}}", points.join(","))
    }

    /// Says which line of the input holds the point that the server refused.
    fn explain(&self, error: ClientError) -> ClientError {
        match error {
            ClientError::Refused { status, code, message, request_id, details, retry_after } => {
                let field = details["field"].as_str().unwrap_or_default();
                let index = field
                    .strip_prefix("points[")
                    .and_then(|rest| rest.split(']').next()?.parse::<usize>().ok());
                let message = match index.and_then(|index| self.lines.get(index)) {
                    Some((line, _)) => format!("line {line}: {message}"),
                    None => message,
                };
                ClientError::Refused { status, code, message, request_id, details, retry_after }
            }
            other => other,
        }
    }
}

struct Lines {
    name: String,
    input: Box<dyn BufRead>,
    bytes_total: Option<u64>,
    bytes_read: u64,
    line: u64,
}

impl Lines {
    fn open(args: &UpsertArgs) -> Result<Self, ClientError> {
        if args.file.as_os_str() == "-" {
            if stdin().is_terminal() {
                let problem = "give a file of JSON lines, or pipe them in".to_string();
                return Err(ClientError::WrongUse(problem));
            }
            let input = Box::new(BufReader::new(stdin()));
            return Ok(Self { name: "stdin".into(), input, bytes_total: None, bytes_read: 0, line: 0 });
        }
        let name = args.file.display().to_string();
        let file =
            File::open(&args.file).map_err(|source| ClientError::Input { name: name.clone(), source })?;
        let bytes_total = file.metadata().ok().map(|metadata| metadata.len());
        Ok(Self { name, input: Box::new(BufReader::new(file)), bytes_total, bytes_read: 0, line: 0 })
    }

    fn progress_bar(&self) -> ProgressBar {
        // Drawn on stderr, and only on a terminal.
        match self.bytes_total {
            Some(total) => {
                let bar = ProgressBar::new(total);
                let template = "{bar:40} {bytes}/{total_bytes}  {msg}  {eta} left";
                match ProgressStyle::with_template(template) {
                    Ok(style) => bar.with_style(style),
                    Err(_) => bar,
                }
            }
            None => ProgressBar::new_spinner(),
        }
    }

    /// The next lines that are not blank; `None` at the end.
    fn next_batch(&mut self, points_max: usize) -> Result<Option<Batch>, ClientError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < points_max && bytes < BATCH_BYTES_MAX {
            let mut text = String::new();
            let read = self.input.read_line(&mut text);
            let read = read.map_err(|source| ClientError::Input { name: self.name.clone(), source })?;
            if read == 0 {
                break;
            }
            self.line += 1;
            self.bytes_read += read as u64;
            let text = text.trim();
            if text.is_empty() {
                continue;
            }
            // One broken line must not break the request around it.
            if let Err(error) = serde_json::from_str::<&RawValue>(text) {
                let problem = format!("line {} of {} is not JSON: {error}", self.line, self.name);
                return Err(ClientError::WrongUse(problem));
            }
            bytes += text.len();
            lines.push((self.line, text.to_string()));
        }
        Ok((!lines.is_empty()).then_some(Batch { lines }))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn lines(text: &'static str) -> Lines {
        let input = Box::new(BufReader::new(text.as_bytes()));
        Lines { name: "x.jsonl".into(), input, bytes_total: None, bytes_read: 0, line: 0 }
    }

    #[test]
    fn lines_become_batches_and_blank_ones_nothing() {
        let mut lines = lines("{\"id\": 1}\n\n {\"id\": 2} \n{\"id\": 3}");
        let first = lines.next_batch(2).unwrap().unwrap();
        assert_eq!(first.body(), r#"{"points":[{"id": 1},{"id": 2}]}"#);
        assert_eq!(first.lines[1].0, 3);
        assert_eq!(lines.next_batch(2).unwrap().unwrap().lines.len(), 1);
        assert!(lines.next_batch(2).unwrap().is_none());
    }

    #[test]
    fn a_refused_point_and_a_broken_line_are_named_by_line() {
        let batch = lines("{}\n\n{}").next_batch(9).unwrap().unwrap();
        let refused = ClientError::Refused {
            status: reqwest::StatusCode::BAD_REQUEST,
            code: "dimension_mismatch".into(),
            message: "wrong".into(),
            request_id: "r".into(),
            details: json!({"field": "points[1].vector (id \"a\")"}),
            retry_after: None,
        };
        assert_eq!(batch.explain(refused).to_string(), "line 3: wrong (request r)");
        let broken = lines("{}\n{\"id\"}").next_batch(9).err().unwrap();
        assert!(broken.to_string().starts_with("line 2 of x.jsonl is not JSON: "), "{broken}");
    }
}
