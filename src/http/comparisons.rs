//! `POST /v1/profiles/{id}/comparisons` and `…/next`: learning a profile's weights from choices.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body::JsonBody;
use super::error::{ApiError, ErrorBody};
use super::fields::refuse_rest;
use super::messages::{MessageSchema, read_messages};
use super::profiles::{ProfileBody, ProfileId};
use super::weights::{WeightsField, WideWeights};
use crate::service::{App, Belief, ComparedAnswers, MAX_CANDIDATES};
use crate::types::Message;

/// Which of two answers was preferred: the texts with what they answer, or their rewards.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct CreateComparison {
    /// The model whose objectives and reward models count. Default: the default policy.
    model: Option<String>,
    /// What both answers answer, as text; or `messages`.
    prompt: Option<String>,
    /// What both answers answer, as a conversation.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// The answer that was preferred. Texts are scored by the policy's reward models and not
    /// kept.
    chosen: Option<String>,
    /// The other answer.
    rejected: Option<String>,
    /// Instead of texts: the rewards of the preferred answer, one an objective, on the scale of
    /// the policy's reward models.
    #[schema(value_type = Option<RewardsSchema>)]
    rewards_chosen: Option<WeightsField>,
    /// The rewards of the other answer.
    #[schema(value_type = Option<RewardsSchema>)]
    rewards_rejected: Option<WeightsField>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// ComparedAnswers among which to find the two whose comparison would tell most.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SuggestComparison {
    /// The model whose objectives and reward models count. Default: the default policy.
    model: Option<String>,
    /// What all candidates answer, as text; or `messages`.
    prompt: Option<String>,
    /// What all candidates answer, as a conversation.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// 2 to 32 answers, for the policy's reward models to score.
    candidates: Option<Vec<String>>,
    /// Instead of texts: the rewards of each candidate.
    #[schema(value_type = Option<Vec<RewardsSchema>>)]
    candidate_rewards: Option<Vec<WeightsField>>,
    #[serde(flatten)]
    #[schema(ignore)]
    rest: Map<String, Value>,
}

/// Rewards by objective, or in the checkpoint's order.
#[derive(ToSchema)]
#[schema(as = Rewards)]
#[expect(dead_code, reason = "only its schema is used")]
#[serde(untagged)]
enum RewardsSchema {
    Named(std::collections::BTreeMap<String, f64>),
    Ordered(Vec<f64>),
}

/// What is known of a profile's weights: Bradley-Terry over the simplex, from a flat prior.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Posterior)]
pub(super) struct PosteriorBody {
    /// The mean weights.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    mean: WideWeights,
    /// Per objective the ends of the interval that holds its weight with `probability`.
    #[schema(value_type = std::collections::BTreeMap<String, Vec<f64>>)]
    interval: Map<String, Value>,
    /// Of each interval.
    #[schema(example = 0.9)]
    probability: f64,
    /// How many comparisons it rests on: the latest 1000 under this model since weights were last set
    /// by hand.
    comparisons: usize,
}

impl From<Belief> for PosteriorBody {
    fn from(belief: Belief) -> Self {
        let ends = belief.intervals.into_iter();
        Self {
            mean: WideWeights(belief.mean),
            interval: ends
                .map(|(name, ends)| (name, serde_json::json!(ends)))
                .collect(),
            probability: 0.9,
            comparisons: belief.comparisons,
        }
    }
}

/// A comparison taken in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Comparison {
    /// The comparison's id.
    id: String,
    /// Always `profile.comparison`.
    #[schema(example = "profile.comparison")]
    object: &'static str,
    /// The profile, with the weights learned.
    profile: ProfileBody,
    /// What is known of its weights.
    posterior: PosteriorBody,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The comparison to ask for next.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ComparisonSuggestion {
    /// Always `profile.comparison.suggestion`.
    #[schema(example = "profile.comparison.suggestion")]
    object: &'static str,
    /// Place of the one answer among the candidates, from 0.
    first: usize,
    /// Place of the other.
    second: usize,
    /// Expected information about the weights, in bits; at most 1.
    information_bits: f64,
    /// What is known of the weights now.
    posterior: PosteriorBody,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Take in that of two answers this profile's user preferred one.
///
/// The profile's weights become the mean of their posterior. Before it are the weights that were last
/// set by hand (Dirichlet, with them as its mean), and in it the comparisons since then.
#[utoipa::path(
    post,
    path = "/v1/profiles/{id}/comparisons",
    operation_id = "create_comparison",
    tag = "profiles",
    params(("id" = String, Path, description = "The profile's id.")),
    request_body = CreateComparison,
    responses(
        (status = 200, description = "What was learned.", body = Comparison),
        (status = 400, description = "The answers cannot be compared.", body = ErrorBody),
        (status = 404, description = "No such profile or model.", body = ErrorBody),
        (status = 409, description = "The profile is being changed by others.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
    )
)]
pub(super) async fn create_comparison(
    State(app): State<Arc<App>>,
    ProfileId(id): ProfileId,
    JsonBody(request): JsonBody<CreateComparison>,
) -> Result<Json<Comparison>, ApiError> {
    refuse_rest(&request.rest)?;
    let mut warnings = Vec::new();
    let texts = match (request.chosen, request.rejected) {
        (Some(chosen), Some(rejected)) => Some(vec![chosen, rejected]),
        (None, None) => None,
        (Some(_), None) => return Err(missing("rejected", "chosen")),
        (None, Some(_)) => return Err(missing("chosen", "rejected")),
    };
    let rewards = match (request.rewards_chosen, request.rewards_rejected) {
        (Some(chosen), Some(rejected)) => Some(vec![chosen, rejected]),
        (None, None) => None,
        (Some(_), None) => return Err(missing("rewards_rejected", "rewards_chosen")),
        (None, Some(_)) => return Err(missing("rewards_chosen", "rewards_rejected")),
    };
    let asked = Asked {
        prompt: request.prompt,
        messages: request.messages,
        fields: ["chosen", "rewards_chosen"],
    };
    let answers = asked.answers(texts, rewards, &mut warnings)?;
    let learned = app.compare(&id, request.model.as_deref(), answers).await?;
    Ok(Json(Comparison {
        id: learned.id,
        object: "profile.comparison",
        profile: learned.profile.into(),
        posterior: learned.belief.into(),
        warnings,
    }))
}

/// Find the two of some answers whose comparison would tell most about a profile's weights.
///
/// Takes nothing in. Show both to the profile's user, then send the choice as a comparison.
#[utoipa::path(
    post,
    path = "/v1/profiles/{id}/comparisons/next",
    operation_id = "suggest_comparison",
    tag = "profiles",
    params(("id" = String, Path, description = "The profile's id.")),
    request_body = SuggestComparison,
    responses(
        (status = 200, description = "The pair to compare.", body = ComparisonSuggestion),
        (status = 400, description = "The candidates cannot be compared.", body = ErrorBody),
        (status = 404, description = "No such profile or model.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
    )
)]
pub(super) async fn suggest_comparison(
    State(app): State<Arc<App>>,
    ProfileId(id): ProfileId,
    JsonBody(request): JsonBody<SuggestComparison>,
) -> Result<Json<ComparisonSuggestion>, ApiError> {
    refuse_rest(&request.rest)?;
    let mut warnings = Vec::new();
    let asked = Asked {
        prompt: request.prompt,
        messages: request.messages,
        fields: ["candidates", "candidate_rewards"],
    };
    let count = [
        request.candidates.as_ref().map(Vec::len),
        request.candidate_rewards.as_ref().map(Vec::len),
    ];
    // before a reward model reads any of them
    for (field, count) in asked.fields.into_iter().zip(count) {
        if let Some(count) = count.filter(|count| !(2..=MAX_CANDIDATES).contains(count)) {
            let problem = format!("`{field}` must hold 2 to {MAX_CANDIDATES} answers, got {count}");
            return Err(ApiError::invalid("invalid_value", problem).with_param(field));
        }
    }
    let answers = asked.answers(request.candidates, request.candidate_rewards, &mut warnings)?;
    let model = request.model.as_deref();
    let (question, belief) = app.next_comparison(&id, model, answers).await?;
    Ok(Json(ComparisonSuggestion {
        object: "profile.comparison.suggestion",
        first: question.first,
        second: question.second,
        information_bits: (question.bits * 1e6).round() / 1e6,
        posterior: belief.into(),
        warnings,
    }))
}

fn missing(field: &str, other: &str) -> ApiError {
    let message = format!("`{field}` is missing, and `{other}` is there: a comparison needs both");
    ApiError::invalid("missing_field", message).with_param(field)
}

/// What the answers of a request answer.
struct Asked {
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    /// The fields of texts and of rewards, for messages.
    fields: [&'static str; 2],
}

impl Asked {
    /// Exactly one of texts, with what they answer, and rewards.
    fn answers(
        self,
        texts: Option<Vec<String>>,
        rewards: Option<Vec<WeightsField>>,
        warnings: &mut Vec<String>,
    ) -> Result<ComparedAnswers, ApiError> {
        let [of_texts, of_rewards] = self.fields;
        let refuse = |message: String, param: &str| {
            Err(ApiError::invalid("invalid_value", message).with_param(param))
        };
        match (texts, rewards) {
            (Some(answers), None) => {
                if answers.iter().any(|answer| answer.trim().is_empty()) {
                    let message = "an answer must hold some text, got an empty string".to_owned();
                    return refuse(message, of_texts);
                }
                let prompt = self.conversation(warnings)?;
                Ok(ComparedAnswers::Texts { prompt, answers })
            }
            (None, Some(_)) if self.prompt.is_some() || self.messages.is_some() => {
                let message = format!(
                    "`prompt` and `messages` go with texts; with `{of_rewards}` leave them out"
                );
                refuse(message, "prompt")
            }
            (None, Some(rewards)) => Ok(ComparedAnswers::Rewards(
                rewards.into_iter().map(|r| r.0).collect(),
            )),
            (texts, _) => {
                let got = if texts.is_some() { "both" } else { "neither" };
                let message = format!(
                    "exactly one of `{of_texts}` (texts) and `{of_rewards}` must be given, got \
                     {got}"
                );
                refuse(message, of_texts)
            }
        }
    }

    fn conversation(self, warnings: &mut Vec<String>) -> Result<Vec<Message>, ApiError> {
        let refuse = |message: &str, param: &str| {
            Err(ApiError::invalid("invalid_value", message).with_param(param))
        };
        match (self.prompt, self.messages) {
            (Some(text), None) if text.trim().is_empty() => refuse(
                "`prompt` must hold some text, got an empty string",
                "prompt",
            ),
            (Some(text), None) => Ok(vec![Message::user(text)]),
            (None, Some(turns)) if turns.is_empty() => refuse(
                "`messages` must hold at least one message, got none",
                "messages",
            ),
            (None, Some(turns)) => read_messages(&turns, warnings),
            _ => refuse(
                "texts need exactly one of `prompt` and `messages`: what they answer",
                "prompt",
            ),
        }
    }
}
