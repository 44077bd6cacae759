//! `steersman generate`: one answer, streamed to the terminal, without a server.

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::fetching::{self, Lines};
use super::print;
use crate::config::Settings;
use crate::hub::HubError;
use crate::service::{
    Access, AnswerEvent, App, Device, Dtype, GenerationInput, LoadError, PromptInput, RawWeights,
    RequestError, SamplingInput,
};

/// Generate one answer and stream it to the terminal.
///
/// No server is asked: the model is loaded, answers, and is gone.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  \
    steersman generate \"What is the capital of Kenya?\" --weights brevity=0.7,detail=0.3")]
pub(super) struct GenerateArgs {
    /// What to answer
    prompt: String,
    /// Objective weights, as in helpfulness=0.7,harmlessness=0.3; they are normalised to sum 1.
    /// `inspect` tells a policy's objectives [default: the policy's own]
    #[arg(long, env = "STEERSMAN_WEIGHTS", value_name = "NAME=NUMBER,...")]
    weights: Option<String>,
    /// The model: a folder, a GGUF file, or a model of the hub; `serve --help` says more [default:
    /// models/demo]
    #[arg(long, env = "STEERSMAN_MODEL", value_name = "DIR|FILE.gguf|ORG/NAME")]
    model: Option<PathBuf>,
    /// Numbers that linear layers multiply: `f32`, `bf16`, `q8_0`, `q4_0` or `auto`; `serve --help`
    /// says what each trades [default: auto]
    #[arg(long, env = "STEERSMAN_DTYPE", value_name = "DTYPE")]
    dtype: Option<Dtype>,
    /// What computes: `cpu`, `cuda`, `cuda:N` or `auto`; `serve --help` says more [default: cpu]
    #[arg(long, env = "STEERSMAN_DEVICE", value_name = "cpu|cuda[:N]|auto")]
    device: Option<Device>,
    /// Which of the policies over the model answers [default: the model's default]
    #[arg(long, env = "STEERSMAN_POLICY", value_name = "NAME")]
    policy: Option<String>,
    /// Most tokens to generate; more costs time, fewer may cut the answer off [default: the
    /// model's, else 256]
    #[arg(long, env = "STEERSMAN_MAX_TOKENS", value_name = "N")]
    max_tokens: Option<u64>,
    /// Repeats an answer: same seed, weights, policy and prompt give the same bytes [default:
    /// drawn anew]
    #[arg(long, env = "STEERSMAN_SEED", value_name = "N")]
    seed: Option<u64>,
    /// 0 always takes the likeliest token, higher is more varied and less reliable, up to 2
    /// [default: the model's, else 1]
    #[arg(long, env = "STEERSMAN_TEMPERATURE", value_name = "T")]
    temperature: Option<f64>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum GenerateError {
    #[error("`--weights` {0}")]
    Weights(String),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("the terminal cannot be written to")]
    Io(#[from] io::Error),
}

pub(super) fn run(args: GenerateArgs) -> Result<(), GenerateError> {
    let weights = args.weights.as_deref().map(RawWeights::parse).transpose();
    let input = GenerationInput {
        model: args.policy,
        prompts: vec![PromptInput::Text(args.prompt)],
        body_weights: weights.map_err(GenerateError::Weights)?,
        access: Access::open(),
        sampling: SamplingInput {
            max_tokens: args.max_tokens,
            seed: args.seed,
            temperature: args.temperature,
            ..SamplingInput::default()
        },
        ..GenerationInput::default()
    };
    let mut settings = Settings::default();
    settings.dtype = args.dtype.unwrap_or(settings.dtype);
    settings.device = args.device.unwrap_or(settings.device);
    let model = args.model.as_ref().unwrap_or(&settings.model);
    let model = fetching::located_now(model, Lines::Printed)?;
    let app = App::load(&model, &settings.service())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(stream(&app, input))
}

async fn stream(app: &App, input: GenerationInput) -> Result<(), GenerateError> {
    let mut answers = app.generate(input).await?;
    while let Some(event) = answers.next().await {
        if let (_, AnswerEvent::Delta { text, .. }) = event? {
            print(&text)?;
        }
    }
    Ok(print("\n")?)
}
