//! A decoder on a CUDA device: the same pass as [`super::serving`]'s, over kernels of `kernel::cuda`.
//!
//! All that is on the device belongs to one pool, and the pool to the engine's thread: dropping it gives
//! everything back. After a fault of the device the engine makes a new pool, and with it a new context,
//! into which the checkpoint is read again.

mod adapters;
mod inputs;
mod layers;
mod matrices;
mod pass;
mod pool;
mod workspace;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::gguf::GgufFile;
use crate::kernel::RopeTable;
use crate::kernel::cuda::{Attention, Gpu, device_count};

use super::config::DecoderConfig;
use super::gguf::GgufTensors;
use super::serving::ServedStep;
use super::tensors::{TensorFiles, TensorSource};
use super::{Dtype, ModelError};
use layers::DeviceTensors;
pub use pool::CudaPool;

/// Reads all tensors from the checkpoint onto a device.
type Read = Box<dyn Fn(&Gpu, &DecoderConfig) -> Result<DeviceTensors, ModelError> + Send + Sync>;

/// Share of the free memory that the cache may take: the rest is for buffers that grow with the batch.
const CACHE_SHARE: (usize, usize) = (9, 10);

/// A decoder-only language model that is served by a CUDA device, in bf16 with sums in f32.
///
/// Invariant: what a row computes depends on its own sequence alone, never on the other rows of its
/// batch, nor on how it was cut into steps.
pub struct CudaDecoder {
    config: DecoderConfig,
    ordinal: usize,
    /// Width of a head in the cache.
    width: usize,
    ropes: Vec<RopeTable>,
    read: Read,
    /// What the first pool takes over: loaded early, so that errors come before the server is ready.
    loaded: Mutex<Option<Loaded>>,
    is_lost: AtomicBool,
    /// Bytes that were free when the tensors were in place.
    free_bytes: usize,
    device: String,
}

/// An open device with the tensors on it.
struct Loaded {
    gpu: Gpu,
    tensors: DeviceTensors,
}

impl CudaDecoder {
    /// Loads a checkpoint folder onto a device.
    ///
    /// # Errors
    /// A checkpoint that cannot be used, or a device that cannot, in a sentence that says what to do.
    pub fn load(dir: &Path, dtype: Dtype, ordinal: usize) -> Result<Self, ModelError> {
        refuse(dtype)?;
        let config = DecoderConfig::load(dir)?;
        let dir = dir.to_owned();
        let read = move |gpu: &Gpu, config: &DecoderConfig| {
            let mut files = TensorFiles::open(&dir)?;
            let tensors = DeviceTensors::read(gpu, config, &mut files)?;
            files.check_strays(config)?;
            Ok(tensors)
        };
        Self::new(config, ordinal, Box::new(read))
    }

    /// Loads a GGUF file onto a device; what it holds in blocks becomes bf16.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_gguf(path: &Path, dtype: Dtype, ordinal: usize) -> Result<Self, ModelError> {
        refuse(dtype)?;
        let config = DecoderConfig::of_gguf(&GgufFile::open(path)?)?;
        let path = path.to_owned();
        let read = move |gpu: &Gpu, config: &DecoderConfig| {
            let file = GgufFile::open(&path)?;
            let mut source = GgufTensors::new(&file, config);
            let tensors = DeviceTensors::read(gpu, config, &mut source)?;
            source.check_strays(config)?;
            Ok(tensors)
        };
        Self::new(config, ordinal, Box::new(read))
    }

    /// From any source of tensors, which is asked for anew after a fault of the device.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn build(
        config: DecoderConfig,
        ordinal: usize,
        source: impl Fn() -> Result<Box<dyn TensorSource>, ModelError> + Send + Sync + 'static,
    ) -> Result<Self, ModelError> {
        let read = move |gpu: &Gpu, config: &DecoderConfig| {
            DeviceTensors::read(gpu, config, source()?.as_mut())
        };
        Self::new(config, ordinal, Box::new(read))
    }

    fn new(config: DecoderConfig, ordinal: usize, read: Read) -> Result<Self, ModelError> {
        let width = Attention::width(config.head_dim).ok_or_else(|| {
            let head_dim = config.head_dim;
            fail(format!(
                "heads of {head_dim} are wider than 256, the most that a device serves"
            ))
        })?;
        let gpu = Gpu::open(ordinal)?;
        let tensors = read(&gpu, &config)?;
        let (free_bytes, _) = gpu.memory()?;
        Ok(Self {
            ropes: config.rope_tables(),
            config,
            ordinal,
            width,
            read,
            is_lost: AtomicBool::new(false),
            free_bytes,
            device: gpu.name().to_owned(),
            loaded: Mutex::new(Some(Loaded { gpu, tensors })),
        })
    }

    /// Whether there is a driver that tells of a device.
    #[must_use]
    pub fn has_device() -> bool {
        device_count().is_ok_and(|count| count > 0)
    }

    /// The decoder's shape and features.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// What its device is called.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Bytes that a pool needs for one token.
    pub fn token_bytes(&self) -> usize {
        let width = self.config.num_kv_heads * self.width;
        2 * self.config.num_layers() * width * size_of::<u16>()
    }

    /// Bytes of the device that a pool may take.
    pub fn pool_bytes(&self) -> usize {
        self.free_bytes / CACHE_SHARE.1 * CACHE_SHARE.0
    }

    /// Whether the device had a fault, after which nothing on it can be used any more. A new pool mends
    /// it.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// A pool for so many blocks, with all that is on the device.
    ///
    /// # Errors
    /// There is no room for it; or after a fault the device cannot be opened again, or the checkpoint
    /// cannot be read again.
    pub fn new_pool(&self, blocks: usize) -> Result<CudaPool, ModelError> {
        let early = self.loaded.lock().map_or(None, |mut loaded| loaded.take());
        let loaded = match early {
            Some(loaded) => loaded,
            None => {
                let gpu = Gpu::open(self.ordinal)?;
                let tensors = (self.read)(&gpu, &self.config)?;
                Loaded { gpu, tensors }
            }
        };
        let pool = CudaPool::new(loaded, self, blocks)?;
        self.is_lost.store(false, Ordering::Release);
        Ok(pool)
    }

    /// Continues each span after what its blocks hold, writes its tokens to them and to nothing else,
    /// and sets `logits` to those of the rows that draw, (draws, vocabulary).
    ///
    /// # Errors
    /// If the batch does not fit the model or the pool, or the device fails.
    pub fn step(
        &self,
        step: ServedStep<'_>,
        pool: &mut CudaPool,
        logits: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let outcome = pool.step(&self.config, step, logits);
        if let Err(ModelError::Cuda(error)) = &outcome
            && !error.is_harmless()
        {
            self.is_lost.store(true, Ordering::Release);
        }
        outcome
    }
}

/// Refuses numbers that a device does not compute in.
fn refuse(dtype: Dtype) -> Result<(), ModelError> {
    match dtype {
        Dtype::Auto | Dtype::Bf16 => Ok(()),
        other => Err(fail(format!(
            "`--dtype {other}` is served on the CPU only; a CUDA device computes in bf16, with sums in \
             f32: leave --dtype out, or use --device cpu"
        ))),
    }
}

fn fail(reason: String) -> ModelError {
    ModelError::Compute(candle_core::Error::Msg(reason))
}
