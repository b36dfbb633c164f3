//! Files as sources: every line once, bad ones in quarantine, appended ones followed.
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::server::Server;
use crate::harness::{repository, wait_until};

const WITHIN: Duration = Duration::from_secs(120);

/// A pipeline over passages in `file`.
fn pipeline(folder: &Path, file: &Path, follow: bool) -> PathBuf {
    let path = folder.join("passages.yaml");
    let yaml = format!(
        "version: 1\npipeline: passages\nsource:\n  file: {{path: {file:?}, follow: {follow}}}\nmap:\n  \
         id: $.id\n  vector: {{field: $.embedding, dim: 384}}\n  event_time: {{field: $.ts, unit: s}}\nsink:\n  \
         collection: passages\n  create: {{distance: cosine}}\nbatch: {{max_records: 20}}\n"
    );
    std::fs::write(&path, yaml).unwrap();
    path
}

fn passages() -> Vec<Value> {
    let text = std::fs::read_to_string(repository("data/passages-small.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn wait_position(server: &Server, file: &Path, bytes: usize) {
    let mut last = None;
    let partition = file.to_str().unwrap();
    wait_until(&format!("position {bytes} of {partition}"), WITHIN, || {
        last = server.client().position("passages", partition);
        assert!(last <= Some(bytes as u64), "{last:?} is past the end");
        (last == Some(bytes as u64)).then_some(())
    });
}

#[test]
fn a_file_is_read_exactly_once_whatever_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passages.jsonl");
    let passages = passages();
    let mut expected = BTreeMap::new();
    let mut text = String::new();
    for copy in 0..10 {
        for passage in &passages {
            let mut passage = passage.clone();
            passage["id"] = format!("{copy}/{}", passage["id"].as_str().unwrap()).into();
            text.push_str(&passage.to_string());
            text.push('\n');
            expected.insert(passage["id"].as_str().unwrap().to_owned(), passage["title"].clone());
        }
    }
    std::fs::write(&file, &text).unwrap();
    let mut server = Server::start(&folder.path().join("data"), Some(&pipeline(folder.path(), &file, false)));
    let mut before = None;
    for _ in 0..4 {
        wait_until("a few more rows", WITHIN, || {
            let now = server.client().position("passages", file.to_str().unwrap());
            (now > before || now == Some(text.len() as u64)).then(|| before = now)
        });
        server.kill9();
        server.restart();
    }
    wait_position(&server, &file, text.len());
    let found: BTreeMap<String, Value> = server
        .client()
        .scroll_all("passages")
        .into_iter()
        .map(|point| (point["id"].as_str().unwrap().to_owned(), point["payload"]["title"].clone()))
        .collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
    assert_eq!(server.client().count("passages"), expected.len() as u64);
    for passage in passages.iter().step_by(10) {
        let query = json!({ "query": passage["embedding"], "limit": 20, "params": { "exact": true } });
        let hits = server.client().post("/collections/passages/points/query", &query).result();
        let ids: Vec<&str> =
            hits["points"].as_array().unwrap().iter().map(|hit| hit["id"].as_str().unwrap()).collect();
        for copy in 0..10 {
            let id = format!("{copy}/{}", passage["id"].as_str().unwrap());
            assert!(ids.contains(&id.as_str()), "{id} is not found by its vector: {ids:?}");
        }
    }
}

#[test]
fn appended_lines_are_followed_and_bad_ones_are_kept_with_their_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passages.jsonl");
    let passages = passages();
    let mut bytes = 0;
    let mut append = |line: &str| {
        let mut file = std::fs::File::options().create(true).append(true).open(&file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        bytes += line.len();
        bytes
    };
    append(&format!("{}\n", passages[0]));
    let path = folder.path().join("passages.jsonl");
    let mut server = Server::start(&folder.path().join("data"), Some(&pipeline(folder.path(), &path, true)));
    wait_until("the first line", WITHIN, || (server.client().count("passages") == 1).then_some(()));

    // Half a line is no line.
    let second = passages[1].to_string();
    append(&second[..1000]);
    append(&format!("{}\n", &second[1000..]));
    let not_json = append("{\"id\": \"broken\", \n") as u64;
    let mut short = passages[2].clone();
    short["embedding"] = json!([1.0, 2.0]);
    let too_short = append(&format!("{short}\n")) as u64;
    let mut nameless = passages[3].clone();
    nameless.as_object_mut().unwrap().remove("id");
    let no_id = append(&format!("{nameless}\n")) as u64;
    let end = append(&format!("{}\n", passages[4]));
    wait_position(&server, &path, end);
    for restarted in [false, true] {
        if restarted {
            server.kill9();
            server.restart();
        }
        assert_eq!(server.client().count("passages"), 3, "restarted: {restarted}");
        let listed = server.client().get("/collections/passages/quarantine?limit=100").result();
        let list = listed.as_array().or_else(|| listed.as_object()?.values().find_map(Value::as_array));
        let mut rejects: Vec<(u64, String, String)> = list
            .unwrap_or_else(|| panic!("no list: {listed}"))
            .iter()
            .map(|one| {
                assert_eq!(one["partition"].as_str(), path.to_str(), "{one}");
                let text = |key: &str| one[key].as_str().unwrap().to_owned();
                (one["position"].as_u64().unwrap(), text("code"), text("reason"))
            })
            .collect();
        rejects.sort();
        let positions: Vec<u64> = rejects.iter().map(|(position, _, _)| *position).collect();
        assert_eq!(positions, [not_json, too_short, no_id], "{rejects:?}");
        let codes: Vec<&str> = rejects.iter().map(|(_, code, _)| code.as_str()).collect();
        assert_eq!(codes, ["decode", "dimension_mismatch", "missing_id"], "{rejects:?}");
        assert!(rejects.iter().all(|(_, _, reason)| !reason.is_empty()), "{rejects:?}");
    }
    let end = append(&format!("{}\n", passages[5]));
    wait_position(&server, &path, end);
    assert_eq!(server.client().count("passages"), 4);
}

#[test]
fn every_stage_reports_what_goes_through_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passages.jsonl");
    let lines: Vec<String> = (0..4)
        .flat_map(|copy| {
            passages().into_iter().map(move |mut passage| {
                passage["id"] = format!("{copy}/{}", passage["id"].as_str().unwrap()).into();
                passage.to_string() + "\n"
            })
        })
        .collect();
    std::fs::write(&file, lines.concat()).unwrap();
    let config = folder.path().join("proximadb.toml");
    std::fs::write(&config, "[memtable]\nrows_max = 100\n").unwrap();
    let pipeline = pipeline(folder.path(), &file, false);
    let yaml = std::fs::read_to_string(&pipeline).unwrap();
    std::fs::write(&pipeline, yaml.replace("cosine}", "cosine, hnsw: {full_scan_threshold: 10}}")).unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let server = Server::start_with(&folder.path().join("data"), Some(&pipeline), &environment);
    let metric = |what: &str, stage: &str| {
        let of = if ["source", "decode"].contains(&stage) { "pipeline" } else { "collection" };
        let is_meant = |line: &str| {
            line.contains(&format!("stage=\"{stage}\"")) && line.contains(&format!("{of}=\"passages\""))
        };
        server.client().metric_where(&format!("proximadb_stage_{what}_total"), is_meant)
    };
    let rows = lines.len() as f64;
    for (stage, least) in [
        ("source", rows),
        ("decode", rows),
        ("apply", rows),
        ("flush", 100.0),
        ("merge", 100.0),
        ("index", 100.0),
    ] {
        wait_until(&format!("{least} records through {stage}"), WITHIN, || {
            (metric("records", stage) >= least).then_some(())
        });
        assert!(metric("bytes", stage) > 1_000.0, "{stage}");
        assert!(metric("busy_microseconds", stage) > 0.0, "{stage}");
        assert_eq!(metric("errors", stage), 0.0, "{stage}");
        let text = server.client().get("/metrics").body;
        let series = |line: &str| line.starts_with("proximadb_stage_errors_total{") && line.contains(stage);
        assert!(text.as_str().unwrap().lines().any(series), "no errors are reported of {stage}");
    }
    for stage in ["source", "decode", "apply"] {
        assert_eq!(metric("records", stage), rows, "{stage}");
    }
    let of_shard = |name: &str| server.client().metric(name, "collection=\"passages\"");
    wait_until("what is durable to be applied", WITHIN, || {
        let durable = of_shard("proximadb_collection_durable_lsn");
        (durable > 0.0 && durable == of_shard("proximadb_collection_applied_lsn")).then_some(())
    });
}
