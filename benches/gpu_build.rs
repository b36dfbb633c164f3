//! Graphs with a GPU's help beside the processor's: seconds from rows in memory to the file, and recall.
//!
//! `make bench-gpu`. `BENCH_SCALE` multiplies the numbers of rows (1), `BENCH_GPU` is `auto`, `cuda` or `opencl`,
//! `BENCH_DATA` names folders as `make bench-index` makes them (`base.f32`, `queries.f32`, `meta.json`), separated
//! by colons, instead of what is made up here.
#![allow(missing_docs)]
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use proximadb::assemble::find_gpu;
use proximadb::config::GpuChoice;
use proximadb::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, KnnBuilder, Neighbours, VectorBlock,
    VectorIndex, exact_scan,
};
use proximadb::types::{CodedSearch, Distance, GraphParams};

const QUERIES: usize = 200;
const EFS: [usize; 4] = [16, 32, 64, 100];

fn main() -> Result<(), Box<dyn Error>> {
    let choice = match std::env::var("BENCH_GPU").as_deref() {
        Ok("cuda") => GpuChoice::Cuda,
        Ok("opencl") => GpuChoice::OpenCl,
        _ => GpuChoice::Auto,
    };
    let neighbours = find_gpu(choice).map_err(|why| format!("no GPU to measure: {why}"))?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let scale: f64 = std::env::var("BENCH_SCALE").map_or(Ok(1.0), |text| text.parse())?;
    println!("device: {}; processor: {threads} threads", neighbours.name());
    println!(
        "\n| rows | builder | build s | recall@10 (distances) at ef 16 / 32 / 64 / 100 |\n|---|---|---|---|"
    );
    if let Ok(folders) = std::env::var("BENCH_DATA") {
        for folder in folders.split(':') {
            measure(&Data::read(Path::new(folder), scale)?, &neighbours, threads)?;
        }
        return Ok(());
    }
    for dim in [128, 768] {
        measure(&Data::made_up((1e6 * scale) as usize, dim, threads), &neighbours, threads)?;
    }
    Ok(())
}

struct Data {
    name: String,
    dim: usize,
    distance: Distance,
    rows: Vec<f32>,
    queries: Vec<f32>,
}

impl Data {
    /// A thousand crowds of different size and width, each along 16 directions of its own.
    fn made_up(count: usize, dim: usize, threads: usize) -> Data {
        let mut rows = vec![0.0; (count + QUERIES) * dim];
        let crowds = 1000.min(count / 20).max(1);
        let each = rows.len().div_ceil(dim).div_ceil(threads);
        thread::scope(|scope| {
            for (part, rows) in rows.chunks_mut(each * dim).enumerate() {
                scope.spawn(move || {
                    let mut random = Random(part as u64 + 1);
                    for row in rows.chunks_mut(dim) {
                        let crowd = random.below(crowds).min(random.below(crowds));
                        let mut centre = Random(crowd as u64 + 1_000_000);
                        let along: Vec<f32> =
                            (0..16).map(|_| random.unit() * (0.2 + crowd as f32 % 7.0 * 0.1)).collect();
                        for x in row.iter_mut() {
                            *x = centre.unit() + 0.05 * random.unit();
                            *x += along.iter().map(|along| along * centre.unit()).sum::<f32>();
                        }
                    }
                });
            }
        });
        let queries = rows.split_off(count * dim);
        Data { name: format!("{count} × {dim}"), dim, distance: Distance::L2, rows, queries }
    }

    fn read(folder: &Path, scale: f64) -> Result<Data, Box<dyn Error>> {
        let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("meta.json"))?)?;
        let dim = meta["dim"].as_u64().ok_or("meta.json names no dim")? as usize;
        let distance = if meta["metric"] == "cosine" { Distance::Cosine } else { Distance::L2 };
        let floats = |name: &str| -> Result<Vec<f32>, std::io::Error> {
            let bytes = std::fs::read(folder.join(name))?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        };
        let (mut rows, mut queries) = (floats("base.f32")?, floats("queries.f32")?);
        let count = (rows.len() / dim) as f64 * scale;
        rows.truncate(count as usize * dim);
        queries.truncate(5 * QUERIES * dim);
        let name = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Data { name: format!("{name}, {} × {dim}", rows.len() / dim), dim, distance, rows, queries })
    }

    fn block(&self) -> VectorBlock<'_> {
        VectorBlock { dim: self.dim, rows: &self.rows, distance: self.distance }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// -1 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn measure(data: &Data, neighbours: &Arc<dyn Neighbours>, threads: usize) -> Result<(), Box<dyn Error>> {
    let processor = GraphBuilder { params: GraphParams::default(), threads, seed: 1 };
    let neighbours_of = Arc::clone(neighbours);
    let device = KnnBuilder { processor: processor.clone(), neighbours: neighbours_of, judged_after: None };
    let farthest = farthest(data, threads);
    let folder = std::env::var("PROXIMADB_BENCH_DIR").map_or_else(|_| std::env::temp_dir(), Into::into);
    let path = folder.join(format!("gpu-build-{}.graph", std::process::id()));
    let builders: [(&str, &dyn IndexBuilder); 2] = [("processor", &processor), (neighbours.name(), &device)];
    for (name, builder) in builders {
        let started = Instant::now();
        builder.build(data.block(), &path, &BuildControl::default())?;
        let seconds = started.elapsed().as_secs_f64();
        let graph = Graph::open(&path)?;
        let recalls = EFS.map(|ef| {
            let (recall, visited) = recall(&graph, data, &farthest, ef);
            format!("{recall:.4} ({visited:.0})")
        });
        println!("| {} | {name} | {seconds:.1} | {} |", data.name, recalls.join(" / "));
        std::fs::remove_file(&path)?;
    }
    Ok(())
}

/// Of each query: how far its tenth nearest row is.
fn farthest(data: &Data, threads: usize) -> Vec<f32> {
    let queries: Vec<&[f32]> = data.queries.chunks(data.dim).collect();
    thread::scope(|scope| {
        let parts = queries.chunks(queries.len().div_ceil(threads).max(1));
        let tenth = |query: &&[f32]| {
            exact_scan(data.block(), query, 10, |_| true).rows.last().map_or(0.0, |hit| hit.0)
        };
        let work: Vec<_> =
            parts.map(|part| scope.spawn(move || part.iter().map(tenth).collect::<Vec<f32>>())).collect();
        work.into_iter().flat_map(|work| work.join().unwrap_or_default()).collect()
    })
}

/// Recall, and distances computed per query.
fn recall(graph: &Graph, data: &Data, farthest: &[f32], ef_search: usize) -> (f64, f64) {
    let block = data.block();
    let (mut found, mut visited) = (0, 0);
    for (vector, farthest) in data.queries.chunks(data.dim).zip(farthest) {
        let query = IndexQuery {
            vector,
            k: 10,
            ef_search,
            matching: None,
            alive: &|_| true,
            alive_rows: block.len(),
            codes: CodedSearch::default(),
            deadline: None,
        };
        let hits = graph.search(block, &query).unwrap_or_default();
        found += hits.rows.iter().filter(|hit| hit.0 <= *farthest).count();
        visited += hits.visited;
    }
    (found as f64 / (10 * farthest.len()) as f64, visited as f64 / farthest.len() as f64)
}
