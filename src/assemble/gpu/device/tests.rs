//! Graphs built with a device, beside the processor's: the real one, where there is one.
#![allow(clippy::unwrap_used)]
use std::io::Write;
use std::path::Path;

use super::*;
use crate::index::{
    BuildControl, Graph, GraphBuilder, IndexBuilder, IndexQuery, KnnBuilder, VectorBlock, VectorIndex,
    exact_scan,
};
use crate::types::{CodedSearch, Distance, GraphParams};

/// A GPU, else what OpenCL makes of a processor: the code that runs is the same. `PROXIMADB_REQUIRE` may want a `gpu`,
/// one by `cuda`, or anything for `opencl`.
fn device() -> Option<Device> {
    let required = |service: &str| {
        let list = std::env::var("PROXIMADB_REQUIRE").unwrap_or_default();
        list.split(',').any(|one| one.trim() == service)
    };
    let found = detect();
    let choices = [GpuChoice::Auto, GpuChoice::OpenCl];
    let device = choices.into_iter().find_map(|choice| allowed(choice, &found).next());
    let is_gpu = device.is_some_and(|device| !device.is_processor);
    assert!(is_gpu || !required("gpu"), "a GPU is required, but: {found:?}");
    let is_cuda = device.is_some_and(|device| device.kind == Kind::Cuda);
    assert!(is_cuda || !required("cuda"), "cuda is required, but: {found:?}");
    if device.is_none() {
        assert!(!required("opencl"), "opencl is required, but: {:?}", found.missing);
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        let _ = writeln!(std::io::stderr(), "\nSKIP: {test} needs opencl: {:?}", found.missing);
    }
    device.cloned()
}

const DIM: usize = 40;

/// Rows in crowds, the same each time.
fn rows(count: usize, distance: Distance) -> Vec<f32> {
    let mut state = 77u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..30 * DIM).map(|_| 2.0 * uniform()).collect();
    let mut rows = Vec::with_capacity(count * DIM);
    for _ in 0..count {
        let centre = ((uniform() + 0.5) * 30.0) as usize % 30;
        let mut row: Vec<f32> = centres[centre * DIM..][..DIM].iter().map(|x| x + uniform()).collect();
        match distance {
            Distance::Cosine => {
                proximadb_kernels::distance::normalize(&mut row);
            }
            Distance::Dot => {
                let length = 1.0 + uniform();
                row.iter_mut().for_each(|x| *x *= length);
            }
            Distance::L2 => {}
        }
        rows.append(&mut row);
    }
    rows
}

fn built(builder: &dyn IndexBuilder, block: VectorBlock<'_>, path: &Path) -> Graph {
    builder.build(block, path, &BuildControl::default()).unwrap();
    Graph::open(path).unwrap()
}

fn recall(graph: &Graph, block: VectorBlock<'_>, queries: &[f32], ef_search: usize) -> f64 {
    let (mut found, mut all) = (0u32, 0u32);
    for vector in queries.chunks(DIM) {
        let truth = exact_scan(block, vector, 10, |_| true).rows;
        let farthest = truth.last().unwrap().0;
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
        let hits = graph.search(block, &query).unwrap();
        found += hits.rows.iter().filter(|hit| hit.0 <= farthest).count() as u32;
        all += truth.len() as u32;
    }
    f64::from(found) / f64::from(all)
}

fn processor() -> GraphBuilder {
    GraphBuilder { params: GraphParams { m: 8, ..GraphParams::default() }, threads: 2, seed: 3 }
}

#[test]
fn a_graph_built_with_a_device_finds_what_the_processors_finds() {
    let Some(device) = device() else { return };
    // What fits the device, and what has to be streamed through it.
    for (distance, bytes) in
        [(Distance::L2, usize::MAX), (Distance::Cosine, 1 << 20), (Distance::Dot, usize::MAX)]
    {
        let all = rows(4_200, distance);
        let (data, queries) = all.split_at(4_000 * DIM);
        let block = VectorBlock { dim: DIM, rows: data, distance };
        let folder = tempfile::tempdir().unwrap();
        let neighbours = Arc::new(OnGpu::new(Gpu::with_memory(device.clone(), bytes)));
        let with_device = KnnBuilder { processor: processor(), neighbours, judged_after: None };
        let expected = built(&processor(), block, &folder.path().join("0.graph"));
        let found = built(&with_device, block, &folder.path().join("1.graph"));
        for ef in [20, 50, 100] {
            let [expected, found] = [&expected, &found].map(|graph| recall(graph, block, queries, ef));
            assert!(found >= expected - 0.005, "{distance:?}, ef {ef}: {found} instead of {expected}");
        }
    }
}

/// K2 with a real device: too little of its memory, and one that is not there any more.
#[test]
fn a_device_that_fails_leaves_the_processors_graph() {
    let Some(device) = device() else { return };
    let data = rows(2_000, Distance::L2);
    let block = VectorBlock { dim: DIM, rows: &data, distance: Distance::L2 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("0.graph");
    built(&processor(), block, &path);
    let expected = std::fs::read(&path).unwrap();
    let lost = Device { index: 99, ..device.clone() };
    for gpu in [Gpu::with_memory(device, 4_096), Gpu::new(lost)] {
        let neighbours = Arc::new(OnGpu::new(gpu));
        let builder = KnnBuilder { processor: processor(), neighbours, judged_after: None };
        built(&builder, block, &path);
        assert!(std::fs::read(&path).unwrap() == expected);
    }
}

#[test]
fn a_processor_is_no_gpu_but_where_somebody_asks_for_it() {
    let device = |kind, is_processor| Device {
        kind,
        index: 0,
        name: String::new(),
        driver: String::new(),
        bytes: 0,
        is_processor,
    };
    let [cuda, card, processor] =
        [device(Kind::Cuda, false), device(Kind::OpenCl, false), device(Kind::OpenCl, true)];
    let found =
        |devices: &[&Device]| Found { devices: devices.iter().copied().cloned().collect(), missing: vec![] };
    let all = found(&[&cuda, &card, &processor]);
    let of = |choice, found: &Found| allowed(choice, found).cloned().collect::<Vec<_>>();
    // What the first can't do the second may.
    assert_eq!(of(GpuChoice::Auto, &all), [cuda, card.clone()]);
    assert_eq!(of(GpuChoice::OpenCl, &all), [card]);
    assert_eq!(of(GpuChoice::Off, &all), []);
    let only = found(&[&processor]);
    assert_eq!(of(GpuChoice::Auto, &only), []);
    assert_eq!(of(GpuChoice::Cuda, &only), []);
    assert_eq!(of(GpuChoice::OpenCl, &only), [processor]);
}

/// The one that is asked for, opened: it says what it computes with.
#[test]
fn a_device_that_was_found_is_ready() {
    let Some(device) = device() else { return };
    let choice = if device.kind == Kind::Cuda { GpuChoice::Cuda } else { GpuChoice::OpenCl };
    let found = find(choice).unwrap();
    assert!(found.name().starts_with(&device.name), "{} instead of {}", found.name(), device.name);
}
