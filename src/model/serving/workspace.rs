//! The threads and buffers of serving passes, kept from one to the next.

use crate::kernel::team::{Rows, Team};

use super::super::config::DecoderConfig;
use super::pass::Buffers;

/// Low-rank products that one phase makes side by side: of queries, keys and values.
const CHANGES: usize = 3;

/// What passes over one pool work with. Nothing in it outlasts a pass but its memory.
#[derive(Default)]
pub(crate) struct Workspace {
    team: Option<Team>,
    x: Vec<f32>,
    normed: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    branch: Vec<f32>,
    gate_up: Vec<f32>,
    gated: Vec<f32>,
    low: Vec<f32>,
    packed: Vec<u32>,
}

impl Workspace {
    /// The team, and buffers for so many tokens and adapters up to this rank, beside the caller's own
    /// for logits.
    pub(super) fn lend<'a>(
        &'a mut self,
        config: &DecoderConfig,
        (tokens, rank): (usize, usize),
        logits: Rows<'a>,
    ) -> (&'a mut Team, Buffers<'a>) {
        let queries = config.num_heads * config.head_dim;
        let keys = config.num_kv_heads * config.head_dim;
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        // An odd inner dimension is padded by one.
        let widest = hidden.max(inner).max(queries) + 1;
        let team = self
            .team
            .get_or_insert_with(|| Team::new(rayon::current_num_threads()));
        let buffers = Buffers {
            x: Rows::of(&mut self.x, tokens, hidden),
            normed: Rows::of(&mut self.normed, tokens, hidden),
            qkv: Rows::of(&mut self.qkv, tokens, queries + 2 * keys),
            attended: Rows::of(&mut self.attended, tokens, queries),
            branch: Rows::of(&mut self.branch, tokens, hidden),
            gate_up: Rows::of(&mut self.gate_up, tokens, 2 * inner),
            gated: Rows::of(&mut self.gated, tokens, inner),
            low: Rows::of(&mut self.low, tokens, CHANGES * rank),
            packed: Rows::of(&mut self.packed, 1, tokens * widest),
            logits,
        };
        (team, buffers)
    }
}
