//! `POST /v1/sweep`: one prompt under many weight vectors, answered in one batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::asking::{Asked, Caller, Refusals, ReplyOptions, SharedFields};
use super::body::JsonBody;
use super::error::ApiError;
use super::messages::{MessageSchema, read_messages};
use super::reply::{Logprobs, UsageBody, new_id, now};
use super::sampling::LogprobsFields;
use super::weights::{Steering, WeightsField, steering_headers};
use crate::service::{
    App, PromptInput, RequestError, Speller, SweepInput, SweepPoints, Swept, SweptAnswer,
};
use crate::types::{FinishReason, TokenId};

/// A prompt, the weight vectors to answer it under, and how.
///
/// `objective_weights`, `n` above 1 and `stream` are refused: every point has weights of its own
/// and one answer.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct SweepRequest {
    /// What to answer: one turn of the user where the checkpoint has a chat template, else text
    /// to continue. Exactly one of `prompt` and `messages` must be there.
    #[schema(example = "What is the capital of France?")]
    prompt: Option<String>,
    /// A conversation to answer.
    #[schema(value_type = Option<Vec<MessageSchema>>)]
    messages: Option<Vec<Value>>,
    /// Points along each edge of the simplex, evenly spaced, both ends included: with two
    /// objectives 11 gives 11 weight vectors, with three 5 gives 15. At most 64 vectors.
    #[schema(minimum = 2, maximum = 64, example = 11)]
    grid: Option<u64>,
    /// The weight vectors themselves, 1 to 64. Exactly one of `grid` and `points` must be there.
    points: Option<Vec<WeightsField>>,
    /// Score each answer by the rewards that the policy was trained on, and mark the Pareto front.
    score: Option<bool>,
    #[serde(flatten)]
    logprobs: LogprobsFields,
    #[serde(flatten)]
    shared: SharedFields,
}

/// Answers to one prompt, one for each weight vector.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sweep)]
pub(super) struct SweepBody {
    /// Unique to this sweep.
    id: String,
    /// Always `sweep`.
    #[schema(example = "sweep")]
    object: &'static str,
    /// Seconds since 1970.
    created: u64,
    /// The model that answered.
    model: String,
    /// Its version.
    policy_version: String,
    /// The objectives, in their order.
    objectives: Vec<String>,
    /// One answer for each weight vector, in their order.
    points: Vec<SweepPoint>,
    /// What they cost together.
    usage: UsageBody,
    /// The seed of every answer: what differs between two of them is the weights' doing.
    seed: u64,
    /// What of the request had no effect.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What came of one weight vector.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SweepPoint {
    /// Counted from 0.
    index: usize,
    /// The weights.
    steering: Steering,
    /// The answer.
    text: String,
    /// `stop`: an end-of-sequence token or a stop string; `length`: `max_tokens`.
    #[schema(value_type = String, example = "stop")]
    finish_reason: FinishReason,
    /// With `return_token_ids`: the answer's tokens, a final stop token included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<u32>>)]
    token_ids: Option<Vec<TokenId>>,
    /// With `logprobs`: each token's log-probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs>,
    /// With `score`: each objective's reward, as the reward model gives it; higher is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    rewards: Option<BTreeMap<String, f32>>,
    /// With `score`: whether no other answer of this sweep is at least as good in every objective
    /// and better in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pareto: Option<bool>,
    /// What it cost.
    usage: UsageBody,
}

/// Answer one prompt under many weight vectors, in one batch and with one seed.
#[utoipa::path(
    post,
    path = "/v1/sweep",
    operation_id = "create_sweep",
    tag = "generation",
    params(("x-request-id" = Option<String>, Header, description = "Taken over and echoed.")),
    request_body = SweepRequest,
    responses(
        (status = 200, description = "The answers.", body = SweepBody, headers(
            ("x-policy-version" = String, description = "The version of the policy that answers."),
            ("x-request-id" = String, description = "The request's id."),
            ("openai-processing-ms" = u64, description = "Milliseconds until the reply began."),
         )),
        Refusals,
    )
)]
pub(super) async fn create_sweep(
    State(app): State<Arc<App>>,
    caller: Caller,
    JsonBody(request): JsonBody<SweepRequest>,
) -> Result<Response, ApiError> {
    let points = read_points(request.grid, request.points)?;
    let mut of_turns = Vec::new();
    let prompt = match (request.prompt, request.messages) {
        (Some(prompt), None) => PromptInput::Text(prompt),
        (None, Some(turns)) => PromptInput::Dialogue(read_messages(&turns, &mut of_turns)?),
        _ => {
            let message = "exactly one of `prompt` and `messages` must be given";
            return Err(ApiError::invalid("invalid_value", message).with_param("prompt"));
        }
    };
    let top_logprobs = request.logprobs.read()?;
    let mut asked = request
        .shared
        .take_apart(&caller, vec![prompt], top_logprobs)?;
    asked.warnings.extend(of_turns);
    check_asked(&asked)?;
    if asked.input.user.is_some() {
        let warning = "`user` was accepted but has no effect on a sweep: its weights are `points`";
        asked.warnings.push(warning.to_owned());
    }
    let sweep = app
        .sweep(SweepInput {
            question: asked.input,
            points,
            score: request.score.unwrap_or(false),
        })
        .await?;
    let ending = sweep.answers.ending();
    let whole = tokio::select! {
        whole = sweep.finish() => whole?,
        () = ending => return Err(RequestError::Draining.into()),
    };
    caller.account.answered_by(&whole.policy);
    caller.account.cost(whole.usage);
    let headers = steering_headers(&whole.policy.version, None);
    let body = SweepBody {
        id: new_id("sweep"),
        object: "sweep",
        created: now(),
        model: whole.policy.id.clone(),
        policy_version: whole.policy.version.clone(),
        points: word_points(&whole, asked.options, &app.speller()),
        objectives: whole.objectives,
        usage: UsageBody::new(whole.usage, None),
        seed: whole.seed,
        warnings: [asked.warnings, whole.remarks].concat(),
    };
    Ok((headers, Json(body)).into_response())
}

fn read_points(
    grid: Option<u64>,
    points: Option<Vec<WeightsField>>,
) -> Result<SweepPoints, ApiError> {
    match (grid, points) {
        (Some(per_edge), None) => Ok(SweepPoints::Grid(per_edge)),
        (None, Some(points)) => {
            let raw = points.into_iter().map(|weights| weights.0).collect();
            Ok(SweepPoints::List(raw))
        }
        (grid, _) => {
            let got = if grid.is_some() { "both" } else { "neither" };
            let message = format!("exactly one of `grid` and `points` must be given, got {got}");
            Err(ApiError::invalid("invalid_value", message).with_param("points"))
        }
    }
}

/// Refuses what a sweep cannot honour.
fn check_asked(asked: &Asked) -> Result<(), ApiError> {
    let Asked { input, options, .. } = asked;
    let (param, message) = if input.body_weights.is_some() {
        let message = "`objective_weights` cannot be given to a sweep; list them in `points`";
        ("objective_weights", message)
    } else if input.header_weights.is_some() {
        let message = "`x-objective-weights` cannot be given to a sweep; list weights in `points`";
        ("x-objective-weights", message)
    } else if input.profile.is_some() {
        let message = "`profile` cannot be given to a sweep; list its weights in `points`";
        ("profile", message)
    } else if input.metadata_weights.is_some() {
        let message = "`metadata.objectives` cannot be given to a sweep; list them in `points`";
        ("metadata.objectives", message)
    } else if input.n.is_some_and(|n| n != 1) {
        ("n", "`n` must be 1 in a sweep: each point has one answer")
    } else if options.stream {
        (
            "stream",
            "`stream` is not supported by a sweep; leave it out",
        )
    } else {
        return Ok(());
    };
    Err(ApiError::invalid("unsupported_parameter", message).with_param(param))
}

fn word_points(whole: &Swept, options: ReplyOptions, speller: &Speller) -> Vec<SweepPoint> {
    let word = |(index, point): (usize, &SweptAnswer)| {
        let SweptAnswer {
            steering,
            answer,
            rewards,
            on_front,
        } = point;
        let steering = Steering::from(steering);
        let named = whole
            .objectives
            .iter()
            .cloned()
            .zip(rewards.iter().copied());
        SweepPoint {
            index,
            text: answer.text.clone(),
            finish_reason: answer.reason,
            token_ids: options.token_ids(&answer.tokens),
            logprobs: options.logprobs(speller, &answer.tokens),
            rewards: on_front.map(|_| named.collect()),
            pareto: *on_front,
            usage: UsageBody::new(answer.usage, Some(steering.clone())),
            steering,
        }
    };
    whole.points.iter().enumerate().map(word).collect()
}
