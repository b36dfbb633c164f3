//! Devices beside the reference. OpenCL runs on whatever is there, a processor too; CUDA where there is a card.
#![allow(clippy::unwrap_used)]
use std::io::Write;
use std::ops::ControlFlow;

use crate::backend::Limits;
use crate::cuda::{self, Cuda};
use crate::{Device, Gpu, GpuError, Kind, KnnBackend, NONE, Points, Reference, detect, tiles};

/// Is something named in the comma-separated list `PROXIMADB_REQUIRE`?
fn is_required(service: &str) -> bool {
    std::env::var("PROXIMADB_REQUIRE").is_ok_and(|list| list.split(',').any(|entry| entry.trim() == service))
}

/// Ends a test early where something is missing, or fails it where that is required.
fn skip<T>(service: &str, why: &str) -> Option<T> {
    assert!(!is_required(service), "{service} is required, but: {why}");
    // Past the capture of the test runner, which would swallow it: a skip that nobody sees is a pass.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "\nSKIP: {test} needs {service}: {why}");
    None
}

/// The best device of a kind, if there is one. `PROXIMADB_REQUIRE=gpu` wants a card of any kind, `cuda` or `opencl` one
/// of that kind.
fn device(kind: Kind) -> Option<Device> {
    let found = detect();
    let why: Vec<String> = found.missing.iter().map(|(kind, why)| format!("{kind}: {why}")).collect();
    if is_required("gpu") {
        let card = found.devices.iter().any(|device| !device.is_processor);
        assert!(card, "gpu is required, but there are {:?}; {why:?}", found.devices);
    }
    match found.devices.into_iter().find(|device| device.kind == kind) {
        Some(device) => Some(device),
        None => skip(kind.name(), &why.join("; ")),
    }
}

const GO: ControlFlow<()> = ControlFlow::Continue(());

/// Rows around centres away from the origin, the same each time.
struct Rows {
    dim: usize,
    values: Vec<f32>,
}

impl Rows {
    fn new(count: usize, dim: usize) -> Rows {
        let mut state = (count * 31 + dim) as u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let centres: Vec<f32> = (0..8 * dim).map(|_| 3.0 + uniform()).collect();
        let mut values = Vec::with_capacity(count * dim);
        for _ in 0..count {
            let centre = (uniform() * 8.0) as usize;
            values.extend(centres[centre * dim..][..dim].iter().map(|x| x + uniform()));
        }
        Rows { dim, values }
    }

    fn count(&self) -> usize {
        self.values.len() / self.dim
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        let pairs =
            self.values[a * self.dim..][..self.dim].iter().zip(&self.values[b * self.dim..][..self.dim]);
        pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
    }

    fn nearest(&self, backend: &mut dyn KnnBackend, k: usize, limits: Limits) -> Vec<u32> {
        let copy =
            |at: usize, out: &mut [f32]| out.copy_from_slice(&self.values[at * self.dim..][..self.dim]);
        let points =
            Points { count: self.count(), among: self.count(), dim: self.dim, threads: 2, copy: &copy };
        let mut all = Vec::new();
        tiles::nearest(backend, &points, k, limits, &mut |_| GO, &mut |first, lists| {
            assert_eq!(first * k, all.len());
            all.extend_from_slice(lists);
            GO
        })
        .unwrap();
        all
    }

    /// The same distances as the reference finds, up to `error` of the longest.
    fn assert_nearest(&self, backend: &mut dyn KnnBackend, k: usize, limits: Limits, error: f64) {
        let whole = Limits { bytes: 1 << 30, buffer_bytes: 1 << 30 };
        let found = self.nearest(backend, k, limits);
        let expected = self.nearest(&mut Reference::new(whole), k, whole);
        assert_eq!(found.len(), expected.len());
        let scale = (0..self.count().min(50)).map(|row| self.distance(0, row)).fold(0.0, f64::max);
        for (query, (found, expected)) in found.chunks(k).zip(expected.chunks(k)).enumerate() {
            let mut seen: Vec<u32> = found.iter().copied().filter(|&row| row != NONE).collect();
            seen.sort_unstable();
            seen.dedup();
            let there = expected.iter().filter(|&&row| row != NONE).count();
            assert_eq!(seen.len(), there, "query {query} of {} × {}", self.count(), self.dim);
            assert!(!seen.contains(&(query as u32)));
            for (&found, &expected) in found.iter().zip(expected).take(there) {
                let off = self.distance(query, found as usize) - self.distance(query, expected as usize);
                assert!(
                    off.abs() <= error * scale,
                    "query {query} of {} × {}: {off}",
                    self.count(),
                    self.dim
                );
            }
        }
    }
}

/// G1, G2 over shapes that don't fill tiles, and memory that doesn't hold all.
fn assert_like_the_reference(backend: &mut dyn KnnBackend, error: f64) {
    let limits = backend.limits().unwrap();
    assert!(limits.bytes >= limits.buffer_bytes && limits.buffer_bytes > 0, "{limits:?}");
    for dim in 1..18 {
        Rows::new(150 + dim, dim).assert_nearest(backend, 10, limits, error);
    }
    for (count, dim, k) in
        [(1, 4, 3), (2, 4, 3), (64, 5, 64), (700, 100, 256), (333, 384, 32), (200, 784, 100)]
    {
        Rows::new(count, dim).assert_nearest(backend, k, limits, error);
    }
    // So many that the nearest are sorted in between and nothing nearer comes after it.
    for (count, dim, k) in [(384, 16, 32), (390, 16, 32), (256, 8, 200), (512, 8, 256)] {
        Rows::new(count, dim).assert_nearest(backend, k, limits, error);
    }
    for kib in [100, 300, 1000] {
        let small = Limits { bytes: kib << 10, buffer_bytes: kib << 9 };
        Rows::new(1_111, 24).assert_nearest(backend, 16, small, error);
    }
}

#[test]
fn opencl_finds_what_the_reference_finds() {
    let Some(device) = device(Kind::OpenCl) else { return };
    assert_like_the_reference(device.open().unwrap().as_mut(), 1e-5);
}

#[test]
fn cuda_finds_what_the_reference_finds() {
    let Some(device) = device(Kind::Cuda) else { return };
    // TF32 where cuBLAS is there; our own kernel as exact as OpenCL's.
    assert_like_the_reference(&mut Cuda::open(&device).unwrap(), 2e-3);
    assert_like_the_reference(&mut Cuda::open(&device).unwrap().without_blas(), 1e-5);
}

/// What compiles here is all that can be said of CUDA's kernels without a card; their logic is OpenCL's.
#[test]
fn cuda_kernels_compile() {
    // Compute capabilities that all toolkits know that we load: 12 and 13.
    match cuda::try_compile(&[(8, 0), (9, 0)]) {
        Ok(codes) => assert!(codes.iter().all(|code| code.starts_with(b"\x7fELF"))),
        Err(why @ GpuError::NoLibrary { .. }) => {
            skip::<()>("nvrtc", &why.to_string());
        }
        Err(error) => panic!("{error}"),
    }
}

/// G4: each build tries again, and a device that fails is not the end.
#[test]
fn a_device_without_room_says_so_and_serves_the_next() {
    let rows = Rows::new(500, 20);
    let copy = |at: usize, out: &mut [f32]| out.copy_from_slice(&rows.values[at * 20..][..20]);
    let points = Points { count: 500, among: 500, dim: 20, threads: 1, copy: &copy };
    for device in [Kind::Cuda, Kind::OpenCl].into_iter().filter_map(device) {
        let small = Gpu::with_memory(device.clone(), 10_000);
        let outcome = small.nearest(&points, 5, &mut |_| GO, &mut |_, _| GO);
        assert!(matches!(outcome, Err(GpuError::NoMemory { .. })), "{outcome:?}");
        let gpu = Gpu::new(device.clone());
        assert!(!gpu.open().unwrap().by.is_empty());
        let outcome = gpu.nearest(&points, 300, &mut |_| GO, &mut |_, _| GO);
        assert!(matches!(outcome, Err(GpuError::Count { .. })), "{outcome:?}");
        let outcome = gpu.nearest(&points, 5, &mut |_| GO, &mut |_, _| panic!("the caller's fault"));
        assert!(matches!(outcome, Err(GpuError::Panicked(_))), "{outcome:?}");
        let mut lists = 0;
        let mut count = |_: usize, found: &[u32]| {
            lists += found.len() / 5;
            GO
        };
        gpu.nearest(&points, 5, &mut |_| GO, &mut count).unwrap();
        assert_eq!(lists, 500);
        let missing = Gpu::new(Device { index: 99, ..device });
        assert!(matches!(missing.open(), Err(GpuError::NoDevice { .. })));
        let outcome = missing.nearest(&points, 5, &mut |_| GO, &mut |_, _| GO);
        assert!(matches!(outcome, Err(GpuError::NoDevice { .. })), "{outcome:?}");
    }
}

/// More than the driver gives: its error, not an abort.
#[test]
fn memory_that_the_driver_refuses_is_an_error() {
    for device in [Kind::Cuda, Kind::OpenCl].into_iter().filter_map(device) {
        let mut backend = device.open().unwrap();
        let huge =
            crate::Shape { dim: 16, k: 1, slots: 1, slot_points: 1 << 44, tile_queries: 64, tile_rows: 64 };
        let outcome = backend.begin(huge).and_then(|()| backend.upload(0, 0, &[0.0; 16], &[0.0]));
        assert!(matches!(outcome, Err(GpuError::Driver { .. })), "{outcome:?}");
    }
}

/// What a build has let go of is there for the next one, and for others that use the device.
#[test]
fn memory_is_given_back() {
    let Some(device) = device(Kind::Cuda) else { return };
    let mut backend = device.open().unwrap();
    let rows = Rows::new(500, 20);
    // The first run loads what stays.
    let limits = backend.limits().unwrap();
    rows.nearest(backend.as_mut(), 5, limits);
    let first = backend.limits().unwrap().bytes;
    let shape = crate::Shape {
        dim: 16,
        k: 1,
        slots: 1,
        slot_points: 1 << 23, // half a gigabyte
        tile_queries: 64,
        tile_rows: 64,
    };
    backend.begin(shape).unwrap();
    let taken = backend.limits().unwrap().bytes;
    backend.end();
    let after = backend.limits().unwrap().bytes;
    assert!(taken < first && after > taken + (256 << 20), "{first}, {taken}, {after} bytes are free");
}
