//! Logs on stderr, metrics for `/metrics`.
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Buckets of every duration histogram, in seconds: from a cache hit to a stalled disk.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Buckets of histograms that count entries, whose names end in `_records`: up to the largest group of the log.
const RECORDS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// Starts logging. `RUST_LOG` chooses what is told; how is JSON if the caller or `PROXIMADB_LOG_FORMAT=json` says so.
pub fn init_logs(json: bool) {
    init(json, "info");
}

/// The same, but warnings and errors only where `RUST_LOG` says nothing: for commands whose own words are what there
/// is to read.
pub fn init_quiet_logs(json: bool) {
    init(json, "warn");
}

fn init(json: bool, told: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(told));
    let colours = std::io::stderr().is_terminal();
    let logs =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    let json = json || std::env::var("PROXIMADB_LOG_FORMAT").as_deref() == Ok("json");
    let started = match json {
        true => logs.json().try_init(),
        false => logs.with_target(false).try_init(),
    };
    // Somebody else's subscriber (a test's) is as good as ours.
    drop(started);
}

/// Installs the process's metrics recorder, once, and returns what renders it.
pub fn metrics() -> Arc<dyn Fn() -> String + Send + Sync> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let handle = HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new().set_buckets(&SECONDS).ok()?;
        let counts = Matcher::Suffix("_records".to_string());
        let builder = builder.set_buckets_for_metric(counts, &RECORDS).ok()?;
        builder.install_recorder().ok()
    });
    Arc::new(move || handle.as_ref().map(PrometheusHandle::render).unwrap_or_default())
}
