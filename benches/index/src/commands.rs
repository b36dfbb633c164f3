//! What the driver may ask, and the trait that answers it.
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};

use crate::Result;
use crate::data::{DataSet, Mask};
use crate::measure;
use crate::ours::{Kind, Ours};

/// What one search asks for.
#[derive(Clone, Copy)]
pub struct Want {
    /// Rows.
    pub k: usize,
    /// Candidates kept.
    pub ef: usize,
}

/// An index that can be built into a file, opened from it and searched.
pub trait Engine: Sync {
    /// The vectors it indexes.
    fn data(&self) -> &DataSet;
    /// Builds over all rows, into a file or files whose names start with `path`.
    fn build(&mut self, params: &Value, threads: usize, path: &Path) -> Result<()>;
    /// Opens what was built.
    fn open(&mut self, path: &Path) -> Result<()>;
    /// Appends the rows found.
    fn search(&self, query: &[f32], want: Want, into: &mut Vec<u32>) -> Result<()>;
    /// The same among the rows that a mask admits.
    fn filter(&self, query: &[f32], mask: &Mask, want: Want, into: &mut Vec<u32>) -> Result<()>;
    /// Searches so far that looked at all rows that match, if the engine tells.
    fn scans(&self) -> Option<u64> {
        None
    }
}

/// One engine over one data set.
pub struct Session {
    engine: Box<dyn Engine>,
    masks: (String, Vec<Mask>),
}

impl Session {
    /// Maps the data; builds and opens nothing.
    pub fn new(engine: &str, folder: &Path) -> Result<Self> {
        let data = DataSet::open(folder)?;
        let engine: Box<dyn Engine> = match engine {
            "proximadb" => Box::new(Ours::new(data, Kind::Graph, false)),
            "proximadb-mapped" => Box::new(Ours::new(data, Kind::Graph, true)),
            "proximadb-ivf" => Box::new(Ours::new(data, Kind::Ivf, false)),
            "proximadb-ivf-mapped" => Box::new(Ours::new(data, Kind::Ivf, true)),
            #[cfg(feature = "hnsw_rs")]
            "hnsw_rs" => Box::new(crate::baseline::Baseline::new(data)),
            other => return Err(format!("no engine is called {other:?}").into()),
        };
        Ok(Self { engine, masks: Default::default() })
    }

    /// Does what one command says.
    pub fn answer(&mut self, command: &Value) -> Result<Value> {
        let text =
            |name: &str| command[name].as_str().ok_or_else(|| format!("{name} is missing in {command}"));
        let path = PathBuf::from(text("path")?);
        match text("do")? {
            "build" => self.build(&command["params"], number(command, "threads")?, &path),
            "open" => self.open(&path),
            "search" => self.search(command, &path),
            "filter" => self.filter(command, text("masks")?, &path),
            other => Err(format!("nobody knows how to {other:?}").into()),
        }
    }

    fn build(&mut self, params: &Value, threads: usize, path: &Path) -> Result<Value> {
        // The rows are in memory in every library; here they are, too, before the clock starts.
        let sum: f32 = self.engine.data().rows().iter().step_by(1024).sum();
        measure::forget_peak()?;
        let before = measure::resident();
        let (start, cpu) = (Instant::now(), measure::cpu_seconds());
        self.engine.build(params, threads, path)?;
        Ok(json!({
            "wall_s": start.elapsed().as_secs_f64(),
            "cpu_s": measure::cpu_seconds() - cpu,
            "peak_bytes": measure::peak().saturating_sub(before),
            "sum": sum,
        }))
    }

    /// Opens and searches once: with nothing of the files in memory that is a cold start.
    fn open(&mut self, path: &Path) -> Result<Value> {
        let before = measure::memory();
        let start = Instant::now();
        self.engine.open(path)?;
        let opened = start.elapsed();
        let query = self.engine.data().queries().first().map(|query| query.to_vec()).ok_or("no queries")?;
        self.engine.search(&query, Want { k: 10, ef: 64 }, &mut Vec::new())?;
        let first = start.elapsed();
        Ok(json!({"open_s": opened.as_secs_f64(), "first_s": first.as_secs_f64(), "before": before}))
    }

    /// Writes what is found to `path`, `k` rows a query, the missing ones as `u32::MAX`, then measures.
    fn search(&self, command: &Value, path: &Path) -> Result<Value> {
        let want = want(command)?;
        let queries = self.engine.data().queries();
        let call = |at: usize, into: &mut Vec<u32>| match queries.get(at) {
            Some(query) => self.engine.search(query, want, into),
            None => Err("no such query".into()),
        };
        // Fewer than all where they are compared with searches of so many: they share more of the caches.
        let count =
            command["queries"].as_u64().map_or(queries.len(), |count| queries.len().min(count as usize));
        measured(command, path, count, want.k, call, || None)
    }

    /// The same with one mask per query.
    fn filter(&mut self, command: &Value, masks: &str, path: &Path) -> Result<Value> {
        if self.masks.0 != masks {
            self.masks = (masks.to_owned(), self.engine.data().masks(masks)?);
        }
        let want = want(command)?;
        let (queries, masks) = (self.engine.data().queries(), &self.masks.1);
        let call = |at: usize, into: &mut Vec<u32>| match (queries.get(at), masks.get(at)) {
            (Some(query), Some(mask)) => self.engine.filter(query, mask, want, into),
            _ => Err("no such query".into()),
        };
        measured(command, path, masks.len(), want.k, call, || self.engine.scans())
    }
}

fn measured<F>(
    command: &Value,
    path: &Path,
    count: usize,
    k: usize,
    call: F,
    scans: impl Fn() -> Option<u64>,
) -> Result<Value>
where
    F: Fn(usize, &mut Vec<u32>) -> Result<()> + Sync,
{
    let scans_before = scans();
    let mut found = Vec::with_capacity(count * k);
    for at in 0..count {
        call(at, &mut found)?;
        found.resize((at + 1) * k, u32::MAX);
    }
    let scanned = scans().zip(scans_before).map(|(after, before)| (after - before) as f64 / count as f64);
    let bytes: Vec<u8> = found.iter().flat_map(|row| row.to_le_bytes()).collect();
    std::fs::write(path, bytes)?;
    let once = |at: usize| call(at, &mut Vec::with_capacity(k));
    let seconds = command["seconds"].as_f64().unwrap_or(1.0);
    let mut answer = measure::passes(count, number(command, "threads")?, seconds, once)?;
    if command["latency"] == true {
        answer["latency"] = measure::latency(count, once)?;
    }
    answer["memory"] = measure::memory();
    answer["count"] = count.into();
    answer["scanned"] = scanned.into();
    Ok(answer)
}

fn want(command: &Value) -> Result<Want> {
    Ok(Want { k: number(command, "k")?, ef: number(&command["params"], "ef")? })
}

fn number(of: &Value, name: &str) -> Result<usize> {
    of[name].as_u64().map(|number| number as usize).ok_or_else(|| format!("{name} is missing in {of}").into())
}
