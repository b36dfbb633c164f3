//! Recall, speed and build time of the graph index on real data.
//!
//! ```text
//! cargo run --release --no-default-features --example index_recall -- <folder> [passages|mnist|dot] [m] [ef_construct]
//! ```
//! The folder holds `passages.parquet` and `passages-queries.parquet` (`embedding`: lists of f32), and
//! `mnist.parquet` and `mnist-queries.parquet` (`pixels`: lists of u8). Truth is computed by exact scan.
//! `dot` is the passages with lengths drawn at random: a test of maximum inner product.
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt8Type};
use arrow_array::{Array, ArrayRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proximadb::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, VectorBlock, VectorIndex, exact_scan,
};
use proximadb::types::{Distance, GraphParams, RowSet};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Hits compared.
const K: usize = 10;

/// Each figure of speed is taken over this time.
const TIMED: Duration = Duration::from_millis(1500);

struct Vectors {
    dim: usize,
    rows: Vec<f32>,
}

impl Vectors {
    fn block(&self, distance: Distance) -> VectorBlock<'_> {
        VectorBlock { dim: self.dim, rows: &self.rows, distance }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().ok_or("which folder holds the data?")?);
    let only = arguments.get(1).map(String::as_str).unwrap_or("all");
    let number = |at: usize, default: u32| arguments.get(at).map_or(Ok(default), |text| text.parse());
    let params = GraphParams { m: number(2, 16)?, ef_construct: number(3, 100)?, ..GraphParams::default() };
    println!("SIMD level {}, {params:?}", proximadb_kernels::distance::level());
    if ["all", "passages"].contains(&only) {
        let (data, queries) = load(folder, "passages", "embedding")?;
        measure("passages, cosine", Distance::Cosine, &data, &queries, &params)?;
    }
    if ["all", "mnist"].contains(&only) {
        let (data, queries) = load(folder, "mnist", "pixels")?;
        measure("mnist, l2", Distance::L2, &data, &queries, &params)?;
    }
    if ["all", "dot"].contains(&only) {
        let (mut data, queries) = load(folder, "passages", "embedding")?;
        for spread in [0.1, 0.5, 1.0] {
            let mut state = 7u64;
            for row in data.rows.chunks_mut(data.dim) {
                proximadb_kernels::distance::normalize(row);
                let length = (spread * normal(&mut state)).exp();
                row.iter_mut().for_each(|x| *x *= length);
            }
            let name = format!("passages, dot, lengths e^N(0, {spread})");
            measure(&name, Distance::Dot, &data, &queries, &params)?;
        }
    }
    Ok(())
}

/// CPU time of this process, where Linux tells it: on a busy machine only that can be compared.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn normal(state: &mut u64) -> f32 {
    let mut uniform = || {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..12).map(|_| uniform()).sum::<f32>() - 6.0
}

fn load(folder: &Path, name: &str, column: &str) -> Result<(Vectors, Vectors)> {
    let file = |suffix: &str| folder.join(format!("{name}{suffix}.parquet"));
    Ok((read(&file(""), column)?, read(&file("-queries"), column)?))
}

fn read(path: &Path, column: &str) -> Result<Vectors> {
    let file = std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), [column]);
    let mut vectors = Vectors { dim: 0, rows: Vec::new() };
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let lists = batch.column(0);
        let values = if let Some(lists) = lists.as_fixed_size_list_opt() {
            lists.values().clone()
        } else if let Some(lists) = lists.as_list_opt::<i32>() {
            let (first, last) = (lists.value_offsets()[0], lists.value_offsets()[lists.len()]);
            lists.values().slice(first as usize, (last - first) as usize)
        } else if let Some(bytes) = lists.as_fixed_size_binary_opt() {
            vectors.rows.extend(bytes.iter().flatten().flatten().map(|&byte| f32::from(byte)));
            vectors.dim = bytes.value_length() as usize;
            continue;
        } else {
            return Err(format!("{column} is {}, not lists", lists.data_type()).into());
        };
        vectors.dim = values.len() / batch.num_rows().max(1);
        vectors.rows.extend(floats(&values)?);
    }
    Ok(vectors)
}

fn floats(values: &ArrayRef) -> Result<Vec<f32>> {
    if let Some(values) = values.as_primitive_opt::<Float32Type>() {
        return Ok(values.values().to_vec());
    }
    let bytes = values.as_primitive_opt::<UInt8Type>();
    let bytes = bytes.ok_or_else(|| format!("{} is neither f32 nor u8", values.data_type()))?;
    Ok(bytes.values().iter().map(|&byte| f32::from(byte)).collect())
}

fn measure(
    name: &str,
    kind: Distance,
    data: &Vectors,
    queries: &Vectors,
    params: &GraphParams,
) -> Result<()> {
    let (block, queries) = (data.block(kind), queries.block(kind));
    let queries: Vec<&[f32]> = (0..queries.len() as u32).map(|row| queries.row(row)).collect();
    println!("\n{name}: {} rows of {}, {} queries", block.len(), block.dim, queries.len());

    let start = Instant::now();
    let truth: Vec<Vec<(f32, u32)>> =
        queries.iter().map(|query| exact_scan(block, query, K, |_| true).rows).collect();
    let scan = start.elapsed() / queries.len() as u32;
    println!("exact scan: {:.3} ms per query", scan.as_secs_f64() * 1e3);

    let path = std::env::temp_dir().join(format!("index_recall-{}.graph", std::process::id()));
    let cores = std::thread::available_parallelism()?.get();
    for threads in [1, cores] {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let builder = GraphBuilder { params: *params, threads, seed: 1 };
        builder.build(block, &path, &BuildControl::default())?;
        let seconds = start.elapsed().as_secs_f64();
        let (rate, cpu) = (block.len() as f64 / seconds, cpu_seconds() - cpu);
        println!("build, {threads} threads: {seconds:.2} s, {rate:.0} rows/s, {cpu:.2} s of CPU");
        if cores == 1 {
            break;
        }
    }
    let start = Instant::now();
    let graph = Graph::open(&path)?;
    println!("open: {:.1} ms, {:.1} MB", start.elapsed().as_secs_f64() * 1e3, graph.bytes() as f64 / 1e6);
    std::fs::remove_file(&path)?;

    println!("   ef  recall@10   queries/s   p50 µs   p99 µs   distances/query");
    for ef_search in [16, 32, 48, 64, 96, 128, 192, 256] {
        let speed = run(&graph, block, &queries, &truth, ef_search, None)?;
        println!("{ef_search:5}  {speed}");
    }
    for percent in [50, 10, 1] {
        let admit = move |row: u32| (row.wrapping_mul(2_654_435_761) >> 8) % 100 < percent;
        let truth: Vec<Vec<(f32, u32)>> =
            queries.iter().map(|query| exact_scan(block, query, K, admit).rows).collect();
        let matching = RowSet::from_fn(block.len(), |row| admit(row as u32));
        let speed = run(&graph, block, &queries, &truth, 128, Some(&matching))?;
        println!("  128  {speed}   {percent} % admitted");
    }
    Ok(())
}

/// One line of figures.
fn run(
    graph: &Graph,
    block: VectorBlock<'_>,
    queries: &[&[f32]],
    truth: &[Vec<(f32, u32)>],
    ef_search: usize,
    matching: Option<&RowSet>,
) -> Result<String> {
    let (mut found, mut wanted, mut visited) = (0, 0, 0);
    let mut times = Vec::new();
    let start = Instant::now();
    while times.len() < queries.len() || start.elapsed() < TIMED {
        let at = times.len() % queries.len();
        let query = IndexQuery {
            vector: queries[at],
            k: K,
            ef_search,
            matching,
            alive: &|_| true,
            alive_rows: block.len(),
            deadline: None,
        };
        let began = Instant::now();
        let hits = graph.search(block, &query)?;
        times.push(began.elapsed());
        if times.len() <= queries.len() {
            // By distance: of rows equally near any will do.
            let farthest = truth[at].last().map_or(f32::NEG_INFINITY, |hit| hit.0);
            found += hits.rows.iter().filter(|hit| hit.0 <= farthest).count();
            wanted += truth[at].len();
            visited += hits.visited;
        }
    }
    let rate = times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64();
    times.sort_unstable();
    let micros = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    Ok(format!(
        "{:9.4}   {rate:9.0}   {:6.0}   {:6.0}   {:15.0}",
        found as f64 / wanted as f64,
        micros(0.5),
        micros(0.99),
        visited as f64 / queries.len() as f64
    ))
}
