//! What one decoder is: every number and switch in which the families differ.

use std::path::Path;

use crate::kernel::Activation;

use super::ModelError;
use super::config_reader::ConfigReader;
use super::family::{self, Family};

/// A decoder's shape and features, read strictly from `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Which family's checkpoint layout it follows.
    pub family: Family,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Context length, in tokens.
    pub max_positions: usize,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f32,
    /// Added to norm weights: 1 for Gemma.
    pub norm_offset: f32,
    /// Function of the feed-forward gate.
    pub activation: Activation,
    /// Factor on embeddings: the root of the width for Gemma.
    pub embedding_scale: f32,
    /// Factor on query-key products.
    pub attention_scale: f32,
    /// Soft-cap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Soft-cap of logits.
    pub final_softcap: Option<f32>,
    /// The output embedding is the input embedding.
    pub tied: bool,
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias on the attention's output projection.
    pub output_bias: bool,
    /// Biases in the feed-forward layers.
    pub mlp_bias: bool,
    /// The rotary embeddings that layers choose from.
    pub ropes: Vec<RopeConfig>,
    /// Each layer's attention window and rotary embedding.
    pub layers: Vec<LayerConfig>,
    /// Tokens that end a sequence.
    pub eos_token_ids: Vec<u32>,
    /// Token that begins a sequence.
    pub bos_token_id: Option<u32>,
    /// Token used for padding elsewhere; never needed here.
    pub pad_token_id: Option<u32>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerConfig {
    /// A token sees this many tokens, itself included; all if absent.
    pub window: Option<usize>,
    /// Index into `DecoderConfig::ropes`.
    pub rope: usize,
}

/// One rotary embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Share of each head's dimensions that are rotated.
    pub rotated_share: f64,
    /// How frequencies are changed for contexts longer than trained.
    pub scaling: RopeScaling,
}

/// Changes of the rotary frequencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// None.
    Default,
    /// All frequencies divided by the factor (arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: long wavelengths divided, short ones kept, a smooth passage between.
    Llama3 {
        /// Divisor of the longest wavelengths.
        factor: f64,
        /// Wavelengths above `original / low` are divided in full.
        low: f64,
        /// Wavelengths below `original / high` are kept.
        high: f64,
        /// Context length before scaling.
        original: f64,
    },
}

impl RopeConfig {
    /// Radians a position for each pair of rotated dimensions.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let rotated = (head_dim as f64 * self.rotated_share) as usize / 2 * 2;
        (0..rotated / 2)
            .map(|i| {
                let plain = self.theta.powf(-((2 * i) as f64) / rotated as f64);
                // transformers tabulates in f32; rounding first keeps our angles equal to its
                self.scaling.apply(plain as f32 as f64) as f32
            })
            .collect()
    }
}

impl RopeScaling {
    fn apply(self, frequency: f64) -> f64 {
        match self {
            RopeScaling::Default => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                if wavelength > original / low {
                    frequency / factor
                } else if wavelength < original / high {
                    frequency
                } else {
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

impl DecoderConfig {
    /// Reads `config.json` of a checkpoint folder.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        let mut reader = ConfigReader::open(&dir.join("config.json"))?;
        let config = family::read(&mut reader)?;
        reader.finish()?;
        Ok(config)
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Checks the arithmetic that every family shares.
    pub(super) fn check(&self) -> Result<(), String> {
        let divides = self.num_heads.is_multiple_of(self.num_kv_heads);
        if !divides {
            let (q, kv) = (self.num_heads, self.num_kv_heads);
            return Err(format!(
                "{q} attention heads are not a multiple of {kv} key-value heads"
            ));
        }
        if self.layers.is_empty() || self.vocab_size == 0 || !self.head_dim.is_multiple_of(2) {
            return Err("needs at least one layer, one token and an even head_dim".into());
        }
        if let Some(id) = self
            .eos_token_ids
            .iter()
            .find(|id| **id as usize >= self.vocab_size)
        {
            return Err(format!(
                "eos token {id} is outside the vocabulary of {}",
                self.vocab_size
            ));
        }
        Ok(())
    }
}
