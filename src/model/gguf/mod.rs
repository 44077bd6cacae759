//! GGUF files as checkpoints: their tensors under the names of this program, their metadata as a
//! decoder's configuration.
//!
//! The converter of llama.cpp changes three things, which are undone or taken into account here:
//! it renames tensors, it reorders the rows of Llama's queries and keys for its own rotary
//! embedding, and it adds 1 to Gemma's norm weights.

mod config;
mod keys;
mod names;
mod ropes;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::config::DecoderConfig;
use super::dtype::Dtype;
use super::linear::LinearSettings;
use super::tensors::TensorSource;
use super::{Decoder, ModelError};
use crate::gguf::{BlockFormat, GgufFile, GgufTensor, dequantize, dequantize_into};
use crate::kernel::matmul::{Bits, Packing};

/// Tensors of the file that are not asked for by name: they are part of the configuration.
const ROPE_FREQUENCIES: &str = "rope_freqs.weight";

impl Decoder {
    /// Loads a GGUF file for serving. With [`Dtype::Auto`] quantised tensors stay so: Q4_0 and Q8_0
    /// are multiplied as they are, and the others in 8 bits.
    ///
    /// # Errors
    /// An architecture, a setting or a tensor that is not supported, named.
    pub fn load_gguf(file: &GgufFile, dtype: Dtype) -> Result<Self, ModelError> {
        let config = DecoderConfig::of_gguf(file)?;
        let settings = LinearSettings {
            packing: dtype.settle_gguf(file),
            as_stored: dtype == Dtype::Auto,
            gradients: false,
        };
        let mut source = GgufTensors::new(file, &config);
        let decoder = Self::assemble(config, &mut source, settings)?;
        source.check_strays(decoder.config())?;
        Ok(decoder)
    }
}

impl Dtype {
    /// What it comes to for the plain tensors of a file on this processor.
    fn settle_gguf(self, file: &GgufFile) -> Packing {
        let bytes = file.bytes_by_format().into_iter();
        let (mut all, mut bf16) = (0, 0);
        for (format, bytes) in bytes.filter(|(format, _)| !format.is_quantized()) {
            all += bytes;
            bf16 += if format == BlockFormat::Bf16 {
                bytes
            } else {
                0
            };
        }
        self.settle_bytes(all, bf16)
    }
}

/// The tensors of a GGUF file, under the names that a model folder gives them.
pub struct GgufTensors<'a> {
    file: &'a GgufFile,
    layout: names::Layout,
    taken: BTreeSet<String>,
}

impl<'a> GgufTensors<'a> {
    /// Of a file that holds a decoder of this shape.
    pub fn new(file: &'a GgufFile, config: &DecoderConfig) -> Self {
        Self {
            file,
            layout: names::Layout::of(config),
            taken: BTreeSet::new(),
        }
    }

    /// A tensor of the file that nobody has asked for.
    fn untouched(&self) -> Option<&str> {
        self.file
            .names()
            .find(|name| !self.taken.contains(*name) && *name != ROPE_FREQUENCIES)
    }

    /// Refuses tensors that nobody has asked for while a decoder of this shape was loaded.
    pub(super) fn check_strays(&self, config: &DecoderConfig) -> Result<(), ModelError> {
        match self.untouched() {
            None => Ok(()),
            Some(name) => Err(ModelError::Invalid {
                path: path_of(self.file).to_owned(),
                reason: format!(
                    "tensor `{name}` is no part of a {} decoder as the file's metadata describe it",
                    config.family.model_type()
                ),
            }),
        }
    }

    /// The stored tensor, its bytes in the order of this program's rows.
    fn find(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<(GgufTensor<'a>, Cow<'a, [u8]>), ModelError> {
        let invalid = |reason: String| ModelError::Tensor {
            name: name.to_owned(),
            reason,
        };
        let stored = self.layout.stored_name(name);
        let stored = stored.ok_or_else(|| invalid("has no place in a GGUF file".into()))?;
        let tensor = self
            .file
            .tensor(&stored)
            .ok_or_else(|| invalid(format!("is missing (as `{stored}`)")))?;
        if tensor.shape != shape {
            let found = tensor.shape;
            return Err(invalid(format!("has shape {found:?}, expected {shape:?}")));
        }
        let bytes = match self.layout.reordered_heads(name) {
            None => Cow::Borrowed(tensor.bytes),
            Some(heads) => Cow::Owned(in_halves(tensor.bytes, shape[0], heads)),
        };
        self.taken.insert(stored);
        Ok((tensor, bytes))
    }
}

/// Rows of heads whose rotated pairs are neighbours, as rows of heads whose pairs are half a head
/// apart. A row is `bytes / rows` bytes, whatever it holds.
fn in_halves(bytes: &[u8], rows: usize, heads: usize) -> Vec<u8> {
    let (width, head) = (bytes.len() / rows, rows / heads);
    let mut out = Vec::with_capacity(bytes.len());
    for row in 0..rows {
        let (first, place) = (row / head * head, row % head);
        let (half, pair) = (place / (head / 2), place % (head / 2));
        let from = (first + 2 * pair + half) * width;
        out.extend_from_slice(&bytes[from..from + width]);
    }
    out
}

impl TensorSource for GgufTensors<'_> {
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let (tensor, bytes) = self.find(name, shape)?;
        let values = dequantize(tensor.format, &bytes);
        Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
    }

    fn has(&self, name: &str) -> bool {
        let stored = self.layout.stored_name(name);
        stored.is_some_and(|stored| self.file.tensor(&stored).is_some())
    }

    fn rows(
        &mut self,
        (name, shape): (&str, [usize; 2]),
        rows: Range<usize>,
        to: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let (tensor, bytes) = self.find(name, &shape)?;
        let row = bytes.len() / shape[0];
        let part = rows.start * row..rows.end * row;
        dequantize_into(tensor.format, &bytes[part.clone()], to);
        // Only now and then are rows of a file in another order: then the whole tensor was read.
        self.file.let_go(match bytes {
            Cow::Borrowed(bytes) => &bytes[part],
            Cow::Owned(_) => tensor.bytes,
        });
        Ok(())
    }

    fn packing(&self, name: &str) -> Option<Packing> {
        let tensor = self.file.tensor(&self.layout.stored_name(name)?)?;
        match tensor.format {
            BlockFormat::F32 | BlockFormat::F16 | BlockFormat::Bf16 => None,
            // The same numbers as in the file.
            BlockFormat::Q4_0 => Some(Packing::Blocks(Bits::Four)),
            // The same too if it is Q8_0, else rounded to 8 bits once more.
            _ => Some(Packing::Blocks(Bits::Eight)),
        }
    }
}

/// Where a file lies, for errors of its configuration.
fn path_of(file: &GgufFile) -> &Path {
    file.metadata().path()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_are_neighbours_come_apart_by_half_a_head() {
        // two heads of six rows of one byte: the converter has written (0 3) (1 4) (2 5)
        let stored = [0, 3, 1, 4, 2, 5, 10, 13, 11, 14, 12, 15];
        let expected = [0, 1, 2, 3, 4, 5, 10, 11, 12, 13, 14, 15];
        assert_eq!(in_halves(&stored, 12, 2), expected);
    }
}
