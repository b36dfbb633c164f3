//! What was answered is there, whenever the power went.
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use proximadb_proto::v1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::data::Random;
use crate::harness::grpc::{self, Grpc};
use crate::harness::http::Client;
use crate::harness::server::Server;
use crate::harness::{seed, wait_until};

const WRITERS: u64 = 8;
/// One writer in so many sends through a gRPC stream.
const STREAMS: u64 = 4;
const SLOTS: u64 = 150;
const ROUNDS: u64 = 5;
/// Points per request.
const BATCH: u64 = 3;
const DIM: usize = 8;
/// Points asked for at once.
const PAGE: usize = 200;

/// What a writer knows of its points.
#[derive(Default)]
struct Written {
    /// The latest write of each that was answered, or was found after a kill.
    answered: BTreeMap<String, u64>,
    /// The latest that was sent: it may have arrived.
    sent: BTreeMap<String, u64>,
    next: u64,
}

impl Written {
    /// The next batch: writes by their number, which nobody else has, to ids that come again.
    fn batch(&mut self, writer: u64) -> BTreeMap<String, u64> {
        let one = |at: u64| (format!("w{writer}-{}", at % SLOTS), at * WRITERS + writer);
        let batch: BTreeMap<_, _> = (self.next..self.next + BATCH).map(one).collect();
        self.next += BATCH;
        self.sent.extend(batch.clone());
        batch
    }
}

fn is_stream(writer: u64) -> bool {
    writer.is_multiple_of(STREAMS)
}

/// Every write has a vector of its own.
fn vector(number: u64) -> Vec<f32> {
    let mut random = Random(number);
    (0..DIM).map(|_| random.component()).collect()
}

/// Writes over REST until the server is gone.
fn write(base: &str, writer: u64, written: &mut Written) {
    let client = Client::new(base);
    loop {
        let batch = written.batch(writer);
        let point = |(id, number): (&String, &u64)| json!({ "id": id, "vector": vector(*number), "payload": { "n": number } });
        let request = json!({ "points": batch.iter().map(point).collect::<Vec<_>>() });
        match client.try_send(Method::PUT, "/collections/t/points?wait=true", Some(&request)) {
            Ok(answer) if answer.status == 200 => written.answered.extend(batch),
            Ok(answer) => assert!(answer.status == 503 || answer.status == 429, "{answer:?}"),
            Err(_) => return,
        }
    }
}

/// Writes through a stream until the server is gone.
fn stream(base: &str, writer: u64, written: &mut Written) {
    let Ok(mut grpc) = Grpc::connect(base) else { return };
    let (written, unanswered) = (RefCell::new(written), RefCell::new(Vec::new()));
    let next = || {
        let batch = written.borrow_mut().batch(writer);
        let point = |(id, number): (&String, &u64)| v1::Point {
            id: Some(grpc::id(id.clone())),
            vector: vector(*number),
            payload_json: json!({ "n": number }).to_string().into_bytes(),
        };
        let points = batch.iter().map(point).collect();
        unanswered.borrow_mut().push(batch);
        Some(points)
    };
    grpc.upsert_stream("t", next, |tag, outcome| match outcome {
        Ok(()) => {
            let batch = std::mem::take(&mut unanswered.borrow_mut()[tag as usize]);
            written.borrow_mut().answered.extend(batch);
        }
        Err(code) => assert!(["overloaded", "shutting_down"].contains(&code.as_str()), "{code}"),
    });
}

/// Ids of the nearest points, for searches that all differ in their vector only.
fn nearest(client: &Client, numbers: &[u64], params: &Value) -> Vec<String> {
    let search = |number: &u64| json!({ "query": vector(*number), "limit": 1, "params": params });
    let searches = json!({ "searches": numbers.iter().map(search).collect::<Vec<_>>() });
    let answers = client.post("/collections/t/points/query/batch", &searches).result();
    let nearest = |answer: &Value| answer["points"][0]["id"].as_str().unwrap_or_default().to_owned();
    answers.as_array().unwrap().iter().map(nearest).collect()
}

/// What was answered is there: in pages, by id over both doors, and for searches that scan and that walk graphs.
fn check(client: &Client, written: &mut [Written]) {
    let points: BTreeMap<String, u64> = client
        .scroll_all("t")
        .into_iter()
        .map(|point| (point["id"].as_str().unwrap().to_owned(), point["payload"]["n"].as_u64().unwrap()))
        .collect();
    assert_eq!(client.count("t"), points.len() as u64);
    for known in written {
        for (id, sent) in &known.sent {
            let (found, answered) = (points.get(id), known.answered.get(id));
            if found != Some(sent) && found != answered {
                panic!("{id} holds {found:?}; {answered:?} was answered, {sent} sent");
            }
        }
        // What has survived one kill has to survive the next.
        let survived = |id: &String| Some((id.clone(), *points.get(id)?));
        let survivors: Vec<_> = known.sent.keys().filter_map(survived).collect();
        known.answered.extend(survivors);
    }
    let mut grpc = Grpc::connect(client.base()).unwrap();
    let points: Vec<(String, u64)> = points.into_iter().collect();
    for page in points.chunks(PAGE) {
        let (ids, numbers): (Vec<String>, Vec<u64>) = page.iter().cloned().unzip();
        let request = json!({ "ids": ids, "with_payload": true, "with_vector": true });
        let found = client.post("/collections/t/points", &request).result();
        let by_id: BTreeMap<String, (u64, Vec<f32>)> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|point| {
                let components = point["vector"].as_array().unwrap();
                // The shortest decimal form of an f32, read as one again.
                let vector = components.iter().map(|component| component.to_string().parse().unwrap());
                let number = point["payload"]["n"].as_u64().unwrap();
                (point["id"].as_str().unwrap().to_owned(), (number, vector.collect()))
            })
            .collect();
        let wanted = page.iter().map(|(id, number)| (id.clone(), (*number, vector(*number))));
        assert_eq!(by_id, wanted.collect());
        let over_grpc = grpc.get("t", ids.iter().cloned()).into_iter().map(|record| {
            let payload: Value = serde_json::from_slice(&record.payload_json).unwrap();
            assert_eq!(record.vector, vector(payload["n"].as_u64().unwrap()));
            (grpc::text_of(&record).to_owned(), payload["n"].as_u64().unwrap())
        });
        assert_eq!(over_grpc.collect::<BTreeMap<_, _>>(), page.iter().cloned().collect());
        for params in [json!({ "exact": true }), json!({})] {
            assert_eq!(nearest(client, &numbers, &params), ids, "by their own vectors with {params}");
        }
    }
}

#[test]
fn acked_write_survives_kill_nine() {
    let mut random = Random(seed("acked_write_survives_kill_nine"));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("small.toml");
    // Small, so that flushes, merges and graph builds are killed as well.
    std::fs::write(&config, "[memtable]\nrows_max = 200\n[log]\nfile_bytes_max = \"1MiB\"\n").unwrap();
    let environment = [("PROXIMADB_CONFIG", config.to_str().unwrap())];
    let mut server = Server::start_with(&folder.path().join("data"), None, &environment);
    let vectors = json!({ "size": DIM, "distance": "Euclid" });
    let graph = json!({ "full_scan_threshold": 50 });
    server.client().put("/collections/t", &json!({ "vectors": vectors, "hnsw_config": graph })).result();
    let mut written: Vec<Written> = (0..WRITERS).map(|_| Written::default()).collect();
    for _ in 0..ROUNDS {
        let base = server.client().base().to_owned();
        std::thread::scope(|threads| {
            for (writer, written) in (0..).zip(&mut written) {
                let base = &base;
                let write = if is_stream(writer) { stream } else { write };
                threads.spawn(move || write(base, writer, written));
            }
            // The moment of a kill is random, which is what this test is about.
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            server.kill9();
        });
        // Now and then once more while it recovers.
        if random.below(3) == 0 {
            server.launch();
            std::thread::sleep(Duration::from_millis(random.below(30)));
            server.kill9();
        }
        server.restart();
        check(server.client(), &mut written);
    }
    let answered = |is_meant: fn(u64) -> bool| {
        let meant = (0..).zip(&written).filter(|(writer, _)| is_meant(*writer));
        meant.map(|(_, one)| one.answered.len()).sum::<usize>()
    };
    let (all, streamed) = (answered(|_| true), answered(is_stream));
    let writes: u64 = written.iter().map(|one| one.next).sum();
    println!("{writes} writes of {all} points, {streamed} of them through streams, {ROUNDS} kills");
    assert!(streamed > 0 && all > streamed);
    let facts = wait_until("a graph to be there", Duration::from_secs(60), || {
        let facts = server.client().get("/collections/t").result();
        (facts["indexed_vectors_count"].as_u64() > Some(0)).then_some(facts)
    });
    assert!(facts["segments_count"].as_u64() > Some(0), "{facts}");
    assert!(server.log().contains("merged segments"), "no segments were merged");
}
