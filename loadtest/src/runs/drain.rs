//! A full topic, drained: records per second until durable and searchable, beside a bare consumer's.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kafka::{Bare, KafkaArgs, NAME, Topic};
use crate::report::{Conditions, Figure, rounded, thousands};
use crate::server::{Server, ServerArgs};
use crate::{Trouble, disk};

/// How often the server is asked how far it is.
const ASK: Duration = Duration::from_millis(10);
/// Nothing applied for so long is a failure.
const STALL: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Components of each vector.
    #[arg(long, default_value_t = 128)]
    pub dim: usize,
    /// Records in the topic.
    #[arg(long, default_value_t = 300_000)]
    pub records: usize,
}

/// The drain itself, without the control.
#[derive(Debug)]
pub struct Drained {
    pub per_second: f64,
    pub seconds: f64,
    pub cores: f64,
    pub pipeline: Value,
    pub collection: Value,
}

pub async fn run(args: DrainArgs) -> Result<(), Trouble> {
    let topic = Topic::create(&args.kafka, args.dim).await?;
    let bytes = filled(&topic, args.records).await?;
    let conditions = Conditions::now();
    let raw = disk::raw_writes(args.server.folder()?.path())?;
    let mut controls = vec![bare(&topic, args.records).await?, bare(&topic, args.records).await?];
    let drained = drain(&args.server, &topic, args.records).await?;
    controls.push(bare(&topic, args.records).await?);
    controls.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let Bare { per_second: limit, cores: bare_cores, .. } = controls[controls.len() / 2];
    let mb_per_second = drained.per_second * bytes as f64 / args.records as f64 / 1e6;
    let share = drained.per_second / limit;
    Figure {
        what: format!("Kafka → durable and searchable, {} d, Avro", args.dim),
        result: format!(
            "{} records/s, {mb_per_second:.0} MB/s, {:.2} cores",
            thousands(drained.per_second),
            drained.cores
        ),
        share: format!(
            "{:.0} % of a bare consumer ({} records/s, {:.2} cores); {:.0} % of raw synced writes ({:.0} MB/s)",
            100.0 * share,
            thousands(limit),
            bare_cores,
            100.0 * mb_per_second / raw,
            raw
        ),
        details: json!({
            "dim": args.dim, "records": args.records, "bytes": bytes,
            "records_per_s": rounded(drained.per_second), "mb_per_s": rounded(mb_per_second),
            "seconds": rounded(drained.seconds), "cores": rounded(drained.cores), "share": rounded(share), "raw_mb_per_s": rounded(raw),
            "bare": controls.into_iter().map(of).collect::<Vec<_>>(), "pipeline": drained.pipeline, "collection": drained.collection,
        }),
    }
    .print(&conditions)
}

fn of(bare: Bare) -> Value {
    json!({
        "records_per_s": rounded(bare.per_second), "mb_per_s": rounded(bare.mb_per_second), "cores": rounded(bare.cores),
    })
}

/// Fills the topic from a thread that may wait.
pub async fn filled(topic: &Topic, records: usize) -> Result<u64, Trouble> {
    let topic = topic.clone();
    tokio::task::spawn_blocking(move || topic.fill(records)).await?
}

async fn bare(topic: &Topic, records: usize) -> Result<Bare, Trouble> {
    let topic = topic.clone();
    tokio::task::spawn_blocking(move || topic.bare_consumer(records)).await?
}

/// Starts a server on the topic and waits until all of it is applied, which is after it is durable. The clock
/// runs from the first sign of a record, as the bare consumer's does.
pub async fn drain(server: &ServerArgs, topic: &Topic, records: usize) -> Result<Drained, Trouble> {
    let mut server = Server::start(server, Some(&topic.pipeline())).await?;
    let mut connection = server.connect().await?;
    let path = format!("/pipelines/{NAME}");
    let (mut first, mut last_news) = (None, (0, Instant::now()));
    let (pipeline, seconds, cores) = loop {
        let mut answer = connection.json("GET", &path, &Value::Null).await?;
        let pipeline = answer["result"].take();
        let now = Instant::now();
        let number = |key: &str| pipeline[key].as_u64().unwrap_or_default();
        if number("records_read") > 0 && first.is_none() {
            first = Some((now, server.cpu_seconds()));
        }
        let applied = number("records_applied");
        if let Some((since, cpu)) = first
            && applied >= records as u64
        {
            let seconds = (now - since).as_secs_f64();
            break (pipeline, seconds, (server.cpu_seconds() - cpu) / seconds);
        }
        if applied > last_news.0 {
            last_news = (applied, now);
        }
        if pipeline["state"] == "failed" || last_news.1.elapsed() > STALL {
            return Err(format!("the pipeline stands at {applied} of {records}: {pipeline}").into());
        }
        tokio::time::sleep(ASK).await;
    };
    let count = server.count(NAME).await?;
    if count != records as u64 {
        return Err(format!("{records} records were applied and {count} rows are there").into());
    }
    let collection = server.describe(NAME).await?;
    server.stop().await?;
    Ok(Drained { per_second: records as f64 / seconds, seconds, cores, pipeline, collection })
}
