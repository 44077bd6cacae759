//! What one decoder is: every number and switch in which the families differ.

use std::path::Path;
use std::sync::Arc;

use crate::gguf::is_gguf;
use crate::kernel::{Activation, AttentionShape, RopeTable};

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
    /// Index into `DecoderConfig::ropes`; none leaves queries and keys as they are (SmolLM3).
    pub rope: Option<usize>,
}

/// One rotary embedding.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the geometric series of wavelengths.
    pub theta: f64,
    /// Share of each head's dimensions that are rotated.
    pub rotated_share: f64,
    /// How frequencies are changed for contexts longer than trained.
    pub scaling: RopeScaling,
}

/// Changes of the rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
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
    /// YaRN (arXiv 2309.00071): by how often a dimension turns within the original context, fast
    /// ones kept, slow ones divided, and all products scaled up.
    Yarn(Yarn),
    /// Each frequency divided by its own factor, as GGUF files write Llama 3's.
    Divided(Arc<[f32]>),
}

/// YaRN's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    /// The divisor.
    pub factor: f64,
    /// Context length before scaling.
    pub original: f64,
    /// Turns above which a dimension is kept.
    pub beta_fast: f64,
    /// Turns below which a dimension is divided in full.
    pub beta_slow: f64,
    /// Factor on cosines and sines.
    pub amplitude: f64,
}

impl Yarn {
    /// The factor on cosines and sines where the file names none.
    pub(super) fn usual_amplitude(factor: f64, mscale: f64) -> f64 {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * mscale * factor.ln() + 1.0
        }
    }

    /// The frequency of pair `i` of `rotated / 2`, given the plain one.
    fn apply(&self, frequency: f64, i: usize, rotated: usize, theta: f64) -> f64 {
        let dimension = |turns: f64| {
            let longest = self.original / (turns * 2.0 * std::f64::consts::PI);
            rotated as f64 * longest.ln() / (2.0 * theta.ln())
        };
        let low = dimension(self.beta_fast).floor().max(0.0);
        let high = dimension(self.beta_slow).ceil().min(rotated as f64 - 1.0);
        let width = if high == low { 0.001 } else { high - low };
        let slow = ((i as f64 - low) / width).clamp(0.0, 1.0);
        frequency / self.factor * slow + frequency * (1.0 - slow)
    }
}

/// Longest context: every position up to it is a number that single precision holds.
const MAX_POSITIONS: usize = 1 << 24;

impl RopeConfig {
    /// Refuses what would rotate by no number.
    fn check(&self, head_dim: usize) -> Result<(), String> {
        if !self.theta.is_finite() || self.theta <= 0.0 {
            let theta = self.theta;
            return Err(format!("rope_theta is {theta}, expected a number above 0"));
        }
        let frequencies = self.inverse_frequencies(head_dim);
        match self.amplitude().is_finite() && frequencies.iter().all(|f| f.is_finite()) {
            true => Ok(()),
            false => Err(format!(
                "the rope scaling {:?} makes frequencies that are no numbers",
                self.scaling
            )),
        }
    }

    /// Factor on cosines and sines.
    pub fn amplitude(&self) -> f32 {
        match &self.scaling {
            RopeScaling::Yarn(yarn) => yarn.amplitude as f32,
            _ => 1.0,
        }
    }

    /// Radians a position for each pair of rotated dimensions.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let rotated = (head_dim as f64 * self.rotated_share) as usize / 2 * 2;
        (0..rotated / 2)
            .map(|i| {
                let plain = self.theta.powf(-((2 * i) as f64) / rotated as f64);
                // transformers tabulates in f32; rounding first keeps our angles equal to its
                let plain = plain as f32 as f64;
                match &self.scaling {
                    RopeScaling::Yarn(yarn) => yarn.apply(plain, i, rotated, self.theta) as f32,
                    RopeScaling::Divided(factors) => (plain / f64::from(factors[i])) as f32,
                    other => other.apply(plain) as f32,
                }
            })
            .collect()
    }
}

impl RopeScaling {
    fn apply(&self, frequency: f64) -> f64 {
        match *self {
            RopeScaling::Default | RopeScaling::Yarn(_) | RopeScaling::Divided(_) => frequency,
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
        if is_gguf(dir) {
            return Err(ModelError::Unsupported {
                path: dir.to_owned(),
                feature: "a GGUF file where a model folder is needed".to_owned(),
                supported: "GGUF files can be served, not trained: use the safetensors checkpoint"
                    .to_owned(),
            });
        }
        let mut reader = ConfigReader::open(&dir.join("config.json"))?;
        let config = family::read(&mut reader)?;
        reader.finish()?;
        Ok(config)
    }

    /// What a layer's attention computes.
    pub(super) fn attention_shape(&self, layer: usize) -> AttentionShape {
        AttentionShape {
            heads: self.num_heads,
            kv_heads: self.num_kv_heads,
            head_dim: self.head_dim,
            scale: self.attention_scale,
            window: self.layers[layer].window,
            softcap: self.attention_softcap,
        }
    }

    /// The rotary embeddings of every position.
    pub(super) fn rope_tables(&self) -> Vec<RopeTable> {
        let tables = self.ropes.iter().map(|rope| {
            let frequencies = rope.inverse_frequencies(self.head_dim);
            RopeTable::new(&frequencies, self.max_positions, rope.amplitude())
        });
        tables.collect()
    }

    /// Path, outputs and inputs of every linear layer that an adapter can change.
    pub fn linear_modules(&self) -> Vec<(String, usize, usize)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_heads * self.head_dim;
        let keys = self.num_kv_heads * self.head_dim;
        let each: Vec<(&str, usize, usize)> = if self.family.has_fused_projections() {
            vec![
                ("self_attn.qkv_proj", queries + 2 * keys, hidden),
                ("self_attn.o_proj", hidden, queries),
                ("mlp.gate_up_proj", 2 * inner, hidden),
                ("mlp.down_proj", hidden, inner),
            ]
        } else {
            vec![
                ("self_attn.q_proj", queries, hidden),
                ("self_attn.k_proj", keys, hidden),
                ("self_attn.v_proj", keys, hidden),
                ("self_attn.o_proj", hidden, queries),
                ("mlp.gate_proj", inner, hidden),
                ("mlp.up_proj", inner, hidden),
                ("mlp.down_proj", hidden, inner),
            ]
        };
        (0..self.num_layers())
            .flat_map(|layer| {
                each.iter().map(move |(name, outputs, inputs)| {
                    (format!("model.layers.{layer}.{name}"), *outputs, *inputs)
                })
            })
            .collect()
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
        if !(1..=MAX_POSITIONS).contains(&self.max_positions) {
            return Err(format!(
                "max_position_embeddings is {}, expected 1 to {MAX_POSITIONS}",
                self.max_positions
            ));
        }
        self.ropes
            .iter()
            .try_for_each(|rope| rope.check(self.head_dim))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yarn_keeps_fast_dimensions_and_divides_slow_ones() {
        // head_dim 8, theta 1e4: plain frequencies 1, 0.1, 0.01, 0.001. With an original context
        // of 64, 32 turns are made by pair -0.5 and 1 turn by pair 1.01: the ramp runs from 0 to 2.
        let yarn = Yarn {
            factor: 4.0,
            original: 64.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            amplitude: Yarn::usual_amplitude(4.0, 1.0),
        };
        let rope = RopeConfig {
            theta: 1e4,
            rotated_share: 1.0,
            scaling: RopeScaling::Yarn(yarn),
        };
        let expected = [1.0, 0.1 * (0.5 + 0.5 / 4.0), 0.01 / 4.0, 0.001 / 4.0];
        for (found, expected) in rope.inverse_frequencies(8).iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6 * expected, "{found}");
        }
        assert!((rope.amplitude() - 1.138_629_4).abs() < 1e-6);
    }
}
