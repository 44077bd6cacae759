//! Why a request is refused or fails, and why a model folder cannot be served.

use std::path::PathBuf;

use super::offer::WeightsSource;
use crate::engine::EngineError;
use crate::gguf::GgufError;
use crate::model::{ModelError, NotBuilt};
use crate::steering::{ManifestError, WeightError};
use crate::store::StoreError;
use crate::text::TextError;
use crate::training::TrainingError;
use crate::types::ConstraintError;

/// A request that cannot be answered. Everything above `Engine` is the caller's to mend or retry.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No such model id.
    #[error("no model is named `{asked}`; this server has {known}")]
    ModelNotFound {
        /// What the caller named.
        asked: String,
        /// The ids that exist, for the message.
        known: String,
    },
    /// No such profile.
    #[error("no profile is named `{name}`{}; GET /v1/profiles lists them", by(*.from))]
    ProfileNotFound {
        /// What the caller named.
        name: String,
        /// Where; `None` is the request's path.
        from: Option<WeightsSource>,
    },
    /// A profile is not of the version that the caller expects.
    #[error("the profile `{id}` {found}, expected {expected}; read it again and repeat the change")]
    ProfileChanged {
        /// The profile.
        id: String,
        /// What it is, in words.
        found: String,
        /// What it should be, in words.
        expected: String,
    },
    /// Weights outside what the caller's key may ask for.
    #[error(
        "this API key may ask for a share of `{objective}` from {least} to {most}, and these \
         weights give it {weight}"
    )]
    WeightForbidden {
        /// The objective.
        objective: String,
        /// Its share, after normalisation to sum 1.
        weight: f32,
        /// The least share.
        least: f32,
        /// The greatest share.
        most: f32,
    },
    /// Texts that cannot be scored under a model, where scores could be sent instead.
    #[error(
        "the texts cannot be scored; send the scores instead, `rewards_chosen` and \
         `rewards_rejected` or `candidate_rewards`: {problem}"
    )]
    Unscorable {
        /// Why not.
        problem: String,
    },
    /// The state cannot be read or written.
    #[error("the server's state cannot be reached")]
    Store(#[from] StoreError),
    /// The server keeps no state.
    #[error("this server keeps no profiles; start it with `serve`, which has a data folder")]
    NoStore,
    /// A field whose value is out of its range or of the wrong form.
    #[error("`{param}` {problem}")]
    Invalid {
        /// The field at fault.
        param: String,
        /// What it must be, and what it is.
        problem: String,
    },
    /// Objective weights that do not make a point on the simplex.
    #[error("the objective weights in {from} cannot be used")]
    Weights {
        /// Where they came in.
        from: WeightsSource,
        /// What is wrong with them.
        #[source]
        source: WeightError,
    },
    /// Two explicit sources of weights that differ.
    #[error(
        "{first} asks for the objective weights {first_weights} and {second} for \
         {second_weights}; give one of them, or the same in both"
    )]
    ObjectiveConflict {
        /// The source that would win.
        first: WeightsSource,
        /// Its weights, as text.
        first_weights: String,
        /// The source that disagrees.
        second: WeightsSource,
        /// Its weights, as text.
        second_weights: String,
    },
    /// Weights for a model without a manifest.
    #[error(
        "the model `{model}` has no objectives, so it cannot take objective weights (they came \
         in {from}); {steerable}"
    )]
    NoObjectives {
        /// The model's id.
        model: String,
        /// Where the weights came in.
        from: WeightsSource,
        /// Which models do have objectives.
        steerable: String,
    },
    /// Prompt and completion do not fit.
    #[error(
        "This model's maximum context length is {context} tokens. However, your request needs \
         {prompt_tokens} tokens of prompt{completion}. Shorten the prompt or lower `max_tokens`."
    )]
    ContextOverflow {
        /// Positions that the model has.
        context: usize,
        /// Tokens of the prompt, conditioning included.
        prompt_tokens: usize,
        /// The completion's share, as text; empty where none was asked.
        completion: String,
    },
    /// The messages cannot be rendered or encoded.
    #[error("the prompt cannot be encoded for the model `{model}`")]
    Prompt {
        /// The model's id.
        model: String,
        /// The field that holds it.
        field: &'static str,
        /// Whether the messages are at fault, not the checkpoint.
        by_caller: bool,
        /// Why not.
        #[source]
        source: TextError,
    },
    /// The rewards of a policy cannot be had.
    #[error("{problem}")]
    Rewards {
        /// What is missing, and what would be right.
        problem: String,
    },
    /// One point of a sweep is at fault.
    #[error("point {index} of the sweep")]
    Point {
        /// Which one, counted from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: Box<RequestError>,
    },
    /// The output constraint became too much work on the way.
    #[error("the answer's grammar could not be followed to its end")]
    Constraint(#[source] ConstraintError),
    /// Too many requests are waiting.
    #[error("the queue is full: all {capacity} places are taken; try again shortly")]
    QueueFull {
        /// Running and waiting places together.
        capacity: usize,
    },
    /// Too many prompt tokens are waiting.
    #[error("the queue is full: {waiting} of {limit} prompt tokens are waiting; try again shortly")]
    QueuedTokensFull {
        /// Prompt tokens that wait.
        waiting: usize,
        /// Most that may wait.
        limit: usize,
    },
    /// No token came in the time that a request may wait.
    #[error(
        "no token of the answer came within {waited_s} s: too many requests are before this one; \
         send it again later"
    )]
    QueueTimeout {
        /// How long it waited, in seconds.
        waited_s: u64,
    },
    /// The server is about to end.
    #[error("the server is shutting down; send the request again, to another instance")]
    Draining,
    /// The engine ended; nothing can be generated until the process is restarted.
    #[error("the engine has stopped")]
    EngineStopped,
    /// The engine failed on this request.
    #[error("the engine failed on this request")]
    Engine(#[source] EngineError),
    /// The policy's adapters cannot be mixed.
    #[error("the policy's adapters cannot be mixed")]
    Mix(#[from] ModelError),
}

impl From<EngineError> for RequestError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::QueueFull { capacity } => Self::QueueFull { capacity },
            EngineError::QueuedTokensFull { waiting, limit, .. } => {
                Self::QueuedTokensFull { waiting, limit }
            }
            EngineError::ContextOverflow {
                prompt_tokens,
                max_tokens,
                limit,
            } => Self::ContextOverflow {
                context: limit,
                prompt_tokens,
                completion: format!(" and {max_tokens} of completion"),
            },
            EngineError::Stopped | EngineError::Restarted => Self::EngineStopped,
            EngineError::Constraint(source) => Self::Constraint(source),
            other => Self::Engine(other),
        }
    }
}

/// Who named something, behind its name.
fn by(from: Option<WeightsSource>) -> String {
    from.map_or_else(String::new, |from| format!(" ({from})"))
}

impl RequestError {
    /// A field that is out of range or of the wrong form.
    pub fn invalid(param: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid {
            param: param.into(),
            problem: problem.into(),
        }
    }
}

/// A model folder that cannot be served, in a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path is neither a folder nor a GGUF file.
    #[error(
        "{} is not a folder, and no GGUF file; --model takes a folder with config.json, \
         tokenizer.json and model.safetensors, a file that ends in .gguf, or a model of the hub as in \
         Qwen/Qwen2.5-0.5B-Instruct",
        .0.display()
    )]
    NotAFolder(PathBuf),
    /// A file that cannot be read or written.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file that does not hold what it should.
    #[error("{} is not what it should be", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason.
        #[source]
        source: serde_json::Error,
    },
    /// Only pickle tensors.
    #[error(
        "{} holds its tensors only as a pickle file ({file}); loading a pickle can run any \
         code hidden in it, so it is refused: convert the checkpoint to safetensors (for example \
         with save_pretrained(..., safe_serialization=True)) and try again",
        dir.display()
    )]
    Pickle {
        /// The model folder.
        dir: PathBuf,
        /// The first such file.
        file: String,
    },
    /// No tensors at all.
    #[error(
        "{} holds no weights: neither model.safetensors nor model.safetensors.index.json is \
         there{hint}",
        dir.display()
    )]
    NoWeights {
        /// The model folder.
        dir: PathBuf,
        /// What lies there instead, if that says something.
        hint: &'static str,
    },
    /// A GGUF file that cannot be read.
    #[error(transparent)]
    Gguf {
        /// Why not.
        #[from]
        source: GgufError,
    },
    /// A model or policy name that cannot be an id.
    #[error(
        "`{name}` ({}) cannot be a model id: 1 to 64 characters of a-z, A-Z, 0-9, `.`, `_` \
         and `-`, the first a letter or digit, and not `default`",
        path.display()
    )]
    BadName {
        /// The name.
        name: String,
        /// The folder that has it.
        path: PathBuf,
    },
    /// The decoder or an adapter cannot be loaded.
    #[error("the model {} cannot be loaded", dir.display())]
    Model {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: ModelError,
    },
    /// The tokenizer or chat template cannot be loaded.
    #[error("the tokenizer of {} cannot be loaded", dir.display())]
    Text {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        #[source]
        source: TextError,
    },
    /// The content of a checkpoint cannot be hashed.
    #[error("the checkpoint's version cannot be told")]
    Hash(#[source] TrainingError),
    /// `steering.json` cannot be read.
    #[error("the policy's manifest cannot be used")]
    Manifest(#[source] ManifestError),
    /// `steering.json` is sound but made for another model.
    #[error("the manifest {} does not fit this model: {problem}", path.display())]
    Misfit {
        /// The file.
        path: PathBuf,
        /// What does not fit, and what would.
        problem: String,
    },
    /// `policies.json` and the folder disagree.
    #[error("{}: {problem}", path.display())]
    Policies {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// A device is asked for that this program is not built for.
    #[error(transparent)]
    Device(#[from] NotBuilt),
    /// Everything is there, and yet no token can be had.
    #[error(
        "the model `{policy}` cannot answer: after the shortest prompt no token can be had; its \
         tensors may hold numbers that are not finite"
    )]
    NoToken {
        /// Which policy.
        policy: String,
        /// What the engine says.
        #[source]
        source: EngineError,
    },
    /// The engine could not be started.
    #[error("the engine cannot start")]
    Engine(#[source] EngineError),
}

/// An error's text followed by those of its sources, as a person reads it.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
