//! Answers on real data: what exact search finds is the truth, what graphs find is nearly all of it, filtered or not,
//! over both doors.
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Int32Type};
use arrow_array::{Array, RecordBatch};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proximadb_proto::v1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::grpc::{Grpc, text_of};
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::{repository, wait_until};

const ROWS: u64 = 8_000;
const K: usize = 10;
/// Recall at 10 of searches that ask for nothing special.
const FLOOR: f64 = 0.97;
/// Scores in 32 bits differ from true ones by less: what is no farther than this behind the tenth is as near.
const TIE: f64 = 2e-6;
/// Questions under each filter, of 100: the test's own brute force is what takes its time.
const FILTERED: usize = 25;

/// The passages, column by column.
#[derive(Default)]
struct Passages {
    ids: Vec<String>,
    vectors: Vec<Vec<f32>>,
    buckets: Vec<i32>,
    words: Vec<i32>,
    categories: Vec<String>,
}

struct Question {
    vector: Vec<f32>,
    /// The ten nearest passages, as the data set says.
    truth: Vec<String>,
}

fn batches(file: &str) -> impl Iterator<Item = RecordBatch> {
    let file = std::fs::File::open(repository(file)).unwrap();
    ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap().map(Result::unwrap)
}

fn texts(column: &dyn Array) -> Vec<String> {
    column.as_string::<i32>().iter().map(|text| text.unwrap().to_owned()).collect()
}

fn vectors(rows: &RecordBatch) -> Vec<Vec<f32>> {
    let column = rows["embedding"].as_fixed_size_list();
    let vector = |row| column.value(row).as_primitive::<Float32Type>().values().to_vec();
    (0..column.len()).map(vector).collect()
}

fn passages() -> Passages {
    let mut all = Passages::default();
    for rows in batches("data/passages.parquet") {
        all.ids.extend(texts(&rows["id"]));
        all.vectors.extend(vectors(&rows));
        all.buckets.extend(rows["bucket"].as_primitive::<Int32Type>().values());
        all.words.extend(rows["words"].as_primitive::<Int32Type>().values());
        all.categories.extend(texts(&rows["category"]));
    }
    assert_eq!(all.ids.len() as u64, ROWS);
    all
}

fn questions() -> Vec<Question> {
    let of = |rows: RecordBatch| {
        let truths = rows["truth"].as_list::<i32>();
        let truths: Vec<Vec<String>> = (0..rows.num_rows()).map(|row| texts(&truths.value(row))).collect();
        vectors(&rows).into_iter().zip(truths).map(|(vector, truth)| Question { vector, truth }).collect()
    };
    batches("data/passages-queries.parquet").flat_map::<Vec<_>, _>(of).collect()
}

/// True similarities of a question to all passages, which have length 1 but for rounding.
fn similarities(passages: &Passages, question: &[f32]) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    let length = dot(question, question).sqrt();
    passages.vectors.iter().map(|row| dot(row, question) / (dot(row, row).sqrt() * length)).collect()
}

/// What a search should have found.
struct Truth<'a> {
    /// Similarity of each passage that may be found.
    similarities: BTreeMap<&'a str, f64>,
    /// That of the tenth, or of the last if there are fewer.
    tenth: f64,
    wanted: usize,
}

impl<'a> Truth<'a> {
    fn of(passages: &'a Passages, similarities: &[f64], matches: impl Fn(usize) -> bool) -> Self {
        let matching = (0..passages.ids.len()).filter(|row| matches(*row));
        let similarities: BTreeMap<_, _> =
            matching.map(|row| (passages.ids[row].as_str(), similarities[row])).collect();
        let mut sorted: Vec<f64> = similarities.values().copied().collect();
        sorted.sort_unstable_by(|a, b| b.total_cmp(a));
        let wanted = sorted.len().min(K);
        Self { tenth: sorted[wanted - 1], similarities, wanted }
    }

    /// How many of the ten nearest are among the hits, which are ids and scores; those that are as near count, too.
    /// Whatever is found must match, be there once, have its true score, and not stand before a nearer one.
    fn found(&self, hits: &[(String, f64)]) -> usize {
        assert_eq!(hits.len(), self.wanted, "{hits:?}");
        assert!(hits.is_sorted_by(|a, b| a.1 >= b.1), "{hits:?}");
        let mut ids: Vec<&str> = hits.iter().map(|hit| hit.0.as_str()).collect();
        ids.sort_unstable();
        assert!(ids.is_sorted_by(|a, b| a < b), "one comes twice: {ids:?}");
        let is_near = |(id, score): &&(String, f64)| {
            let true_score = self.similarities.get(id.as_str());
            let true_score = *true_score.unwrap_or_else(|| panic!("{id} does not match the filter"));
            assert!((score - true_score).abs() < TIE, "{id} has the score {score} instead of {true_score}");
            true_score >= self.tenth - TIE
        };
        hits.iter().filter(is_near).count()
    }
}

/// A filter: its name, as it is asked for, and which rows match it.
type Case<'a> = (&'static str, Value, &'a dyn Fn(usize) -> bool);

struct Rest<'a>(&'a Client);

impl Rest<'_> {
    /// Ids and scores of the ten nearest, and the share of the rows that was scanned.
    fn ask(&self, vector: &[f32], filter: Option<&Value>, params: &Value) -> (Vec<(String, f64)>, f64) {
        let mut request = json!({ "query": vector, "limit": K, "params": params, "with_freshness": true });
        if let Some(filter) = filter {
            request["filter"] = filter.clone();
        }
        let answer = self.0.post("/collections/passages/points/query", &request);
        let freshness = [&answer.body["freshness"], &answer.body["result"]["freshness"]];
        let scanned = freshness.iter().find_map(|receipt| receipt["scanned_fraction"].as_f64());
        let scanned = scanned.unwrap_or_else(|| panic!("no receipt in {}", answer.body));
        let result = answer.result();
        let hit = |hit: &Value| (hit["id"].as_str().unwrap().to_owned(), hit["score"].as_f64().unwrap());
        (result["points"].as_array().unwrap().iter().map(hit).collect(), scanned)
    }
}

/// All passages in one segment with a graph.
fn load(server: &Server, name: &str) {
    let client = server.client();
    wait_until("all passages to be read", Duration::from_secs(180), || {
        (client.get(&format!("/pipelines/{name}")).result()["state"] == "finished").then_some(())
    });
    assert_eq!(client.count("passages"), ROWS);
    // A write that changes nothing, answered when everything before it is in a graph.
    let nobody = json!({ "points": ["nobody"] });
    wait_until("all passages to be in a graph", Duration::from_secs(600), || {
        let path = "/collections/passages/points/delete?wait=indexed";
        let answer = client.try_send(Method::POST, path, Some(&nobody));
        answer.is_ok_and(|answer| answer.status == 200).then_some(())
    });
    let facts = client.get("/collections/passages").result();
    assert_eq!(
        (&facts["indexed_vectors_count"], &facts["status"]),
        (&json!(ROWS), &json!("green")),
        "{facts}"
    );
}

fn pipeline(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("passages.yaml");
    let file = repository("data/passages.parquet");
    let yaml = format!(
        "version: 1\npipeline: passages\nsource:\n  file: {{path: {file:?}}}\nmap:\n  id: $.id\n  \
         vector: {{field: $.embedding, dim: 384}}\nsink:\n  collection: passages\n  \
         create: {{distance: cosine, hnsw: {{full_scan_threshold: 1000}}}}\nbatch: {{max_records: 1000}}\n"
    );
    std::fs::write(&path, yaml).unwrap();
    path
}

#[test]
fn answers_on_real_data_are_right_over_both_doors_and_under_filters() {
    let (passages, questions) = (passages(), questions());
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(&folder.path().join("data"), Some(&pipeline(folder.path())));
    load(&server, "passages");
    let true_scores: Vec<Vec<f64>> =
        questions.iter().map(|question| similarities(&passages, &question.vector)).collect();
    let (default, exact) = (json!({}), json!({ "exact": true }));

    let unfiltered = |server: &Server| {
        let rest = Rest(server.client());
        let mut grpc = Grpc::connect(server.client().base()).unwrap();
        let mut found = [0; 3];
        for (question, scores) in questions.iter().zip(&true_scores) {
            let truth = Truth::of(&passages, scores, |_| true);
            let (hits, scanned) = rest.ask(&question.vector, None, &exact);
            assert_eq!((truth.found(&hits), scanned), (K, 1.0), "an exact search is exact: {hits:?}");
            // No ties at the tenth place, so these are the ten.
            found[0] += hits.iter().filter(|hit| question.truth.contains(&hit.0)).count();
            let (hits, scanned) = rest.ask(&question.vector, None, &default);
            assert!(scanned < 0.1, "a graph of all rows is there, yet {scanned} of them were scanned");
            found[1] += truth.found(&hits);
            let nearest =
                v1::query_request::Nearest::Vector(v1::Vector { components: question.vector.clone() });
            let request = v1::QueryRequest { collection: "passages".into(), ..Default::default() };
            let hits = grpc.query(v1::QueryRequest { nearest: Some(nearest), ..request }).hits;
            let hit = |hit: &v1::Hit| (text_of(hit.record.as_ref().unwrap()).into(), hit.score.into());
            found[2] += truth.found(&hits.iter().map(hit).collect::<Vec<_>>());
        }
        let recall = found.map(|found| found as f64 / (questions.len() * K) as f64);
        println!("recall@{K}: exact {}, default {}, over gRPC {}", recall[0], recall[1], recall[2]);
        assert_eq!(recall[0], 1.0, "an exact search finds what the data set says");
        assert!(recall[1] >= FLOOR && recall[2] >= FLOOR, "{recall:?}");
    };
    unfiltered(&server);

    let rest = Rest(server.client());
    let value = |key: &str, value: Value| json!({ "key": key, "match": { "value": value } });
    let range = |key: &str, bounds: Value| json!({ "key": key, "range": bounds });
    let filters: [Case<'_>; 6] = [
        ("1 %", json!({ "must": [value("bucket", json!(7))] }), &|row| passages.buckets[row] == 7),
        ("10 %", json!({ "must": [range("bucket", json!({ "gte": 20, "lt": 30 }))] }), &|row| {
            (20..30).contains(&passages.buckets[row])
        }),
        ("30 %, near each other", json!({ "must": [value("category", json!("cpp/mfc"))] }), &|row| {
            passages.categories[row] == "cpp/mfc"
        }),
        ("half", json!({ "must": [range("words", json!({ "gte": 54 }))] }), &|row| passages.words[row] >= 54),
        ("all but 1 %", json!({ "must_not": [value("bucket", json!(7))] }), &|row| {
            passages.buckets[row] != 7
        }),
        (
            "two conditions",
            json!({ "must": [range("bucket", json!({ "lt": 60 }))], "must_not": [value("category", json!("cpp/mfc"))] }),
            &|row| passages.buckets[row] < 60 && passages.categories[row] != "cpp/mfc",
        ),
    ];
    for (what, filter, matches) in &filters {
        let (mut found, mut wanted) = (0, 0);
        let asked = questions.iter().zip(&true_scores).step_by(questions.len() / FILTERED);
        for (question, scores) in asked {
            let truth = Truth::of(&passages, scores, matches);
            let (hits, _) = rest.ask(&question.vector, Some(filter), &exact);
            assert_eq!(truth.found(&hits), truth.wanted, "an exact search is exact under {what}: {hits:?}");
            let (hits, _) = rest.ask(&question.vector, Some(filter), &default);
            found += truth.found(&hits);
            wanted += truth.wanted;
        }
        let recall = f64::from(found as u32) / f64::from(wanted as u32);
        println!("recall@{K} under a filter of {what}: {recall}");
        assert!(recall >= FLOOR, "{what}: {recall}");
    }

    // Filters that mean the same rows get the same answers, to the last bit.
    let any = |values: Vec<i32>| json!({ "key": "bucket", "match": { "any": values } });
    let alternatives: Vec<Value> = (20..30).map(|bucket| value("bucket", json!(bucket))).collect();
    let same = [
        [
            json!({ "must": [value("bucket", json!(7))] }),
            json!({ "must": [any(vec![7])] }),
            json!({ "must": [range("bucket", json!({ "gte": 7, "lte": 7 }))] }),
            json!({ "must_not": [range("bucket", json!({ "lt": 7 })), range("bucket", json!({ "gt": 7 }))] }),
        ],
        [
            json!({ "must": [range("bucket", json!({ "gte": 20, "lt": 30 }))] }),
            json!({ "must": [any((20..30).collect())] }),
            json!({ "should": alternatives }),
            json!({ "must": [range("bucket", json!({ "gt": 19 }))], "must_not": [range("bucket", json!({ "gte": 30 }))] }),
        ],
    ];
    for question in questions.iter().step_by(10) {
        for [first, others @ ..] in &same {
            let (wanted, _) = rest.ask(&question.vector, Some(first), &exact);
            for other in others {
                let (hits, _) = rest.ask(&question.vector, Some(other), &exact);
                assert_eq!(hits, wanted, "{other} instead of {first}");
            }
        }
    }

    // The same from disk alone.
    server.kill9();
    server.restart();
    unfiltered(&server);
}
