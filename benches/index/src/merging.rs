//! Graphs of merged segments beside graphs from nothing over the same rows: time to make, recall, searches.
//!
//! ```text
//! proximadb-bench-index merge DATA_FOLDER [NAME=NUMBER…]
//! ```
//! `base`, `more`, `parts`: rows of the largest segment, and of `parts` others together, from the data's rows in
//! order. `dead`: per cent of all rows that have died. `rounds`: instead, so often `replaced` per cent of `base`
//! rows die and as many others, which a new segment holds, take their place. One JSON line per graph; of rounds, for
//! every `fresh_every`th.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proximadb::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, MergeInputs, VectorBlock, VectorIndex,
    exact_scan,
};
use proximadb::types::{Distance, GraphParams};
use serde_json::{Value, json};

use crate::Result;
use crate::data::DataSet;
use crate::measure;

/// Candidates kept while searching, one setting after the other.
const EFS: [usize; 4] = [12, 16, 32, 64];
const K: usize = 10;

/// Rows of the data in some order, and their graph.
struct Segment {
    rows: Vec<u32>,
    vectors: Vec<f32>,
    graph: Graph,
}

struct Bench {
    data: DataSet,
    builder: GraphBuilder,
    scratch: PathBuf,
    queries: usize,
}

/// Runs what the arguments say.
pub fn run(folder: &Path, arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for argument in arguments {
        let (name, number) = argument.split_once('=').ok_or_else(|| format!("{argument}: no NAME=NUMBER"))?;
        numbers.insert(name.to_owned(), number.parse()?);
    }
    let number = |name: &str, default: usize| numbers.get(name).copied().unwrap_or(default);
    let base = GraphParams::default();
    let params = GraphParams {
        m: number("m", base.m as usize) as u32,
        ef_construct: number("ef_construct", base.ef_construct as usize) as u32,
        ..base
    };
    let bench = Bench {
        data: DataSet::open(folder)?,
        builder: GraphBuilder { params, threads: number("threads", 1), seed: 1 },
        scratch: std::env::temp_dir().join(format!("merge-{}.graph", std::process::id())),
        queries: number("queries", 500),
    };
    let (base, dead) = (number("base", 20_000), number("dead", 10));
    let done = match number("rounds", 0) {
        0 => bench.once(base, number("more", 4_000), number("parts", 1), dead, number("again", 3)),
        rounds => bench.churn(base, rounds, number("replaced", 20), number("fresh_every", 5)),
    };
    // Whatever went wrong is the error to tell.
    let _ = std::fs::remove_file(&bench.scratch);
    done
}

/// Is the row one of so many per cent that die?
fn dies(row: u32, salt: u32, percent: usize) -> bool {
    (row.wrapping_mul(2_654_435_761) ^ salt.wrapping_mul(0x9e37_79b9)).wrapping_mul(2_246_822_519) as u64
        * 100
        >> 32
        < percent as u64
}

impl Bench {
    fn block<'a>(&self, vectors: &'a [f32]) -> VectorBlock<'a> {
        let distance = if self.data.cosine { Distance::Cosine } else { Distance::L2 };
        VectorBlock { dim: self.data.dim, rows: vectors, distance }
    }

    fn vectors(&self, rows: &[u32]) -> Vec<f32> {
        let dim = self.data.dim;
        let all = rows.iter().filter_map(|&row| self.data.rows().chunks_exact(dim).nth(row as usize));
        all.flatten().copied().collect()
    }

    /// Makes a graph; tells the seconds of the clock and of the processor besides.
    fn timed<T>(&self, make: impl FnOnce(&Path) -> Result<T>) -> Result<(Graph, T, Value)> {
        let (start, cpu) = (Instant::now(), measure::cpu_seconds());
        let made = make(&self.scratch)?;
        let took = json!({"cpu_s": measure::cpu_seconds() - cpu, "wall_s": start.elapsed().as_secs_f64()});
        Ok((Graph::open(&self.scratch)?, made, took))
    }

    fn fresh(&self, vectors: &[f32]) -> Result<(Graph, Value)> {
        let build =
            |path: &Path| Ok(self.builder.build(self.block(vectors), path, &BuildControl::default())?);
        self.timed(build).map(|(graph, (), took)| (graph, took))
    }

    fn segment(&self, rows: Vec<u32>) -> Result<Segment> {
        let vectors = self.vectors(&rows);
        let (graph, _) = self.fresh(&vectors)?;
        Ok(Segment { rows, vectors, graph })
    }

    /// Merges the rows of segments that don't die.
    fn merge(&self, segments: &[Segment], dies: impl Fn(u32) -> bool) -> Result<(Segment, Value)> {
        let mut origins = Vec::new();
        for (place, segment) in (0..).zip(segments) {
            let alive = (0..).zip(&segment.rows).filter(|(_, row)| !dies(**row));
            origins.extend(alive.map(|(at, _)| (place, at)));
        }
        let row = |&(place, at): &(u32, u32)| segments.get(place as usize)?.rows.get(at as usize).copied();
        let rows: Vec<u32> = origins.iter().filter_map(row).collect();
        let vectors = self.vectors(&rows);
        let graphs: Vec<Option<&Graph>> = segments.iter().map(|segment| Some(&segment.graph)).collect();
        let inputs = MergeInputs { graphs: &graphs, origins: &origins };
        let (graph, made, mut took) = self.timed(|path| {
            Ok(self.builder.merge(self.block(&vectors), &inputs, path, &BuildControl::default())?)
        })?;
        took["made"] = format!("{made:?}").into();
        Ok((Segment { rows, vectors, graph }, took))
    }

    /// Recall and distances per search, and searches per second of the processor, at each number of candidates.
    fn searched(&self, vectors: &[f32], graph: &Graph) -> Result<Value> {
        let block = self.block(vectors);
        let mut queries = self.data.queries();
        queries.truncate(self.queries);
        let farthest: Vec<f32> = queries
            .iter()
            .map(|query| exact_scan(block, query, K, |_| true).rows.last().map_or(f32::INFINITY, |hit| hit.0))
            .collect();
        let mut answers = Vec::new();
        for ef_search in EFS {
            let search = |at: usize| {
                let vector = queries.get(at).copied().unwrap_or_default();
                let query = IndexQuery {
                    vector,
                    k: K,
                    ef_search,
                    matching: None,
                    alive: &|_| true,
                    alive_rows: block.len(),
                    deadline: None,
                };
                graph.search(block, &query)
            };
            let (mut found, mut visited) = (0, 0);
            for (at, &farthest) in farthest.iter().enumerate() {
                let hits = search(at)?;
                found += hits.rows.iter().filter(|hit| hit.0 <= farthest + 1e-6).count().min(K);
                visited += hits.visited;
            }
            let passes = measure::passes(queries.len(), 1, 0.5, |at| {
                search(at)?;
                Ok(())
            })?;
            let rate = passes["cpu_s"].as_f64().map(|seconds| queries.len() as f64 / seconds);
            let count = queries.len().max(1) as f64;
            let recall = found as f64 / (K as f64 * count);
            answers.push(json!({
                "ef": ef_search, "recall": recall, "distances": visited as f64 / count, "qps": rate,
            }));
        }
        Ok(answers.into())
    }

    fn tell(&self, name: &str, took: &Value, vectors: &[f32], graph: &Graph) -> Result<()> {
        let searched = self.searched(vectors, graph)?;
        println!("{}", json!({"graph": name, "took": took, "searched": searched}));
        Ok(())
    }

    /// One merge, and one build of the same rows; each several times in turn, of which the fastest counts.
    fn once(&self, base: usize, more: usize, parts: usize, dead: usize, again: usize) -> Result<()> {
        let mut segments = vec![self.segment((0..base as u32).collect())?];
        for part in 0..parts {
            let at = |part: usize| (base + more * part / parts) as u32;
            segments.push(self.segment((at(part)..at(part + 1)).collect())?);
        }
        let seconds = |took: &Value| took["cpu_s"].as_f64().unwrap_or(f64::INFINITY);
        let (mut merged, mut merged_took) = self.merge(&segments, |row| dies(row, 0, dead))?;
        let (mut fresh, mut fresh_took) = self.fresh(&merged.vectors)?;
        for _ in 1..again {
            let (newer, took) = self.merge(&segments, |row| dies(row, 0, dead))?;
            if seconds(&took) < seconds(&merged_took) {
                (merged, merged_took) = (newer, took);
            }
            let (newer, took) = self.fresh(&merged.vectors)?;
            if seconds(&took) < seconds(&fresh_took) {
                (fresh, fresh_took) = (newer, took);
            }
        }
        self.tell("merged", &merged_took, &merged.vectors, &merged.graph)?;
        self.tell("fresh", &fresh_took, &merged.vectors, &fresh)
    }

    /// Replaces rows again and again, each time by a merge; compares with a build from nothing now and then.
    fn churn(&self, base: usize, rounds: usize, replaced: usize, fresh_every: usize) -> Result<()> {
        let all = (self.data.rows().len() / self.data.dim) as u32;
        let mut segment = self.segment((0..base as u32).collect())?;
        let mut next = base as u32;
        for round in 1..=rounds {
            let doomed = |row: u32| dies(row, round as u32, replaced);
            let count = segment.rows.iter().filter(|row| doomed(**row)).count();
            let mut is_held = vec![false; all as usize];
            segment.rows.iter().for_each(|&row| is_held[row as usize] = true);
            let mut newcomers = Vec::with_capacity(count);
            for step in 0..all {
                let row = (next + step) % all;
                if newcomers.len() == count {
                    next = row;
                    break;
                }
                // None that dies right away; those that leave now may come back later.
                if !is_held[row as usize] && !doomed(row) {
                    newcomers.push(row);
                }
            }
            let newcomers = self.segment(newcomers)?;
            let (merged, took) = self.merge(&[segment, newcomers], doomed)?;
            if round % fresh_every == 0 || round == rounds {
                self.tell(&format!("merged {round}"), &took, &merged.vectors, &merged.graph)?;
                let (fresh, took) = self.fresh(&merged.vectors)?;
                self.tell(&format!("fresh {round}"), &took, &merged.vectors, &fresh)?;
            }
            segment = merged;
        }
        Ok(())
    }
}
