//! `proximadb collection …`
use clap::ValueEnum;
use reqwest::Method;
use serde_json::{Value, json};

use super::Ended;
use super::client::{Client, ClientArgs, ClientError, finish, print_json};
use super::table::Table;
use crate::types::{Compression, Quantization, RabitqBits};

#[derive(Debug, clap::Subcommand)]
pub enum CollectionCommand {
    /// All collections of a server.
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Create a collection.
    Create(CreateArgs),
    /// Change a collection: its index is built anew in the background, and what is there serves meanwhile.
    Update(UpdateArgs),
    /// What a collection is and holds.
    Describe {
        /// The collection.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Delete a collection with all its data.
    Delete {
        /// The collection.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

#[derive(Debug, clap::Args)]
pub struct CreateArgs {
    /// Letters, digits, '_', '-', '.'.
    name: String,
    /// Components of each vector.
    #[arg(long)]
    dim: u32,
    /// How vectors are compared.
    #[arg(long, value_enum, default_value_t = DistanceArg::Cosine)]
    distance: DistanceArg,
    /// The kind of index [default: hnsw].
    #[arg(long, value_enum)]
    index: Option<IndexArg>,
    /// With `--index ivf`: about so many clusters per segment [default: twice the square root of its rows].
    #[arg(long)]
    clusters: Option<u32>,
    /// Half of a graph node's links [default: 16].
    #[arg(long)]
    m: Option<u32>,
    /// Candidates looked at while a graph is built [default: 100].
    #[arg(long)]
    ef_construct: Option<u32>,
    /// Segments with fewer rows are scanned [default: 10000].
    #[arg(long)]
    full_scan_threshold: Option<u32>,
    /// Build levels above the graph: auto, on or off [default: auto].
    #[arg(long, value_parser = ["auto", "on", "off"])]
    levels: Option<String>,
    /// How vectors are coded in the graph: none, f16, int8, rabitq1, rabitq2, rabitq4, rabitq7, product4, product8,
    /// product16, product32, product64; or auto, as a sample of each segment says that they need [default: auto].
    #[arg(long, value_parser = chosen_quantization)]
    quantization: Option<ChosenQuantization>,
    /// Share of the 10 nearest that searches are to find, such as 0.98; `ef_search` is tuned to it [default: none].
    #[arg(long)]
    recall_target: Option<f64>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
pub struct UpdateArgs {
    /// The collection.
    name: String,
    /// The kind of index.
    #[arg(long, value_enum)]
    index: Option<IndexArg>,
    /// Of the kind ivf: about so many clusters per segment.
    #[arg(long, conflicts_with = "no_clusters")]
    clusters: Option<u32>,
    /// As many clusters per segment as its rows ask for.
    #[arg(long)]
    no_clusters: bool,
    /// Half of a graph node's links.
    #[arg(long)]
    m: Option<u32>,
    /// Candidates looked at while a graph is built.
    #[arg(long)]
    ef_construct: Option<u32>,
    /// Segments with fewer rows are scanned.
    #[arg(long)]
    full_scan_threshold: Option<u32>,
    /// Build levels above the graph: auto, on or off.
    #[arg(long, value_parser = ["auto", "on", "off"])]
    levels: Option<String>,
    /// How vectors are coded in the graph: none, f16, int8, rabitq1, rabitq2, rabitq4, rabitq7, product4, product8,
    /// product16, product32, product64; or auto, as a sample of each segment says that they need.
    #[arg(long, value_parser = chosen_quantization)]
    quantization: Option<ChosenQuantization>,
    /// Share of the 10 nearest that searches are to find, such as 0.98.
    #[arg(long, conflicts_with = "no_recall_target")]
    recall_target: Option<f64>,
    /// Promise no recall any more.
    #[arg(long)]
    no_recall_target: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// A kind of codes; `None` leaves it to each segment's sample.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ChosenQuantization(Option<Quantization>);

#[derive(Debug, Clone, Copy, ValueEnum)]
enum IndexArg {
    /// None: every search looks at all rows, and is exact.
    Flat,
    /// A graph per segment.
    Hnsw,
    /// Clusters per segment.
    Ivf,
}

impl IndexArg {
    fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Hnsw => "hnsw",
            Self::Ivf => "ivf",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum DistanceArg {
    Cosine,
    Dot,
    #[value(alias = "euclid")]
    L2,
}

impl DistanceArg {
    fn name(self) -> &'static str {
        match self {
            Self::Cosine => "Cosine",
            Self::Dot => "Dot",
            Self::L2 => "Euclid",
        }
    }
}

/// Does it.
pub async fn run(command: CollectionCommand) -> Ended {
    match command {
        CollectionCommand::List { client } => finish(list(&client).await, client.json),
        CollectionCommand::Create(args) => finish(create(&args).await, args.client.json),
        CollectionCommand::Update(args) => finish(update(&args).await, args.client.json),
        CollectionCommand::Describe { name, client } => finish(describe(&name, &client).await, client.json),
        CollectionCommand::Delete { name, client } => finish(delete(&name, &client).await, client.json),
    }
}

async fn list(args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(args)?;
    let all = client.call(Method::GET, &["collections"], &[], None).await?;
    let mut found = Vec::new();
    for name in all["collections"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()) {
        match client.call(Method::GET, &["collections", name], &[], None).await {
            Ok(mut facts) => {
                facts["name"] = name.into();
                found.push(facts);
            }
            // Deleted since it was listed.
            Err(ClientError::Refused { code, .. }) if code == "collection_not_found" => {}
            Err(error) => return Err(error),
        }
    }
    if args.json {
        print_json(&json!(found));
    } else if found.is_empty() {
        println!("no collections");
    } else {
        let mut table =
            Table::new(&["COLLECTION", "DIM", "DISTANCE", "POINTS", "INDEXED", "SEGMENTS", "STATUS"]);
        for facts in &found {
            let vectors = &facts["config"]["params"]["vectors"];
            let cells = [
                &facts["name"],
                &vectors["size"],
                &vectors["distance"],
                &facts["points_count"],
                &facts["indexed_vectors_count"],
                &facts["segments_count"],
                &facts["status"],
            ];
            table.row(cells.map(plain));
        }
        print!("{table}");
    }
    Ok(())
}

async fn create(args: &CreateArgs) -> Result<(), ClientError> {
    let body = json!({
        "vectors": {"size": args.dim, "distance": args.distance.name()},
        "index": {"kind": args.index.map(IndexArg::name), "clusters": args.clusters},
        "hnsw_config": {
            "m": args.m,
            "ef_construct": args.ef_construct,
            "full_scan_threshold": args.full_scan_threshold,
            "levels": args.levels,
        },
        "quantization_config": args.quantization.and_then(|chosen| chosen.0),
        "recall_target": args.recall_target,
    });
    let client = Client::new(&args.client)?;
    client.call(Method::PUT, &["collections", &args.name], &[], Some(body.to_string())).await?;
    if args.client.json {
        print_json(&json!({"collection": args.name, "done": "created"}));
    } else {
        println!("created {}", args.name);
    }
    Ok(())
}

/// What of the collection changes.
fn patch(args: &UpdateArgs) -> Value {
    let mut body = json!({
        "hnsw_config": {
            "m": args.m,
            "ef_construct": args.ef_construct,
            "full_scan_threshold": args.full_scan_threshold,
            "levels": args.levels,
        },
    });
    if let Some(chosen) = args.quantization {
        body["quantization_config"] = json!(chosen.0);
    }
    if let Some(index) = args.index {
        body["index"]["kind"] = json!(index.name());
    }
    if args.clusters.is_some() || args.no_clusters {
        body["index"]["clusters"] = json!(args.clusters);
    }
    if args.recall_target.is_some() || args.no_recall_target {
        body["recall_target"] = json!(args.recall_target);
    }
    body
}

async fn update(args: &UpdateArgs) -> Result<(), ClientError> {
    let client = Client::new(&args.client)?;
    client.call(Method::PATCH, &["collections", &args.name], &[], Some(patch(args).to_string())).await?;
    if args.client.json {
        print_json(&json!({"collection": args.name, "done": "updated"}));
    } else {
        println!("updated {}", args.name);
    }
    Ok(())
}

async fn describe(name: &str, args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(args)?;
    let mut facts = client.call(Method::GET, &["collections", name], &[], None).await?;
    facts["freshness"] = client.call(Method::GET, &["collections", name, "freshness"], &[], None).await?;
    facts["name"] = name.into();
    if args.json {
        print_json(&facts);
        return Ok(());
    }
    let vectors = &facts["config"]["params"]["vectors"];
    let mebibytes =
        |bytes: &Value| format!("{:.1} MiB", bytes.as_f64().unwrap_or_default() / f64::from(1 << 20));
    println!("collection   {name}");
    println!("vectors      {} × {}", plain(&vectors["size"]), plain(&vectors["distance"]));
    println!("index        {}", index_line(&facts["index"]));
    match &facts["config"]["quantization_config"] {
        Value::Null => println!("codes        as segments need"),
        chosen => println!("codes        {chosen}"),
    }
    if let Some(recall) = facts["recall"].as_object() {
        println!("recall       {}", recall_line(&json!(recall)));
    }
    println!("status       {}", plain(&facts["status"]));
    println!("points       {} ({} in a graph)", facts["points_count"], facts["indexed_vectors_count"]);
    println!("segments     {}", facts["segments_count"]);
    println!("memory       {}", mebibytes(&facts["memory_bytes"]));
    println!("disk         {}", mebibytes(&facts["disk_bytes"]));
    println!(
        "log          durable {}, applied {}, flushed {}",
        facts["durable_lsn"], facts["applied_lsn"], facts["flushed_lsn"]
    );
    println!("quarantine   {}", facts["quarantined"]);
    println!("created      {}", plain(&facts["created_at"]));
    for (source, partitions) in facts["freshness"]["positions"].as_object().into_iter().flatten() {
        for (partition, at) in partitions.as_object().into_iter().flatten() {
            println!("position     {source}  {partition}  {}", plain(&at["position"]));
        }
    }
    Ok(())
}

async fn delete(name: &str, args: &ClientArgs) -> Result<(), ClientError> {
    let client = Client::new(args)?;
    let deleted = client.call(Method::DELETE, &["collections", name], &[], None).await? == true;
    if args.json {
        print_json(&json!({"collection": name, "done": if deleted { "deleted" } else { "nothing" }}));
    } else if deleted {
        println!("deleted {name}");
    } else {
        println!("there was no {name}");
    }
    Ok(())
}

/// A kind of codes by its name and number, or `auto`.
fn chosen_quantization(text: &str) -> Result<ChosenQuantization, String> {
    let chosen = if text == "auto" { None } else { Some(quantization(text)?) };
    Ok(ChosenQuantization(chosen))
}

fn quantization(text: &str) -> Result<Quantization, String> {
    let (name, number) = text.split_at(text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len()));
    let number = number.parse().ok();
    match (name, number) {
        ("none", None) => Ok(Quantization::None {}),
        ("f", Some(16)) => Ok(Quantization::F16 {}),
        ("int", Some(8)) => Ok(Quantization::INT8),
        ("rabitq", Some(bits)) => RabitqBits::try_from(bits).map(Quantization::rabitq),
        ("product", Some(factor)) => {
            let compression = Compression::of(factor);
            compression
                .map(Quantization::product)
                .ok_or_else(|| format!("product has no compression {factor}"))
        }
        _ => {
            Err("give auto, none, f16, int8, rabitq and its bits, or product and how much smaller it is"
                .into())
        }
    }
}

/// `hnsw, m 16, ef_construct 100, building: 43 % of the rows are done`.
fn index_line(index: &Value) -> String {
    let kind = match index["kind"].as_str() {
        Some("ivf") if index["clusters"].is_u64() => format!("ivf, clusters {}", index["clusters"]),
        Some(kind @ ("flat" | "ivf")) => kind.to_string(),
        _ => {
            let params = &index["params"];
            format!("{}, m {}, ef_construct {}", plain(&index["kind"]), params["m"], params["ef_construct"])
        }
    };
    match index["state"].as_str() {
        Some("building") => {
            let percent = index["progress"].as_f64().unwrap_or_default() * 100.0;
            format!("{kind}, building: {percent:.0} % of the rows are done")
        }
        _ => kind,
    }
}

/// `0.98 promised at 10, 0.987 measured (0.982 to 0.991, 640 queries), ef_search 57`.
fn recall_line(recall: &Value) -> String {
    let share = |value: &Value| value.as_f64().map_or("?".to_string(), |share| format!("{share:.3}"));
    let measured = match &recall["measured"] {
        Value::Null => "not measured yet".to_string(),
        measured if recall["samples"] == 0 => format!("{} since nothing is in a graph", share(measured)),
        measured => {
            let (low, high) = (&recall["confidence"][0], &recall["confidence"][1]);
            let (measured, low, high) = (share(measured), share(low), share(high));
            format!("{measured} measured ({low} to {high}, {} queries)", recall["samples"])
        }
    };
    format!("{} promised at {}, {measured}, ef_search {}", recall["target"], recall["k"], recall["ef_search"])
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Update {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn patch_of(flags: &[&str]) -> Value {
        let words = ["update", "c"].iter().chain(flags);
        let mut patch = patch(&<Update as clap::Parser>::parse_from(words).args);
        // What is null in here leaves things as they are.
        if let Some(graph) = patch["hnsw_config"].as_object_mut() {
            graph.retain(|_, value| !value.is_null());
        }
        patch
    }

    #[test]
    fn updates_say_what_changes_and_nothing_else() {
        assert_eq!(patch_of(&[]), json!({"hnsw_config": {}}));
        let levels = patch_of(&["--levels", "off", "--quantization", "int8"]);
        let expected =
            json!({"hnsw_config": {"levels": "off"}, "quantization_config": {"scalar": {"type": "int8"}}});
        assert_eq!(levels, expected);
        let auto = patch_of(&["--quantization", "auto", "--no-recall-target"]);
        assert_eq!(auto, json!({"hnsw_config": {}, "quantization_config": null, "recall_target": null}));
        let index = patch_of(&["--index", "ivf", "--no-clusters", "--m", "8"]);
        assert_eq!(index, json!({"hnsw_config": {"m": 8}, "index": {"kind": "ivf", "clusters": null}}));
    }

    #[test]
    fn codes_by_name() {
        let cases = [
            ("none", r#"{"none":{}}"#),
            ("f16", r#"{"f16":{}}"#),
            ("int8", r#"{"scalar":{"type":"int8"}}"#),
            ("rabitq2", r#"{"rabitq":{"bits":2}}"#),
            ("product32", r#"{"product":{"compression":"x32"}}"#),
        ];
        for (text, meant) in cases {
            assert_eq!(quantization(text).map(|codes| json!(codes).to_string()), Ok(meant.to_string()));
        }
        assert_eq!(chosen_quantization("auto"), Ok(ChosenQuantization(None)));
        assert_eq!(chosen_quantization("f16"), Ok(ChosenQuantization(Some(Quantization::F16 {}))));
        for wrong in ["", "rabitq", "rabitq3", "product5", "f32", "int8x", "none1"] {
            assert!(quantization(wrong).is_err(), "{wrong}");
        }
    }
}
