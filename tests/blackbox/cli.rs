//! The command line as scripts use it: exit codes, JSON on stdout, sentences on stderr.
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::repository;
use crate::harness::server::Server;

/// How a command ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", self.stdout))
    }
}

/// Runs the program with these arguments.
pub fn run(url: &str, arguments: &[&str], stdin: &str) -> Ended {
    let mut child = Command::new(env!("CARGO_BIN_EXE_proximadb"))
        .args(arguments)
        .env("PROXIMADB_URL", url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[test]
fn collections_points_and_searches() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut server = Server::start(&data, None);
    let url = server.client().base().to_owned();
    let cli = |arguments: &[&str], stdin: &str| run(&url, arguments, stdin);

    cli(&["collection", "create", "notes", "--dim", "2", "--distance", "l2", "--json"], "").json();
    let again = cli(&["collection", "create", "notes", "--dim", "2"], "");
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    assert!(again.stderr.contains("notes"), "{}", again.stderr);

    let lines: String = (0..30)
        .map(|n| {
            format!("{}\n", json!({ "id": n, "vector": [n, 1], "payload": { "n": n, "odd": n % 2 == 1 } }))
        })
        .collect();
    let written = cli(&["upsert", "notes", "-", "--batch", "7", "--json"], &lines).json();
    assert_eq!((&written["points"], &written["batches"]), (&json!(30), &json!(5)));
    let bad = cli(&["upsert", "notes"], "{\"id\": 1, \"vector\": [1]}\n");
    assert_eq!(bad.code, Some(2), "{}", bad.stderr);
    assert!(bad.stderr.contains("line 1"), "{}", bad.stderr);

    let listed = cli(&["collection", "list", "--json"], "").json();
    assert_eq!(listed[0]["name"], json!("notes"));
    assert_eq!(listed[0]["points_count"], json!(30), "{listed}");
    let described = cli(&["collection", "describe", "notes", "--json"], "").json();
    assert_eq!(described["points_count"], json!(30), "{described}");
    cli(&["collection", "update", "notes", "--index", "flat", "--recall-target", "0.9", "--json"], "").json();
    let told = cli(&["collection", "describe", "notes"], "").stdout;
    assert!(told.contains("index        flat") && told.contains("recall       0.9 promised at 10"), "{told}");
    let again = ["collection", "update", "notes", "--index", "hnsw", "--m", "24", "--no-recall-target"];
    assert_eq!(cli(&again, "").stdout, "updated notes\n");
    let told = cli(&["collection", "describe", "notes"], "").stdout;
    assert!(
        told.contains("index        hnsw, m 24, ef_construct 100\n") && !told.contains("promised"),
        "{told}"
    );
    let bad = cli(&["collection", "update", "notes", "--recall-target", "98"], "");
    assert!(bad.code == Some(2) && bad.stderr.contains("recall_target: must be above 0.5"), "{}", bad.stderr);
    assert!(cli(&["collection", "list"], "").stdout.contains("notes"));

    let lsn = written["lsn"].to_string();
    let arguments = ["search", "notes", "--vector", "[12, 1]", "-k", "3", "--fresh-as-of", &lsn, "--json"];
    let found = cli(&arguments, "").json();
    assert!(found.to_string().contains("\"id\":12"), "{found}");
    let filter = r#"{"must": [{"key": "odd", "match": {"value": true}}]}"#;
    let arguments = ["search", "notes", "--vector", "[12, 1]", "-k", "1", "--filter", filter, "--json"];
    let odd = cli(&arguments, "").json().to_string();
    assert!(odd.contains("\"id\":11") || odd.contains("\"id\":13"), "{odd}");
    let table = cli(&["search", "notes", "--id", "12", "-k", "2"], "");
    assert!(table.code == Some(0) && table.stdout.contains("13"), "{}{}", table.stdout, table.stderr);
    assert_eq!(cli(&["search", "notes"], "").code, Some(2), "no vector is wrong use");
    assert_eq!(cli(&["search", "nots", "--id", "1"], "").code, Some(1));
    assert_eq!(cli(&["serch"], "").code, Some(2));

    cli(&["collection", "create", "gone", "--dim", "2"], "");
    assert_eq!(cli(&["collection", "delete", "gone"], "").code, Some(0));
    assert_eq!(cli(&["collection", "describe", "gone"], "").code, Some(1));

    assert!(server.sigterm().success());
    let unreachable = cli(&["collection", "list"], "");
    assert_eq!(unreachable.code, Some(1));
    assert!(unreachable.stderr.contains(&url), "{}", unreachable.stderr);
    let path = data.to_str().unwrap();
    let report = cli(&["inspect", path, "--json"], "").json();
    assert_eq!(report["sound"], json!(true), "{report}");
    assert_eq!(cli(&["inspect", path], "").code, Some(0));
    assert_eq!(cli(&["inspect", "/surely/not/there"], "").code, Some(2));
}

#[test]
fn pipelines_are_checked_before_they_run() {
    let folder = tempfile::tempdir().unwrap();
    let validate = |file: &Path, more: &[&str]| {
        run("", &[&["pipeline", "validate", file.to_str().unwrap()], more].concat(), "")
    };
    let passages = repository("data/passages-small.jsonl");
    let yaml = |file: &str, id: &str| {
        format!(
            "version: 1\npipeline: p\nsource:\n  file: {{path: {file:?}}}\nmap:\n  {id}: $.id\n  \
             vector: {{field: $.embedding, dim: 384}}\nsink:\n  collection: p\n  create: {{distance: cosine}}\n"
        )
    };
    let good = folder.path().join("good.yaml");
    std::fs::write(&good, yaml(passages.to_str().unwrap(), "id")).unwrap();
    assert_eq!(validate(&good, &["--json"]).json()["valid"], json!(true));
    let tried = validate(&good, &["--dry-run", "5", "--json"]).json();
    assert!(tried["dry_run"].is_object(), "{tried}");

    let misspelt = folder.path().join("misspelt.yaml");
    std::fs::write(&misspelt, yaml(passages.to_str().unwrap(), "idd")).unwrap();
    let refused = validate(&misspelt, &[]);
    assert_eq!(refused.code, Some(2), "{}{}", refused.stdout, refused.stderr);
    assert!(refused.stderr.contains("idd") && refused.stderr.contains("misspelt.yaml"), "{}", refused.stderr);

    let absent = folder.path().join("absent.yaml");
    std::fs::write(&absent, yaml("/surely/not/there.jsonl", "id")).unwrap();
    let failed = validate(&absent, &["--dry-run", "5"]);
    assert_eq!(failed.code, Some(1), "{}{}", failed.stdout, failed.stderr);
}
