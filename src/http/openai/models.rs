//! `GET /v1/models` and `GET /v1/models/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::error::{ApiError, ErrorBody};
use super::super::objectives::ObjectiveBody;
use super::super::weights::{Steering, steering_headers};
use crate::service::{Access, App, LivePolicy, WeightsOffers, WeightsSource};

/// Every model of this server.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ModelList {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    /// The default first, then the base and the other policies.
    data: Vec<ModelCard>,
}

/// A model, in OpenAI's shape, with its version and objectives beside it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(in crate::http) struct ModelCard {
    /// What a request's `model` names.
    id: String,
    /// Always `model`.
    #[schema(example = "model")]
    object: &'static str,
    /// When its files were written, in seconds since 1970.
    created: u64,
    /// Always `steersman`.
    #[schema(example = "steersman")]
    owned_by: &'static str,
    /// The base model it is a policy over; the base names itself.
    root: String,
    /// Whether it answers where no model is named.
    default: bool,
    /// Changes whenever its content does.
    policy_version: String,
    /// Tokens that prompt and answer may have together.
    max_model_len: usize,
    /// In what numbers its linear layers multiply.
    #[schema(example = "f32")]
    dtype: &'static str,
    /// What it is for; empty where its manifest does not say.
    description: String,
    /// What it can be steered by; empty for an ordinary model.
    objectives: Vec<ObjectiveBody>,
    /// What the weights in the asked id's suffix come to.
    #[serde(skip_serializing_if = "Option::is_none")]
    steering: Option<Steering>,
}

impl ModelCard {
    fn of(app: &App, policy: &LivePolicy) -> Self {
        Self {
            id: policy.id.clone(),
            object: "model",
            created: policy.created,
            owned_by: "steersman",
            root: app.policies()[0].id.clone(),
            default: app.default_policy().id == policy.id,
            policy_version: policy.version.clone(),
            max_model_len: app.context_length(),
            dtype: app.dtype(),
            description: policy
                .manifest
                .as_ref()
                .map_or_else(String::new, |m| m.description.clone()),
            objectives: ObjectiveBody::all(policy),
            steering: None,
        }
    }
}

/// List the models.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    tag = "models",
    responses((status = 200, description = "The models.", body = ModelList))
)]
pub(in crate::http) async fn list_models(State(app): State<Arc<App>>) -> Json<ModelList> {
    let policies = app.policies();
    let mut data: Vec<_> = policies
        .iter()
        .map(|policy| ModelCard::of(&app, policy))
        .collect();
    // clients that take the first one get what answers where none is named
    data.sort_by_key(|card| !card.default);
    Json(ModelList {
        object: "list",
        data,
    })
}

/// Describe one model. The id may carry weights or a profile, as in a request's `model`.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    operation_id = "get_model",
    tag = "models",
    params(("id" = String, Path, description = "A model's id, `default`, or either followed by \
            `@NAME=NUMBER,...` or `@PROFILE`.")),
    responses(
        (status = 200, description = "The model.", body = ModelCard, headers(
            ("x-policy-version" = String, description = "The version of the policy."),
         )),
        (status = 400, description = "The weights of the suffix cannot be used.", body = ErrorBody),
        (status = 404, description = "No such model.", body = ErrorBody),
    )
)]
pub(in crate::http) async fn get_model(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<(HeaderMap, Json<ModelCard>), ApiError> {
    let Path(id) = id.map_err(unreadable)?;
    find(&app, &id).await
}

/// The same route for ids whose `/` is not escaped.
pub(in crate::http) async fn get_model_with_slashes(
    State(app): State<Arc<App>>,
    id: Result<Path<(String, String)>, PathRejection>,
) -> Result<(HeaderMap, Json<ModelCard>), ApiError> {
    let Path((first, rest)) = id.map_err(unreadable)?;
    find(&app, &format!("{first}/{rest}")).await
}

/// axum's own refusal is no JSON.
fn unreadable(_: PathRejection) -> ApiError {
    ApiError::invalid("invalid_value", "the id in the path is no text in UTF-8").with_param("model")
}

async fn find(app: &App, id: &str) -> Result<(HeaderMap, Json<ModelCard>), ApiError> {
    // what the card tells is the same for every key
    let steered = app
        .steer(Some(id), &WeightsOffers::default(), &Access::open())
        .await?;
    let card = ModelCard::of(app, &steered.policy);
    let suffix = steered
        .steering
        .filter(|used| used.source == WeightsSource::Model);
    let headers = steering_headers(&card.policy_version, suffix.as_ref());
    let card = ModelCard {
        id: id.to_owned(),
        steering: suffix.as_ref().map(Steering::from),
        ..card
    };
    Ok((headers, Json(card)))
}
