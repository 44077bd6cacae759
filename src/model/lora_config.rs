//! `adapter_config.json` of PEFT: which modules are adapted, at which rank and scale.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde_json::{Value, json};

use super::ModelError;
use super::config_reader::ConfigReader;
use super::lora::LoraSettings;

/// The part of PEFT's settings that changes what an adapter computes.
#[derive(Debug, Clone)]
pub(super) struct LoraConfig {
    rank: usize,
    alpha: f64,
    rank_stabilised: bool,
    targets: Targets,
    excluded: Vec<String>,
    layers: Option<Vec<usize>>,
    rank_pattern: BTreeMap<String, f64>,
    alpha_pattern: BTreeMap<String, f64>,
}

#[derive(Debug, Clone)]
enum Targets {
    AllLinear,
    Suffixes(Vec<String>),
    Pattern(Regex),
}

/// Keys that concern training, initial values or bookkeeping only.
const NEUTRAL: &[&str] = &[
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "loftq_config",
    "lora_dropout",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
];

impl LoraConfig {
    pub(super) fn load(dir: &Path) -> Result<Self, ModelError> {
        let mut reader = ConfigReader::open(&dir.join("adapter_config.json"))?;
        let kind = reader
            .text("peft_type")?
            .ok_or_else(|| reader.missing("peft_type"))?;
        if kind != "LORA" {
            let feature = format!("peft_type `{kind}`");
            return Err(reader.unsupported(feature, "only LORA adapters are"));
        }
        if let Some(bias) = reader.text("bias")?.filter(|bias| bias != "none") {
            let feature = format!("bias `{bias}`");
            return Err(reader.unsupported(feature, "train the adapter with bias = none"));
        }
        reader.ignore(NEUTRAL);
        let targets = match reader.take("target_modules") {
            Some(Value::String(name)) if name == "all-linear" => Targets::AllLinear,
            Some(Value::String(pattern)) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(pattern) => Targets::Pattern(pattern),
                Err(_) => {
                    let feature = format!("target_modules `{pattern}`");
                    return Err(reader.unsupported(
                        feature,
                        "it must be a regular expression without look-around",
                    ));
                }
            },
            Some(list) => Targets::Suffixes(match serde_json::from_value(list.clone()) {
                Ok(names) => names,
                Err(_) => {
                    return Err(reader.invalid("target_modules", &list, "a list of module names"));
                }
            }),
            None => return Err(reader.missing("target_modules")),
        };
        let config = Self {
            rank: reader.required_count("r")?,
            alpha: reader.required_number("lora_alpha")?,
            rank_stabilised: reader.flag("use_rslora")?.unwrap_or(false),
            targets,
            excluded: reader.texts("exclude_modules")?.unwrap_or_default(),
            layers: read_layers(&mut reader)?,
            rank_pattern: read_pattern(&mut reader, "rank_pattern")?,
            alpha_pattern: read_pattern(&mut reader, "alpha_pattern")?,
        };
        reader.finish()?;
        Ok(config)
    }

    pub(super) fn from_settings(settings: &LoraSettings) -> Self {
        Self {
            rank: settings.rank,
            alpha: settings.alpha,
            rank_stabilised: false,
            targets: Targets::Suffixes(settings.target_modules.clone()),
            excluded: Vec::new(),
            layers: None,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }

    /// Of an adapter that changes these modules, each at its rank and unscaled.
    pub(super) fn of_ranks(ranks: &BTreeMap<String, usize>) -> Self {
        let most = ranks.values().copied().max().unwrap_or(1);
        let each = ranks
            .iter()
            .map(|(module, rank)| (regex::escape(module), *rank as f64));
        let each: BTreeMap<String, f64> = each.collect();
        Self {
            rank: most,
            alpha: most as f64,
            rank_stabilised: false,
            targets: Targets::Suffixes(ranks.keys().cloned().collect()),
            excluded: Vec::new(),
            layers: None,
            rank_pattern: each.clone(),
            alpha_pattern: each,
        }
    }

    /// True if the adapter changes the linear layer at this path.
    pub(super) fn targets(&self, module: &str) -> Result<bool, ModelError> {
        let is = |name: &String| module == name || module.ends_with(&format!(".{name}"));
        if self.excluded.iter().any(is) {
            return Ok(false);
        }
        let named = match &self.targets {
            Targets::AllLinear => true,
            Targets::Suffixes(names) => names.iter().any(is),
            Targets::Pattern(pattern) => pattern.is_match(module),
        };
        let in_layers = self
            .layers
            .as_ref()
            .is_none_or(|layers| layer_of(module).is_some_and(|layer| layers.contains(&layer)));
        Ok(named && in_layers)
    }

    pub(super) fn rank(&self, module: &str) -> usize {
        lookup(&self.rank_pattern, module).map_or(self.rank, |rank| rank as usize)
    }

    pub(super) fn scale(&self, module: &str) -> f64 {
        let alpha = lookup(&self.alpha_pattern, module).unwrap_or(self.alpha);
        let rank = self.rank(module) as f64;
        alpha
            / if self.rank_stabilised {
                rank.sqrt()
            } else {
                rank
            }
    }

    pub(super) fn to_json(&self, base_model: &str) -> Value {
        let targets = match &self.targets {
            Targets::AllLinear => json!("all-linear"),
            Targets::Suffixes(names) => json!(names),
            Targets::Pattern(pattern) => {
                json!(
                    pattern
                        .as_str()
                        .trim_start_matches("^(?:")
                        .trim_end_matches(")$")
                )
            }
        };
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_model,
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_rslora": self.rank_stabilised,
            "target_modules": targets,
            "exclude_modules": self.excluded,
            "layers_to_transform": self.layers,
            "rank_pattern": self.rank_pattern.iter()
                .map(|(key, rank)| (key.clone(), json!(*rank as usize)))
                .collect::<serde_json::Map<_, _>>(),
            "alpha_pattern": self.alpha_pattern,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "inference_mode": true,
        })
    }
}

/// The number in `layers.N.` of a module path.
fn layer_of(module: &str) -> Option<usize> {
    let (_, rest) = module.split_once("layers.")?;
    rest.split('.').next()?.parse().ok()
}

/// PEFT matches a key against the end of a path, after a dot.
fn lookup(pattern: &BTreeMap<String, f64>, module: &str) -> Option<f64> {
    pattern.iter().find_map(|(key, value)| {
        let whole = Regex::new(&format!("^(?:.*\\.)?(?:{key})$")).ok()?;
        whole.is_match(module).then_some(*value)
    })
}

fn read_layers(reader: &mut ConfigReader) -> Result<Option<Vec<usize>>, ModelError> {
    let Some(value) = reader.take("layers_to_transform") else {
        return Ok(None);
    };
    let one = serde_json::from_value::<usize>(value.clone()).map(|layer| vec![layer]);
    one.or_else(|_| serde_json::from_value(value.clone()))
        .map(Some)
        .map_err(|_| reader.invalid("layers_to_transform", &value, "a list of layer numbers"))
}

fn read_pattern(reader: &mut ConfigReader, key: &str) -> Result<BTreeMap<String, f64>, ModelError> {
    let Some(value) = reader.take(key) else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_value(value.clone())
        .map_err(|_| reader.invalid(key, &value, "an object of module pattern to number"))
}
