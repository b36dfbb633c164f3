//! One byte turned in any file: `inspect` names the file, and no answer is wrong.
use std::path::{Path, PathBuf};
use std::process::Command;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::copy_folder;
use crate::harness::server::Server;

const POINTS: u64 = 300;

fn point(n: u64) -> Value {
    json!({ "id": n, "vector": [n as f64, 1.0, 0.5], "payload": { "n": n, "text": format!("passage {n}") } })
}

/// Segments, deletes, rejects aside, and a log with several entries that no segment holds.
fn prepare(data: &Path, config: &Path) {
    std::fs::write(config, "[memtable]\nrows_max = 100\n").unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(data, None, &environment);
    let client = server.client();
    client.create("t", 3, "Euclid");
    for first in (0..POINTS).step_by(50) {
        let points: Vec<Value> = (first..first + 50).map(point).collect();
        let wait = if first == 200 { "indexed" } else { "true" };
        client.put(&format!("/collections/t/points?wait={wait}"), &json!({ "points": points })).result();
    }
    for n in 0..10 {
        client.put("/collections/t/points?wait=true", &json!({ "points": [point(n)] })).result();
    }
    assert!(server.sigterm().success());
}

fn files_under(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_under(&path, into) } else { into.push(path) }
    }
}

/// One file of each kind; of several, the newest.
fn targets(data: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_under(&data.join("collections"), &mut files);
    files.sort();
    let newest = |kind: &dyn Fn(&str) -> bool| {
        let mut of_kind = files.iter().filter(|path| kind(path.file_name().unwrap().to_str().unwrap()));
        of_kind.next_back().cloned()
    };
    let suffixes = [".parquet", ".vec", ".ids", ".payload", ".wal"];
    let mut targets: Vec<PathBuf> =
        suffixes.iter().filter_map(|suffix| newest(&|name: &str| name.ends_with(suffix))).collect();
    targets.extend(newest(&|name: &str| name.starts_with("manifest-")));
    assert_eq!(targets.len(), 6, "{files:?}");
    targets
}

fn inspect(data: &Path, json: bool) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proximadb"));
    command.arg("inspect").arg(data);
    if json {
        command.arg("--json");
    }
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

/// All points, by id and by vector: right, or refused.
fn no_answer_is_wrong(server: &Server) -> u64 {
    let mut refused = 0;
    for n in (0..POINTS).step_by(7) {
        let get = server.client().try_send(Method::GET, &format!("/collections/t/points/{n}"), None).unwrap();
        match get.status {
            200 => assert_eq!(get.body["result"]["payload"], point(n)["payload"], "{get:?}"),
            500 => refused += 1,
            _ => panic!("point {n}: {get:?}"),
        }
        let query = json!({ "query": point(n)["vector"], "limit": 1, "params": { "exact": true } });
        let hits = server.client().post("/collections/t/points/query", &query);
        match hits.status {
            200 => assert_eq!(hits.body["result"]["points"][0]["id"], json!(n), "{hits:?}"),
            500 => refused += 1,
            _ => panic!("point {n}: {hits:?}"),
        }
        let filter = json!({ "filter": { "must": [{ "key": "n", "match": { "value": n } }] } });
        let count = server.client().post("/collections/t/points/count", &filter);
        match count.status {
            200 => assert_eq!(count.body["result"]["count"], json!(1), "{count:?}"),
            500 => refused += 1,
            _ => panic!("count {n}: {count:?}"),
        }
    }
    refused
}

#[test]
fn a_turned_byte_is_named_and_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    prepare(&whole, &folder.path().join("small.toml"));
    let (code, text) = inspect(&whole, false);
    assert_eq!(code, Some(0), "{text}");
    for (number, target) in targets(&whole).into_iter().enumerate() {
        let data = folder.path().join(format!("damaged-{number}"));
        copy_folder(&whole, &data);
        let damaged = data.join(target.strip_prefix(&whole).unwrap());
        let mut bytes = std::fs::read(&damaged).unwrap();
        // Of a log, an entry with others behind it; of other files, any place.
        let is_log = damaged.extension().is_some_and(|extension| extension == "wal");
        let at = if is_log { bytes.len() / 3 } else { bytes.len() / 2 };
        bytes[at] ^= 0x20;
        std::fs::write(&damaged, bytes).unwrap();

        let name = damaged.file_name().unwrap().to_str().unwrap();
        let (code, text) = inspect(&data, false);
        assert_eq!(code, Some(1), "{name}: {text}");
        assert!(text.contains(name), "{name} is not named: {text}");
        let (code, text) = inspect(&data, true);
        assert_eq!(code, Some(1), "{name}: {text}");
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(report["sound"], json!(false));

        match Server::try_start(&data) {
            None => println!("{name}: the server refuses to start"),
            Some(server) => {
                println!("{name}: {} answers refused, the others right", no_answer_is_wrong(&server))
            }
        }
    }
}

#[test]
fn a_damaged_or_missing_catalog_is_not_sound() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare(&data, &folder.path().join("config.toml"));
    let (code, text) = inspect(&data, true);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!((code, &report["catalog"]["collections"]), (Some(0), &json!(["t"])), "{text}");

    let catalog = data.join("catalog.db");
    let whole = std::fs::read(&catalog).unwrap();
    let mut damaged = whole.clone();
    // The root page of a table, past the file's header.
    damaged[4096..4196].fill(0xFF);
    std::fs::write(&catalog, damaged).unwrap();
    let (code, text) = inspect(&data, false);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("catalog.db"), "{text}");

    std::fs::remove_file(&catalog).unwrap();
    let (code, text) = inspect(&data, false);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("catalog.db is missing"), "{text}");

    std::fs::write(&catalog, whole).unwrap();
    assert_eq!(inspect(&data, false).0, Some(0));
}

#[test]
fn a_missing_collection_is_named_and_not_replaced_by_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    prepare(&data, &folder.path().join("config.toml"));
    let away = folder.path().join("away");
    std::fs::rename(data.join("collections"), &away).unwrap();
    let serve = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proximadb"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data);
        command.output().unwrap()
    };
    let refused = serve();
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains("log.meta of collection \"t\" is missing"), "{text}");
    assert!(!data.join("collections").exists(), "nothing was put in its place");
    let (code, text) = inspect(&data, false);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("log.meta of collection \"t\" is missing"), "{text}");

    std::fs::rename(&away, data.join("collections")).unwrap();
    let server = Server::start(&data, None);
    assert_eq!(server.client().get("/collections/t").result()["points_count"], json!(POINTS));
}
