//! Devices by OpenCL 1.2.
use std::ops::Range;
use std::ptr;

use opencl3::command_queue::CommandQueue;
use opencl3::context::Context;
use opencl3::device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_CPU, Device as ClDevice};
use opencl3::error_codes::{CL_PLATFORM_NOT_FOUND_KHR, ClError, DLOPEN_RUNTIME_LOAD_FAILED};
use opencl3::kernel::{ExecuteKernel, Kernel};
use opencl3::memory::{Buffer, CL_MEM_READ_WRITE};
use opencl3::platform::get_platforms;
use opencl3::program::Program;
use opencl3::types::CL_BLOCKING;

use crate::backend::{Limits, Products, Shape, Tile};
use crate::quiet::Quiet;
use crate::{Device, GpuError, Kind, KnnBackend};

/// Threads of the kernels' groups; `dots.c` is written for so many.
const DOTS_THREADS: usize = 256;
const DOTS_SIDE: usize = 64;
const SELECT_THREADS: usize = 128;
/// Keys that a group sorts: `K_MAX` and as many candidates.
const SELECT_SIZE: usize = 512;
/// Local memory that the kernels take: two squares of 16 × 64 floats, less than the keys and a counter.
const LOCAL_BYTES: u64 = 8192 + 64;

/// One text: cl3 0.13 hands a list of several to the driver as if Rust's strings were C's.
const SOURCE: &str = concat!(
    include_str!("kernels/opencl.h"),
    include_str!("kernels/select.c"),
    include_str!("kernels/dots.c")
);

fn failed<E: std::fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> GpuError {
    move |error| GpuError::Driver { kind: Kind::OpenCl, doing, reason: error.to_string() }
}

/// All devices of all platforms that can run the kernels.
pub(crate) fn devices() -> Result<Vec<Device>, GpuError> {
    let mut unfit = None;
    let mut fit = Vec::new();
    for (index, device) in all()?.into_iter().enumerate() {
        match describe(&device, index) {
            Ok(device) => fit.push(device),
            Err(error) => unfit = Some(error),
        }
    }
    // Processors last: they are taken if nothing else is there, and somebody asks for it.
    fit.sort_by_key(|device| (device.is_processor, device.index));
    match unfit {
        Some(error) if fit.is_empty() => Err(error),
        _ => Ok(fit),
    }
}

fn all() -> Result<Vec<ClDevice>, GpuError> {
    let mut devices = Vec::new();
    let platforms = match get_platforms() {
        Err(ClError(DLOPEN_RUNTIME_LOAD_FAILED)) => {
            let package = "ocl-icd-libopencl1, and a driver of the device's maker (or pocl-opencl-icd, to try it on \
                           the processor)";
            return Err(GpuError::NoLibrary { library: "libOpenCL.so.1", package });
        }
        // A loader that finds no driver.
        Err(ClError(CL_PLATFORM_NOT_FOUND_KHR)) => return Ok(devices),
        platforms => platforms.map_err(failed("list platforms"))?,
    };
    for platform in platforms {
        // One without devices says so with an error.
        let ids = platform.get_devices(CL_DEVICE_TYPE_ALL).unwrap_or_default();
        devices.extend(ids.into_iter().map(ClDevice::new));
    }
    Ok(devices)
}

fn describe(device: &ClDevice, index: usize) -> Result<Device, GpuError> {
    let ask = || -> Result<(Device, bool), ClError> {
        let fits = device.available()?
            && device.compiler_available()?
            && device.endian_little()?
            && device.max_work_group_size()? >= DOTS_THREADS
            && device.local_mem_size()? >= LOCAL_BYTES;
        let found = Device {
            kind: Kind::OpenCl,
            index,
            name: device.name()?.trim().to_string(),
            driver: device.driver_version()?,
            bytes: usize::try_from(device.global_mem_size()?).unwrap_or(usize::MAX),
            is_processor: device.dev_type()? & CL_DEVICE_TYPE_CPU != 0,
        };
        Ok((found, fits))
    };
    match ask().map_err(failed("ask a device what it is"))? {
        (found, true) => Ok(found),
        (found, false) => {
            let reason = format!(
                "it must be available, little-endian, have a compiler, groups of {DOTS_THREADS} and {LOCAL_BYTES} \
                 bytes of local memory"
            );
            Err(GpuError::Unfit { device: found.name, reason })
        }
    }
}

/// Points of a slot, and the squares of their lengths.
struct Slot {
    points: Quiet<Buffer<f32>>,
    squares: Quiet<Buffer<f32>>,
}

/// What `begin` allocates.
struct Memory {
    shape: Shape,
    slots: Vec<Slot>,
    lists: Quiet<Buffer<u64>>,
    products: Quiet<Buffer<f32>>,
}

/// A device that is driven by OpenCL.
pub(crate) struct OpenCl {
    device: Device,
    limits: Limits,
    // Dropped in this order: what lies in the context, then the context.
    memory: Option<Memory>,
    dots: Quiet<Kernel>,
    select: Quiet<Kernel>,
    clear: Quiet<Kernel>,
    queue: Quiet<CommandQueue>,
    _program: Quiet<Program>,
    context: Quiet<Context>,
}

impl OpenCl {
    pub(crate) fn open(device: &Device) -> Result<OpenCl, GpuError> {
        let cl = all()?.into_iter().nth(device.index).ok_or(GpuError::NoDevice { kind: Kind::OpenCl })?;
        let limits = limits(&cl).map_err(failed("ask for memory"))?;
        let context = Quiet::new(Context::from_device(&cl).map_err(failed("make a context"))?);
        // In order: each command sees what those before it have written.
        let queue = CommandQueue::create_default(&context, 0).map_err(failed("make a queue"))?;
        let queue = Quiet::new(queue);
        let options = format!("-DSELECT_THREADS={SELECT_THREADS} -DSELECT_SIZE={SELECT_SIZE} -cl-std=CL1.2");
        let program = Program::create_and_build_from_source(&context, SOURCE, &options)
            .map_err(failed("compile kernels"))?;
        let program = Quiet::new(program);
        let kernel = |name| {
            let kernel = Quiet::new(Kernel::create(&program, name).map_err(failed("find a kernel"))?);
            Ok::<_, GpuError>(kernel)
        };
        Ok(OpenCl {
            device: device.clone(),
            limits,
            memory: None,
            dots: kernel("dots")?,
            select: kernel("select_nearest")?,
            clear: kernel("clear_lists")?,
            queue,
            _program: program,
            context,
        })
    }

    fn buffer<T>(&self, count: usize) -> Result<Quiet<Buffer<T>>, GpuError> {
        // SAFETY: without a host pointer the driver allocates, and takes no memory of ours; `T` is f32 or u64, for
        // which any bytes will do.
        let buffer =
            unsafe { Buffer::create(&self.context, CL_MEM_READ_WRITE, count.max(1), ptr::null_mut()) };
        Ok(Quiet::new(buffer.map_err(failed("allocate device memory"))?))
    }

    fn memory(&mut self) -> Result<(&mut Memory, &CommandQueue), GpuError> {
        let memory = self.memory.as_mut().ok_or_else(|| failed("work")("begin comes first"))?;
        Ok((memory, &self.queue))
    }

    fn finish(&self) -> Result<(), GpuError> {
        self.queue.finish().map_err(failed("run kernels"))
    }
}

/// OpenCL doesn't tell what is free. Where the device has the processor's memory others need it more.
fn limits(device: &ClDevice) -> Result<Limits, ClError> {
    let whole = device.global_mem_size()?;
    let bytes = if device.host_unified_memory()? { whole / 4 } else { whole / 4 * 3 };
    let clamp = |bytes| usize::try_from(bytes).unwrap_or(usize::MAX);
    Ok(Limits { bytes: clamp(bytes), buffer_bytes: clamp(device.max_mem_alloc_size()?.min(bytes)) })
}

impl KnnBackend for OpenCl {
    fn device(&self) -> &Device {
        &self.device
    }

    fn products(&self) -> Products {
        Products { by: "our own kernel", slow_because: None }
    }

    fn limits(&self) -> Result<Limits, GpuError> {
        Ok(self.limits)
    }

    fn begin(&mut self, shape: Shape) -> Result<(), GpuError> {
        self.end();
        let slot = |_| {
            let points = self.buffer(shape.slot_points * shape.dim)?;
            Ok(Slot { points, squares: self.buffer(shape.slot_points)? })
        };
        let memory = Memory {
            shape,
            slots: (0..shape.slots).map(slot).collect::<Result<_, GpuError>>()?,
            lists: self.buffer(shape.slot_points * shape.k)?,
            products: self.buffer(shape.tile_queries * shape.tile_rows)?,
        };
        self.memory = Some(memory);
        Ok(())
    }

    fn upload(&mut self, slot: usize, at: usize, points: &[f32], squares: &[f32]) -> Result<(), GpuError> {
        let (memory, queue) = self.memory()?;
        let Shape { dim, slot_points, .. } = memory.shape;
        assert!(points.len() == squares.len() * dim && at + squares.len() <= slot_points);
        let slot = &mut memory.slots[slot];
        // SAFETY: both writes end inside their buffers, as was just asserted, and block until `points` and `squares`
        // have been read.
        let events = unsafe {
            let places = queue.enqueue_write_buffer(&mut slot.points, CL_BLOCKING, at * dim * 4, points, &[]);
            [places, queue.enqueue_write_buffer(&mut slot.squares, CL_BLOCKING, at * 4, squares, &[])]
        };
        events
            .into_iter()
            .try_for_each(|event| event.map(|event| drop(Quiet::new(event))))
            .map_err(failed("copy to the device"))
    }

    fn clear(&mut self) -> Result<(), GpuError> {
        let Some(Memory { shape, lists, .. }) = &self.memory else { return Ok(()) };
        let count = (shape.slot_points * shape.k) as u64;
        // SAFETY: the arguments are the kernel's, in its order; it writes to `count` keys, which are there.
        let event = unsafe {
            ExecuteKernel::new(&self.clear)
                .set_arg(&lists.get_mem())
                .set_arg(&count)
                .set_global_work_size((count as usize).next_multiple_of(SELECT_THREADS))
                .set_local_work_size(SELECT_THREADS)
                .enqueue_nd_range(&self.queue)
        };
        drop(Quiet::new(event.map_err(failed("empty lists"))?));
        self.finish()
    }

    fn compare(&mut self, tile: &Tile) -> Result<(), GpuError> {
        let Some(Memory { shape, slots, lists, products }) = &self.memory else { return Ok(()) };
        let fits = |range: &Range<usize>, most| range.end <= shape.slot_points && range.len() <= most;
        assert!(fits(&tile.queries, shape.tile_queries) && fits(&tile.rows, shape.tile_rows));
        let (queries, rows) = (&slots[0], &slots[tile.row_slot]);
        let [dim, k, stride] = [shape.dim, shape.k, shape.tile_rows].map(|x| x as u32);
        let [query_at, query_count, query_first] =
            [tile.queries.start, tile.queries.len(), tile.queries_first].map(|x| x as u32);
        let [row_at, row_count, row_first] =
            [tile.rows.start, tile.rows.len(), tile.rows_first].map(|x| x as u32);
        // SAFETY: the arguments are the kernels', in their order and types. `dots` reads `dim` components of each
        // place of the tile, all inside slots, and writes below `tile_queries × tile_rows`; `select_nearest` reads
        // what `dots` wrote and the lists of the queries. Groups have the threads that they are written for.
        let events = unsafe {
            let dots = ExecuteKernel::new(&self.dots)
                .set_arg(&queries.points.get_mem())
                .set_arg(&rows.points.get_mem())
                .set_arg(&products.get_mem())
                .set_arg(&dim)
                .set_arg(&stride)
                .set_arg(&query_at)
                .set_arg(&query_count)
                .set_arg(&row_at)
                .set_arg(&row_count)
                .set_global_work_sizes(&[
                    tile.rows.len().div_ceil(DOTS_SIDE) * DOTS_THREADS,
                    tile.queries.len().div_ceil(DOTS_SIDE),
                ])
                .set_local_work_sizes(&[DOTS_THREADS, 1])
                .enqueue_nd_range(&self.queue);
            let select = ExecuteKernel::new(&self.select)
                .set_arg(&products.get_mem())
                .set_arg(&queries.squares.get_mem())
                .set_arg(&rows.squares.get_mem())
                .set_arg(&lists.get_mem())
                .set_arg(&k)
                .set_arg(&stride)
                .set_arg(&row_count)
                .set_arg(&query_at)
                .set_arg(&query_first)
                .set_arg(&row_at)
                .set_arg(&row_first)
                .set_global_work_size(tile.queries.len() * SELECT_THREADS)
                .set_local_work_size(SELECT_THREADS)
                .enqueue_nd_range(&self.queue);
            [dots, select]
        };
        for event in events {
            drop(Quiet::new(event.map_err(failed("start kernels"))?));
        }
        // Drivers may keep commands back until somebody waits.
        self.queue.flush().map_err(failed("start kernels"))
    }

    fn wait(&mut self) -> Result<(), GpuError> {
        self.finish()
    }

    fn read(&mut self, queries: Range<usize>, lists: &mut [u64]) -> Result<(), GpuError> {
        let (memory, queue) = self.memory()?;
        let Shape { k, slot_points, .. } = memory.shape;
        assert!(queries.end <= slot_points && lists.len() == queries.len() * k);
        // SAFETY: it reads inside the buffer, as was just asserted, and blocks until `lists` is written.
        let event = unsafe {
            queue.enqueue_read_buffer(&memory.lists, CL_BLOCKING, queries.start * k * 8, lists, &[])
        };
        drop(Quiet::new(event.map_err(failed("copy from the device"))?));
        Ok(())
    }

    fn end(&mut self) {
        if let Some(memory) = self.memory.take() {
            // After an error kernels may still be at work.
            let _ = self.finish();
            drop(memory);
        }
    }
}

/// The handle that a kernel's argument is.
trait GetMem {
    fn get_mem(&self) -> opencl3::types::cl_mem;
}

impl<T> GetMem for Quiet<Buffer<T>> {
    fn get_mem(&self) -> opencl3::types::cl_mem {
        opencl3::memory::ClMem::get(&**self)
    }
}
