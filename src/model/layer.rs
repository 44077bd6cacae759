//! One transformer layer: attention and a gated feed-forward network, each with a residual.

mod frozen;
mod mlp;

use std::sync::Arc;

use candle_core::Tensor;

use crate::kernel::sublayer::{FrozenNorm, Stack};
use crate::kernel::{
    AttentionShape, BufferPool, RopeTable, SpanRange, causal_attention, rms_norm, rope,
    with_elements,
};

use super::ModelError;
use super::batch::Segment;
use super::config::DecoderConfig;
use super::linear::{Linear, LinearSettings, LinearShape};
use super::serving::{ServedLayer, ServedNorm, Slot};
use super::tensors::TensorSource;

use frozen::FrozenLayer;
use mlp::{GateUp, Mlp};

/// A root-mean-square norm with its weight.
pub(super) struct Norm {
    weight: Tensor,
    eps: f32,
    offset: f32,
}

impl Norm {
    pub(super) fn load(
        source: &mut dyn TensorSource,
        name: &str,
        width: usize,
        config: &DecoderConfig,
    ) -> Result<Self, ModelError> {
        let weight = source.tensor(&format!("{name}.weight"), &[width])?;
        Ok(Self {
            weight,
            eps: config.rms_norm_eps,
            offset: config.norm_offset,
        })
    }

    /// In plain numbers.
    pub(super) fn served(&self) -> Result<ServedNorm, ModelError> {
        Ok(ServedNorm {
            weight: with_elements(&self.weight, |weight| Arc::from(weight))?,
            eps: self.eps,
            offset: self.offset,
        })
    }

    /// Whether it changes in training.
    fn is_trained(&self) -> bool {
        self.weight.track_op()
    }

    /// With a weight that gets no gradient.
    fn frozen(&self) -> Result<FrozenNorm, ModelError> {
        Ok(FrozenNorm {
            weight: with_elements(&self.weight, |weight| Arc::from(weight))?,
            eps: self.eps,
            offset: self.offset,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(rms_norm(x, &self.weight, self.eps, self.offset)?)
    }
}

/// What all layers of one pass share.
pub(super) struct Pass<'a> {
    pub(super) positions: Arc<[u32]>,
    pub(super) spans: Arc<[SpanRange]>,
    pub(super) segments: &'a [Segment],
    pub(super) buffers: &'a Arc<BufferPool>,
}

pub(super) struct Layer {
    input_norm: Norm,
    attention: Attention,
    /// After attention, before its residual is added.
    attention_out_norm: Option<Norm>,
    /// Before the feed-forward network.
    mlp_norm: Norm,
    mlp: Mlp,
    /// After the feed-forward network, before its residual is added.
    mlp_out_norm: Option<Norm>,
    /// The same with fewer nodes in the graph, where nothing of it is trained.
    frozen: Option<FrozenLayer>,
}

impl Layer {
    pub(super) fn load(
        source: &mut dyn TensorSource,
        index: usize,
        config: &DecoderConfig,
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let at = format!("model.layers.{index}");
        let width = config.hidden_size;
        let mut norm = |name: &str| Norm::load(source, &format!("{at}.{name}"), width, config);
        let input_norm = norm("input_layernorm")?;
        let after_attention = norm("post_attention_layernorm")?;
        let (attention_out_norm, mlp_norm, mlp_out_norm) = if config.family.has_sandwich_norms() {
            let before = norm("pre_feedforward_layernorm")?;
            (
                Some(after_attention),
                before,
                Some(norm("post_feedforward_layernorm")?),
            )
        } else {
            (None, after_attention, None)
        };
        let mut layer = Self {
            input_norm,
            attention: Attention::load(source, (&at, index), config, settings)?,
            attention_out_norm,
            mlp_norm,
            mlp: Mlp::load(source, &at, config, settings)?,
            mlp_out_norm,
            frozen: None,
        };
        layer.frozen = FrozenLayer::of(&layer)?;
        Ok(layer)
    }

    /// In plain numbers, unless it changes in training.
    pub(super) fn served(&self) -> Result<Option<ServedLayer>, ModelError> {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(Norm::served).transpose();
        let attention = &self.attention;
        let projections = match &attention.projections {
            Projections::Separate { q, k, v } => vec![
                q.served(Slot::Query)?,
                k.served(Slot::Key)?,
                v.served(Slot::Value)?,
            ],
            Projections::Fused(all) => vec![all.served(Slot::Query)?],
        };
        let gates = match &self.mlp.projections {
            GateUp::Separate { gate, up } => vec![gate.served(Slot::Gate)?, up.served(Slot::Up)?],
            GateUp::Fused(both) => vec![both.served(Slot::Gate)?],
        };
        let output = attention.output.served(Slot::Output)?;
        let down = self.mlp.down.served(Slot::Down)?;
        let (projections, gates): (Option<Vec<_>>, Option<Vec<_>>) = (
            projections.into_iter().collect(),
            gates.into_iter().collect(),
        );
        let (Some(projections), Some(gates), Some(output), Some(down)) =
            (projections, gates, output, down)
        else {
            return Ok(None);
        };
        let qk_norms = match (&attention.q_norm, &attention.k_norm) {
            (Some(q), Some(k)) => Some([q.served()?, k.served()?]),
            _ => None,
        };
        Ok(Some(ServedLayer {
            input_norm: self.input_norm.served()?,
            projections,
            qk_norms,
            output,
            shape: attention.shape,
            attention_out_norm: norm(&self.attention_out_norm)?,
            mlp_norm: self.mlp_norm.served()?,
            gates,
            down,
            mlp_out_norm: norm(&self.mlp_out_norm)?,
        }))
    }

    /// Puts it on a stack, if nothing of it is trained and all rows have one adapter or none; whether
    /// it did.
    pub(super) fn push_onto(
        &self,
        stack: &mut Stack,
        pass: &Pass<'_>,
        rope: Option<&Arc<RopeTable>>,
    ) -> Result<bool, ModelError> {
        let (Some(frozen), [all]) = (&self.frozen, pass.segments) else {
            return Ok(false);
        };
        frozen.push_onto(stack, pass, rope, all.adapter.as_deref())?;
        Ok(true)
    }

    /// (tokens, hidden) to (tokens, hidden).
    pub(super) fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        rope: Option<&Arc<RopeTable>>,
    ) -> Result<Tensor, ModelError> {
        let mut stack = Stack::new(pass.buffers);
        if self.push_onto(&mut stack, pass, rope)? {
            return Ok(stack.run(x)?);
        }
        let normed = self.input_norm.forward(x)?;
        let mut attended = self.attention.forward(&normed, pass, rope)?;
        if let Some(norm) = &self.attention_out_norm {
            attended = norm.forward(&attended)?;
        }
        let x = (x + attended)?;
        let mut fed = self.mlp.forward(&self.mlp_norm.forward(&x)?, pass)?;
        if let Some(norm) = &self.mlp_out_norm {
            fed = norm.forward(&fed)?;
        }
        Ok((x + fed)?)
    }
}

struct Attention {
    projections: Projections,
    output: Linear,
    q_norm: Option<Norm>,
    k_norm: Option<Norm>,
    shape: AttentionShape,
}

enum Projections {
    Separate { q: Linear, k: Linear, v: Linear },
    Fused(Linear),
}

impl Attention {
    fn load(
        source: &mut dyn TensorSource,
        place: (&str, usize),
        config: &DecoderConfig,
        settings: LinearSettings,
    ) -> Result<Self, ModelError> {
        let (at, index) = place;
        let at = format!("{at}.self_attn");
        let (queries, keys) = (
            config.num_heads * config.head_dim,
            config.num_kv_heads * config.head_dim,
        );
        let inputs = config.hidden_size;
        let mut load = |name: &str, outputs: usize| {
            let shape = LinearShape {
                inputs,
                outputs,
                bias: config.qkv_bias,
            };
            Linear::load(source, format!("{at}.{name}"), shape, settings)
        };
        let projections = if config.family.has_fused_projections() {
            Projections::Fused(load("qkv_proj", queries + 2 * keys)?)
        } else {
            let (q, k) = (load("q_proj", queries)?, load("k_proj", keys)?);
            Projections::Separate {
                q,
                k,
                v: load("v_proj", keys)?,
            }
        };
        let output = LinearShape {
            inputs: queries,
            outputs: inputs,
            bias: config.output_bias,
        };
        let output = Linear::load(source, format!("{at}.o_proj"), output, settings)?;
        let mut norm = |name: &str| {
            let name = format!("{at}.{name}");
            let has = config.family.has_qk_norm();
            has.then(|| Norm::load(source, &name, config.head_dim, config))
                .transpose()
        };
        Ok(Self {
            projections,
            output,
            q_norm: norm("q_norm")?,
            k_norm: norm("k_norm")?,
            shape: AttentionShape {
                heads: config.num_heads,
                kv_heads: config.num_kv_heads,
                head_dim: config.head_dim,
                scale: config.attention_scale,
                window: config.layers[index].window,
                softcap: config.attention_softcap,
            },
        })
    }

    fn project(&self, x: &Tensor, segments: &[Segment]) -> Result<[Tensor; 3], ModelError> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
            ..
        } = self.shape;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let (q, k, v) = match &self.projections {
            Projections::Separate { q, k, v } => (
                q.forward(x, segments)?,
                k.forward(x, segments)?,
                v.forward(x, segments)?,
            ),
            Projections::Fused(all) => {
                let all = all.forward(x, segments)?;
                let k = all.narrow(1, queries, keys)?;
                (
                    all.narrow(1, 0, queries)?,
                    k,
                    all.narrow(1, queries + keys, keys)?,
                )
            }
        };
        let tokens = x.dim(0)?;
        Ok([
            q.contiguous()?.reshape((tokens, heads, head_dim))?,
            k.contiguous()?.reshape((tokens, kv_heads, head_dim))?,
            v.contiguous()?.reshape((tokens, kv_heads, head_dim))?,
        ])
    }

    fn forward(
        &self,
        x: &Tensor,
        pass: &Pass<'_>,
        table: Option<&Arc<RopeTable>>,
    ) -> Result<Tensor, ModelError> {
        let [mut q, mut k, v] = self.project(x, pass.segments)?;
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        if let Some(table) = table {
            (q, k) = (
                rope(&q, table, &pass.positions)?,
                rope(&k, table, &pass.positions)?,
            );
        }
        let attended = causal_attention(&q, &k, &v, &pass.spans, self.shape)?;
        let width = self.shape.heads * self.shape.head_dim;
        self.output
            .forward(&attended.reshape(((), width))?, pass.segments)
    }
}
