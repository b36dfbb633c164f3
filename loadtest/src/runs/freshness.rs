//! Open-loop arrivals: from when a record was due to be produced until a search found it.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::drain::{drain, filled};
use crate::data::Synthetic;
use crate::http::Connection;
use crate::kafka::{KafkaArgs, NAME, POOL, Topic, pool};
use crate::latency::Latencies;
use crate::report::{Conditions, Figure, rounded, thousands};
use crate::server::{Server, ServerArgs};
use crate::{Trouble, avro};

/// Canaries looked for at once; one that waits for a free prober is counted as late as it is.
const PROBERS: usize = 16;
/// The producer sleeps at most this long between looking what is due.
const TICK: Duration = Duration::from_micros(500);
/// One that is not found by then is lost.
const LOST: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
pub struct FreshnessArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Components of each vector.
    #[arg(long, default_value_t = 128)]
    dim: usize,
    /// Records per second. Default: half of what draining a topic comes to, measured first.
    #[arg(long)]
    rate: Option<f64>,
    /// Records of that first measurement.
    #[arg(long, default_value_t = 200_000)]
    calibrate: usize,
    /// Seconds to produce for, after the warm-up.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Seconds at the beginning whose samples are thrown away.
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// Records per second that are looked for.
    #[arg(long, default_value_t = 50.0)]
    samples_per_second: f64,
    /// Milliseconds the producer waits for a batch. 0 sends nearly every record by itself, which costs broker
    /// and client more than the server spends on it.
    #[arg(long, default_value = "1")]
    producer_linger_ms: String,
    /// How they are looked for.
    #[arg(long, value_enum, default_value_t = By::Search)]
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    /// A search for the nearest vectors of all.
    Search,
    /// A read by id: without the time that searching takes.
    Id,
}

/// A record that is looked for.
#[derive(Debug, Clone, Copy)]
struct Delivered {
    canary: usize,
    partition: i32,
    offset: i64,
}

/// Tells where canaries went.
struct Deliveries {
    sender: mpsc::Sender<Delivered>,
    failed: AtomicU64,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    /// Number of the canary from 1, 0 for every other record.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(message) if number > 0 => {
                let delivered = Delivered {
                    canary: number - 1,
                    partition: message.partition(),
                    offset: message.offset(),
                };
                if self.sender.try_send(delivered).is_err() {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(_) => {}
            Err(_) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// When what is due.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    start: Instant,
    rate: f64,
    /// Every how many records one is a canary.
    every: usize,
    records: usize,
}

impl Schedule {
    fn due(&self, record: usize) -> Instant {
        self.start + Duration::from_secs_f64(record as f64 / self.rate)
    }
}

pub async fn run(args: FreshnessArgs) -> Result<(), Trouble> {
    let rate = match args.rate {
        Some(rate) => rate,
        None => {
            let topic = Topic::create(&args.kafka, args.dim).await?;
            filled(&topic, args.calibrate).await?;
            let drained = drain(&args.server, &topic, args.calibrate).await?;
            eprintln!("maximum rate: {} records/s", thousands(drained.per_second));
            drained.per_second / 2.0
        }
    };
    let topic = Topic::create(&args.kafka, args.dim).await?;
    let server = Server::start(&args.server, Some(&topic.pipeline())).await?;
    let conditions = Conditions::now();
    let cpu = (server.cpu_seconds(), Instant::now());
    let schedule = Schedule {
        start: Instant::now() + Duration::from_millis(500),
        rate,
        every: (rate / args.samples_per_second).max(1.0) as usize,
        records: (rate * (args.seconds + args.warm_up) as f64) as usize,
    };
    // Past those that fill the topic, so that a canary has no double.
    let mut vectors = Synthetic::new(args.dim);
    (0..POOL).for_each(|_| drop(vectors.next_vector()));
    let canaries: Arc<Vec<Vec<f32>>> =
        Arc::new((0..schedule.records.div_ceil(schedule.every)).map(|_| vectors.next_vector()).collect());
    let (sender, receiver) = mpsc::channel(canaries.len().max(1));
    let deliveries = Deliveries { sender, failed: AtomicU64::new(0) };
    let producer: ThreadedProducer<Deliveries> =
        topic.producer(&args.producer_linger_ms).create_with_context(deliveries)?;
    let producing = {
        let (topic, canaries) = (topic.clone(), Arc::clone(&canaries));
        tokio::task::spawn_blocking(move || produce(&topic, producer, schedule, &canaries))
    };
    let receiver = Arc::new(Mutex::new(receiver));
    let mut probing = tokio::task::JoinSet::new();
    let warm_until = schedule.start + Duration::from_secs(args.warm_up);
    for _ in 0..PROBERS {
        let probe = Probe {
            connection: server.connect().await?,
            topic: topic.name.clone(),
            canaries: Arc::clone(&canaries),
            schedule,
            by: args.by,
        };
        probing.spawn(probe.run(Arc::clone(&receiver), warm_until));
    }
    // Own cost of producing late is part of no figure, but it is told: it makes the samples worse than they are.
    let mut lateness = producing.await??;
    let Probed { mut found, mut delivered, mut after } = Probed::default();
    for probed in probing.join_all().await {
        let probed = probed?;
        found.merge(probed.found);
        delivered.merge(probed.delivered);
        after.merge(probed.after);
    }
    let cores = (server.cpu_seconds() - cpu.0) / cpu.1.elapsed().as_secs_f64();
    let by = if args.by == By::Search { "a search" } else { "a read by id" };
    Figure {
        what: format!("event → found by {by}, {} d, {} records/s", args.dim, thousands(rate)),
        result: format!(
            "p50 {:.1} ms, p99 {:.1} ms; of it until the broker's acknowledgement p50 {:.1} ms, p99 {:.1} ms, \
             after it p50 {:.1} ms, p99 {:.1} ms; {cores:.2} cores",
            found.millis(0.5),
            found.millis(0.99),
            delivered.millis(0.5),
            delivered.millis(0.99),
            after.millis(0.5),
            after.millis(0.99)
        ),
        share: String::new(),
        details: json!({
            "dim": args.dim, "rate": rounded(rate), "found": found.json(), "acknowledged_by_broker": delivered.json(),
            "after_acknowledgement": after.json(),
            "produced_late": lateness.json(), "cores": rounded(cores), "collection": server.describe(NAME).await?,
        }),
    }
    .print(&conditions)
}

/// Produces each record when it is due. Says how late it was.
fn produce(
    topic: &Topic,
    producer: ThreadedProducer<Deliveries>,
    schedule: Schedule,
    canaries: &[Vec<f32>],
) -> Result<Latencies, Trouble> {
    let pool = pool(canaries.first().map_or(1, Vec::len));
    let mut lateness = Latencies::default();
    for n in 0..schedule.records {
        let due = schedule.due(n);
        loop {
            let now = Instant::now();
            if now >= due {
                break;
            }
            std::thread::sleep((due - now).min(TICK));
        }
        let (vector, number) = if n % schedule.every == 0 {
            lateness.add(due.elapsed());
            (&canaries[n / schedule.every], n / schedule.every + 1)
        } else {
            (&pool[n % pool.len()], 0)
        };
        let id = id_of(n);
        let value = avro::frame(topic.schema_id, &id, vector, n as i64);
        let mut record = BaseRecord::with_opaque_to(&topic.name, number).key(&id).payload(&value);
        while let Err((_, back)) = producer.send(record) {
            std::thread::sleep(TICK);
            record = back;
        }
    }
    producer.flush(LOST)?;
    match producer.context().failed.load(Ordering::Relaxed) {
        0 => Ok(lateness),
        failed => Err(format!("{failed} records were not delivered").into()),
    }
}

fn id_of(record: usize) -> String {
    format!("row-{record:09}")
}

/// Times of canaries.
#[derive(Debug, Default)]
struct Probed {
    /// From when it was due until it was found.
    found: Latencies,
    /// From when it was due until the broker's acknowledgement was read.
    delivered: Latencies,
    /// From then until it was found.
    after: Latencies,
}

struct Probe {
    connection: Connection,
    topic: String,
    canaries: Arc<Vec<Vec<f32>>>,
    schedule: Schedule,
    by: By,
}

impl Probe {
    /// Looks for canaries until there are no more.
    async fn run(
        mut self,
        inbox: Arc<Mutex<mpsc::Receiver<Delivered>>>,
        warm_until: Instant,
    ) -> Result<Probed, Trouble> {
        let mut probed = Probed::default();
        loop {
            let Some(delivered) = inbox.lock().await.recv().await else { return Ok(probed) };
            let due = self.schedule.due(delivered.canary * self.schedule.every);
            let delivered_after = due.elapsed();
            self.find(delivered).await?;
            if due >= warm_until {
                let found_after = due.elapsed();
                probed.found.add(found_after);
                probed.delivered.add(delivered_after);
                probed.after.add(found_after - delivered_after);
            }
        }
    }

    /// Asks for an answer that has seen the record, and checks that it is in it.
    async fn find(&mut self, delivered: Delivered) -> Result<(), Trouble> {
        let Delivered { canary, partition, offset } = delivered;
        let id = id_of(canary * self.schedule.every);
        let position = format!("{}/{partition}", self.topic);
        let fresh_as_of = json!({NAME: {position: offset}});
        let (path, body) = match self.by {
            By::Search => (
                format!("/collections/{NAME}/points/query"),
                json!({"query": self.canaries[canary], "limit": 3, "fresh_as_of": fresh_as_of, "timeout": LOST.as_secs()}),
            ),
            By::Id => (
                format!("/collections/{NAME}/points"),
                json!({"ids": [id], "with_payload": false, "fresh_as_of": fresh_as_of, "timeout": LOST.as_secs()}),
            ),
        };
        let answer = self.connection.json("POST", &path, &body).await?;
        let points = if self.by == By::Search { &answer["result"]["points"] } else { &answer["result"] };
        let is_there =
            points.as_array().is_some_and(|points| points.iter().any(|point| point["id"] == json!(id)));
        if is_there {
            Ok(())
        } else {
            Err(format!("{id} at {offset} is applied and was not found: {}", shown(points)).into())
        }
    }
}

fn shown(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}
