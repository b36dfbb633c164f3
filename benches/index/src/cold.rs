//! Searches whose vectors are not in the page cache: rows as they came, rows cluster by cluster, and a graph.
//!
//! ```text
//! proximadb-bench-index cold DATA_FOLDER [NAME=NUMBER…]
//! ```
//! `queries`: how many, one after the other, the cache emptied before each. `clusters`: how many, instead of the
//! default. Indexes are in memory. One JSON line per layout and `ef_search`.
use std::collections::{HashMap, HashSet};
use std::fs::{File, read_to_string};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use proximadb::index::{
    BuildControl, Clusters, GraphBuilder, IndexBuilder, IndexQuery, IvfBuilder, VectorBlock, exact_scan, open,
};
use proximadb::types::{CodedSearch, Distance, GraphParams};
use proximadb_kernels::map::{Map, as_f32s, f32s_as_bytes};
use serde_json::json;

use crate::Result;
use crate::data::DataSet;

const EFS: [usize; 4] = [16, 32, 64, 128];
const K: usize = 10;
/// Rows of a stretch, as large as the row groups of a segment that was merged in the order of its clusters.
const STRETCH_ROWS: u32 = 4_096;

/// Vectors in a file, and an index of them in another.
struct Layout {
    name: &'static str,
    vectors: PathBuf,
    index: PathBuf,
    /// The row of the data that each of its rows is.
    rows: Vec<u32>,
}

struct Bench {
    data: DataSet,
    distance: Distance,
    /// The exact nearest rows of each query.
    truth: Vec<HashSet<u32>>,
}

/// Runs what the arguments say.
pub fn run(folder: &Path, arguments: impl Iterator<Item = String>) -> Result<()> {
    let mut numbers: HashMap<String, usize> = HashMap::new();
    for argument in arguments {
        let (name, number) = argument.split_once('=').ok_or_else(|| format!("{argument}: no NAME=NUMBER"))?;
        numbers.insert(name.to_owned(), number.parse()?);
    }
    let number = |name: &str, default: usize| numbers.get(name).copied().unwrap_or(default);
    let data = DataSet::open(folder)?;
    let distance = if data.cosine { Distance::Cosine } else { Distance::L2 };
    let queries = number("queries", 100).min(data.queries().len());
    let mut bench = Bench { data, distance, truth: Vec::new() };
    let block = bench.block(bench.data.rows());
    let truth = bench
        .data
        .queries()
        .into_iter()
        .take(queries)
        .map(|query| exact_scan(block, query, K, |_| true).rows.into_iter().map(|hit| hit.1).collect());
    let truth = truth.collect();
    bench.truth = truth;
    let clusters = numbers.get("clusters").map_or(Clusters::Auto, |count| Clusters::Count(*count as u32));
    let layouts = bench.layouts(folder, clusters)?;
    let done = layouts.iter().try_for_each(|layout| bench.measure(layout));
    for file in layouts.iter().flat_map(|layout| [&layout.vectors, &layout.index]) {
        let _ = std::fs::remove_file(file);
    }
    done
}

impl Bench {
    fn block<'a>(&self, rows: &'a [f32]) -> VectorBlock<'a> {
        VectorBlock { dim: self.data.dim, rows, distance: self.distance }
    }

    fn layouts(&self, folder: &Path, clusters: Clusters) -> Result<Vec<Layout>> {
        let block = self.block(self.data.rows());
        let (threads, control) = (2, BuildControl::default());
        let ivf = IvfBuilder { clusters, quantization: None, threads, seed: 1 };
        let path = |name: &str| folder.join(format!("cold-{}-{name}", std::process::id()));
        let arrival: Vec<u32> = (0..block.len() as u32).collect();
        let write = |name: &str, rows: &[u32]| -> Result<PathBuf> {
            let path = path(name);
            let mut out = std::io::BufWriter::new(File::create(&path)?);
            for &row in rows {
                out.write_all(f32s_as_bytes(block.row(row)).ok_or("little-endian machines only")?)?;
            }
            out.into_inner()?.sync_all()?;
            Ok(path)
        };
        let (graph, scattered, ordered) = (path("graph"), path("scattered.ivf"), path("ordered.ivf"));
        GraphBuilder { params: GraphParams::default(), threads, seed: 1 }.build(block, &graph, &control)?;
        ivf.build(block, &scattered, &control)?;
        let order = ivf.build_in_order(block, &ordered, &control)?.rows;
        let layout = |name, rows: Vec<u32>, index| -> Result<Layout> {
            Ok(Layout { name, vectors: write(&format!("{name}.vec"), &rows)?, index, rows })
        };
        Ok(vec![
            layout("graph", arrival.clone(), graph)?,
            layout("clusters, rows as they came", arrival, scattered)?,
            layout("clusters, rows in their order", order, ordered)?,
        ])
    }

    fn measure(&self, layout: &Layout) -> Result<()> {
        let index = open(&layout.index, false)?;
        for ef in EFS {
            let (mut times, mut found, mut stretches) = (Vec::new(), 0, 0);
            let before = (read_bytes()?, major_faults()?);
            for (query, truth) in self.data.queries().into_iter().zip(&self.truth) {
                forget(&layout.vectors)?;
                let map = Map::open(&layout.vectors)?;
                let block = self.block(as_f32s(map.bytes()).ok_or("vectors can't be read")?);
                let query = IndexQuery {
                    vector: query,
                    k: K,
                    ef_search: ef,
                    matching: None,
                    alive: &|_| true,
                    alive_rows: block.len(),
                    codes: CodedSearch::default(),
                    deadline: None,
                };
                let begun = Instant::now();
                let hits = index.search(block, &query)?;
                times.push(begun.elapsed().as_micros() as u64);
                found += hits.rows.iter().filter(|hit| truth.contains(&layout.rows[hit.1 as usize])).count();
                let lies_in: HashSet<u32> = hits.rows.iter().map(|hit| hit.1 / STRETCH_ROWS).collect();
                stretches += lies_in.len();
            }
            times.sort_unstable();
            let count = times.len() as f64;
            let line = json!({
                "layout": layout.name,
                "ef_search": ef,
                "recall": found as f64 / (count * K as f64),
                "mean_us": times.iter().sum::<u64>() as f64 / count,
                "p50_us": times[times.len() / 2],
                "p90_us": times[times.len() * 9 / 10],
                "stretches": stretches as f64 / count,
                "read_kib": (read_bytes()? - before.0) as f64 / 1024.0 / count,
                "major_faults": (major_faults()? - before.1) as f64 / count,
            });
            println!("{line}");
        }
        Ok(())
    }
}

/// Takes a file that nobody maps out of the page cache.
fn forget(path: &Path) -> Result<()> {
    let mut input = std::ffi::OsString::from("if=");
    input.push(path);
    let status = Command::new("dd")
        .arg(input)
        .args(["iflag=nocache", "count=0"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if status.success() { Ok(()) } else { Err("dd can't empty the page cache".into()) }
}

/// Bytes that this process has had read from disks.
fn read_bytes() -> Result<u64> {
    let text = read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: ")).ok_or("no read_bytes")?;
    Ok(line.trim().parse()?)
}

/// Page faults of this process that waited for a disk.
fn major_faults() -> Result<u64> {
    let text = read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit(')').next().unwrap_or_default();
    Ok(after_name.split_whitespace().nth(9).ok_or("no majflt")?.parse()?)
}
