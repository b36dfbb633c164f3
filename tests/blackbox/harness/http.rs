//! A blocking JSON client, as small as tests need.
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

/// An answer, whatever its status.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// JSON, or the text as a JSON string where it is none.
    pub body: Value,
}

impl Answer {
    /// `result` of an answer that must be a success.
    pub fn result(self) -> Value {
        assert!((200..300).contains(&self.status), "{}: {}", self.status, self.body);
        self.body["result"].clone()
    }
}

/// One base URL.
pub struct Client {
    base: String,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Client {
    /// `base`: scheme, host, port and perhaps a path.
    pub fn new(base: &str) -> Self {
        // Without it, building the client fails: our feature `tls` leaves the choice of a provider open.
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            // Below the server's 30 s: nobody looks at the connection while a test does something else.
            .pool_idle_timeout(Duration::from_secs(10))
            .build()
            .unwrap();
        Self { base: base.trim_end_matches('/').to_owned(), client, runtime }
    }

    /// Where it sends to: another thread needs another client.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Sends; `Err` where no answer came, as happens while the server is being killed.
    pub fn try_send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        self.runtime.block_on(async {
            let mut request = self.client.request(method, format!("{}{path}", self.base));
            if let Some(body) = body {
                request = request.json(body);
            }
            let answer = request.send().await.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let text = answer.text().await.map_err(|error| error.to_string())?;
            Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
        })
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        self.try_send(method.clone(), path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body))
    }

    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body))
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None)
    }

    /// Every point of a collection, with payload and vector, page by page.
    pub fn scroll_all(&self, collection: &str) -> Vec<Value> {
        let mut points = Vec::new();
        let mut offset = Value::Null;
        loop {
            let mut request = json!({ "limit": 500, "with_payload": true, "with_vector": true });
            if !offset.is_null() {
                request["offset"] = offset;
            }
            let page = self.post(&format!("/collections/{collection}/points/scroll"), &request).result();
            points.extend(page["points"].as_array().expect("a page has points").iter().cloned());
            offset = page["next_page_offset"].clone();
            if offset.is_null() {
                return points;
            }
        }
    }

    /// The sum of all series of a metric that have `label` in them; 0 while there is none.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        self.metric_where(name, |line| line.contains(label))
    }

    /// The sum of a metric's series for which `is_meant` holds, all as of one moment: sums of several calls would
    /// count what moves between them twice or not at all.
    pub fn metric_where(&self, name: &str, is_meant: impl Fn(&str) -> bool) -> f64 {
        let answer = self.get("/metrics");
        let text = answer.body.as_str().expect("metrics are text");
        let is_of = |line: &&str| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && is_meant(line)
        };
        let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        text.lines().filter(is_of).filter_map(value).sum()
    }

    /// Creates a collection.
    pub fn create(&self, collection: &str, dim: usize, distance: &str) {
        let vectors = json!({ "vectors": { "size": dim, "distance": distance } });
        self.put(&format!("/collections/{collection}"), &vectors).result();
    }

    /// How many points a collection has.
    pub fn count(&self, collection: &str) -> u64 {
        let answer = self.post(&format!("/collections/{collection}/points/count"), &json!({ "exact": true }));
        answer.result()["count"].as_u64().expect("a count is a number")
    }

    /// The applied position of a source partition, wherever the freshness receipt names it.
    pub fn position(&self, collection: &str, partition: &str) -> Option<u64> {
        let answer =
            self.try_send(Method::GET, &format!("/collections/{collection}/freshness"), None).ok()?;
        find_position(&answer.body, partition)
    }
}

/// Positions lie under the source's name; a position is a number, or an object that has one as `position`.
fn find_position(value: &Value, partition: &str) -> Option<u64> {
    let object = value.as_object()?;
    if let Some(found) = object.get(partition) {
        return found.as_u64().or_else(|| found["position"].as_u64());
    }
    object.values().find_map(|inner| find_position(inner, partition))
}
