//! What a model is, whether it can be served, and everything that is wrong with it.

mod reward_model;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::error::{LoadError, chain};
use super::first_token::check_answers;
use super::folder::ModelFolder;
use super::policy::{BaseParts, LivePolicy};
use crate::engine::{EngineConfig, EngineHandle};
use crate::model::{BLOCK_TOKENS, Decoder, Dtype};
use crate::steering::ConditioningTemplate;
use crate::text::PromptEncoder;
use crate::types::Placement;

/// A model, looked at as closely as `serve` would.
#[derive(Debug, Default)]
pub struct Inspection {
    /// What it is, one fact a line.
    pub facts: Vec<String>,
    /// What keeps it from being served; empty where it can be.
    pub problems: Vec<String>,
}

impl Inspection {
    /// Looks at a folder or a GGUF file, and goes on past the first problem where that makes sense.
    pub fn of(dir: &Path) -> Self {
        let mut seen = Self::default();
        if let Some(config) = config_of(dir)
            && reward_model::classifier_name(&config).is_some()
        {
            seen.look_at_classifier(dir, &config);
            return seen;
        }
        match ModelFolder::open(dir) {
            Ok(folder) => seen.look_into(&folder),
            Err(error) => seen.refuse(&error),
        }
        seen
    }

    /// Whether `serve` would take it.
    pub fn is_servable(&self) -> bool {
        self.problems.is_empty()
    }

    fn refuse(&mut self, error: &LoadError) {
        self.problems.push(chain(error));
    }

    fn look_into(&mut self, folder: &ModelFolder) {
        let root = &folder.root;
        let weights = &folder.weights;
        let (decoder, encoder) = (weights.decoder(Dtype::Auto), weights.encoder());
        let (decoder, encoder) = match (decoder, encoder) {
            (Ok(decoder), Ok(encoder)) => (decoder, encoder),
            (decoder, encoder) => {
                let errors = [decoder.err(), encoder.err()];
                errors.iter().flatten().for_each(|error| self.refuse(error));
                return;
            }
        };
        match weights.described() {
            Ok(fact) => self.facts.push(fact),
            Err(error) => return self.refuse(&error),
        }
        self.describe_base(&decoder, &encoder);
        let decoder = Arc::new(decoder);
        let small = EngineConfig {
            max_sequences: 1,
            kv_tokens: Some(2 * BLOCK_TOKENS),
            ..EngineConfig::default()
        };
        let engine = match EngineHandle::start(Arc::clone(&decoder), small) {
            Ok(engine) => engine,
            Err(error) => return self.refuse(&LoadError::Engine(error)),
        };
        let hash = match weights.hash() {
            Ok(hash) => hash,
            Err(error) => return self.refuse(&error),
        };
        self.facts.push(format!("base hash: {hash}"));
        let base = BaseParts {
            decoder: decoder.config(),
            arithmetic: decoder.packing().name(),
            encoder: &encoder,
            hash: &hash,
            root,
            weights: weights.path(),
        };
        for (index, policy) in folder.policies.iter().enumerate() {
            match LivePolicy::load(policy, &base) {
                Ok(policy) => {
                    self.describe_policy(&policy, index == folder.default);
                    if let Err(error) = check_answers(&engine, &encoder, &policy) {
                        self.refuse(&error);
                    }
                }
                Err(error) => self.refuse(&error),
            }
        }
    }

    fn describe_base(&mut self, decoder: &Decoder, encoder: &PromptEncoder) {
        let config = decoder.config();
        self.facts.push(format!(
            "family: {:?}, {} layers, width {}, vocabulary {}, context {} tokens",
            config.family,
            config.num_layers(),
            config.hidden_size,
            config.vocab_size,
            config.max_positions
        ));
        self.facts.push(format!(
            "numbers: {} with --dtype auto",
            decoder.packing().name()
        ));
        self.facts.push(format!(
            "chat template: {}",
            if encoder.has_chat_template() {
                "yes"
            } else {
                "none; plain prompts only"
            }
        ));
        let known = encoder.tokenizer().vocab_size();
        if known > config.vocab_size {
            self.facts.push(format!(
                "note: the tokenizer has {known} tokens, but the model only {}; a request that \
                 needs one of the others will fail",
                config.vocab_size
            ));
        }
    }

    fn describe_policy(&mut self, policy: &LivePolicy, is_default: bool) {
        let adapter = policy.adapter.describe();
        let default = if is_default { ", the default" } else { "" };
        self.facts.push(format!(
            "model `{}` version {}{adapter}{default}",
            policy.id, policy.version
        ));
        match &policy.manifest {
            None => self.facts.push("  unsteered: no steering.json".to_owned()),
            Some(manifest) => {
                self.facts
                    .push(describe_conditioning(&manifest.conditioning));
                let mut targets = manifest.conditioning.targets.iter();
                for objective in manifest.objectives.iter() {
                    let target = targets.next().map_or_else(String::new, |range| {
                        format!(", asked for {} to {}", range.low, range.high)
                    });
                    let most = objective
                        .max_weight
                        .map_or_else(String::new, |max| format!(" to {max}"));
                    self.facts.push(format!(
                        "  objective `{}`: {} (default {}, from {}{most}){target}",
                        objective.name,
                        objective.description,
                        objective.default_weight,
                        objective.min_weight
                    ));
                }
            }
        }
    }
}

fn describe_conditioning(conditioning: &ConditioningTemplate) -> String {
    let rule = conditioning.target_rule().map_or_else(String::new, |rule| {
        format!(" by the rule {}", rule.as_str())
    });
    let placement = match (conditioning.kind.is_text(), conditioning.placement) {
        (false, _) => "in no prompt: its adapters are mixed",
        (true, Placement::PromptStart) => "in front of the prompt",
        (true, Placement::PromptEnd) => "behind the prompt",
    };
    format!(
        "  told {}{rule}, decimals {}, {placement}",
        conditioning.kind.as_str(),
        conditioning.decimals
    )
}

/// A folder's `config.json`, where it is one; what is wrong with it is found where it is loaded.
fn config_of(dir: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(dir.join("config.json")).ok()?).ok()
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fact in &self.facts {
            writeln!(f, "{fact}")?;
        }
        match self.problems.as_slice() {
            [] => writeln!(f, "can be served"),
            problems => {
                writeln!(f, "cannot be served:")?;
                problems
                    .iter()
                    .try_for_each(|problem| writeln!(f, "  - {problem}"))
            }
        }
    }
}
