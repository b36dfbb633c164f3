//! Durable batch upserts over N connections, each sending its next batch when the last was answered.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use proximadb_proto::v1;
use proximadb_proto::v1::points_client::PointsClient;
use serde_json::json;
use tonic::transport::Channel;

use crate::data::Synthetic;
use crate::http::{Connection, expect_ok};
use crate::latency::Latencies;
use crate::report::{Conditions, Figure, rounded, thousands};
use crate::server::{Server, ServerArgs, bytes_below};
use crate::{Trouble, disk};

/// The collection's name.
pub const NAME: &str = "load";
/// Messages of this size are let through both ways.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, clap::Args)]
pub struct PushArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Components of each vector.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Rows to write.
    #[arg(long, default_value_t = 100_000)]
    rows: usize,
    /// Rows per request.
    #[arg(long, default_value_t = 256)]
    batch: usize,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Rows below which a segment gets no graph.
    #[arg(long)]
    full_scan_threshold: Option<u32>,
}

/// What was answered, and how soon.
struct Pushed {
    latencies: Latencies,
    seconds: f64,
}

pub async fn rest(args: PushArgs) -> Result<(), Trouble> {
    let bodies: Vec<Vec<u8>> = batches(&args, |rows| {
        let points: Vec<_> = rows
            .iter()
            .map(|(id, n, vector)| json!({"id": id, "vector": vector, "payload": {"n": n, "lang": "en"}}))
            .collect();
        serde_json::to_vec(&json!({"points": points})).map_err(Trouble::from)
    })?;
    let raw = disk::raw_writes(args.server.folder()?.path())?;
    let server = Server::start(&args.server, None).await?;
    server.create(NAME, args.dim, "Cosine", args.full_scan_threshold).await?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(server.connect().await?);
    }
    let conditions = Conditions::now();
    let cpu = server.cpu_seconds();
    let pushed = spread(connections, bodies, async |connection: &mut Connection, body: &Vec<u8>| {
        let path = "/collections/load/points?wait=true";
        let (status, answer) = connection.call("PUT", path, body).await?;
        expect_ok("PUT", path, status, &answer)
    })
    .await?;
    report("REST", &args, &server, pushed, (cpu, raw), &conditions).await
}

pub async fn grpc(args: PushArgs) -> Result<(), Trouble> {
    let requests: Vec<v1::UpsertRequest> = batches(&args, |rows| {
        let rows =
            rows.iter().map(|(id, n, vector)| point(id, vector, format!("{{\"n\":{n},\"lang\":\"en\"}}")));
        Ok(upsert(rows.collect(), v1::Wait::Durable))
    })?;
    let raw = disk::raw_writes(args.server.folder()?.path())?;
    let server = Server::start(&args.server, None).await?;
    server.create(NAME, args.dim, "Cosine", args.full_scan_threshold).await?;
    let mut connections = Vec::new();
    for _ in 0..args.connections {
        connections.push(points_client(&server).await?);
    }
    let conditions = Conditions::now();
    let cpu = server.cpu_seconds();
    let pushed = spread(
        connections,
        requests,
        async |client: &mut PointsClient<Channel>, request: &v1::UpsertRequest| {
            client.upsert(request.clone()).await?;
            Ok(())
        },
    )
    .await?;
    report("gRPC", &args, &server, pushed, (cpu, raw), &conditions).await
}

/// A point as gRPC carries it.
pub fn point(id: &str, vector: &[f32], payload: String) -> v1::Point {
    let id = v1::PointId { form: Some(v1::point_id::Form::Text(id.to_owned())) };
    v1::Point { id: Some(id), vector: vector.to_vec(), payload_json: payload.into_bytes() }
}

/// A request that writes points of the collection.
pub fn upsert(points: Vec<v1::Point>, wait: v1::Wait) -> v1::UpsertRequest {
    v1::UpsertRequest { collection: NAME.into(), points, wait: wait.into() }
}

/// A connection of its own.
pub async fn points_client(server: &Server) -> Result<PointsClient<Channel>, Trouble> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address()))?;
    let client = PointsClient::new(endpoint.tcp_nodelay(true).connect().await?);
    Ok(client.max_encoding_message_size(MESSAGE_BYTES_MAX).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

/// All requests, made before the clock starts.
fn batches<T>(
    args: &PushArgs,
    request: impl Fn(&[(String, usize, Vec<f32>)]) -> Result<T, Trouble>,
) -> Result<Vec<T>, Trouble> {
    let mut vectors = Synthetic::new(args.dim);
    let starts = (0..args.rows).step_by(args.batch);
    starts
        .map(|start| {
            let rows: Vec<_> = (start..args.rows.min(start + args.batch))
                .map(|n| (format!("row-{n:09}"), n, vectors.next_vector()))
                .collect();
            request(&rows)
        })
        .collect()
}

/// Each connection takes the next request as soon as its last one is answered.
async fn spread<C, R>(
    connections: Vec<C>,
    requests: Vec<R>,
    send: impl AsyncFn(&mut C, &R) -> Result<(), Trouble>,
) -> Result<Pushed, Trouble> {
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let workers = connections.into_iter().map(async |mut connection| {
        let mut latencies = Latencies::default();
        while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
            let sent = Instant::now();
            send(&mut connection, request).await?;
            latencies.add(sent.elapsed());
        }
        Ok::<_, Trouble>(latencies)
    });
    let mut latencies = Latencies::default();
    for worker in futures_util::future::join_all(workers).await {
        latencies.merge(worker?);
    }
    Ok(Pushed { latencies, seconds: started.elapsed().as_secs_f64() })
}

async fn report(
    door: &str,
    args: &PushArgs,
    server: &Server,
    mut pushed: Pushed,
    (cpu, raw): (f64, f64),
    conditions: &Conditions,
) -> Result<(), Trouble> {
    let cores = (server.cpu_seconds() - cpu) / pushed.seconds;
    let count = server.count(NAME).await?;
    if count != args.rows as u64 {
        return Err(format!("{} rows were acknowledged and {count} are there", args.rows).into());
    }
    let per_second = args.rows as f64 / pushed.seconds;
    let mb_per_second = per_second * args.dim as f64 * 4.0 / 1e6;
    let PushArgs { dim, batch, connections, .. } = args;
    Figure {
        what: format!("{door} batch upsert, durable, {dim} d, {batch} per request, {connections} connections"),
        result: format!(
            "{} rows/s, {mb_per_second:.0} MB/s of vectors, {cores:.2} cores; request p50 {:.1} ms, p99 {:.1} ms",
            thousands(per_second),
            pushed.latencies.millis(0.5),
            pushed.latencies.millis(0.99)
        ),
        share: format!("{:.0} % of raw synced writes ({raw:.0} MB/s)", 100.0 * mb_per_second / raw),
        details: json!({
            "raw_mb_per_s": rounded(raw), "door": door, "dim": dim, "rows": args.rows, "batch": batch, "connections": connections,
            "rows_per_s": rounded(per_second), "mb_per_s": rounded(mb_per_second), "cores": rounded(cores),
            "latency": pushed.latencies.json(), "disk_bytes": bytes_below(&server.data()),
        }),
    }
    .print(conditions)
}
