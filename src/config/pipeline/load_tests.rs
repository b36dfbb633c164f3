#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::pipeline::*;

const GOOD: &str = r#"version: 1
pipeline: products            # its name; positions are kept under (pipeline, source)
source:
  kafka:
    brokers: [127.0.0.1:19092]
    topics: [products.v1]
    start: earliest           # earliest | latest | {timestamp: …} | {positions: {0: 42}}
    assignment: pinned        # pinned | group
    client: {security.protocol: SSL, socket.timeout.ms: 5000, ssl.key.password: "${env:KEY}"}
decode: {format: avro, framing: confluent, registry: {url: "http://127.0.0.1:18081/apis/ccompat/v7"}}
map:
  id: $.sku                   # required, or {uuid5: position}
  vector: {field: $.embedding, dim: 384}
  event_time: $.updated_at    # default: the record's own timestamp
  payload: {include: [lang, price, tenant], rename: {ts: updated}}
  delete_when: tombstone      # null value deletes the key
transform: []
sink: {collection: products, create: {distance: cosine}, ack: durable}
errors: {decode: quarantine, schema_unknown: retry, circuit: {max_ratio: 0.05}, dead_letter: {topic: products.v1.dlq}}
batch: {max_bytes: 512KiB, max_records: 256, linger: 2ms}
limits: {in_flight_bytes: 64MiB}
freshness: {objective: 1s}
"#;

fn parse(text: &str) -> Result<PipelineSpec, String> {
    PipelineSpec::from_yaml(text, "products.yaml").map_err(|errors| errors.to_string())
}

/// The message for the good pipeline with one text replaced.
fn message(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    parse(&GOOD.replacen(from, to, 1)).unwrap_err()
}

#[test]
fn the_documented_pipeline_is_read_whole() {
    let spec = parse(GOOD).unwrap();
    let SourceSpec::Kafka(kafka) = &spec.source else { unreachable!() };
    assert_eq!(kafka.brokers, ["127.0.0.1:19092"]);
    assert_eq!(kafka.start, KafkaStart::Earliest);
    assert_eq!(kafka.client["socket.timeout.ms"], ClientValue::Plain("5000".into()));
    assert_eq!(format!("{:?}", kafka.client["ssl.key.password"]), "***");
    assert_eq!(spec.batch, BatchSpec::default());
    assert_eq!(spec.limits, LimitsSpec::default());
    assert_eq!(spec.errors.circuit, CircuitSpec::default());
    assert_eq!(spec.map.delete_when, Some(DeleteWhen::Tombstone));
}

#[test]
fn a_specification_written_back_reads_the_same() {
    let spec = parse(GOOD).unwrap();
    let json = serde_json::to_string(&spec).unwrap();
    assert_eq!(parse(&json).unwrap(), spec, "JSON is YAML");
}

#[test]
fn unknown_keys_name_the_place_and_the_nearest_known_key() {
    assert_eq!(
        message("topics:", "toppics:"),
        "unknown key `toppics` at products.yaml:6:5; did you mean `topics`?"
    );
    assert_eq!(
        message("batch:", "batches:"),
        "unknown key `batches` at products.yaml:20:1; did you mean `batch`?"
    );
    assert!(
        message("linger: 2ms", "wait: 2ms")
            .contains("unknown key `wait` at products.yaml:20:46; known here: max_bytes")
    );
    assert_eq!(
        message("  kafka:", "  kafak:"),
        "unknown value `kafak` at products.yaml:4:3; did you mean `kafka`?"
    );
    assert_eq!(
        message("pinned ", "pined "),
        "unknown value `pined` at products.yaml:8:17; did you mean `pinned`?"
    );
    assert_eq!(
        message("{format: avro", "{format: avr"),
        "unknown value `avr` at products.yaml:10:18; did you mean `avro`?"
    );
}

#[test]
fn wrong_values_name_the_place_and_what_is_expected() {
    assert_eq!(
        message("linger: 2ms", "linger: 10"),
        "`batch.linger`: \"10\" is not a duration with a unit, such as 10ms, 1s, 5m or 2h at products.yaml:20:54"
    );
    assert!(
        message("id: $.sku ", "id: sku ").starts_with("`map.id`: \"sku\" is not a field path"),
        "{}",
        message("id: $.sku ", "id: sku ")
    );
    assert!(message("id: $.sku ", "id: sku ").ends_with("did you mean $.sku? at products.yaml:12:7"));
    assert_eq!(
        message("  id: $.sku ", "  # "),
        "key `id` is missing in `map` at products.yaml:11:1; it is required"
    );
    assert!(
        message("{field: $.embedding, dim: 384}", "{}").contains("key `field` is missing in `map.vector`")
    );
    assert!(
        message(
            "{collection: products, create: {distance: cosine}, ack: durable}",
            "{create: {distance: cosine}}"
        )
        .contains("missing in `sink` at products.yaml:18:1")
    );
    assert!(
        message("dim: 384", "dim: many").contains("products.yaml:13:37"),
        "{}",
        message("dim: 384", "dim: many")
    );
    assert!(message("sink:", "sink: [").contains("products.yaml:"));
    assert!(
        message("version: 1", "version: 1\nversion: 1")
            .contains("key `version` is given twice at products.yaml:2:1")
    );
    let both = message("decode:", "  file: {path: a.jsonl}\ndecode:");
    assert!(both.contains("`source` names several kinds at products.yaml:"), "{both}");
}

#[test]
fn impossible_combinations_are_refused_at_their_line() {
    for (from, to, expected) in [
        ("version: 1", "version: 2", "version 2 is not known at products.yaml:1:1; write version: 1"),
        (
            ", registry: {url: \"http://127.0.0.1:18081/apis/ccompat/v7\"}",
            "",
            "Avro with framing: confluent needs a registry at products.yaml:10:24",
        ),
        (
            "security.protocol: SSL",
            "enable.auto.commit: true",
            "client setting `enable.auto.commit` is ours at products.yaml:9:14; positions are committed with the rows",
        ),
        (
            "security.protocol: SSL",
            "sasl.password: hunter2",
            "client setting `sasl.password` holds a secret at products.yaml:9:14",
        ),
        ("dim: 384", "dim: 0", "a vector cannot have 0 components at products.yaml:13:32"),
        (
            "include: [lang, price, tenant]",
            "include: [lang], exclude: [x]",
            "`include` and `exclude` exclude each other at products.yaml:15:30",
        ),
        ("$.sku ", "{uuid5: position} ", "no later record can name a point"),
        ("$.sku ", "$.embedding ", "id and vector are both read from $.embedding at products.yaml:12:3"),
        (
            "start: earliest",
            "start: {positions: {other/0: 42}}",
            "\"other\" is not among the topics at products.yaml:7:25",
        ),
        ("64MiB", "1KiB", "holds less than two batches"),
        ("[products.v1]", "[]", "no topic is given at products.yaml:6:5"),
        ("max_ratio: 0.05", "max_ratio: 5", "max_ratio 5 is not a share"),
        ("rename: {ts: updated}", "rename: {a: x, b: x}", "two fields are renamed to `x`"),
        (
            "format: avro, framing: confluent",
            "format: json",
            "a registry is used with framing: confluent only",
        ),
        ("pipeline: products ", "pipeline: a/b ", "\"a/b\" is not a name"),
        (
            "pipeline: products ",
            "pipeline: .hidden ",
            "\".hidden\" is not a name: it begins with a full stop",
        ),
        ("{distance: cosine}", "{distance: cosine, hnsw: {m: 200}}", "must be between 2 and 128, not 200"),
        (
            "{distance: cosine}",
            "{distance: cosine, index: {kind: ivf, clusters: 0}}",
            "must be between 1 and 65536, not 0",
        ),
        (
            "{distance: cosine}",
            "{distance: cosine, index: {clusters: 9}}",
            "only the kind \"ivf\" has clusters, and the kind is \"hnsw\"",
        ),
    ] {
        let found = message(from, to);
        assert!(found.contains(expected), "{to}: {found}");
    }
    let transform = message("transform: []", "transform: [{filter: {x: 1}}]");
    assert!(
        transform.contains("unknown value `filter` at products.yaml:17:14; known here: constant"),
        "{transform}"
    );
}

#[test]
fn all_impossible_combinations_are_reported_together() {
    let text = GOOD.replace("dim: 384", "dim: 0").replace("version: 1", "version: 3");
    assert_eq!(parse(&text).unwrap_err().lines().count(), 2);
}

#[test]
fn files_tell_their_format_and_only_lines_can_be_followed() {
    let file = |source: &str, rest: &str| {
        parse(&format!(
            "version: 1\npipeline: p\nsource: {{file: {source}}}\n{rest}map: {{id: $.i, vector: {{field: $.v, dim: 2}}}}\nsink: {{collection: c}}\n"
        ))
    };
    assert!(file("{path: a.jsonl, follow: true}", "").is_ok());
    assert!(file("{path: [a.parquet, b.parquet]}", "").is_ok());
    assert!(file("{path: a.parquet, follow: true}", "").unwrap_err().contains("cannot be followed"));
    assert!(file("{path: [a.parquet, b.avro]}", "").unwrap_err().contains("several formats"));
    assert!(file("{path: data}", "").unwrap_err().contains("does not tell its format"));
    assert!(file("{path: data, format: jsonl}", "").is_ok());
    assert!(
        file("{path: a.parquet}", "decode: {format: json}\n").unwrap_err().contains("does not fit the files")
    );
    let keyed = "version: 1\npipeline: p\nsource: {file: {path: a.avro}}\nmap: {id: $key, vector: {field: $.v, dim: 2}, delete_when: tombstone}\nsink: {collection: c}\n";
    let found = parse(keyed).unwrap_err();
    assert!(found.contains("no key at products.yaml:4:7") && found.contains("no null values"), "{found}");
    assert!(file("{path: a*/b.jsonl}", "").unwrap_err().contains("pattern in a folder"));
}

#[test]
fn starts_are_read_in_every_form() {
    let start = |text: &str| {
        let spec = parse(&GOOD.replace("start: earliest", &format!("start: {text}"))).unwrap();
        let SourceSpec::Kafka(kafka) = spec.source else { unreachable!() };
        kafka.start
    };
    assert_eq!(start("latest"), KafkaStart::Latest);
    assert_eq!(
        start("{timestamp: 2000-02-29T23:59:59Z}"),
        KafkaStart::Timestamp(Timestamp { ms: 951_868_799_000 })
    );
    assert_eq!(start("{timestamp: 17}"), KafkaStart::Timestamp(Timestamp { ms: 17 }));
    let positions = start("{positions: {0: 42, products.v1/1: 7}}");
    assert_eq!(positions.position_of("products.v1", 0), Some(42));
    assert_eq!(positions.position_of("products.v1", 1), Some(7));
    assert_eq!(positions.position_of("products.v1", 2), None);
}

#[test]
fn every_example_pipeline_is_right() {
    for (folder, least) in [("pipelines", 4), ("docker/pipelines", 2), ("docs/examples", 2)] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut count = 0;
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                load(&path).unwrap_or_else(|errors| unreachable!("{errors}"));
                count += 1;
            }
        }
        assert!(count >= least, "{count} examples in {folder}");
    }
}
