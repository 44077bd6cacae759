//! The workload: what is asked of the server, stated so that others can ask the same.

use serde::Serialize;

/// Which route is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// `POST /v1/chat/completions`, one user message.
    Chat,
    /// `POST /v1/completions`, a plain prompt.
    Completions,
}

impl Api {
    /// Its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
        }
    }
}

/// Which objective weights requests bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsMix {
    /// All of them equal weights of all objectives.
    Same,
    /// Each its own, drawn evenly from the simplex, to three decimals.
    Mixed,
}

/// What is asked, in numbers. With the seed it fixes every request to the byte.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workload {
    /// The route.
    pub api: Api,
    /// Tokens of each prompt, about: its words are counted out by what the server says of two
    /// trial prompts. Every prompt of a run is another, so that no prefix cache helps.
    pub prompt_tokens: usize,
    /// Tokens of each answer: exactly so many where the server takes `ignore_eos`, else at most.
    pub output_tokens: usize,
    /// Requests of each level.
    pub requests: usize,
    /// Requests before the first level that are not measured.
    pub warm_up: usize,
    /// Sampling temperature.
    pub temperature: f64,
    /// Of words, weights, arrivals, and of the requests' own seeds.
    pub seed: u64,
    /// Weights; none are sent where this is none.
    pub weights: Option<WeightsMix>,
}
