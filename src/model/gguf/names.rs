//! What a GGUF file calls the tensors of a decoder.

use crate::model::config::DecoderConfig;
use crate::model::family::Family;

/// The names and the order of rows that one architecture's files have.
pub(super) struct Layout {
    family: Family,
    heads: usize,
    kv_heads: usize,
}

/// Modules of a layer, by their names here and in files.
const MODULES: [(&str, &str); 13] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.qkv_proj", "attn_qkv"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    // gate and up together stand where others have up
    ("mlp.gate_up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("pre_feedforward_layernorm", "ffn_norm"),
];

impl Layout {
    pub(super) fn of(config: &DecoderConfig) -> Self {
        Self {
            family: config.family,
            heads: config.num_heads,
            kv_heads: config.num_kv_heads,
        }
    }

    /// The file's name of a tensor.
    pub(super) fn stored_name(&self, name: &str) -> Option<String> {
        match name {
            "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
            "model.norm.weight" => return Some("output_norm.weight".to_owned()),
            "lm_head.weight" => return Some("output.weight".to_owned()),
            _ => {}
        }
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (module, part) = rest.rsplit_once('.')?;
        let stored = match (module, self.family.has_sandwich_norms()) {
            ("post_attention_layernorm", true) => "post_attention_norm",
            ("post_attention_layernorm", false) => "ffn_norm",
            ("post_feedforward_layernorm", _) => "post_ffw_norm",
            _ => MODULES.iter().find(|(ours, _)| *ours == module)?.1,
        };
        Some(format!("blk.{layer}.{stored}.{part}"))
    }

    /// The heads of a tensor whose rows files have in another order.
    pub(super) fn reordered_heads(&self, name: &str) -> Option<usize> {
        let reorders = matches!(
            self.family,
            Family::Llama | Family::Mistral | Family::SmolLm3
        );
        let is = |module: &str| name.contains(module);
        match reorders {
            true if is(".self_attn.q_proj.") => Some(self.heads),
            true if is(".self_attn.k_proj.") => Some(self.kv_heads),
            _ => None,
        }
    }
}
