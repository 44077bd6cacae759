//! The model being trained, and how it is written as a sequence-classification checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{Device, Tensor, Var};
use rand_distr::{Distribution, Normal};
use serde_json::{Value, json};

use super::super::TrainingError;
use super::super::config::PolicySettings;
use super::super::passes::{Keep, Passes};
use super::super::seeds::stream;
use super::super::state::write_synced;
use super::super::trainable::{Start, Trainable, copy_model_files, read_config, state_dtype};
use crate::model::{ForwardBatch, TensorFiles, TensorSource, save_tensors};
use crate::types::TokenId;

const SCORE: &str = "score.weight";

/// A decoder with a score head, trainable as a whole or through an adapter.
pub(super) struct ScoringModel {
    body: Trainable,
    lora_scale: f64,
    score: Var,
    vars: Vec<(String, Var)>,
}

impl ScoringModel {
    pub(super) fn load(
        dir: &Path,
        settings: &PolicySettings,
        seed: u64,
    ) -> Result<Self, TrainingError> {
        let body = Trainable::load(dir, settings, Start::Checkpoint, seed)?;
        let mut vars = body.vars().to_vec();
        // The language head has no part in the score.
        vars.retain(|(name, _)| name != "lm_head.weight");
        let score = fresh_score(body.config().hidden_size, seed)?;
        vars.push((SCORE.to_owned(), score.clone()));
        let lora_scale = settings.lora.alpha / settings.lora.rank as f64;
        Ok(Self {
            body,
            lora_scale,
            score,
            vars,
        })
    }

    /// Trainable tensors, the score head last.
    pub(super) fn vars(&self) -> &[(String, Var)] {
        &self.vars
    }

    /// The score of each conversation at its last token, (conversations,), differentiable.
    pub(super) fn scores(
        &self,
        passes: &mut Passes<'_>,
        conversations: &[&[TokenId]],
    ) -> Result<Tensor, TrainingError> {
        let mut batch = ForwardBatch::default();
        let mut last = Vec::with_capacity(conversations.len());
        for tokens in conversations {
            batch.push(tokens, 0, self.body.adapter.clone());
            last.push(batch.len() as u32 - 1);
        }
        let hidden = passes.forward(batch)?;
        let last = Tensor::from_vec(last, conversations.len(), &Device::Cpu)?;
        let hidden = hidden.index_select(&last, 0)?;
        Ok(hidden.matmul(&self.score.as_tensor().t()?)?.squeeze(1)?)
    }

    /// Passes through its decoder.
    pub(super) fn passes(&self, keep: Keep) -> Passes<'_> {
        Passes::through(&self.body.decoder, keep)
    }

    /// Context length.
    pub(super) fn max_positions(&self) -> usize {
        self.body.config().max_positions
    }

    /// Writes a Hugging Face folder: the decoder (an adapter merged into it), the score head,
    /// `config.json` of the classifier's kind, and the tokenizer's files.
    pub(super) fn save(&self, model: &Path, folder: &Path) -> Result<(), TrainingError> {
        copy_model_files(model, folder)?;
        let mut config = classifier_config(&model.join("config.json"))?;
        state_dtype(&mut config, self.body.save_dtype);
        let text = format!("{config:#}\n");
        write_synced(&folder.join("config.json"), text.as_bytes())?;
        let mut tensors = self.decoder_tensors(model)?;
        tensors.remove("lm_head.weight");
        tensors.insert(SCORE.to_owned(), self.score.as_tensor().clone());
        Ok(save_tensors(
            &folder.join("model.safetensors"),
            &tensors,
            self.body.save_dtype,
        )?)
    }

    fn decoder_tensors(&self, model: &Path) -> Result<BTreeMap<String, Tensor>, TrainingError> {
        let Some(adapter) = &self.body.adapter else {
            let all = self
                .vars
                .iter()
                .map(|(name, var)| (name.clone(), var.as_tensor().clone()));
            return Ok(all.collect());
        };
        let mut files = TensorFiles::open(model)?;
        let names: Vec<String> = files.names().map(str::to_owned).collect();
        let changes = adapter.tensors();
        let mut tensors = BTreeMap::new();
        for name in names {
            let shape = files.shape(&name).unwrap_or_default();
            let mut tensor = files.tensor(&name, &shape)?;
            if let Some(module) = name.strip_suffix(".weight") {
                let side =
                    |s: char| changes.get(&format!("base_model.model.{module}.lora_{s}.weight"));
                if let (Some(a), Some(b)) = (side('A'), side('B')) {
                    tensor = (tensor + (b.matmul(a)? * self.lora_scale)?)?;
                }
            }
            tensors.insert(name, tensor);
        }
        Ok(tensors)
    }
}

/// Normal with deviation 0.02, as the decoder's own layers start.
fn fresh_score(hidden: usize, seed: u64) -> Result<Var, TrainingError> {
    let mut rng = stream(seed, "score", &[]);
    let values: Vec<f32> = match Normal::new(0.0f32, 0.02) {
        Ok(normal) => (0..hidden).map(|_| normal.sample(&mut rng)).collect(),
        // a positive finite deviation is always a normal distribution
        Err(_) => vec![0.0; hidden],
    };
    Ok(Var::from_tensor(&Tensor::from_vec(
        values,
        (1, hidden),
        &Device::Cpu,
    )?)?)
}

/// The causal model's configuration turned into that of a classifier with one output.
fn classifier_config(path: &Path) -> Result<Value, TrainingError> {
    let fail = |reason: String| TrainingError::setting("job.model", reason);
    let mut config = read_config(path)?;
    let causal = config["architectures"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let Some(family) = causal.strip_suffix("ForCausalLM") else {
        let reason =
            format!("its architecture is `{causal}`, expected one that ends in ForCausalLM");
        return Err(fail(reason));
    };
    config["architectures"] = json!([format!("{family}ForSequenceClassification")]);
    config["num_labels"] = json!(1);
    config["id2label"] = json!({"0": "LABEL_0"});
    config["label2id"] = json!({"LABEL_0": 0});
    config["problem_type"] = json!("regression");
    Ok(config)
}
