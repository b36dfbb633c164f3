//! `proximadb search`: the nearest points, as a table or as JSON.
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use super::Ended;
use super::client::{Client, ClientArgs, ClientError, finish, print_json};
use super::table::{Table, cut};

/// Characters of a payload shown to people.
const PAYLOAD_CHARS: usize = 100;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("near").required(true)))]
pub struct SearchArgs {
    /// The collection.
    collection: String,
    /// Near this vector: a JSON list of numbers.
    #[arg(long, group = "near", allow_hyphen_values = true)]
    vector: Option<String>,
    /// Near the vector in this file: a JSON list, or an object with a "vector".
    #[arg(long, group = "near")]
    vector_file: Option<PathBuf>,
    /// Near this point, which itself is left out.
    #[arg(long, group = "near")]
    id: Option<String>,
    /// Hits wanted.
    #[arg(long, short = 'k', default_value_t = 10)]
    limit: u64,
    /// Hits skipped before them.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// Only points that match: a JSON filter, or @FILE.
    #[arg(long)]
    filter: Option<String>,
    /// Payloads: all fields, or those named (with commas). Shown to people by default.
    #[arg(long, value_name = "FIELDS", num_args = 0..=1, value_delimiter = ',')]
    with_payload: Option<Vec<String>>,
    /// Vectors too (only with --json).
    #[arg(long)]
    with_vector: bool,
    /// Only hits at least this good: scores at or above it for cosine and dot, at or below it for l2.
    #[arg(long, allow_hyphen_values = true)]
    score_threshold: Option<f32>,
    /// Scan everything instead of walking graphs.
    #[arg(long)]
    exact: bool,
    /// Candidates kept while walking graphs.
    #[arg(long)]
    ef: Option<u64>,
    /// Wait until the collection's log is searchable up to here.
    #[arg(long, value_name = "LSN")]
    fresh_as_of: Option<u64>,
    /// Seconds until the search gives up.
    #[arg(long)]
    timeout: Option<f64>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Does it.
pub async fn run(args: SearchArgs) -> Ended {
    finish(search(&args).await, args.client.json)
}

async fn search(args: &SearchArgs) -> Result<(), ClientError> {
    let body = body(args)?;
    let client = Client::new(&args.client)?;
    let path = ["collections", &args.collection, "points", "query"];
    let mut answer = client.envelope(Method::POST, &path, &[], Some(body.to_string())).await?;
    let points = answer["result"]["points"].take();
    if args.client.json {
        print_json(&json!({"points": points, "freshness": answer["freshness"], "time": answer["time"]}));
        return Ok(());
    }
    let points = points.as_array().map(Vec::as_slice).unwrap_or_default();
    if points.is_empty() {
        println!("nothing found");
        return Ok(());
    }
    let mut table = Table::new(&["#", "SCORE", "ID", "PAYLOAD"]);
    for (rank, point) in points.iter().enumerate() {
        let id = point["id"].as_str().map_or_else(|| point["id"].to_string(), str::to_string);
        let score = format!("{:.4}", point["score"].as_f64().unwrap_or_default());
        let payload = point.get("payload").map(Value::to_string).unwrap_or_default();
        table.row([(rank + 1).to_string(), score, id, cut(&payload, PAYLOAD_CHARS)]);
    }
    print!("{table}");
    println!(
        "{} hits in {:.1} ms, as of lsn {}",
        points.len(),
        answer["time"].as_f64().unwrap_or_default() * 1e3,
        answer["freshness"]["lsn"]
    );
    Ok(())
}

fn body(args: &SearchArgs) -> Result<Value, ClientError> {
    let query = match (&args.vector, &args.vector_file, &args.id) {
        (Some(text), ..) => vector(text, "--vector")?,
        (_, Some(path), _) => vector(&read(path)?, &path.display().to_string())?,
        (.., Some(id)) => id.parse::<u64>().map_or_else(|_| json!(id), |id| json!(id)),
        (None, None, None) => {
            return Err(ClientError::WrongUse("near to what? give --vector or --id".into()));
        }
    };
    let filter = match args.filter.as_deref() {
        None => Value::Null,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => parse(&read(Path::new(path))?, path)?,
            None => parse(text, "--filter")?,
        },
    };
    let with_payload = match args.with_payload.as_deref() {
        // People want to see what was found; programs get what they ask for.
        None => json!(!args.client.json),
        Some([]) => json!(true),
        Some(fields) => json!(fields),
    };
    let mut body = json!({
        "query": query,
        "limit": args.limit,
        "offset": args.offset,
        "filter": filter,
        "with_payload": with_payload,
        "with_vector": args.with_vector,
        "score_threshold": args.score_threshold,
        "params": {"exact": args.exact, "hnsw_ef": args.ef},
        "timeout": args.timeout,
        "with_freshness": true,
    });
    if let Some(lsn) = args.fresh_as_of {
        body["fresh_as_of"] = json!({ "lsn": lsn });
    }
    Ok(body)
}

fn vector(text: &str, name: &str) -> Result<Value, ClientError> {
    let value = parse(text, name)?;
    let vector = value.get("vector").unwrap_or(&value);
    if vector.as_array().is_some_and(|list| list.iter().all(Value::is_number)) {
        return Ok(vector.clone());
    }
    Err(ClientError::WrongUse(format!("{name} must hold a JSON list of numbers, such as [0.1, 0.2]")))
}

fn parse(text: &str, name: &str) -> Result<Value, ClientError> {
    serde_json::from_str(text).map_err(|error| ClientError::WrongUse(format!("{name} is not JSON: {error}")))
}

fn read(path: &Path) -> Result<String, ClientError> {
    std::fs::read_to_string(path)
        .map_err(|source| ClientError::Input { name: path.display().to_string(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        search: SearchArgs,
    }

    fn body_of(words: &[&str]) -> Result<Value, ClientError> {
        let cli = Cli::try_parse_from([&["search", "c"], words].concat()).unwrap();
        body(&cli.search)
    }

    #[test]
    fn arguments_become_a_query() {
        let body = body_of(&[
            "--vector",
            "[-1, 2]",
            "-k",
            "3",
            "--filter",
            "{\"must\": []}",
            "--ef",
            "64",
            "--exact",
        ])
        .unwrap();
        assert_eq!(body["query"], json!([-1, 2]));
        assert_eq!((&body["limit"], &body["params"]), (&json!(3), &json!({"exact": true, "hnsw_ef": 64})));
        assert_eq!((&body["filter"], &body["with_payload"]), (&json!({"must": []}), &json!(true)));
        assert_eq!(body_of(&["--id", "7"]).unwrap()["query"], 7);
        assert_eq!(body_of(&["--id", "doc-7", "--json"]).unwrap()["query"], "doc-7");
        assert_eq!(
            body_of(&["--id", "7", "--with-payload", "a,b"]).unwrap()["with_payload"],
            json!(["a", "b"])
        );
        assert_eq!(body_of(&["--id", "7", "--json"]).unwrap()["with_payload"], false);
        assert_eq!(body_of(&["--id", "7", "--fresh-as-of", "9"]).unwrap()["fresh_as_of"], json!({"lsn": 9}));
    }

    #[test]
    fn wrong_use_is_told_before_anything_is_sent() {
        assert!(Cli::try_parse_from(["search", "c"]).is_err());
        assert!(Cli::try_parse_from(["search", "c", "--id", "1", "--vector", "[1]"]).is_err());
        for words in [["--vector", "[1, \"a\"]"], ["--vector", "1 2"], ["--id", "1"]] {
            let more = [words.as_slice(), &["--filter", "{"]].concat();
            assert!(matches!(body_of(&more), Err(ClientError::WrongUse(_))), "{words:?}");
        }
    }
}
