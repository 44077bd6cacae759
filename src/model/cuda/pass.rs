//! One walk through the layers: the launches of a step, in order.

use crate::kernel::cuda::{
    AdapterRows, Attention, Branch, Buffer, Cache, Gpu, PickedRows, Products, Rotation, Turn,
};

use super::super::ModelError;
use super::super::config::DecoderConfig;
use super::super::serving::SLOTS;
use super::inputs::DeviceInputs;
use super::layers::{DeviceLayer, DeviceTensors, Linear};
use super::workspace::Workspace;

/// What a pass reads and writes.
pub(super) struct Pass<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) config: &'a DecoderConfig,
    pub(super) tensors: &'a DeviceTensors,
    pub(super) rotations: &'a [Rotation],
    pub(super) products: &'a Products,
    pub(super) attention: &'a Attention,
    /// Of each layer.
    pub(super) caches: &'a [Cache],
    pub(super) buffers: &'a Workspace,
    pub(super) inputs: DeviceInputs,
    /// Whether any row goes through an adapter.
    pub(super) is_adapted: bool,
}

impl Pass<'_> {
    /// Launches all of it.
    pub(super) fn run(&self) -> Result<(), ModelError> {
        let Self {
            gpu,
            config,
            tensors,
            buffers,
            inputs,
            ..
        } = *self;
        let Workspace { x, normed, .. } = buffers;
        let rows = inputs.placement.rows;
        let all = PickedRows {
            count: rows,
            indices: 0,
        };
        let width = config.hidden_size;
        let first = (&tensors.layers[0].input_norm, normed);
        let table = (&tensors.embedding, config.embedding_scale);
        gpu.embed((inputs.tokens, rows), table, x, first)?;
        for (index, layer) in tensors.layers.iter().enumerate() {
            self.attend(layer, index)?;
            let branch = Branch {
                out: &buffers.branch,
                norm: layer.attention_out_norm.as_ref(),
            };
            gpu.join((x, width), all, branch, (&layer.mlp_norm, normed))?;
            self.feed_forward(layer, index)?;
            let branch = Branch {
                out: &buffers.branch,
                norm: layer.mlp_out_norm.as_ref(),
            };
            let (picked, norm) = match tensors.layers.get(index + 1) {
                Some(next) => (all, &next.input_norm),
                // The head reads every tensor of the vocabulary: only rows that draw go through it.
                None => (inputs.draws, &tensors.norm),
            };
            gpu.join((x, width), picked, branch, (norm, normed))?;
        }
        let draws = inputs.draws.count;
        let head = tensors.head();
        self.products
            .product(gpu, head, (normed, draws), &buffers.logits)?;
        if let Some(cap) = config.final_softcap
            && draws > 0
        {
            gpu.cap(&buffers.logits, draws * config.vocab_size, cap)?;
        }
        Ok(())
    }

    fn attend(&self, layer: &DeviceLayer, index: usize) -> Result<(), ModelError> {
        let Workspace {
            normed,
            qkv,
            queries,
            attended,
            branch,
            ..
        } = self.buffers;
        let (gpu, at, cache) = (self.gpu, &self.inputs.placement, self.caches[index]);
        self.project((&layer.qkv, index), normed, qkv)?;
        let rotation = self.config.layers[index].rope;
        let turn = Turn {
            norms: layer.qk_norms.as_ref(),
            rotation: rotation.map(|rope| &self.rotations[rope]),
        };
        let shape = &layer.shape;
        self.attention
            .place(gpu, (qkv, at), (shape, turn), (queries, cache))?;
        self.attention
            .attend(gpu, (queries, at), (shape, cache), attended)?;
        self.project((&layer.output, index), attended, branch)
    }

    fn feed_forward(&self, layer: &DeviceLayer, index: usize) -> Result<(), ModelError> {
        let Workspace {
            normed,
            branch,
            gate_up,
            gated,
            ..
        } = self.buffers;
        let rows = self.inputs.placement.rows;
        self.project((&layer.gate_up, index), normed, gate_up)?;
        let out = (gated, self.config.intermediate_size);
        self.gpu
            .gate((gate_up, rows), self.config.activation, out)?;
        self.project((&layer.down, index), gated, branch)
    }

    /// `out = x · Wᵀ + bias`, and what adapters add.
    fn project(
        &self,
        (linear, index): (&Linear, usize),
        x: &Buffer<u16>,
        out: &Buffer<f32>,
    ) -> Result<(), ModelError> {
        let rows = self.inputs.placement.rows;
        let Linear { matrix, slots } = linear;
        self.products.product(self.gpu, matrix, (x, rows), out)?;
        if self.is_adapted {
            let adapters = AdapterRows {
                entries: &self.buffers.adapters,
                rows,
                low: &self.buffers.low,
                most_rank: self.buffers.rank(),
            };
            let (first, widths) = slots;
            let entry = index * SLOTS + *first as usize;
            self.gpu
                .change(adapters, entry, (x, matrix.inputs), (out, widths))?;
        }
        Ok(())
    }
}
