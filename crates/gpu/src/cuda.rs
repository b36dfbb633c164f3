//! Devices by CUDA: the driver, NVRTC for our kernels, cuBLAS for products where it is installed.
//!
//! The bindings panic at the first call of a library that isn't there, so each is looked for before.
use std::ffi::CString;
use std::ops::Range;
use std::sync::Arc;

use cudarc::cublas::sys::{cublasMath_t, cublasOperation_t, cublasSetMathMode};
use cudarc::cublas::{CudaBlas, Gemm, GemmConfig};
use cudarc::driver::result::device;
use cudarc::driver::sys::CUdevice_attribute::{
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
    CU_DEVICE_ATTRIBUTE_INTEGRATED,
};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaModule, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::result::{NvrtcError, compile_program, create_program, destroy_program};
use cudarc::nvrtc::sys::{nvrtcGetCUBIN, nvrtcGetCUBINSize};
use cudarc::nvrtc::{CompileOptions, Ptx, compile_ptx_with_opts};

use crate::backend::{Limits, Products, Shape, Tile};
use crate::gpu::guarded;
use crate::quiet::Quiet;
use crate::{Device, GpuError, Kind, KnnBackend};

const DOTS_THREADS: u32 = 256;
const DOTS_SIDE: usize = 64;
const SELECT_THREADS: u32 = 128;
/// Keys that a group sorts: `K_MAX` and as many candidates.
const SELECT_SIZE: u32 = 512;

const SOURCE: &str =
    concat!(include_str!("kernels/cuda.h"), include_str!("kernels/select.c"), include_str!("kernels/dots.c"));

fn failed(doing: &'static str) -> impl FnOnce(DriverError) -> GpuError {
    GpuError::of(Kind::Cuda, doing)
}

/// Is the library of the driver, of NVRTC, of cuBLAS there?
fn libraries() -> [bool; 3] {
    use cudarc::{cublas, driver, nvrtc};
    // SAFETY: they load a library of NVIDIA's by its name and let go of it, or find none. Their initialisers run in
    // this process, as they do at each use; whoever can replace these libraries can replace this program.
    unsafe {
        [driver::sys::is_culib_present(), nvrtc::sys::is_culib_present(), cublas::sys::is_culib_present()]
    }
}

/// All devices.
pub(crate) fn devices() -> Result<Vec<Device>, GpuError> {
    let [driver, nvrtc, _] = libraries();
    if !driver {
        return Err(GpuError::NoLibrary { library: "libcuda.so", package: "NVIDIA's driver" });
    }
    let count = count()?;
    if count > 0 && !nvrtc {
        return Err(GpuError::NoLibrary { library: "libnvrtc.so", package: "NVRTC of the CUDA toolkit" });
    }
    (0..count).map(|index| describe(index).map_err(failed("ask a device what it is"))).collect()
}

fn count() -> Result<usize, GpuError> {
    let count = CudaContext::device_count().map_err(failed("count devices"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Without a context, which would take memory of a device that may never be used.
fn describe(index: usize) -> Result<Device, DriverError> {
    let device = device::get(index as i32)?;
    // SAFETY: the handle is the driver's, of a moment ago.
    let (bytes, [major, minor]) = unsafe {
        let capability =
            [CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR];
        let [major, minor] = capability.map(|attribute| device::get_attribute(device, attribute));
        (device::total_mem(device)?, [major?, minor?])
    };
    Ok(Device {
        kind: Kind::Cuda,
        index,
        name: device::get_name(device)?,
        driver: format!("compute capability {major}.{minor}"),
        bytes,
        is_processor: false,
    })
}

/// Points of a slot, and the squares of their lengths.
struct Slot {
    points: CudaSlice<f32>,
    squares: CudaSlice<f32>,
}

/// What `begin` allocates.
struct Memory {
    shape: Shape,
    slots: Vec<Slot>,
    lists: CudaSlice<u64>,
    products: CudaSlice<f32>,
}

/// A device that is driven by CUDA.
pub(crate) struct Cuda {
    device: Device,
    memory: Option<Memory>,
    /// Else our own kernel makes the products, and this is why.
    blas: Result<Quiet<CudaBlas>, GpuError>,
    dots: CudaFunction,
    select: CudaFunction,
    clear: CudaFunction,
    stream: Arc<CudaStream>,
    context: Arc<CudaContext>,
}

impl Cuda {
    pub(crate) fn open(device: &Device) -> Result<Cuda, GpuError> {
        if device.index >= count()? {
            return Err(GpuError::NoDevice { kind: Kind::Cuda });
        }
        let context = CudaContext::new(device.index).map_err(failed("make a context"))?;
        // Else whoever waits for the device keeps a core busy. Drivers before 12.1 can't be asked for it.
        let _ = guarded(|| context.set_blocking_synchronize().map_err(failed("set how to wait")));
        let stream = context.default_stream();
        let module = load(&context)?;
        let kernel = |name| module.load_function(name).map_err(failed("find a kernel"));
        Ok(Cuda {
            device: device.clone(),
            memory: None,
            dots: kernel("dots")?,
            select: kernel("select_nearest")?,
            clear: kernel("clear_lists")?,
            blas: guarded(|| make_blas(&stream)),
            stream,
            context,
        })
    }

    /// Our own kernel: where cuBLAS isn't installed, and to compare with it.
    #[cfg(test)]
    pub(crate) fn without_blas(mut self) -> Cuda {
        self.blas = Err(no_blas());
        self
    }

    fn finish(&self) -> Result<(), GpuError> {
        self.stream.synchronize().map_err(failed("run kernels"))
    }
}

/// The kernels: as code for this device, which a driver takes from any toolkit of its major version. NVRTC doesn't know
/// all devices; for others there is PTX, of which the driver makes code itself if it is no older than the toolkit.
fn load(context: &Arc<CudaContext>) -> Result<Arc<CudaModule>, GpuError> {
    let load = |image| context.load_module(image).map_err(failed("load kernels"));
    let (major, minor) = context.compute_capability().map_err(failed("ask a device what it is"))?;
    guarded(|| load(Ptx::from_binary(cubin(major, minor)?))).or_else(|cubin| {
        ptx().and_then(load).map_err(|ptx| {
            let reason = format!("as PTX: {ptx}; for compute capability {major}.{minor}: {cubin}");
            GpuError::Driver { kind: Kind::Cuda, doing: "load kernels", reason }
        })
    })
}

fn options() -> Vec<String> {
    vec![format!("-DSELECT_THREADS={SELECT_THREADS}"), format!("-DSELECT_SIZE={SELECT_SIZE}")]
}

/// PTX for the oldest devices that NVRTC knows.
fn ptx() -> Result<Ptx, GpuError> {
    let options = CompileOptions { options: options(), ..CompileOptions::default() };
    compile_ptx_with_opts(SOURCE, options).map_err(GpuError::of(Kind::Cuda, "compile kernels"))
}

/// Code for devices of a compute capability.
fn cubin(major: i32, minor: i32) -> Result<Vec<u8>, GpuError> {
    let source = CString::new(SOURCE).map_err(GpuError::of(Kind::Cuda, "compile kernels"))?;
    let options = [options(), vec![format!("--gpu-architecture=sm_{major}{minor}")]].concat();
    let program = create_program(&source, None).map_err(GpuError::of(Kind::Cuda, "compile kernels"))?;
    let compile = || -> Result<Vec<u8>, NvrtcError> {
        // SAFETY: the program was just made, its source is alive, and it is destroyed below; the code is written to
        // as many bytes as NVRTC says that it has.
        unsafe {
            compile_program(program, &options)?;
            let mut bytes = 0;
            nvrtcGetCUBINSize(program, &raw mut bytes).result()?;
            let mut code = vec![0u8; bytes];
            nvrtcGetCUBIN(program, code.as_mut_ptr().cast()).result()?;
            Ok(code)
        }
    };
    let outcome = guarded(|| compile().map_err(GpuError::of(Kind::Cuda, "compile kernels")));
    // SAFETY: made above, destroyed nowhere else.
    let _ = unsafe { destroy_program(program) };
    match outcome? {
        code if code.is_empty() => Err(GpuError::of(Kind::Cuda, "compile kernels")("no code came out")),
        code => Ok(code),
    }
}

/// What comes out where NVRTC is installed: PTX, and code for some devices. It needs none.
#[cfg(test)]
pub(crate) fn try_compile(capabilities: &[(i32, i32)]) -> Result<Vec<Vec<u8>>, GpuError> {
    let [_, nvrtc, _] = libraries();
    if !nvrtc {
        return Err(GpuError::NoLibrary { library: "libnvrtc.so", package: "NVRTC of the CUDA toolkit" });
    }
    ptx()?;
    capabilities.iter().map(|&(major, minor)| cubin(major, minor)).collect()
}

fn no_blas() -> GpuError {
    GpuError::NoLibrary { library: "libcublas.so", package: "cuBLAS of the CUDA toolkit" }
}

/// Products of numbers rounded to TF32's 11 bits: eight times as fast as f32 where there are tensor cores. Points are
/// centred, so of a distance between unit vectors it costs some 1e-4, and lists are ordered again by the caller.
fn make_blas(stream: &Arc<CudaStream>) -> Result<Quiet<CudaBlas>, GpuError> {
    let [.., blas] = libraries();
    if !blas {
        return Err(no_blas());
    }
    let blas = CudaBlas::new(Arc::clone(stream)).map_err(GpuError::of(Kind::Cuda, "start cuBLAS"))?;
    let blas = Quiet::new(blas);
    // SAFETY: the handle is alive.
    let status = unsafe { cublasSetMathMode(*blas.handle(), cublasMath_t::CUBLAS_TF32_TENSOR_OP_MATH) };
    status.result().map_err(GpuError::of(Kind::Cuda, "set cuBLAS's precision"))?;
    Ok(blas)
}

impl KnnBackend for Cuda {
    fn device(&self) -> &Device {
        &self.device
    }

    fn products(&self) -> Products {
        match &self.blas {
            Ok(_) => Products { by: "cuBLAS in TF32", slow_because: None },
            Err(why) => Products { by: "our own kernel", slow_because: Some(why.to_string()) },
        }
    }

    fn limits(&self) -> Result<Limits, GpuError> {
        let (free, _) = self.context.mem_get_info().map_err(failed("ask for memory"))?;
        let unified =
            self.context.attribute(CU_DEVICE_ATTRIBUTE_INTEGRATED).map_err(failed("ask for memory"))?;
        // cuBLAS wants some itself. Where the device has the processor's memory others need it more.
        let bytes = if unified != 0 { free / 4 } else { free / 8 * 7 };
        Ok(Limits { bytes, buffer_bytes: bytes })
    }

    fn begin(&mut self, shape: Shape) -> Result<(), GpuError> {
        self.end();
        self.context.bind_to_thread().map_err(failed("use the context"))?;
        let floats = |count| self.stream.alloc_zeros::<f32>(count).map_err(failed("allocate device memory"));
        let slot = |_| {
            let points = floats(shape.slot_points * shape.dim)?;
            Ok(Slot { points, squares: floats(shape.slot_points)? })
        };
        let memory = Memory {
            shape,
            slots: (0..shape.slots).map(slot).collect::<Result<_, GpuError>>()?,
            lists: self
                .stream
                .alloc_zeros(shape.slot_points * shape.k)
                .map_err(failed("allocate device memory"))?,
            products: floats(shape.tile_queries * shape.tile_rows)?,
        };
        self.memory = Some(memory);
        self.finish()
    }

    fn upload(&mut self, slot: usize, at: usize, points: &[f32], squares: &[f32]) -> Result<(), GpuError> {
        let Some(memory) = &mut self.memory else { return Ok(()) };
        let dim = memory.shape.dim;
        let slot = &mut memory.slots[slot];
        // `slice_mut` and the copies panic rather than leave their buffers.
        let mut places = slot.points.slice_mut(at * dim..at * dim + points.len());
        self.stream.memcpy_htod(points, &mut places).map_err(failed("copy to the device"))?;
        let mut places = slot.squares.slice_mut(at..at + squares.len());
        self.stream.memcpy_htod(squares, &mut places).map_err(failed("copy to the device"))?;
        self.stream.synchronize().map_err(failed("copy to the device"))
    }

    fn clear(&mut self) -> Result<(), GpuError> {
        let Some(Memory { lists, .. }) = &mut self.memory else { return Ok(()) };
        let count = lists.len() as u64;
        let groups = count.div_ceil(u64::from(SELECT_THREADS)) as u32;
        let mut launch = self.stream.launch_builder(&self.clear);
        launch.arg(lists).arg(&count);
        // SAFETY: the arguments are the kernel's, in its order; it writes to `count` keys, which are there.
        unsafe { launch.launch(grid(groups, 1, SELECT_THREADS)) }.map_err(failed("empty lists"))?;
        self.finish()
    }

    fn compare(&mut self, tile: &Tile) -> Result<(), GpuError> {
        let Some(Memory { shape, slots, lists, products }) = &mut self.memory else { return Ok(()) };
        let fits = |range: &Range<usize>, most| range.end <= shape.slot_points && range.len() <= most;
        assert!(fits(&tile.queries, shape.tile_queries) && fits(&tile.rows, shape.tile_rows));
        self.context.bind_to_thread().map_err(failed("use the context"))?;
        let (queries, rows) = (&slots[0], &slots[tile.row_slot]);
        let [dim, k, stride] = [shape.dim, shape.k, shape.tile_rows].map(|x| x as u32);
        let [query_at, query_count, query_first] =
            [tile.queries.start, tile.queries.len(), tile.queries_first].map(|x| x as u32);
        let [row_at, row_count, row_first] =
            [tile.rows.start, tile.rows.len(), tile.rows_first].map(|x| x as u32);
        match &self.blas {
            Ok(blas) => {
                // Its matrices lie by columns: a line of components is a column, a line of products too.
                let config = GemmConfig {
                    transa: cublasOperation_t::CUBLAS_OP_T,
                    transb: cublasOperation_t::CUBLAS_OP_N,
                    m: row_count as i32,
                    n: query_count as i32,
                    k: dim as i32,
                    alpha: 1.0,
                    lda: dim as i32,
                    ldb: dim as i32,
                    beta: 0.0,
                    ldc: stride as i32,
                };
                let part = |range: &Range<usize>| range.start * shape.dim..range.end * shape.dim;
                let (a, b) = (rows.points.slice(part(&tile.rows)), queries.points.slice(part(&tile.queries)));
                // SAFETY: `a` has `m` columns of `k`, `b` has `n`, and `products` has room for `n` of `stride >= m`.
                unsafe { blas.gemm(config, &a, &b, products) }
                    .map_err(GpuError::of(Kind::Cuda, "multiply by cuBLAS"))?;
            }
            Err(_) => {
                let mut launch = self.stream.launch_builder(&self.dots);
                launch.arg(&queries.points).arg(&rows.points).arg(&mut *products).arg(&dim).arg(&stride);
                launch.arg(&query_at).arg(&query_count).arg(&row_at).arg(&row_count);
                let across = tile.rows.len().div_ceil(DOTS_SIDE) as u32;
                let down = tile.queries.len().div_ceil(DOTS_SIDE) as u32;
                // SAFETY: the arguments are the kernel's, in its order and types. It reads `dim` components of each
                // place of the tile, all inside slots, and writes below `tile_queries × tile_rows`.
                unsafe { launch.launch(grid(across, down, DOTS_THREADS)) }
                    .map_err(failed("start kernels"))?;
            }
        }
        let mut launch = self.stream.launch_builder(&self.select);
        launch.arg(&*products).arg(&queries.squares).arg(&rows.squares).arg(lists);
        launch.arg(&k).arg(&stride).arg(&row_count);
        launch.arg(&query_at).arg(&query_first).arg(&row_at).arg(&row_first);
        // SAFETY: the arguments are the kernel's, in its order and types. It reads the products that were just made,
        // squares of places in slots, and reads and writes the lists of the queries.
        unsafe { launch.launch(grid(query_count, 1, SELECT_THREADS)) }.map_err(failed("start kernels"))?;
        Ok(())
    }

    fn wait(&mut self) -> Result<(), GpuError> {
        self.finish()
    }

    fn read(&mut self, queries: Range<usize>, lists: &mut [u64]) -> Result<(), GpuError> {
        let Some(memory) = &self.memory else { return Ok(()) };
        let k = memory.shape.k;
        let part = memory.lists.slice(queries.start * k..queries.end * k);
        self.stream.memcpy_dtoh(&part, lists).map_err(failed("copy from the device"))?;
        self.stream.synchronize().map_err(failed("copy from the device"))
    }

    fn end(&mut self) {
        if self.memory.take().is_some() {
            // What was dropped lies in the driver's pool until the stream is waited for.
            let _ = self.finish();
        }
    }
}

fn grid(across: u32, down: u32, threads: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (across, down, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}
