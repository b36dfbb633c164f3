//! `proximadb demo`: a real data set through the main path, and questions about it.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use indicatif::{ProgressBar, ProgressStyle};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;
use serde_json::{Value, json};

use super::serve::{refuse, until_stopped};
use super::{Ended, complain};
use crate::assemble::Server;
use crate::config::ServerConfig;

/// Questions whose passages are shown; the figures come from all of them.
const SHOWN: usize = 3;
/// Answers per question.
const K: usize = 10;
/// Points written one by one to see how soon each is found.
const PROBES: usize = 50;

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Where the demo's server keeps its data; emptied first. Default: a directory in the system's own for
    /// temporary files.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// The pipeline that loads the data set.
    #[arg(long, default_value = "pipelines/demo.yaml")]
    pipeline: PathBuf,
    /// Questions with their embeddings and exact answers.
    #[arg(long, default_value = "data/passages-queries.parquet")]
    questions: PathBuf,
    /// Where the demo's server listens.
    #[arg(long, env = "PROXIMADB_LISTEN", default_value = "127.0.0.1:5678")]
    listen: std::net::SocketAddr,
    /// End after the answers instead of leaving the server up.
    #[arg(long, env = "DEMO_EXIT", value_parser = clap::builder::BoolishValueParser::new(), default_value_t = false)]
    exit: bool,
    /// One JSON object with the figures on stdout instead of sentences; logs and errors as JSON lines on stderr.
    #[arg(long)]
    json: bool,
}

/// What the demo has found out.
#[derive(Debug, Serialize)]
struct Report {
    /// Where its server listens; it stays up unless `--exit` is given.
    listening: String,
    data_dir: PathBuf,
    collection: String,
    ingest: Ingested,
    questions: usize,
    recall_at_10: f64,
    /// Against the data set's own answers.
    recall_at_10_truth: f64,
    /// Of a search over REST, one client.
    latency_ms: Percentiles,
    /// From sending an upsert until a search finds the point.
    freshness_ms: Percentiles,
}

#[derive(Debug, Serialize)]
struct Ingested {
    rows: u64,
    seconds: f64,
    indexing_seconds: f64,
    points: u64,
    segments: u64,
    indexed_points: u64,
    lsn: u64,
}

#[derive(Debug, Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl Percentiles {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |share: f64| {
            let time = times.get((times.len().saturating_sub(1) as f64 * share) as usize);
            time.copied().unwrap_or_default().as_secs_f64() * 1e3
        };
        Self { p50: at(0.5), p95: at(0.95), p99: at(0.99) }
    }
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

struct Question {
    text: String,
    vector: Vec<f32>,
    truth: Vec<String>,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> Ended {
    // The demo's own words are what there is to read.
    crate::telemetry::init_quiet_logs(args.json);
    let data_dir = args.data_dir.clone().unwrap_or_else(|| std::env::temp_dir().join("proximadb-demo"));
    if let Err(error) = empty(&data_dir) {
        return complain(&*error, args.json);
    }
    let config = ServerConfig {
        listen: args.listen,
        data_dir: data_dir.clone(),
        pipelines: Some(args.pipeline.clone()),
        ..ServerConfig::default()
    };
    let started = Instant::now();
    let server = match Server::start(&config).await {
        Ok(server) => server,
        Err(error) => return refuse(&error, args.json),
    };
    match show(&server, &args, data_dir, started).await {
        Ok(report) => {
            if args.json {
                println!("{}", json!(report));
                let _ = std::io::stdout().flush();
            }
            if args.exit {
                server.stop().await;
                return Ended::Done;
            }
            if !args.json {
                next_things(&server, &report.data_dir);
            }
            until_stopped(server, args.json).await
        }
        Err(error) => {
            complain(&*error, args.json);
            server.stop().await;
            Ended::Failed
        }
    }
}

/// Removes what an earlier demo left; refuses to touch anything that is not a data directory.
fn empty(dir: &Path) -> Result<(), Trouble> {
    if !dir.exists() {
        return Ok(());
    }
    let is_empty = std::fs::read_dir(dir)?.next().is_none();
    if !is_empty && !dir.join("catalog.db").exists() {
        return Err(
            format!("{} is not empty and no data directory of ours; choose another", dir.display()).into()
        );
    }
    Ok(std::fs::remove_dir_all(dir)?)
}

/// Loads, asks, measures; tells people about it on the way.
async fn show(
    server: &Server,
    args: &DemoArgs,
    data_dir: PathBuf,
    started: Instant,
) -> Result<Report, Trouble> {
    let questions = read_questions(&args.questions)?;
    let http = reqwest::Client::new();
    let base = format!("http://{}", server.address);
    let (collection, ingest) = ingest(server, started, args.json).await?;
    if !args.json {
        println!("\nAsking {} held-out questions, {K} passages each:", questions.len());
    }
    let points = format!("{base}/collections/{collection}/points/query");
    let (mut found_exactly, mut found_truth, mut latencies) = (0, 0, Vec::new());
    for (number, question) in questions.iter().enumerate() {
        let asked = Instant::now();
        let hits = ask(&http, &points, &question.vector, false).await?;
        latencies.push(asked.elapsed());
        let exact = ask(&http, &points, &question.vector, true).await?;
        let ids = |hits: &[Value]| hits.iter().map(|hit| hit["id"].to_string()).collect::<Vec<_>>();
        let exact_ids = ids(&exact);
        found_exactly += ids(&hits).iter().filter(|id| exact_ids.contains(id)).count();
        let truth = question.truth.iter().take(K).map(|id| json!(id).to_string()).collect::<Vec<_>>();
        found_truth += ids(&hits).iter().filter(|id| truth.contains(id)).count();
        if number < SHOWN && !args.json {
            print_answer(&question.text, &hits);
        }
    }
    let total = (questions.len() * K) as f64;
    let (recall_at_10, recall_at_10_truth) = (found_exactly as f64 / total, found_truth as f64 / total);
    let latency_ms = Percentiles::of(latencies);
    if !args.json {
        let Percentiles { p50, p95, p99 } = latency_ms;
        println!(
            "\nrecall@{K} {recall_at_10:.4} against exact search, {recall_at_10_truth:.4} against the data set's own truth"
        );
        println!("latency p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms (REST, one client)");
    }
    let freshness_ms = Percentiles::of(freshness(&http, &base, &collection, &questions).await?);
    if !args.json {
        let Percentiles { p50, p99, .. } = freshness_ms;
        println!(
            "freshness p50 {p50:.2} ms, p99 {p99:.2} ms (upsert sent to found by a search, fsynced in between)"
        );
    }
    let questions = questions.len();
    Ok(Report {
        listening: base,
        data_dir,
        collection,
        ingest,
        questions,
        recall_at_10,
        recall_at_10_truth,
        latency_ms,
        freshness_ms,
    })
}

/// Waits until the pipeline has read everything, with a bar; returns the collection it filled.
async fn ingest(server: &Server, started: Instant, json: bool) -> Result<(String, Ingested), Trouble> {
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("streaming passages {bar:32} {pos}/{len} rows ({per_sec})")?);
    loop {
        let pipelines = server.engine.pipelines();
        let pipeline = pipelines.first().ok_or("the demo's pipeline is not running")?;
        let behind: u64 = pipeline.lag.iter().filter_map(|lag| lag.behind).sum();
        bar.set_length(pipeline.records_applied + behind);
        bar.set_position(pipeline.records_applied);
        match pipeline.state.as_str() {
            "finished" => {
                bar.finish_and_clear();
                let (rows, seconds) = (pipeline.records_applied, started.elapsed().as_secs_f64());
                if !json {
                    let rate = rows as f64 / seconds;
                    println!(
                        "Streamed {rows} passages in {seconds:.2} s: {rate:.0} rows/s, durable and searchable."
                    );
                }
                let collection = server.engine.collection(&pipeline.collection)?;
                let indexing = Instant::now();
                let lsn = collection.info().applied_lsn;
                collection.shard().wait_indexed(lsn).await;
                let (info, indexing_seconds) = (collection.info(), indexing.elapsed().as_secs_f64());
                let (points, segments, indexed_points) = (info.points, info.segments, info.indexed_points);
                if !json {
                    println!(
                        "Indexed in the background in {indexing_seconds:.2} s: {points} points, \
                         {segments} segment(s), {indexed_points} in a graph, lsn {lsn}."
                    );
                }
                let lsn = lsn.0;
                let done =
                    Ingested { rows, seconds, indexing_seconds, points, segments, indexed_points, lsn };
                return Ok((pipeline.collection.clone(), done));
            }
            "failed" => return Err(pipeline.reason.clone().unwrap_or_default().into()),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn ask(http: &reqwest::Client, url: &str, vector: &[f32], exact: bool) -> Result<Vec<Value>, Trouble> {
    let body = json!({"query": vector, "limit": K, "with_payload": ["title", "heading", "text"], "params": {"exact": exact}});
    let answer: Value = http.post(url).json(&body).send().await?.error_for_status()?.json().await?;
    Ok(answer["result"]["points"].as_array().cloned().unwrap_or_default())
}

fn print_answer(question: &str, hits: &[Value]) {
    println!("\n  Q: {}", cut(question, 150));
    for hit in hits.iter().take(3) {
        let payload = &hit["payload"];
        let text = |field: &str| payload[field].as_str().unwrap_or_default();
        println!(
            "     {:.3}  {} / {}",
            hit["score"].as_f64().unwrap_or_default(),
            cut(text("title"), 40),
            cut(text("heading"), 40)
        );
        println!("            {}", cut(text("text"), 110));
    }
}

fn cut(text: &str, chars: usize) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(chars) {
        Some((at, _)) => format!("{}…", &one_line[..at]),
        None => one_line,
    }
}

/// Writes points one by one, and measures from sending each until a search has found it.
async fn freshness(
    http: &reqwest::Client,
    base: &str,
    collection: &str,
    questions: &[Question],
) -> Result<Vec<Duration>, Trouble> {
    let points = format!("{base}/collections/{collection}/points");
    let mut times = Vec::new();
    for (number, question) in questions.iter().cycle().take(PROBES).enumerate() {
        let id = format!("demo-probe-{number}");
        let sent = Instant::now();
        let body = json!({"points": [{"id": id, "vector": question.vector, "payload": {"probe": true}}]});
        http.put(format!("{points}?wait=true")).json(&body).send().await?.error_for_status()?;
        loop {
            let body = json!({"query": question.vector, "limit": 1, "filter": {"must": [{"has_id": [id]}]}});
            let answer: Value = http.post(format!("{points}/query")).json(&body).send().await?.json().await?;
            if answer["result"]["points"][0]["id"] == json!(id) {
                break;
            }
            if sent.elapsed() > Duration::from_secs(10) {
                return Err(format!("point {id} was acknowledged and is not found").into());
            }
        }
        times.push(sent.elapsed());
    }
    let body = json!({"filter": {"must": [{"key": "probe", "match": {"value": true}}]}});
    http.post(format!("{points}/delete?wait=true")).json(&body).send().await?.error_for_status()?;
    Ok(times)
}

fn next_things(server: &Server, data_dir: &Path) {
    let url = format!("http://{}", server.address);
    println!("\nThe server stays up on {url} (data in {}). Try:", data_dir.display());
    println!("  curl -s {url}/collections/passages | head -c 600");
    println!(
        "  curl -s {url}/collections/passages/points/scroll -H 'content-type: application/json' -d '{{\"limit\": 2}}'"
    );
    println!("  curl -s {url}/collections/passages/freshness");
    println!("  pip install qdrant-client   # any published version; then");
    println!(
        "  python3 -c 'import qdrant_client as q; print(q.QdrantClient(\"{url}\").count(\"passages\"))'"
    );
    // `make demo-kafka` runs docs/examples/hello.yaml beside its own.
    if server.engine.pipelines().iter().any(|pipeline| pipeline.name == "hello") {
        println!(
            "Publish a record of your own with any Kafka producer (this one: apt-get install kcat), and find it:"
        );
        println!(
            "  echo '{{\"id\": \"apple\", \"vector\": [1, 0, 0], \"colour\": \"red\"}}' | \
             kcat -P -b 127.0.0.1:19092 -t hello"
        );
        println!(
            "  curl -s {url}/collections/hello/points/query -H 'content-type: application/json' \
             -d '{{\"query\": [0.9, 0.1, 0], \"limit\": 3, \"with_payload\": true}}'"
        );
    }
    println!("Ctrl-C stops it.");
}

fn read_questions(path: &Path) -> Result<Vec<Question>, Trouble> {
    let file = std::fs::File::open(path)
        .map_err(|error| format!("cannot open {}: {error}; run this in the repository", path.display()))?;
    let mut questions = Vec::new();
    for rows in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        questions.extend(questions_of(&rows?)?);
    }
    Ok(questions)
}

fn questions_of(rows: &RecordBatch) -> Result<Vec<Question>, Trouble> {
    let column = |name: &str| {
        rows.column_by_name(name).ok_or_else(|| format!("the questions have no column {name:?}"))
    };
    let (texts, vectors, truths) = (column("text")?, column("embedding")?, column("truth")?);
    let texts = texts.as_string_opt::<i32>().ok_or("text is not a string column")?;
    let vectors = vectors.as_fixed_size_list_opt().ok_or("embedding is not a fixed-size list")?;
    let truths = truths.as_list_opt::<i32>().ok_or("truth is not a list")?;
    (0..rows.num_rows())
        .map(|row| {
            let vector = vectors.value(row);
            let vector =
                vector.as_primitive_opt::<Float32Type>().ok_or("embedding is not f32")?.values().to_vec();
            let truth = truths.value(row);
            let truth = truth.as_string_opt::<i32>().ok_or("truth is not a list of ids")?;
            let truth = (0..truth.len()).map(|at| truth.value(at).to_string()).collect();
            Ok(Question { text: texts.value(row).to_string(), vector, truth })
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_figures_are_in_one_object() {
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let (data_dir, pipeline) = (folder.path().join("data"), folder.path().join("demo.yaml"));
        let passages = repository.join("data/passages-small.jsonl");
        let yaml = format!(
            "version: 1\npipeline: demo\nsource: {{file: {{path: {passages:?}}}}}\nmap: {{id: $.id, vector: {{field: \
             $.embedding, dim: 384}}}}\nsink: {{collection: passages, create: {{distance: cosine}}}}\n"
        );
        std::fs::write(&pipeline, yaml).unwrap();
        let args = DemoArgs {
            data_dir: Some(data_dir.clone()),
            pipeline: pipeline.clone(),
            questions: repository.join("data/passages-queries.parquet"),
            listen: "127.0.0.1:0".parse().unwrap(),
            exit: true,
            json: true,
        };
        let config = ServerConfig {
            listen: args.listen,
            data_dir: data_dir.clone(),
            pipelines: Some(pipeline),
            ..ServerConfig::default()
        };
        let server = Server::start(&config).await.unwrap();
        let report = json!(show(&server, &args, data_dir, Instant::now()).await.unwrap());
        server.stop().await;
        assert_eq!(
            (&report["collection"], &report["ingest"]["rows"]),
            (&json!("passages"), &json!(200)),
            "{report}"
        );
        // So few passages are scanned.
        assert_eq!((&report["questions"], &report["recall_at_10"]), (&json!(100), &json!(1.0)), "{report}");
        for times in [&report["latency_ms"], &report["freshness_ms"]] {
            let at = |name: &str| times[name].as_f64().unwrap();
            assert!(0.0 < at("p50") && at("p50") <= at("p95") && at("p95") <= at("p99"), "{report}");
        }
    }
}
