//! Searches on real embeddings: recall and latency, with nothing else going on and while rows come in.
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proximadb_proto::v1;
use proximadb_proto::v1::points_client::PointsClient;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tonic::transport::Channel;

use super::push::{NAME, point, points_client, upsert};
use crate::Trouble;
use crate::data::{self, Question, Row, Synthetic};
use crate::http::{Connection, expect_ok};
use crate::latency::Latencies;
use crate::report::{Conditions, Figure, rounded, thousands};
use crate::server::{Server, ServerArgs};

/// Answers per question.
const K: usize = 10;
/// Made-up questions.
const QUESTIONS: usize = 200;
/// Rows per request while loading.
const LOAD_BATCH: usize = 256;
/// Rows per request while ingesting beside searches.
const INGEST_BATCH: usize = 64;

/// Which of the server's doors is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Door {
    Rest,
    Grpc,
}

#[derive(Debug, clap::Args)]
pub struct SearchArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Directory with passages.parquet and passages-queries.parquet.
    #[arg(long, default_value = "data")]
    data: PathBuf,
    /// Rows of it to load.
    #[arg(long, default_value_t = usize::MAX)]
    rows: usize,
    /// How searches are sent.
    #[arg(long, value_enum, default_value_t = Door::Rest)]
    door: Door,
    /// Connections that search.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Searches per second, all connections together. Default: each sends its next when the last is answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Rows per second that come in during the second measurement.
    #[arg(long, default_value_t = 1000.0)]
    ingest_rate: f64,
    /// Rows to add to what is in graphs, for a third measurement. The server's settings must keep them in its memtable
    /// (`memtable.rows_max`, `memtable.bytes_max`, `memtable.age_max`).
    #[arg(long, default_value_t = 0)]
    tail: usize,
    /// Components of made-up vectors, instead of those in `data`.
    #[arg(long, requires = "rows")]
    made_up: Option<usize>,
    /// Candidates kept while walking graphs. Default: the server's.
    #[arg(long)]
    ef: Option<usize>,
    /// Rows below which a segment gets no graph.
    #[arg(long, default_value_t = 1000)]
    full_scan_threshold: u32,
}

/// The questions, ready to be sent through one door.
struct Asked {
    questions: Vec<Question>,
    requests: Vec<Request>,
    exact: Vec<Request>,
}

/// One search as its door takes it.
#[derive(Clone)]
enum Request {
    Rest(Vec<u8>),
    Grpc(v1::QueryRequest),
}

impl Request {
    fn new(door: Door, vector: &[f32], ef: Option<usize>, exact: bool) -> Request {
        match door {
            Door::Rest => {
                let mut params = json!({"exact": exact});
                if let Some(ef) = ef {
                    params["hnsw_ef"] = json!(ef);
                }
                let body = json!({"query": vector, "limit": K, "params": params});
                Request::Rest(body.to_string().into_bytes())
            }
            Door::Grpc => Request::Grpc(v1::QueryRequest {
                collection: NAME.into(),
                nearest: Some(v1::query_request::Nearest::Vector(v1::Vector { components: vector.to_vec() })),
                limit: K as u64,
                exact,
                ef_search: ef.unwrap_or_default() as u64,
                ..Default::default()
            }),
        }
    }
}

/// A connection to one door.
enum Client {
    Rest(Connection),
    Grpc(PointsClient<Channel>),
}

impl Client {
    async fn open(server: &Server, door: Door) -> Result<Client, Trouble> {
        Ok(match door {
            Door::Rest => Client::Rest(server.connect().await?),
            Door::Grpc => Client::Grpc(points_client(server).await?),
        })
    }

    /// Ids of the hits, best first.
    async fn ask(&mut self, request: &Request) -> Result<Vec<String>, Trouble> {
        match (self, request) {
            (Client::Rest(connection), Request::Rest(body)) => {
                let path = "/collections/load/points/query";
                let (status, answer) = connection.call("POST", path, body).await?;
                expect_ok("POST", path, status, &answer)?;
                let answer: Value = serde_json::from_slice(&answer)?;
                let points = answer["result"]["points"].as_array().ok_or("no points in the answer")?;
                Ok(points
                    .iter()
                    .map(|point| point["id"].as_str().map_or_else(|| point["id"].to_string(), str::to_owned))
                    .collect())
            }
            (Client::Grpc(client), Request::Grpc(request)) => {
                let answer = client.query(request.clone()).await?.into_inner();
                let ids = answer.hits.into_iter().map(|hit| {
                    match hit.record.and_then(|record| record.id).and_then(|id| id.form) {
                        Some(v1::point_id::Form::Text(text)) => Ok(text),
                        Some(v1::point_id::Form::Integer(number)) => Ok(number.to_string()),
                        None => Err("a hit without an id".into()),
                    }
                });
                ids.collect()
            }
            _ => Err("a request for another door".into()),
        }
    }
}

/// What one measurement came to.
struct Searched {
    latencies: Latencies,
    per_second: f64,
    /// Processor time of the server for each search, µs; whatever else it does meanwhile is in it.
    server_cpu_us: f64,
    recall_truth: f64,
}

pub async fn run(args: SearchArgs) -> Result<(), Trouble> {
    let mut made_up = args.made_up.map(Synthetic::new);
    let (rows, questions) = match &mut made_up {
        Some(vectors) => (made_up_rows(vectors, "", args.rows), made_up_questions(vectors)),
        None => (data::rows(&args.data, args.rows)?, data::questions(&args.data)?),
    };
    let dim = rows.first().ok_or("there are no rows")?.vector.len();
    let mut server = Server::start(&args.server, None).await?;
    server.create(NAME, dim, "Cosine", Some(args.full_scan_threshold)).await?;
    let indexing = load(&server, &rows).await?;
    let requests = |exact: bool| {
        let request = |question: &Question| Request::new(args.door, &question.vector, args.ef, exact);
        questions.iter().map(request).collect()
    };
    let asked = Arc::new(Asked { requests: requests(false), exact: requests(true), questions });
    // Truth is that of all rows: of a part only the server's own exact search tells.
    let is_whole = args.made_up.is_none() && args.rows == usize::MAX;
    let (recall_exact, exact_truth) = recall(&server, args.door, &asked).await?;
    let conditions = Conditions::now();
    let idle = measure(&server, &args, &asked).await?;
    let collection = server.describe(NAME).await?;
    print(
        "idle",
        &args,
        rows.len(),
        idle,
        (recall_exact, exact_truth),
        is_whole,
        &conditions,
        json!({
            "collection": collection, "loading_and_indexing_s": rounded(indexing.as_secs_f64()),
        }),
    )?;
    if args.tail > 0 {
        let tail = match &mut made_up {
            Some(vectors) => made_up_rows(vectors, "tail-", args.tail),
            None => between(&rows, args.tail),
        };
        write(&server, &tail, v1::Wait::Durable).await?;
        // Whoever searches first codes what it scans.
        let recall = recall(&server, args.door, &asked).await?;
        let conditions = Conditions::now();
        let beside = measure(&server, &args, &asked).await?;
        let what = format!("idle, {} rows more in no graph", thousands(args.tail as f64));
        let details = json!({"collection": server.describe(NAME).await?});
        print(&what, &args, rows.len(), beside, recall, false, &conditions, details)?;
    }
    let conditions = Conditions::now();
    let stop = Arc::new(AtomicBool::new(false));
    let ingesting = tokio::spawn(ingest(
        points_client(&server).await?,
        rows.clone(),
        args.ingest_rate,
        Arc::clone(&stop),
    ));
    let busy = measure(&server, &args, &asked).await;
    stop.store(true, Ordering::Relaxed);
    let (ingested, mut writes) = ingesting.await??;
    let what = format!("while {} rows/s come in", thousands(ingested));
    let collection = server.describe(NAME).await?;
    print(
        &what,
        &args,
        rows.len(),
        busy?,
        recall(&server, args.door, &asked).await?,
        is_whole,
        &conditions,
        json!({
            "collection": collection, "ingested_per_s": rounded(ingested), "writes": writes.json(),
        }),
    )?;
    server.stop().await?;
    Ok(())
}

#[allow(clippy::too_many_arguments)] // all of it is printed
fn print(
    when: &str,
    args: &SearchArgs,
    rows: usize,
    mut searched: Searched,
    (recall_exact, exact_truth): (f64, f64),
    is_whole: bool,
    conditions: &Conditions,
    mut details: Value,
) -> Result<(), Trouble> {
    let door = match args.door {
        Door::Rest => "REST",
        Door::Grpc => "gRPC",
    };
    let how = args.rate.map_or_else(
        || format!("{} connection(s) in turn", args.connections),
        |rate| format!("{rate:.0} searches/s"),
    );
    let truth = if is_whole {
        format!("{:.4} against the truth, exact search {exact_truth:.4}", searched.recall_truth)
    } else {
        String::from("the data set's truth is of more rows")
    };
    details["rows"] = json!(rows);
    details["latency"] = searched.latencies.json();
    details["server_cpu_us_per_search"] = json!(rounded(searched.server_cpu_us));
    details["searches_per_s"] = json!(rounded(searched.per_second));
    details["recall_at_10"] = json!({
        "against_exact": recall_exact, "against_truth": searched.recall_truth, "exact_against_truth": exact_truth,
    });
    Figure {
        what: format!("search by {door}, {} rows, {how}, {when}", thousands(rows as f64)),
        result: format!(
            "p50 {:.2} / p95 {:.2} / p99 {:.2} ms, {} searches/s, {:.0} µs of the server's CPU each; recall@10 {recall_exact:.4} against exact, {truth}",
            searched.latencies.millis(0.5),
            searched.latencies.millis(0.95),
            searched.latencies.millis(0.99),
            thousands(searched.per_second),
            searched.server_cpu_us
        ),
        share: String::new(),
        details,
    }
    .print(conditions)
}

/// Made-up rows, all different.
fn made_up_rows(vectors: &mut Synthetic, prefix: &str, count: usize) -> Vec<Row> {
    (0..count).map(|n| Row { id: format!("{prefix}{n:09}"), vector: vectors.next_vector() }).collect()
}

/// Made-up questions, whose truth nobody knows but the server's exact search.
fn made_up_questions(vectors: &mut Synthetic) -> Vec<Question> {
    (0..QUESTIONS).map(|_| Question { vector: vectors.next_vector(), truth: Vec::new() }).collect()
}

/// New rows halfway between those that are there, and so as near to questions.
fn between(rows: &[Row], count: usize) -> Vec<Row> {
    let middle = |n: usize| {
        let (one, other) = (&rows[n % rows.len()], &rows[n.wrapping_mul(7_919) % rows.len()]);
        one.vector.iter().zip(&other.vector).map(|(a, b)| (a + b) / 2.0).collect()
    };
    (0..count).map(|n| Row { id: format!("tail-{n:09}"), vector: middle(n) }).collect()
}

/// Writes all rows and waits until they are in a graph.
async fn load(server: &Server, rows: &[Row]) -> Result<Duration, Trouble> {
    let started = Instant::now();
    write(server, rows, v1::Wait::Indexed).await?;
    Ok(started.elapsed())
}

/// Writes all rows; `last`: what the last request waits for.
async fn write(server: &Server, rows: &[Row], last: v1::Wait) -> Result<(), Trouble> {
    let mut client = points_client(server).await?;
    let mut batches = rows.chunks(LOAD_BATCH).peekable();
    while let Some(batch) = batches.next() {
        let points = batch.iter().map(|row| point(&row.id, &row.vector, "{}".into())).collect();
        let wait = if batches.peek().is_some() { v1::Wait::Durable } else { last };
        client.upsert(upsert(points, wait)).await?;
    }
    Ok(())
}

/// New rows at a fixed rate, the mirror images of those that are there: as alike among themselves, and far
/// from every question, so that the truth stays what it is. Says the rate reached and how long writes took.
async fn ingest(
    mut client: PointsClient<Channel>,
    rows: Vec<Row>,
    rate: f64,
    stop: Arc<AtomicBool>,
) -> Result<(f64, Latencies), Trouble> {
    let (started, mut written, mut latencies) = (Instant::now(), 0, Latencies::default());
    while !stop.load(Ordering::Relaxed) {
        let due = started + Duration::from_secs_f64(written as f64 / rate);
        tokio::time::sleep_until(due.into()).await;
        let points = (written..written + INGEST_BATCH).map(|n| {
            let row = &rows[n % rows.len()];
            let mirrored: Vec<f32> = row.vector.iter().map(|component| -component).collect();
            point(&format!("new-{n:09}"), &mirrored, "{}".into())
        });
        client.upsert(upsert(points.collect(), v1::Wait::Durable)).await?;
        latencies.add(due.elapsed());
        written += INGEST_BATCH;
    }
    Ok((written as f64 / started.elapsed().as_secs_f64(), latencies))
}

/// Every question once, by graph and exactly: (graph against exact, exact against the truth).
async fn recall(server: &Server, door: Door, asked: &Asked) -> Result<(f64, f64), Trouble> {
    let mut client = Client::open(server, door).await?;
    let (mut by_graph, mut by_scan) = (0, 0);
    for (question, (request, exact)) in asked.questions.iter().zip(asked.requests.iter().zip(&asked.exact)) {
        let found = client.ask(request).await?;
        let exactly = client.ask(exact).await?;
        by_graph += shared(&found, &exactly);
        by_scan += shared(&exactly, &question.truth);
    }
    let total = (asked.questions.len() * K) as f64;
    Ok((by_graph as f64 / total, by_scan as f64 / total))
}

fn shared(found: &[String], truth: &[String]) -> usize {
    let truth: HashSet<&String> = truth.iter().take(K).collect();
    found.iter().filter(|id| truth.contains(id)).count()
}

/// Searches for a while; under a rate, counted from when each was due.
async fn measure(server: &Server, args: &SearchArgs, asked: &Arc<Asked>) -> Result<Searched, Trouble> {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(Client::open(server, args.door).await?);
    }
    let cpu = server.cpu_seconds();
    let started = Instant::now();
    let end = started + Duration::from_secs(args.seconds);
    let due = Arc::new(Mutex::new(args.rate.map(|rate| paced(started, end, rate))));
    let next = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for mut client in clients {
        let (asked, next, due) = (Arc::clone(asked), Arc::clone(&next), Arc::clone(&due));
        workers.spawn(async move {
            let (mut latencies, mut hits) = (Latencies::default(), 0);
            loop {
                let mut pace = due.lock().await;
                let due = match pace.as_mut() {
                    Some(pace) => pace.recv().await,
                    None => Some(Instant::now()).filter(|now| *now < end),
                };
                drop(pace);
                let Some(due) = due else { return Ok::<_, Trouble>((latencies, hits)) };
                let at = next.fetch_add(1, Ordering::Relaxed) % asked.questions.len();
                let found = client.ask(&asked.requests[at]).await?;
                latencies.add(due.elapsed());
                hits += shared(&found, &asked.questions[at].truth);
            }
        });
    }
    let (mut latencies, mut hits) = (Latencies::default(), 0);
    for worker in workers.join_all().await {
        let (these, found) = worker?;
        latencies.merge(these);
        hits += found;
    }
    let count = latencies.len();
    Ok(Searched {
        per_second: count as f64 / started.elapsed().as_secs_f64(),
        server_cpu_us: (server.cpu_seconds() - cpu) * 1e6 / count.max(1) as f64,
        recall_truth: hits as f64 / (count * K).max(1) as f64,
        latencies,
    })
}

/// Moments at which a search is due, told when they come. By a thread: timers of the runtime are a
/// millisecond coarse, which is more than a search takes.
fn paced(started: Instant, end: Instant, rate: f64) -> mpsc::Receiver<Instant> {
    let count = ((end - started).as_secs_f64() * rate) as usize;
    let (sender, receiver) = mpsc::channel(count.max(1));
    std::thread::spawn(move || {
        for n in 0..count {
            let due = started + Duration::from_secs_f64(n as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.try_send(due).is_err() {
                return;
            }
        }
    });
    receiver
}
