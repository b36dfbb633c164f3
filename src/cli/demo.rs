//! `proximadb demo`: a real data set through the main path, and questions about it.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, RecordBatch};
use indicatif::{ProgressBar, ProgressStyle};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
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
}

type Trouble = Box<dyn std::error::Error + Send + Sync>;

struct Question {
    text: String,
    vector: Vec<f32>,
    truth: Vec<String>,
}

/// Runs the demo.
pub async fn run(args: DemoArgs) -> Ended {
    if std::env::var_os("RUST_LOG").is_none() {
        // The demo's own words are what there is to read. Safe: no other thread reads the environment yet.
        crate::telemetry::init_quiet_logs();
    } else {
        crate::telemetry::init_logs();
    }
    let data_dir = args.data_dir.clone().unwrap_or_else(|| std::env::temp_dir().join("proximadb-demo"));
    if let Err(error) = empty(&data_dir) {
        return complain(&*error);
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
        Err(error) => return refuse(&error),
    };
    match show(&server, &args, started).await {
        Ok(()) if args.exit => {
            server.stop().await;
            Ended::Done
        }
        Ok(()) => {
            next_things(&server, &data_dir);
            until_stopped(server).await
        }
        Err(error) => {
            complain(&*error);
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

async fn show(server: &Server, args: &DemoArgs, started: Instant) -> Result<(), Trouble> {
    let questions = read_questions(&args.questions)?;
    let http = reqwest::Client::new();
    let base = format!("http://{}", server.address);
    let collection = ingest(server, started).await?;
    println!("\nAsking {} held-out questions, {K} passages each:", questions.len());
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
        if number < SHOWN {
            print_answer(&question.text, &hits);
        }
    }
    latencies.sort();
    let at = |share: f64| {
        latencies.get(((latencies.len() - 1) as f64 * share) as usize).copied().unwrap_or_default()
    };
    let total = (questions.len() * K) as f64;
    println!();
    println!(
        "recall@{K} {:.4} against exact search, {:.4} against the data set's own truth",
        found_exactly as f64 / total,
        found_truth as f64 / total
    );
    println!("latency p50 {}, p95 {}, p99 {} (REST, one client)", ms(at(0.5)), ms(at(0.95)), ms(at(0.99)));
    let (p50, p99) = freshness(&http, &base, &collection, &questions).await?;
    println!(
        "freshness p50 {}, p99 {} (upsert sent to found by a search, fsynced in between)",
        ms(p50),
        ms(p99)
    );
    Ok(())
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// Waits until the pipeline has read everything, with a bar; returns the collection it filled.
async fn ingest(server: &Server, started: Instant) -> Result<String, Trouble> {
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
                let took = started.elapsed().as_secs_f64();
                let rows = pipeline.records_applied;
                println!(
                    "Streamed {rows} passages in {took:.2} s: {:.0} rows/s, durable and searchable.",
                    rows as f64 / took
                );
                let collection = server.engine.collection(&pipeline.collection)?;
                let indexing = Instant::now();
                let (lsn, _) = (
                    collection.info().applied_lsn,
                    collection.shard().wait_indexed(collection.info().applied_lsn).await,
                );
                let info = collection.info();
                println!(
                    "Indexed in the background in {:.2} s: {} points, {} segment(s), {} in a graph, lsn {lsn}.",
                    indexing.elapsed().as_secs_f64(),
                    info.points,
                    info.segments,
                    info.indexed_points
                );
                return Ok(pipeline.collection.clone());
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
) -> Result<(Duration, Duration), Trouble> {
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
    times.sort();
    let at = |share: f64| times.get(((times.len() - 1) as f64 * share) as usize).copied().unwrap_or_default();
    Ok((at(0.5), at(0.99)))
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
