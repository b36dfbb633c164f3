#![allow(clippy::unwrap_used)]
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Answers requests by path with (status, body) until dropped; counts them and keeps the last head.
struct Server {
    base: String,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

fn serve(answer: impl Fn(&str, usize) -> (u16, String) + Send + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/apis/ccompat/v7", listener.local_addr().unwrap());
    let (asked, last) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(String::new())));
    let server = Server { base, asked: asked.clone(), last: last.clone() };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_string();
            let (status, body) = answer(&path, asked.fetch_add(1, Ordering::SeqCst));
            *last.lock() = head;
            let text = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(text.as_bytes());
        }
    });
    server
}

fn spec(url: &str) -> RegistrySpec {
    serde_json::from_value(serde_json::json!({"url": url})).unwrap()
}

fn with_client(spec: &RegistrySpec, cache: Option<Arc<dyn SchemaCache>>, run: impl FnOnce(&RegistryClient)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    run(&RegistryClient::new(spec, runtime.handle().clone(), cache).unwrap());
}

#[test]
fn a_base_url_with_a_path_works_and_schemas_are_kept() {
    let server = serve(|path, _| match path {
        "/apis/ccompat/v7/schemas/ids/7" => (200, r#"{"schema": "\"long\""}"#.into()),
        _ => (404, r#"{"error_code": 40403, "message": "Schema not found"}"#.into()),
    });
    for url in [server.base.clone(), format!("{}/", server.base)] {
        with_client(&spec(&url), None, |client| {
            assert_eq!(client.schema(7).unwrap().schema, "\"long\"");
            assert_eq!(client.schema(7).unwrap().schema, "\"long\"");
            assert!(matches!(client.schema(8), Err(SchemaFailure::Unknown { .. })));
            assert!(matches!(client.schema(8), Err(SchemaFailure::Unknown { .. })));
        });
    }
    assert_eq!(server.asked.load(Ordering::SeqCst), 4, "each answer is remembered");
}

#[test]
fn trouble_that_may_pass_is_retried_and_never_called_unknown() {
    let server =
        serve(
            |_, count| {
                if count < 2 { (503, String::new()) } else { (200, r#"{"schema": "\"int\""}"#.into()) }
            },
        );
    with_client(&spec(&server.base), None, |client| assert!(client.schema(1).is_ok()));
    assert_eq!(server.asked.load(Ordering::SeqCst), 3);
    for (status, body, expected) in [
        (404, "<html>", "is the base URL right?"),
        (401, "", "refuses the credentials"),
        (200, "<html>", "is the base URL right?"),
        (418, "", "418"),
    ] {
        let server = serve(move |_, _| (status, body.into()));
        with_client(&spec(&server.base), None, |client| {
            let error = client.schema(1).unwrap_err();
            assert!(
                matches!(error, SchemaFailure::Unavailable { .. }) && error.to_string().contains(expected),
                "{error}"
            );
        });
    }
    let started = Instant::now();
    with_client(&spec("http://127.0.0.1:9"), None, |client| {
        assert!(matches!(client.schema(1), Err(SchemaFailure::Unavailable { .. })));
    });
    assert!(started.elapsed() < TRY_FOR * 3);
}

#[test]
fn references_are_fetched_first_things_first() {
    let server = serve(|path, _| match path.trim_start_matches("/apis/ccompat/v7") {
        "/schemas/ids/1" => {
            (200, r#"{"schema": "S", "references": [{"name": "a", "subject": "a/b", "version": 2}]}"#.into())
        }
        "/subjects/a%2Fb/versions/2" => {
            (200, r#"{"schema": "A", "references": [{"name": "b", "subject": "b", "version": 1}]}"#.into())
        }
        "/subjects/b/versions/1" => {
            (200, r#"{"schema": "B", "references": [{"name": "a", "subject": "a/b", "version": 2}]}"#.into())
        }
        "/schemas/ids/2" => (200, r#"{"schema": "", "schemaType": "PROTOBUF"}"#.into()),
        other => (500, other.into()),
    });
    with_client(&spec(&server.base), None, |client| {
        let text = client.schema(1).unwrap();
        assert_eq!((text.schema.as_str(), text.references), ("S", vec!["B".to_string(), "A".to_string()]));
        assert!(matches!(client.schema(2), Err(SchemaFailure::Unusable { .. })));
    });
}

#[test]
fn credentials_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3cret\n").unwrap();
    let secret = format!("file:{}", path.display());
    let server = serve(|_, _| (200, r#"{"schema": "\"int\""}"#.into()));
    for (auth, expected) in [
        (serde_json::json!({"bearer": secret}), "authorization: Bearer s3cret"),
        (
            serde_json::json!({"basic": {"username": "u", "password": secret}}),
            "authorization: Basic dTpzM2NyZXQ=",
        ),
    ] {
        let spec = serde_json::from_value(serde_json::json!({"url": server.base, "auth": auth})).unwrap();
        with_client(&spec, None, |client| assert!(client.schema(1).is_ok()));
        assert!(server.last.lock().contains(expected), "{}", server.last.lock());
    }
}

#[derive(Default)]
struct Kept(Mutex<HashMap<(String, u32), SchemaText>>);

impl SchemaCache for Kept {
    fn get(&self, registry: &str, id: u32) -> Option<SchemaText> {
        self.0.lock().get(&(registry.to_string(), id)).cloned()
    }
    fn put(&self, registry: &str, id: u32, schema: &SchemaText) {
        self.0.lock().insert((registry.to_string(), id), schema.clone());
    }
}

#[test]
fn a_restart_while_the_registry_is_down_still_has_the_schemas() {
    let kept = Arc::new(Kept::default());
    let server =
        serve(
            |_, count| {
                if count == 0 { (200, r#"{"schema": "\"int\""}"#.into()) } else { (500, String::new()) }
            },
        );
    with_client(&spec(&server.base), Some(kept.clone()), |client| assert!(client.schema(1).is_ok()));
    with_client(&spec(&server.base), Some(kept), |client| {
        assert_eq!(client.schema(1).unwrap().schema, "\"int\"");
        assert!(client.schema(2).is_err());
    });
}
