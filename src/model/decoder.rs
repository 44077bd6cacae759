//! The decoder: token ids in, hidden states and logits out; one definition for serving and
//! training.

mod recompute;

use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;

use crate::kernel::matmul::{Packing, Precision};
use crate::kernel::sublayer::Stack;
use crate::kernel::{BufferPool, HeadSettings, RopeTable, SpanRange, token_logprobs};
use crate::types::TokenId;

use super::ModelError;
use super::batch::{ForwardBatch, Segment};
use super::config::DecoderConfig;
use super::dtype::Dtype;
use super::embedding::Embedding;
use super::kv::{KvNumbers, KvPool};
use super::layer::{Layer, Norm, Pass};
use super::linear::{Linear, LinearSettings};
use super::serving::{Served, Slot};
use super::tensors::{TensorFiles, TensorSource};

pub use recompute::LayerTape;

/// A decoder-only language model.
///
/// Invariant: what a row computes depends on its own sequence alone, never on the other rows of
/// its batch.
pub struct Decoder {
    config: DecoderConfig,
    pub(super) embedding: Embedding,
    layers: Vec<Layer>,
    norm: Norm,
    head: Linear,
    pub(super) ropes: Vec<Arc<RopeTable>>,
    packing: Packing,
    /// What passes with a graph work in.
    buffers: Arc<BufferPool>,
    /// The same tensors for serving; none while any of them changes in training.
    pub(super) served: Option<Served>,
}

impl Decoder {
    /// Loads a checkpoint folder in f32, so that gradients pass through it.
    pub fn load(dir: &Path) -> Result<Self, ModelError> {
        Self::load_folder(dir, |_| Precision::F32.into())
    }

    /// Loads a checkpoint folder for serving, with linear layers in the given numbers: each weight
    /// is kept once, as it is multiplied.
    pub fn load_with(dir: &Path, dtype: Dtype) -> Result<Self, ModelError> {
        Self::load_folder(dir, |files| LinearSettings {
            packing: dtype.settle(files),
            as_stored: false,
            gradients: false,
        })
    }

    fn load_folder(
        dir: &Path,
        settings: impl FnOnce(&TensorFiles) -> LinearSettings,
    ) -> Result<Self, ModelError> {
        let config = DecoderConfig::load(dir)?;
        let mut files = TensorFiles::open(dir)?;
        let settings = settings(&files);
        let decoder = Self::assemble(config, &mut files, settings)?;
        let tied_head = |name: &&str| decoder.config.tied && *name == "lm_head.weight";
        let stray = files
            .untouched()
            .find(|name| !name.ends_with("rotary_emb.inv_freq") && !tied_head(name));
        match stray {
            None => Ok(decoder),
            Some(name) => Err(ModelError::Tensor {
                name: name.to_owned(),
                reason: format!(
                    "is no part of a {} decoder as config.json describes it",
                    decoder.config.family.model_type()
                ),
            }),
        }
    }

    /// Builds a decoder from any source of tensors; from variables it can be trained.
    pub fn build(
        config: DecoderConfig,
        source: &mut dyn TensorSource,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        Self::assemble(config, source, precision.into())
    }

    pub(super) fn assemble(
        config: DecoderConfig,
        source: &mut dyn TensorSource,
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let embedding = Embedding::load(source, &config, settings)?;
        let layers: Result<Vec<Layer>, ModelError> = (0..config.num_layers())
            .map(|index| Layer::load(source, index, &config, settings))
            .collect();
        let norm = Norm::load(source, "model.norm", config.hidden_size, &config)?;
        let head = embedding.head(source, &config, settings)?;
        let ropes = config
            .ropes
            .iter()
            .map(|rope| {
                let frequencies = rope.inverse_frequencies(config.head_dim);
                Arc::new(RopeTable::new(
                    &frequencies,
                    config.max_positions,
                    rope.amplitude(),
                ))
            })
            .collect();
        let layers = layers?;
        let plain: Result<Option<Vec<_>>, ModelError> =
            layers.iter().map(|layer| layer.served()).collect();
        let served = match (plain?, head.served(Slot::Output)?) {
            (Some(layers), Some(head)) => Some(Served {
                layers,
                norm: norm.served()?,
                head,
            }),
            _ => None,
        };
        Ok(Self {
            served,
            head,
            embedding,
            layers,
            norm,
            ropes,
            packing: settings.packing,
            buffers: Arc::default(),
            config,
        })
    }

    /// The decoder's shape and features.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// In what numbers linear layers multiply.
    pub fn packing(&self) -> Packing {
        self.packing
    }

    /// A pool for the keys and values of `blocks * BLOCK_TOKENS` tokens.
    pub fn new_pool(&self, blocks: usize) -> KvPool {
        let heads = (self.config.num_kv_heads, self.config.head_dim);
        KvPool::new(self.kv_numbers(), self.config.num_layers(), heads, blocks)
    }

    /// In what numbers keys and values are kept: a file can hold its layers in others than asked for.
    fn kv_numbers(&self) -> KvNumbers {
        let first = self.served.as_ref().and_then(|it| it.layers.first());
        let packing = first.map_or(self.packing, |it| it.output.matrix.packing());
        KvNumbers::beside(packing)
    }

    /// Bytes that a pool needs for one token.
    pub fn token_bytes(&self) -> usize {
        let width = self.config.num_kv_heads * self.config.head_dim;
        2 * self.config.num_layers() * width * self.kv_numbers().bytes()
    }

    /// Path, outputs and inputs of every linear layer that an adapter can change.
    pub fn linear_modules(&self) -> Vec<(String, usize, usize)> {
        let config = &self.config;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_heads * config.head_dim;
        let keys = config.num_kv_heads * config.head_dim;
        let each: Vec<(&str, usize, usize)> = if config.family.has_fused_projections() {
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
        (0..config.num_layers())
            .flat_map(|layer| {
                each.iter().map(move |(name, outputs, inputs)| {
                    (format!("model.layers.{layer}.{name}"), *outputs, *inputs)
                })
            })
            .collect()
    }

    /// Final hidden states, (tokens, hidden), each token seeing its own span up to itself.
    ///
    /// Differentiable in every variable that the decoder or an adapter holds.
    pub fn forward(&self, batch: &ForwardBatch) -> Result<Tensor, ModelError> {
        self.check(batch)?;
        let segments = batch.segments();
        let pass = self.pass(batch, &segments);
        let mut x = self.embed(batch)?;
        if let Some(stack) = self.stack(&pass)? {
            return self.norm.forward(&stack.run(&x)?);
        }
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(&x, &pass, self.rope(index))?;
        }
        self.norm.forward(&x)
    }

    /// All layers as one node of the graph, where nothing of them is trained.
    fn stack(&self, pass: &Pass<'_>) -> Result<Option<Stack>, ModelError> {
        let mut stack = Stack::new(&self.buffers);
        for (index, layer) in self.layers.iter().enumerate() {
            if !layer.push_onto(&mut stack, pass, self.rope(index))? {
                return Ok(None);
            }
        }
        Ok(Some(stack))
    }

    /// The first layer's input, (tokens, hidden).
    fn embed(&self, batch: &ForwardBatch) -> Result<Tensor, ModelError> {
        let x = self.embedding.rows(&batch.token_ids)?;
        match self.config.embedding_scale {
            1.0 => Ok(x),
            scale => Ok((x * f64::from(scale))?),
        }
    }

    /// The rotations of a layer, where it has any.
    fn rope(&self, layer: usize) -> Option<&Arc<RopeTable>> {
        self.config.layers[layer].rope.map(|rope| &self.ropes[rope])
    }

    /// Refuses what no pass can compute.
    pub(super) fn check(&self, batch: &ForwardBatch) -> Result<(), ModelError> {
        let vocabulary = self.config.vocab_size;
        if batch.is_empty() {
            let reason = "a forward pass needs at least one token".to_owned();
            return Err(candle_core::Error::Msg(reason).into());
        }
        if let Some(id) = batch
            .token_ids
            .iter()
            .find(|id| **id as usize >= vocabulary)
        {
            return Err(ModelError::Compute(candle_core::Error::Msg(format!(
                "token {id} is outside the vocabulary of {vocabulary}"
            ))));
        }
        Ok(())
    }

    /// Logits of hidden rows, (rows, vocabulary) f32.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let logits = self.head.forward(hidden, &[])?;
        match self.config.final_softcap {
            Some(cap) => {
                let cap = f64::from(cap);
                Ok(((logits / cap)?.tanh()? * cap)?)
            }
            None => Ok(logits),
        }
    }

    /// `log p(targets[i] | hidden[i])`, (rows,) f32, differentiable.
    pub fn token_logprobs(
        &self,
        hidden: &Tensor,
        targets: &[TokenId],
    ) -> Result<Tensor, ModelError> {
        let settings = HeadSettings {
            softcap: self.config.final_softcap,
            precision: self.packing.precision(),
        };
        let weight = self.head.head_weight(&self.buffers);
        let weight = weight.ok_or_else(|| ModelError::Tensor {
            name: "lm_head.weight".to_owned(),
            reason: "was packed for serving alone and has no gradient".to_owned(),
        })?;
        Ok(token_logprobs(
            hidden,
            weight,
            &Arc::from(targets),
            settings,
        )?)
    }

    /// What all layers of a pass share.
    fn pass<'a>(&'a self, batch: &ForwardBatch, segments: &'a [Segment]) -> Pass<'a> {
        let spans = batch.spans.iter().map(|s| SpanRange {
            start: s.start,
            len: s.len,
        });
        Pass {
            positions: Arc::from(batch.positions.as_slice()),
            spans: spans.collect(),
            segments,
            buffers: &self.buffers,
        }
    }
}
