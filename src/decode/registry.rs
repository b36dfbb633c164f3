//! Schemas by id, from a registry with Confluent's API, kept so that a registry that is down stops nobody who
//! has read the schema before.
//!
//! ```text
//!   memory (for ever) ──▶ persistent cache ──▶ GET {base}/schemas/ids/{id} ──▶ both
//!                          "unknown" is remembered for 30 s
//! ```
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::config::pipeline::{RegistryAuth, RegistrySpec, SecretError, SecretText};

/// How long an id that the registry does not know is not asked for again: a bad record must not become a
/// request each.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Unknown ids remembered; garbage in frames would otherwise fill memory.
const UNKNOWN_MAX: usize = 10_000;
/// Longest time that one call tries; then the caller hears that the registry is away, and tries the whole
/// batch again later.
const TRY_FOR: Duration = Duration::from_secs(2);
/// First pause between tries; it doubles.
const PAUSE: Duration = Duration::from_millis(50);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Most schemas that one schema may refer to, directly or not.
const REFERENCES_MAX: usize = 64;

/// A schema as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaText {
    /// The schema.
    pub schema: String,
    /// The schemas of types that it names but does not define, in order of use.
    #[serde(default)]
    pub references: Vec<String>,
}

/// Why there is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFailure {
    /// The registry answered that it does not know the id.
    #[error("{registry} does not know the schema")]
    Unknown {
        /// Its base URL.
        registry: String,
    },
    /// The registry did not answer as a registry does; it may later.
    #[error("{registry}: {reason}")]
    Unavailable {
        /// Its base URL.
        registry: String,
        /// What happened.
        reason: String,
    },
    /// There is a schema, but not of a kind that we read.
    #[error("{reason}")]
    Unusable {
        /// What it is.
        reason: String,
    },
}

/// Where writer schemas come from. Called on decode threads, where it may block for about two seconds.
pub trait SchemaSource: Send + Sync {
    /// The schema with this id.
    fn schema(&self, id: u32) -> Result<SchemaText, SchemaFailure>;
}

/// A second level behind the memory of a [`RegistryClient`], which survives restarts. Schemas never change
/// under their id.
pub trait SchemaCache: Send + Sync {
    /// The schema kept for this id of this registry.
    fn get(&self, registry: &str, id: u32) -> Option<SchemaText>;
    /// Keeps it; failing quietly is fine, the registry has it.
    fn put(&self, registry: &str, id: u32, schema: &SchemaText);
}

/// For pipelines without a registry: knows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSchemas;

impl SchemaSource for NoSchemas {
    fn schema(&self, _id: u32) -> Result<SchemaText, SchemaFailure> {
        Err(SchemaFailure::Unknown { registry: "no registry".to_string() })
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The URL is none.
    #[error("{url:?} is not the base URL of a registry: {reason}")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The credentials cannot be had.
    #[error("credentials of the registry {url}")]
    Secret {
        /// Its base URL.
        url: String,
        /// Why.
        #[source]
        source: SecretError,
    },
    /// The HTTP client cannot be made.
    #[error("no HTTP client for {url}")]
    Client {
        /// The registry's base URL.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// Asks a registry, and remembers.
pub struct RegistryClient {
    name: String,
    base: Url,
    auth: Option<Credentials>,
    client: reqwest::Client,
    runtime: Handle,
    cache: Option<Arc<dyn SchemaCache>>,
    known: Mutex<HashMap<u32, SchemaText>>,
    unknown: Mutex<HashMap<u32, Instant>>,
}

enum Credentials {
    Basic(String, SecretText),
    Bearer(SecretText),
}

/// A registry's answer for a schema.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<Reference>,
}

#[derive(Deserialize, Clone, PartialEq, Eq, Hash)]
struct Reference {
    subject: String,
    version: u32,
}

impl RegistryClient {
    /// A client for a registry. Requests run on `runtime`; `cache` may keep schemas across restarts.
    pub fn new(
        spec: &RegistrySpec,
        runtime: Handle,
        cache: Option<Arc<dyn SchemaCache>>,
    ) -> Result<Self, RegistryError> {
        let name = spec.url.trim_end_matches('/').to_string();
        let bad_url = |reason: String| RegistryError::Url { url: spec.url.clone(), reason };
        let base = Url::parse(&name).map_err(|error| bad_url(error.to_string()))?;
        if base.cannot_be_a_base() {
            return Err(bad_url("it has no host".to_string()));
        }
        let secret = |source| RegistryError::Secret { url: name.clone(), source };
        let auth = match &spec.auth {
            None => None,
            Some(RegistryAuth::Basic { username, password }) => {
                Some(Credentials::Basic(username.clone(), password.resolve().map_err(secret)?))
            }
            Some(RegistryAuth::Bearer(token)) => Some(Credentials::Bearer(token.resolve().map_err(secret)?)),
        };
        // Without a default provider the HTTP client refuses TLS. An error means that there is one already.
        #[cfg(feature = "tls")]
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .timeout(spec.timeout.0)
            .build()
            .map_err(|source| RegistryError::Client { url: name.clone(), source })?;
        let (known, unknown) = (Mutex::default(), Mutex::default());
        Ok(Self { name, base, auth, client, runtime, cache, known, unknown })
    }

    fn unavailable(&self, reason: impl Into<String>) -> SchemaFailure {
        SchemaFailure::Unavailable { registry: self.name.clone(), reason: reason.into() }
    }

    async fn fetch(&self, id: u32) -> Result<SchemaText, SchemaFailure> {
        let answer = self.get(&["schemas", "ids", &id.to_string()]).await?;
        if let Some(kind) = answer.schema_type.as_deref().filter(|kind| !kind.eq_ignore_ascii_case("avro")) {
            return Err(SchemaFailure::Unusable {
                reason: format!("it is a {kind} schema, not an Avro schema"),
            });
        }
        let references = self.references(answer.references).await?;
        Ok(SchemaText { schema: answer.schema, references })
    }

    /// The texts of what a schema refers to, each after what it refers to itself.
    async fn references(&self, roots: Vec<Reference>) -> Result<Vec<String>, SchemaFailure> {
        let mut seen = HashSet::new();
        let mut texts = Vec::new();
        // A reference to be asked for, or a text whose own references were asked for.
        let mut todo: Vec<Result<Reference, String>> = roots.into_iter().rev().map(Ok).collect();
        while let Some(next) = todo.pop() {
            match next {
                Err(text) => texts.push(text),
                Ok(reference) if !seen.insert(reference.clone()) => {}
                Ok(_) if seen.len() > REFERENCES_MAX => {
                    let reason = format!("it refers to more than {REFERENCES_MAX} other schemas");
                    return Err(SchemaFailure::Unusable { reason });
                }
                Ok(Reference { subject, version }) => {
                    let answer = self.get(&["subjects", &subject, "versions", &version.to_string()]).await?;
                    todo.push(Err(answer.schema));
                    todo.extend(answer.references.into_iter().rev().map(Ok));
                }
            }
        }
        Ok(texts)
    }

    /// One resource, tried again while the registry is out of order.
    async fn get(&self, path: &[&str]) -> Result<Answer, SchemaFailure> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let deadline = Instant::now() + TRY_FOR;
        let mut pause = PAUSE;
        loop {
            let reason = match self.try_get(url.clone()).await {
                Tried::Done(result) => return result,
                Tried::Again(reason) => reason,
            };
            if Instant::now() + pause >= deadline {
                return Err(self.unavailable(reason));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn try_get(&self, url: Url) -> Tried {
        let mut request = self.client.get(url);
        request = request.header("accept", "application/vnd.schemaregistry.v1+json, application/json");
        request = match &self.auth {
            Some(Credentials::Basic(user, password)) => request.basic_auth(user, Some(password.expose())),
            Some(Credentials::Bearer(token)) => request.bearer_auth(token.expose()),
            None => request,
        };
        let mut response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Tried::Again(chain(&error)),
        };
        let status = response.status();
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= ANSWER_BYTES_MAX => {
                    body.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => {
                    return Tried::Done(Err(
                        self.unavailable(format!("an answer of more than {ANSWER_BYTES_MAX} bytes"))
                    ));
                }
                Ok(None) => break,
                Err(error) => return Tried::Again(chain(&error)),
            }
        }
        if status.is_success() {
            return Tried::Done(serde_json::from_slice(&body).map_err(|error| {
                self.unavailable(format!("its answer is not a registry's ({error}); is the base URL right?"))
            }));
        }
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Tried::Again(format!("it answered {status}"));
        }
        // A wrong base URL is a 404 as well, so only a registry's own words count as "unknown".
        let code = serde_json::from_slice::<serde_json::Value>(&body).ok();
        let code = code.as_ref().and_then(|body| body.get("error_code")?.as_u64());
        let failure =
            match (status, code) {
                (StatusCode::NOT_FOUND, Some(40_401..=40_403)) => {
                    SchemaFailure::Unknown { registry: self.name.clone() }
                }
                (StatusCode::NOT_FOUND, _) => self
                    .unavailable("it answered 404 without a registry's error code; is the base URL right?"),
                (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => self
                    .unavailable(format!("it refuses the credentials ({status}); see decode.registry.auth")),
                _ => self.unavailable(format!("it answered {status}")),
            };
        Tried::Done(Err(failure))
    }
}

enum Tried {
    Done(Result<Answer, SchemaFailure>),
    Again(String),
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl SchemaSource for RegistryClient {
    /// Must not be called on a thread of the runtime: it waits for the answer.
    fn schema(&self, id: u32) -> Result<SchemaText, SchemaFailure> {
        if let Some(schema) = self.known.lock().get(&id) {
            return Ok(schema.clone());
        }
        let is_fresh = |since: &Instant| since.elapsed() < UNKNOWN_FOR;
        if self.unknown.lock().get(&id).is_some_and(is_fresh) {
            return Err(SchemaFailure::Unknown { registry: self.name.clone() });
        }
        if let Some(schema) = self.cache.as_ref().and_then(|cache| cache.get(&self.name, id)) {
            self.known.lock().insert(id, schema.clone());
            return Ok(schema);
        }
        // The deadline inside covers pauses; this one covers an answer that trickles.
        let longest = TRY_FOR * 2;
        let fetched = self.runtime.block_on(async { tokio::time::timeout(longest, self.fetch(id)).await });
        let result =
            fetched.unwrap_or_else(|_| Err(self.unavailable(format!("no answer within {longest:?}"))));
        match &result {
            Ok(schema) => {
                if let Some(cache) = &self.cache {
                    cache.put(&self.name, id, schema);
                }
                self.known.lock().insert(id, schema.clone());
            }
            Err(SchemaFailure::Unknown { .. }) => {
                let mut unknown = self.unknown.lock();
                if unknown.len() >= UNKNOWN_MAX {
                    unknown.clear();
                }
                unknown.insert(id, Instant::now());
            }
            Err(_) => {}
        }
        result
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
