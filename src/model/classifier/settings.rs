//! Keys of `config.json` that classifiers share, and what is refused in all of them.

use super::super::config_reader::ConfigReader;
use super::super::tensors::TensorFiles;
use super::ops::Nonlinearity;
use crate::model::ModelError;

/// Keys that matter to training, to generation or to bookkeeping only.
const NEUTRAL: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attention_probs_dropout_prob",
    "attn_pdrop",
    "bos_token_id",
    "classifier_dropout",
    "cls_dropout",
    "directionality",
    "dropout",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "finetuning_task",
    "gradient_checkpointing",
    "hidden_dropout",
    "hidden_dropout_prob",
    "initializer_range",
    "label2id",
    "legacy",
    "model_type",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "pooler_dropout",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
    "problem_type",
    "qa_dropout",
    "reorder_and_upcast_attn",
    "resid_pdrop",
    "return_dict",
    "seq_classif_dropout",
    "sinusoidal_pos_embds",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tie_word_embeddings",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "_name_or_path",
];

/// Tensors that other heads left behind, or that hold constants.
const LEFT_BEHIND: &[&str] = &[
    "cls.",
    "lm_head.",
    "lm_predictions.",
    "mask_predictions.",
    "vocab_",
];
const CONSTANTS: &[&str] = &[".attn.bias", ".attn.masked_bias", ".position_ids"];

/// Marks the neutral keys, and refuses what no classifier here does.
pub(super) fn read_common(reader: &mut ConfigReader) -> Result<(), ModelError> {
    reader.ignore(NEUTRAL);
    for key in ["is_decoder", "add_cross_attention"] {
        if reader.flag(key)?.unwrap_or(false) {
            return Err(reader.unsupported(format!("`{key}` = true"), "expected false"));
        }
    }
    match reader.text("position_embedding_type")?.as_deref() {
        None | Some("absolute") => Ok(()),
        Some(other) => {
            let feature = format!("position_embedding_type `{other}`");
            Err(reader.unsupported(feature, "supported: absolute"))
        }
    }
}

/// How many labels: those of `id2label`, else `num_labels`, else the library's default of 2.
pub(super) fn read_labels(reader: &mut ConfigReader) -> Result<usize, ModelError> {
    let count = reader.count("num_labels")?;
    let named = reader
        .take("id2label")
        .and_then(|names| names.as_object().map(|names| names.len()));
    Ok(named.filter(|count| *count > 0).or(count).unwrap_or(2))
}

pub(super) fn read_nonlinearity(
    reader: &mut ConfigReader,
    key: &str,
    default: &str,
) -> Result<Nonlinearity, ModelError> {
    let name = reader.text(key)?.unwrap_or_else(|| default.to_owned());
    Nonlinearity::from_name(&name)
        .ok_or_else(|| reader.unsupported(format!("{key} `{name}`"), Nonlinearity::NAMES))
}

/// Heads must share the width evenly.
pub(super) fn head_width(
    reader: &ConfigReader,
    hidden: usize,
    heads: usize,
) -> Result<usize, ModelError> {
    if hidden.is_multiple_of(heads) {
        return Ok(hidden / heads);
    }
    let feature = format!("{heads} attention heads over a width of {hidden}");
    Err(reader.unsupported(feature, "the width must be a multiple of the heads"))
}

/// Refuses tensors that nothing has used: the checkpoint is more than its configuration says.
pub(super) fn check_all_used(files: &TensorFiles) -> Result<(), ModelError> {
    let harmless = |name: &&str| {
        LEFT_BEHIND.iter().any(|start| name.starts_with(start))
            || CONSTANTS.iter().any(|end| name.ends_with(end))
    };
    match files.untouched().find(|name| !harmless(name)) {
        None => Ok(()),
        Some(name) => Err(ModelError::Tensor {
            name: name.to_owned(),
            reason: "is no part of the classifier that config.json describes".to_owned(),
        }),
    }
}
