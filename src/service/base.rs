//! The base model as it is served: by the processor, or by a CUDA device.

use std::sync::Arc;

use super::error::LoadError;
use super::weights::Weights;
use crate::engine::{EngineConfig, EngineError, EngineHandle};
#[cfg(feature = "cuda")]
use crate::model::CudaDecoder;
#[cfg(not(feature = "cuda"))]
use crate::model::NotBuilt;
use crate::model::{Decoder, DecoderConfig, Device, Dtype};

/// A loaded base.
pub(super) enum Base {
    /// On the processor.
    Cpu(Arc<Decoder>),
    /// On a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Arc<CudaDecoder>),
}

impl Base {
    /// Loads a base where it is to be served.
    ///
    /// # Errors
    /// It cannot be read, is not supported, or there is no such device.
    pub(super) fn load(weights: &Weights, dtype: Dtype, device: Device) -> Result<Self, LoadError> {
        match device {
            Device::Cpu => Ok(Self::Cpu(Arc::new(weights.decoder(dtype)?))),
            #[cfg(feature = "cuda")]
            Device::Auto => match CudaDecoder::has_device() {
                true => Self::on_device(weights, dtype, 0),
                false => {
                    tracing::info!("no CUDA device is here: the base is on the processor");
                    Self::load(weights, dtype, Device::Cpu)
                }
            },
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Self::on_device(weights, dtype, ordinal),
            #[cfg(not(feature = "cuda"))]
            Device::Auto => {
                tracing::info!("built without CUDA: the base is on the processor");
                Self::load(weights, dtype, Device::Cpu)
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => Err(LoadError::Device(NotBuilt)),
        }
    }

    #[cfg(feature = "cuda")]
    fn on_device(weights: &Weights, dtype: Dtype, ordinal: usize) -> Result<Self, LoadError> {
        let decoder = weights.device_decoder(dtype, ordinal)?;
        tracing::info!(
            device = decoder.device(),
            ordinal,
            "the base is on a CUDA device"
        );
        Ok(Self::Cuda(Arc::new(decoder)))
    }

    /// Its shape and features.
    pub(super) fn config(&self) -> &DecoderConfig {
        match self {
            Self::Cpu(decoder) => decoder.config(),
            #[cfg(feature = "cuda")]
            Self::Cuda(decoder) => decoder.config(),
        }
    }

    /// In what numbers its linear layers multiply.
    pub(super) fn numbers(&self) -> &'static str {
        match self {
            Self::Cpu(decoder) => decoder.packing().name(),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "bf16",
        }
    }

    /// What tells its bits from those that the same tensors give elsewhere.
    pub(super) fn arithmetic(&self) -> &'static str {
        match self {
            Self::Cpu(_) => self.numbers(),
            #[cfg(feature = "cuda")]
            Self::Cuda(_) => "cuda bf16",
        }
    }

    /// Starts an engine over it.
    ///
    /// # Errors
    /// Bounds under which nobody could be served, or no thread for it.
    pub(super) fn start(&self, config: EngineConfig) -> Result<EngineHandle, EngineError> {
        match self {
            Self::Cpu(decoder) => EngineHandle::start(Arc::clone(decoder), config),
            #[cfg(feature = "cuda")]
            Self::Cuda(decoder) => {
                let room = decoder.pool_bytes() / decoder.token_bytes();
                if let Some(tokens) = config.kv_tokens
                    && tokens > room
                {
                    return Err(EngineError::Config(format!(
                        "kv_tokens is {tokens}, but the device has room for {room}"
                    )));
                }
                EngineHandle::start(Arc::clone(decoder), config)
            }
        }
    }
}
