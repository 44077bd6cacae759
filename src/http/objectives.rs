//! `GET /v1/objectives`: what a policy can be steered by.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::error::{ApiError, ErrorBody};
use super::weights::steering_headers;
use crate::service::{Access, App, LivePolicy, WeightsOffers};
use crate::steering::TargetRule;

/// One thing that a policy trades off against others.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Objective)]
pub(super) struct ObjectiveBody {
    /// Its name in `objective_weights`.
    name: String,
    /// What more of it means.
    description: String,
    /// Its weight where a request names none.
    default_weight: f32,
    /// Least raw weight.
    min_weight: f32,
    /// Greatest raw weight; `null` is unbounded.
    max_weight: Option<f32>,
    /// What the policy is asked for of it, of policies that are told targets; else `null`.
    target: Option<Target>,
}

/// What a policy can be asked for of one objective.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Target {
    /// Asked for where the objective has no weight.
    low: f32,
    /// Asked for where it has the most; below `low` where less is better.
    high: f32,
}

/// How a policy is told the weights.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Conditioning {
    /// `weights_text` (weights in the prompt), `reward_tokens` (rewards to reach, in the normalised
    /// units of its training), `score_tokens` (scores to reach), `attributes` (values to have) or
    /// `adapter_mix` (weights scale its adapters).
    #[schema(example = "weights_text")]
    kind: &'static str,
    /// How weights become targets: `linear`, `l2` or `linf`; `null` where weights themselves are told.
    rule: Option<&'static str>,
}

impl ObjectiveBody {
    /// The objectives of a policy, in their order; none for an ordinary model.
    pub(super) fn all(policy: &LivePolicy) -> Vec<Self> {
        let objectives = policy
            .manifest
            .iter()
            .flat_map(|manifest| manifest.objectives.iter());
        let ranges = (policy.manifest.iter()).flat_map(|it| &it.conditioning.targets);
        let mut ranges = ranges.map(|range| Target {
            low: range.low,
            high: range.high,
        });
        objectives
            .map(|objective| Self {
                name: objective.name.clone(),
                description: objective.description.clone(),
                default_weight: objective.default_weight,
                min_weight: objective.min_weight,
                max_weight: objective.max_weight,
                target: ranges.next(),
            })
            .collect()
    }
}

/// What a policy can be steered by, and how well it follows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Objectives {
    /// Always `objectives`.
    #[schema(example = "objectives")]
    object: &'static str,
    /// The policy.
    model: String,
    /// Its version.
    policy_version: String,
    /// What the policy is for; empty where its manifest does not say.
    description: String,
    /// In the order that `objective_weights` takes as an array; empty for an ordinary model.
    objectives: Vec<ObjectiveBody>,
    /// How the policy is told the weights; `null` for an ordinary model.
    conditioning: Option<Conditioning>,
    /// Decimals of what the policy is told; `null` for an ordinary model.
    decimals: Option<u32>,
    /// The evaluation report of the checkpoint, with its measured steerability; `null` where it
    /// was not evaluated.
    #[schema(value_type = Option<Object>)]
    evaluation: Option<serde_json::Value>,
}

/// Which policy to describe.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ObjectivesQuery {
    /// A model's id. Default: the default policy.
    model: Option<String>,
}

/// Describe what a policy can be steered by.
#[utoipa::path(
    get,
    path = "/v1/objectives",
    operation_id = "get_objectives",
    tag = "models",
    params(ObjectivesQuery),
    responses(
        (status = 200, description = "The objectives.", body = Objectives, headers(
            ("x-policy-version" = String, description = "The version of the policy."),
         )),
        (status = 400, description = "An unknown query parameter.", body = ErrorBody),
        (status = 404, description = "No such model.", body = ErrorBody),
    )
)]
pub(super) async fn get_objectives(
    State(app): State<Arc<App>>,
    query: Result<Query<ObjectivesQuery>, QueryRejection>,
) -> Result<(HeaderMap, Json<Objectives>), ApiError> {
    let Query(query) = query.map_err(|rejection| {
        let message = format!("the query takes only `model`: {}", rejection.body_text());
        ApiError::invalid("unknown_parameter", message)
    })?;
    let policy = app
        .steer(
            query.model.as_deref(),
            &WeightsOffers::default(),
            &Access::open(),
        )
        .await?
        .policy;
    let manifest = policy.manifest.as_ref();
    let headers = steering_headers(&policy.version, None);
    let body = Objectives {
        object: "objectives",
        model: policy.id.clone(),
        policy_version: policy.version.clone(),
        description: manifest.map_or_else(String::new, |m| m.description.clone()),
        objectives: ObjectiveBody::all(&policy),
        conditioning: manifest.map(|manifest| Conditioning {
            kind: manifest.conditioning.kind.as_str(),
            rule: manifest.conditioning.target_rule().map(TargetRule::as_str),
        }),
        decimals: manifest.map(|manifest| manifest.conditioning.decimals),
        evaluation: manifest
            .map(|manifest| manifest.evaluation.clone())
            .filter(|e| !e.is_null()),
    };
    Ok((headers, Json(body)))
}
