//! One device: its context, its one stream and its kernels.

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaModule, CudaStream, LaunchConfig, sys};
use cudarc::nvrtc::Ptx;

use super::CudaError;

/// The kernels as nvcc compiled them, for several architectures each.
const MODULES: [&[u8]; 4] = [
    include_bytes!(concat!(env!("OUT_DIR"), "/attention.fatbin")),
    include_bytes!(concat!(env!("OUT_DIR"), "/low_rank.fatbin")),
    include_bytes!(concat!(env!("OUT_DIR"), "/product.fatbin")),
    include_bytes!(concat!(env!("OUT_DIR"), "/rows.fatbin")),
];

/// Kernels whose names do not depend on the model.
const KERNELS: [&str; 10] = [
    "embed",
    "join",
    "gate",
    "cap",
    "product_8",
    "product_16",
    "product_wide",
    "product_sum",
    "low_rank_down",
    "low_rank_up",
];

/// A device with a context of its own. Used by one thread at a time; dropped, it gives everything back,
/// also after a fault.
pub struct Gpu {
    pub(super) context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
    modules: Vec<Arc<CudaModule>>,
    kernels: HashMap<&'static str, CudaFunction>,
    multiprocessors: usize,
    name: String,
}

/// How many devices there are; none without a driver.
///
/// # Errors
/// There is a driver, and it does not start.
pub fn device_count() -> Result<usize, CudaError> {
    if !has_driver() {
        return Ok(0);
    }
    cudarc::driver::result::init().map_err(|error| CudaError::Init {
        name: super::error::name(error),
    })?;
    let count = CudaContext::device_count().map_err(CudaError::driver("count devices"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Whether libcuda is here. Without it every other call of the driver would panic.
fn has_driver() -> bool {
    // SAFETY: loads the driver's library, whose initialisers are made to be run by any program.
    unsafe { sys::is_culib_present() }
}

impl Gpu {
    /// Opens a device by its number.
    ///
    /// # Errors
    /// No driver, no such device, or one that is too old, each in a sentence that says what to do.
    pub fn open(ordinal: usize) -> Result<Self, CudaError> {
        if !has_driver() {
            return Err(CudaError::NoDriver);
        }
        let count = device_count()?;
        if ordinal >= count {
            return Err(CudaError::NoDevice { ordinal, count });
        }
        // Not the process's primary context: after a fault this one is destroyed and another made.
        let context =
            CudaContext::new_non_primary(ordinal, 0).map_err(CudaError::driver("open a device"))?;
        // SAFETY: there is one stream, so nothing needs an event to wait for.
        unsafe { context.disable_event_tracking() };
        let device = context.name().map_err(CudaError::driver("name a device"))?;
        let capability = context.compute_capability();
        let (major, minor) = capability.map_err(CudaError::driver("describe a device"))?;
        if major < 8 {
            return Err(CudaError::TooOld {
                device,
                major,
                minor,
            });
        }
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let multiprocessors = context.attribute(attribute);
        let multiprocessors = multiprocessors.map_err(CudaError::driver("describe a device"))?;
        let stream = context
            .new_stream()
            .map_err(CudaError::driver("open a stream"))?;
        let modules = MODULES.map(|image| context.load_module(Ptx::from_binary(image.to_vec())));
        let modules: Result<Vec<_>, _> = modules.into_iter().collect();
        let modules = modules.map_err(CudaError::driver("load the kernels"))?;
        let mut gpu = Self {
            context,
            stream,
            modules,
            kernels: HashMap::new(),
            multiprocessors: usize::try_from(multiprocessors).unwrap_or(1),
            name: device,
        };
        for name in KERNELS {
            let kernel = gpu.find(name)?;
            gpu.kernels.insert(name, kernel);
        }
        Ok(gpu)
    }

    /// A kernel by its name.
    pub(super) fn find(&self, name: &str) -> Result<CudaFunction, CudaError> {
        // This thread may be another than the one that opened the device.
        self.bind()?;
        for module in &self.modules {
            match module.load_function(name) {
                Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => {}
                found => return found.map_err(CudaError::driver("find a kernel")),
            }
        }
        Err(CudaError::Driver {
            doing: "find a kernel",
            name: format!("`{name}` is in none of this program's modules"),
        })
    }

    /// A kernel of [`KERNELS`].
    pub(super) fn kernel(&self, name: &'static str) -> &CudaFunction {
        &self.kernels[name]
    }

    /// What the device is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many blocks of threads run at once, at least.
    pub fn multiprocessors(&self) -> usize {
        self.multiprocessors
    }

    /// Bytes that are free, and bytes there are.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        let memory = self.context.mem_get_info();
        memory.map_err(CudaError::driver("tell its free memory"))
    }

    /// Waits until all that was launched has run, and says whether it could.
    pub fn wait(&self) -> Result<(), CudaError> {
        let waited = self.stream.synchronize();
        waited.map_err(CudaError::driver("run what was launched"))
    }
}

/// A launch of blocks of `threads`.
pub(super) fn shape(grid: [usize; 3], threads: u32, shared_bytes: usize) -> LaunchConfig {
    let [x, y, z] = grid.map(|size| u32::try_from(size).unwrap_or(u32::MAX));
    LaunchConfig {
        grid_dim: (x, y, z),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: u32::try_from(shared_bytes).unwrap_or(u32::MAX),
    }
}

/// Launches a kernel. Unsafe: the arguments are what the kernel takes, in order, and what it reaches by
/// them is there.
macro_rules! launch {
    ($gpu:expr, $kernel:expr, $shape:expr, $($argument:expr),+ $(,)?) => {{
        use cudarc::driver::PushKernelArg;
        // One expression: the arguments are borrowed until they are copied by the launch.
        let launched = $gpu
            .stream
            .launch_builder($kernel)
            $(.arg(&$argument))+
            .launch($shape);
        launched.map(|_| ()).map_err($crate::kernel::cuda::CudaError::driver("launch a kernel"))
    }};
}
pub(super) use launch;
