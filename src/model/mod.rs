//! One decoder, parametrised by family; its tensors, adapters and cache; sequence classifiers.

mod batch;
pub mod classifier;
mod config;
mod config_reader;
#[cfg(feature = "cuda")]
mod cuda;
mod decoder;
mod device;
mod dtype;
mod embedding;
mod error;
mod family;
mod gguf;
mod init;
mod kv;
mod layer;
mod linear;
mod lora;
mod lora_config;
mod lora_mix;
mod save;
mod serving;
mod tensors;

pub use crate::kernel::BLOCK_TOKENS;
pub use crate::kernel::matmul::{Packing, Precision};
pub use batch::{ForwardBatch, Span};
pub use config::{DecoderConfig, LayerConfig, RopeConfig, RopeScaling};
#[cfg(feature = "cuda")]
pub use cuda::{CudaDecoder, CudaPool};
pub use decoder::{Decoder, LayerTape};
pub use device::{Device, NotBuilt, UnknownDevice};
pub use dtype::{Dtype, UnknownDtype};
pub use error::ModelError;
pub use family::Family;
pub use gguf::GgufTensors;
pub use init::TrainableTensors;
pub use kv::{BlockId, KvPool};
pub use lora::{LoraAdapter, LoraSettings};
pub use lora_mix::AdapterMix;
pub use save::{save_tensors, write_atomically};
pub use serving::ServedStep;
pub use tensors::{TensorFiles, TensorSource};
