//! Start-up time over many rows, after a stop and after a kill, and what they cost in memory.
use std::time::{Duration, Instant};

use proximadb_proto::v1;
use serde_json::json;

use super::push::{NAME, point, points_client, upsert};
use crate::data::Synthetic;
use crate::report::{Conditions, Figure, rounded, thousands};
use crate::server::{Server, ServerArgs, bytes_below};
use crate::{Trouble, process};

/// Searches before memory is looked at: mapped files count once they were touched.
const SEARCHES: usize = 100;

#[derive(Debug, clap::Args)]
pub struct StartupArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Components of each vector.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Rows to write.
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Rows per request.
    #[arg(long, default_value_t = 1000)]
    batch: usize,
    /// Wait until all rows are in a graph. Without it graphs are those that were ready when the writes were.
    #[arg(long)]
    wait_indexed: bool,
    /// Rows below which a segment gets no graph.
    #[arg(long)]
    full_scan_threshold: Option<u32>,
}

pub async fn run(args: StartupArgs) -> Result<(), Trouble> {
    let mut server = Server::start(&args.server, None).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let empty = process::resident(server.pid())?;
    server.create(NAME, args.dim, "Cosine", args.full_scan_threshold).await?;
    let writing = write(&server, &args).await?;
    let loaded = process::resident(server.pid())?;
    let before = server.describe(NAME).await?;

    let conditions = Conditions::now();
    server.kill()?;
    let after_kill = server.launch().await?;
    check(&server, &args).await?;
    let stopping = server.stop().await?;
    let started = Instant::now();
    let after_stop = server.launch().await?;
    search(&server, &args, 1).await?;
    let answered = started.elapsed();
    check(&server, &args).await?;
    let fresh = process::resident(server.pid())?;
    search(&server, &args, SEARCHES).await?;
    let touched = process::resident(server.pid())?;

    let per_vector = |bytes: u64| bytes.saturating_sub(empty.total) as f64 / args.rows as f64;
    let anonymous = touched.anonymous.saturating_sub(empty.anonymous) as f64 / args.rows as f64;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    let collection = server.describe(NAME).await?;
    Figure {
        what: format!("start-up, {} rows of {} d", thousands(args.rows as f64), args.dim),
        result: format!(
            "ready after {:.0} ms, first search answered after {:.0} ms; after kill -9 ready after {:.0} ms",
            after_stop.as_secs_f64() * 1e3,
            answered.as_secs_f64() * 1e3,
            after_kill.as_secs_f64() * 1e3
        ),
        share: format!("{} rows in graphs, {} segments", collection["indexed_vectors_count"], collection["segments_count"]),
        details: json!({
            "dim": args.dim, "rows": args.rows, "after_stop_ms": rounded(after_stop.as_secs_f64() * 1e3),
            "first_search_ms": rounded(answered.as_secs_f64() * 1e3), "after_kill_ms": rounded(after_kill.as_secs_f64() * 1e3),
            "stop_ms": rounded(stopping.as_secs_f64() * 1e3), "write_s": rounded(writing.as_secs_f64()),
            "disk_bytes": bytes_below(&server.data()), "before": before, "after": collection,
        }),
    }
    .print(&conditions)?;
    Figure {
        what: format!("resident memory, empty / per vector of {} d", args.dim),
        result: format!(
            "{:.1} MiB / {:.0} B ({anonymous:.0} B of it anonymous, the rest mapped files; a vector is {} B); while loading {:.0} MiB",
            mib(empty.total),
            per_vector(touched.total),
            args.dim * 4,
            mib(loaded.total)
        ),
        share: String::new(),
        details: json!({
            "empty": [empty.total, empty.anonymous], "loaded": [loaded.total, loaded.anonymous],
            "restarted": [fresh.total, fresh.anonymous], "searched": [touched.total, touched.anonymous],
            "rows": args.rows,
        }),
    }
    .print(&conditions)?;
    server.stop().await?;
    Ok(())
}

async fn write(server: &Server, args: &StartupArgs) -> Result<Duration, Trouble> {
    let started = Instant::now();
    let mut client = points_client(server).await?;
    let mut vectors = Synthetic::new(args.dim);
    for start in (0..args.rows).step_by(args.batch) {
        let end = args.rows.min(start + args.batch);
        let points = (start..end).map(|n| point(&format!("row-{n:09}"), &vectors.next_vector(), "{}".into()));
        let wait = if end == args.rows && args.wait_indexed { v1::Wait::Indexed } else { v1::Wait::Durable };
        client.upsert(upsert(points.collect(), wait)).await?;
    }
    Ok(started.elapsed())
}

async fn check(server: &Server, args: &StartupArgs) -> Result<(), Trouble> {
    let count = server.count(NAME).await?;
    if count == args.rows as u64 {
        Ok(())
    } else {
        Err(format!("{} rows were written and {count} are there", args.rows).into())
    }
}

async fn search(server: &Server, args: &StartupArgs, times: usize) -> Result<(), Trouble> {
    let mut connection = server.connect().await?;
    let mut vectors = Synthetic::new(args.dim);
    for _ in 0..times {
        let body = json!({"query": vectors.next_vector(), "limit": 10});
        connection.json("POST", &format!("/collections/{NAME}/points/query"), &body).await?;
    }
    Ok(())
}
