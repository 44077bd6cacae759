//! `GET /admin/v1/policies`, `POST …/{id}/promote`, `POST …/rollback`, `DELETE …/{id}`: which
//! version answers.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page::{IdPath, read};
use super::policy_shapes::{
    PolicyBody, PolicyList, PolicyRemoved, PromotePolicy, PromotedBody, RemoveQuery, RollBackPolicy,
};
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::fields::refuse_rest;
use crate::service::{App, CheckpointSource, Promotion};

/// The routes of this file.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list_policies))
        .routes(routes!(promote_policy))
        .routes(routes!(roll_back_policy))
        .routes(routes!(remove_policy))
}

/// List the policies, with their checkpoints and latest changes.
#[utoipa::path(
    get,
    path = "/admin/v1/policies",
    operation_id = "list_policies",
    tag = "policies",
    responses((status = 200, description = "The policies.", body = PolicyList))
)]
pub(super) async fn list_policies(
    State(app): State<Arc<App>>,
) -> Result<Json<PolicyList>, ApiError> {
    let standings = app.policy_standings().await?;
    Ok(Json(PolicyList {
        object: "list",
        data: standings.into_iter().map(PolicyBody::from).collect(),
    }))
}

/// Let a checkpoint answer. It is checked to the bit, held against the evaluation gate and loaded
/// beside what answers now; requests that run finish on their version. A fresh evaluation takes as
/// long as its answers.
#[utoipa::path(
    post,
    path = "/admin/v1/policies/{id}/promote",
    operation_id = "promote_policy",
    tag = "policies",
    params(("id" = String, Path, description = "The policy's id; a new one makes a new policy.")),
    request_body = PromotePolicy,
    responses(
        (status = 200, description = "It answers.", body = PromotedBody),
        (status = 400, description = "The request or the checkpoint cannot be used.",
         body = ErrorBody),
        (status = 404, description = "No such checkpoint.", body = ErrorBody),
        (status = 409, description = "The policy is of another version, the gate refuses, or the \
         checkpoint is damaged; what was live still is.", body = ErrorBody),
    )
)]
pub(super) async fn promote_policy(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
    JsonBody(body): JsonBody<PromotePolicy>,
) -> Result<Json<PromotedBody>, ApiError> {
    let source = match (&body.checkpoint, &body.folder) {
        (Some(checkpoint), None) => CheckpointSource::Id(checkpoint.clone()),
        (None, Some(folder)) => CheckpointSource::Folder {
            path: PathBuf::from(folder),
            origin: "folder".to_owned(),
            content: None,
        },
        _ => {
            let message = "name a checkpoint in `checkpoint`, by its id, or in `folder`, one of \
                           the two";
            return Err(ApiError::invalid("invalid_value", message).with_param("checkpoint"));
        }
    };
    promote(&app, ("id", id), source, body).await
}

/// Promotes a checkpoint that a route found in its own way, for the policy that a field names.
pub(super) async fn promote(
    app: &Arc<App>,
    (named_in, policy): (&'static str, String),
    checkpoint: CheckpointSource,
    body: PromotePolicy,
) -> Result<Json<PromotedBody>, ApiError> {
    refuse_rest(&body.rest)?;
    let promoted = app
        .promote(Promotion {
            policy,
            named_in,
            checkpoint,
            expected_version: expected(body.expected_version)?,
            canary: body.canary,
            gate: body.gate.unwrap_or_default().into(),
            evaluation: body.evaluation.map(Into::into),
        })
        .await?;
    Ok(Json(promoted.into()))
}

/// End a canary; where there is none, let the version before the live one answer again.
#[utoipa::path(
    post,
    path = "/admin/v1/policies/rollback",
    operation_id = "roll_back_policy",
    tag = "policies",
    request_body = RollBackPolicy,
    responses(
        (status = 200, description = "It answers.", body = PolicyBody),
        (status = 400, description = "The request cannot be used.", body = ErrorBody),
        (status = 404, description = "No such policy.", body = ErrorBody),
        (status = 409, description = "The policy is of another version, or there is nothing to go \
         back to; what was live still is.", body = ErrorBody),
    )
)]
pub(super) async fn roll_back_policy(
    State(app): State<Arc<App>>,
    JsonBody(body): JsonBody<RollBackPolicy>,
) -> Result<Json<PolicyBody>, ApiError> {
    refuse_rest(&body.rest)?;
    let version = expected(body.expected_version)?;
    let standing = app.roll_back(body.policy.as_deref(), version).await?;
    Ok(Json(standing.into()))
}

/// Remove a policy that was promoted without being in the model's folder. Requests that run finish
/// on it; its checkpoints stay, and promoting one of them again brings it back.
#[utoipa::path(
    delete,
    path = "/admin/v1/policies/{id}",
    operation_id = "remove_policy",
    tag = "policies",
    params(("id" = String, Path, description = "The policy's id."), RemoveQuery),
    responses(
        (status = 200, description = "It is gone.", body = PolicyRemoved),
        (status = 400, description = "The request cannot be used.", body = ErrorBody),
        (status = 404, description = "No such policy.", body = ErrorBody),
        (status = 409, description = "The policy is of another version, is the default or the only \
         one, or lies in the model's folder.", body = ErrorBody),
    )
)]
pub(super) async fn remove_policy(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Result<Json<PolicyRemoved>, ApiError> {
    let query = read(query, "`expected_version`")?;
    let version = app
        .remove_policy(&id, expected(query.expected_version)?)
        .await?;
    Ok(Json(PolicyRemoved::of(id, version)))
}

fn expected(version: Option<i64>) -> Result<i64, ApiError> {
    version.ok_or_else(|| {
        let message = "`expected_version` is missing; it is the `version` that GET \
                       /admin/v1/policies tells, 0 where the policy was never changed";
        ApiError::invalid("missing_required_parameter", message).with_param("expected_version")
    })
}
