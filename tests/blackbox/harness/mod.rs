//! What black-box tests share: the real program, real brokers, known data.
//!
//! Tests wait for conditions with deadlines, never for time to pass. A test whose broker is missing prints
//! `SKIP` and why; with `PROXIMADB_REQUIRE=kafka` it fails instead.
#![allow(dead_code)] // not every test uses all of it

pub mod avro;
#[cfg(feature = "kafka")]
pub mod broker;
pub mod data;
pub mod disk;
pub mod grpc;
pub mod http;
#[cfg(feature = "kafka")]
pub mod scene;
pub mod server;

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Asks until there is an answer; fails the test, saying what was waited for, at the deadline.
pub fn wait_until<T>(what: &str, within: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < within, "waited {within:?} in vain for {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// A number from the environment, or its default.
pub fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// The seed of this run, printed so that a failure can be replayed.
pub fn seed(test: &str) -> u64 {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("PROXIMADB_SEED", u64::from(clock.subsec_nanos()) ^ clock.as_secs());
    println!("replay with: PROXIMADB_SEED={seed} cargo test --test blackbox {test}");
    seed
}

/// A name that no other test uses, nor an earlier run.
pub fn unique(name: &str) -> String {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{name}-{:x}", clock.as_nanos())
}

/// Is `service` named in a comma-separated list in the environment?
fn is_listed(variable: &str, service: &str) -> bool {
    std::env::var(variable).is_ok_and(|list| list.split(',').any(|entry| entry.trim() == service))
}

/// Must this service be there?
pub fn is_required(service: &str) -> bool {
    is_listed("PROXIMADB_REQUIRE", service)
}

/// Shall it be left alone?
pub fn is_unwanted(service: &str) -> bool {
    is_listed("PROXIMADB_WITHOUT", service)
}

/// Ends a test early where a service is missing, or fails it where it is required.
pub fn skip<T>(service: &str, why: &str) -> Option<T> {
    assert!(!is_required(service), "{service} is required, but: {why}");
    // Past the capture of the test runner, which would swallow it: a skip that nobody sees is a pass.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "\nSKIP: {test} needs {service}: {why}");
    None
}

/// A folder of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
