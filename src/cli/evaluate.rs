//! `steersman evaluate`: how a policy answers to its weights, as a report.

mod rewards;
mod told;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::fetching::{self, Lines};
use crate::engine::{EngineConfig, EngineError, EngineHandle};
use crate::eval::EvalError;
use crate::eval::report::Findings;
use crate::eval::sweep::{EvalPrompt, Subject, SweepSettings, SweptPoint, sweep, weight_grid};
use crate::gguf::{GgufFile, is_gguf};
use crate::hub::HubError;
use crate::model::{Decoder, Dtype, LoraAdapter, ModelError};
use crate::rewards::RewardError;
use crate::service::{LoadError, ModelFolder, PolicyAdapter, PolicyFolder};
use crate::steering::{SteeringManifest, WeightVector};
use crate::text::{PromptEncoder, TextError};
use crate::training::TrainingError;
use crate::training::data::read_prompts;
use crate::types::TokenId;

/// Measure how well a policy follows its weights.
///
/// Asks a policy every prompt under a grid of weights, and the model it started from as well, and
/// writes report.json, report.html and plots: reward against weight, the Pareto front,
/// hypervolume. Computes on the processor.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example, from this repository's root:\n  \
    steersman evaluate --model models/demo --policy assistant --prompts tests/e2e/prompts.jsonl \
    --grid 5 --out report")]
pub struct EvaluateArgs {
    /// The model: a folder, or a GGUF file, whose policies lie beside it, or a model of the hub.
    #[arg(long, env = "STEERSMAN_MODEL", value_name = "DIR|FILE.gguf|ORG/NAME")]
    pub model: PathBuf,
    /// Numbers that linear layers multiply: `f32`, `bf16`, `q8_0`, `q4_0` or `auto`; `serve --help`
    /// says what each trades. Rewards always compute in f32.
    #[arg(long, env = "STEERSMAN_DTYPE", value_name = "DTYPE", default_value_t)]
    pub dtype: Dtype,
    /// A policy over it: a name below the model's `policies/`, or an adapter folder. Without one
    /// the default of its policies.json, or else the model itself, which then needs a
    /// steering.json.
    #[arg(long, env = "STEERSMAN_EVALUATE_POLICY", value_name = "NAME|DIR")]
    pub policy: Option<String>,
    /// What to compare with: `off` (the model with the adapter off), `none`, or an adapter folder.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_BASELINE",
        value_name = "off|none|DIR",
        default_value = "off"
    )]
    pub baseline: String,
    /// Prompts that were not trained on: JSONL, or JSONL.zst, of rows
    /// `{"prompt": [{"role": "user", "content": "..."}]}`.
    #[arg(long, env = "STEERSMAN_EVALUATE_PROMPTS", value_name = "FILE")]
    pub prompts: PathBuf,
    /// Points per edge of the weight grid: with 11 each weight goes by tenths. Two objectives give
    /// N points, three N(N+1)/2, and every prompt is answered at each of them.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_GRID",
        value_name = "N",
        default_value_t = 11
    )]
    pub grid: usize,
    /// Folder of the report, made if need be; a report that is there is overwritten.
    #[arg(long, env = "STEERSMAN_EVALUATE_OUT", value_name = "DIR")]
    pub out: PathBuf,
    /// TOML file with `[objectives.NAME]` and `[judges.NAME]` rewards, as
    /// recipes/demo/judges-facts.toml; a file that it names and that is not there from the working
    /// directory is looked for beside it. Without it the rewards that the policy was trained on, and
    /// no outside judge.
    #[arg(long, env = "STEERSMAN_EVALUATE_REWARDS", value_name = "FILE")]
    pub rewards: Option<PathBuf>,
    /// More prompts, rows with `"safe": true` or `false` (as of XSTest), on which refusals are
    /// counted.
    #[arg(long, env = "STEERSMAN_EVALUATE_REFUSAL_PROMPTS", value_name = "FILE")]
    pub refusal_prompts: Option<PathBuf>,
    /// Use only the first N prompts; fewer are faster and less certain.
    #[arg(long, env = "STEERSMAN_EVALUATE_LIMIT", value_name = "N")]
    pub limit: Option<usize>,
    /// Most tokens of an answer.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_MAX_TOKENS",
        value_name = "N",
        default_value_t = 128
    )]
    pub max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_TEMPERATURE",
        value_name = "T",
        default_value_t = 0.7
    )]
    pub temperature: f32,
    /// Draw among the likeliest tokens only, which have this share of the probability; 1 is off.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_TOP_P",
        value_name = "P",
        default_value_t = 0.9
    )]
    pub top_p: f32,
    /// Fixes every answer: the same seed draws the same.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_SEED",
        value_name = "N",
        default_value_t = 0
    )]
    pub seed: u64,
    /// Show the answers to the first N prompts in the report, at every weight.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_SAMPLES",
        value_name = "N",
        default_value_t = 3
    )]
    pub samples: usize,
    /// Write the summary into the policy's steering.json, where the server reads it.
    #[arg(
        long,
        env = "STEERSMAN_EVALUATE_RECORD",
        value_parser = BoolishValueParser::new()
    )]
    pub record: bool,
}

/// Why an evaluation could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// The model could not be fetched.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The model could not be loaded.
    #[error("model")]
    Model(#[from] ModelError),
    /// The model's folder is not complete.
    #[error("model")]
    Folder(#[from] LoadError),
    /// The tokenizer could not be loaded.
    #[error("tokenizer")]
    Text(#[from] TextError),
    /// The steering manifest could not be loaded or written.
    #[error("steering manifest")]
    Manifest(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The engine could not start.
    #[error("engine")]
    Engine(#[from] EngineError),
    /// A reward could not be built.
    #[error("reward")]
    Reward(#[from] RewardError),
    /// Prompts could not be read.
    #[error("prompts")]
    Prompts(#[from] TrainingError),
    /// The evaluation itself failed.
    #[error("evaluation")]
    Eval(#[from] EvalError),
    /// The file of rewards could not be used.
    #[error("{}: {reason}", path.display())]
    RewardsFile {
        /// The file, or the manifest that stands in for it.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Everything that both sweeps share.
struct Bench {
    engine: EngineHandle<LoraAdapter>,
    encoder: PromptEncoder,
    manifest: SteeringManifest,
    stop_ids: Vec<TokenId>,
    grid: Vec<WeightVector>,
    settings: SweepSettings,
}

/// Makes the evaluation and writes the report.
pub fn run(args: &EvaluateArgs) -> Result<(), EvaluateError> {
    let args = &EvaluateArgs {
        model: fetching::located_now(&args.model, Lines::Printed)?,
        ..args.clone()
    };
    let (decoder, encoder) = load(args)?;
    let policy = policy_folder(args)?;
    let folder = policy.dir.clone();
    let manifest =
        SteeringManifest::load(&folder).map_err(|e| EvaluateError::Manifest(Box::new(e)))?;
    let adapter = match PolicyAdapter::load(&policy, Some(&manifest), decoder.config())? {
        // whoever names a policy means one with tensors of its own
        PolicyAdapter::Base if args.policy.is_some() => {
            PolicyAdapter::One(Arc::new(LoraAdapter::load(&folder, &decoder)?))
        }
        found => found,
    };
    let baseline = baseline(args, adapter.is_some(), &decoder)?;
    let (objectives, judges) = rewards::build_all(args.rewards.as_deref(), &manifest, &folder)?;
    let mut stop_ids = decoder.config().eos_token_ids.clone();
    stop_ids.extend(encoder.tokenizer().eos_ids());
    let bench = Bench {
        engine: EngineHandle::start(decoder, EngineConfig::default())?,
        encoder,
        grid: weight_grid(&manifest.objectives, args.grid)?,
        manifest,
        stop_ids,
        settings: SweepSettings {
            max_tokens: args.max_tokens,
            temperature: args.temperature,
            top_p: args.top_p,
            top_k: 0,
            seed: args.seed,
        },
    };
    let prompts = prompts(&args.prompts, args.limit)?;
    let normalizers = rewards::normalizers(&bench.manifest)?;
    let points = bench.sweep(&adapter, &prompts)?;
    let baseline_points = match &baseline {
        Some((name, adapter)) => Some((name.as_str(), bench.sweep(adapter, &prompts)?)),
        None => None,
    };
    let mut report = Findings {
        policy: &bench.manifest.name,
        prompts: &prompts,
        sampling: &bench.settings,
        objectives: &objectives,
        normalizers: &normalizers,
        judges: &judges,
        points: &points,
        baseline: baseline_points
            .as_ref()
            .map(|(name, points)| (*name, points.as_slice())),
        samples: args.samples,
    }
    .report()?;
    if let Some(path) = &args.refusal_prompts {
        let asked = self::prompts(path, args.limit)?;
        report.count_refusals(&asked, &bench.sweep(&adapter, &asked)?)?;
    }
    report.write(&args.out)?;
    if args.record {
        let mut manifest = bench.manifest;
        manifest.evaluation = told::summary(&report);
        manifest
            .save(&folder)
            .map_err(|e| EvaluateError::Manifest(Box::new(e)))?;
    }
    told::tell(&report, &args.out);
    Ok(())
}

impl Bench {
    fn sweep(
        &self,
        adapter: &PolicyAdapter,
        prompts: &[EvalPrompt],
    ) -> Result<Vec<SweptPoint>, EvalError> {
        let subject = Subject {
            engine: &self.engine,
            adapter: &|told| adapter.under(told),
            objectives: &self.manifest.objectives,
            template: &self.manifest.conditioning,
            encoder: &self.encoder,
            stop_ids: &self.stop_ids,
        };
        sweep(&subject, prompts, &self.grid, &self.settings)
    }
}

fn load(args: &EvaluateArgs) -> Result<(Arc<Decoder>, PromptEncoder), EvaluateError> {
    let (decoder, encoder) = if is_gguf(&args.model) {
        let file = GgufFile::open(&args.model).map_err(ModelError::from)?;
        (
            Decoder::load_gguf(&file, args.dtype)?,
            PromptEncoder::load_gguf(&file)?,
        )
    } else {
        let decoder = Decoder::load_with(&args.model, args.dtype)?;
        (decoder, PromptEncoder::load(&args.model)?)
    };
    Ok((Arc::new(decoder), encoder))
}

/// Where the policy lies: the one that is asked for, or the one that the model's `policies.json`
/// names.
fn policy_folder(args: &EvaluateArgs) -> Result<PolicyFolder, EvaluateError> {
    let model = ModelFolder::open(&args.model)?;
    let Some(policy) = &args.policy else {
        return Ok(model.policies[model.default].clone());
    };
    let named = model.policies[1..].iter().find(|it| it.id == *policy);
    Ok(named.map_or_else(
        || PolicyFolder::of_path(Path::new(policy)),
        PolicyFolder::clone,
    ))
}

/// The baseline's name and adapter; none where there is nothing to compare with.
fn baseline(
    args: &EvaluateArgs,
    has_adapter: bool,
    decoder: &Decoder,
) -> Result<Option<(String, PolicyAdapter)>, ModelError> {
    match args.baseline.as_str() {
        "none" => Ok(None),
        "off" if has_adapter => Ok(Some(("adapter off".to_owned(), PolicyAdapter::Base))),
        "off" => Ok(None),
        folder => {
            let adapter = LoraAdapter::load(Path::new(folder), decoder)?;
            Ok(Some((
                folder.to_owned(),
                PolicyAdapter::One(Arc::new(adapter)),
            )))
        }
    }
}

fn prompts(path: &Path, limit: Option<usize>) -> Result<Vec<EvalPrompt>, TrainingError> {
    let rows = read_prompts(path)?.into_iter();
    let rows = rows.map(|row| EvalPrompt {
        id: row.id,
        prompt: row.prompt,
        record: row.record,
    });
    Ok(rows.take(limit.unwrap_or(usize::MAX)).collect())
}
