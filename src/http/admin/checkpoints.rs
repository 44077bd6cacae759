//! `GET /admin/v1/fine_tuning/jobs/{id}/checkpoints` and `POST …/{checkpoint_id}/promote`: what a
//! job wrote that can be served, and serving it.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::page::{IdPath, Page, PageQuery, number_of, numbered_cursor, numbered_id, read};
use super::policies::promote;
use super::policy_shapes::{PromoteJobCheckpoint, PromotedBody};
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::service::{App, CheckpointInfo, FineTuningError};

const PREFIX: &str = "ftckpt";

/// A checkpoint of a job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FineTuningCheckpoint)]
pub(super) struct CheckpointBody {
    /// Its id.
    #[schema(example = "ftckpt-0193-100")]
    id: String,
    /// Always `fine_tuning.job.checkpoint`.
    #[schema(example = "fine_tuning.job.checkpoint")]
    object: &'static str,
    /// Seconds since 1970.
    created_at: i64,
    /// Its name.
    fine_tuned_model_checkpoint: String,
    /// The job's id.
    fine_tuning_job_id: String,
    /// After which step.
    step_number: i64,
    /// Numbers of that step.
    #[schema(value_type = Object)]
    metrics: Value,
    /// Its folder, below the worker's data folder: an adapter or a model, a policy's with
    /// `steering.json`.
    folder: String,
    /// A policy's id as a checkpoint of the registry: the blake3 of the list of its files' hashes.
    content: Option<String>,
}

impl CheckpointBody {
    fn of(job: &str, checkpoint: CheckpointInfo) -> Self {
        Self {
            id: numbered_id(PREFIX, job, checkpoint.step),
            object: "fine_tuning.job.checkpoint",
            created_at: checkpoint.created_at,
            fine_tuned_model_checkpoint: checkpoint.name,
            fine_tuning_job_id: job.to_owned(),
            step_number: checkpoint.step,
            metrics: checkpoint.metrics,
            folder: checkpoint.folder,
            content: checkpoint.content,
        }
    }
}

/// List the checkpoints of a job, newest first.
#[utoipa::path(
    get,
    path = "/admin/v1/fine_tuning/jobs/{id}/checkpoints",
    operation_id = "list_job_checkpoints",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id."), PageQuery),
    responses(
        (status = 200, description = "A page of checkpoints.", body = Page<CheckpointBody>),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
        (status = 404, description = "No such job.", body = ErrorBody),
    )
)]
pub(super) async fn list_job_checkpoints(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<CheckpointBody>>, ApiError> {
    let query = read(query, "`after` and `limit`")?;
    let after = numbered_cursor(query.after.as_deref(), PREFIX, &id)?;
    let (found, more) = app.job_checkpoints(&id, after, query.limit()?).await?;
    let found = found.into_iter().map(|c| CheckpointBody::of(&id, c));
    Ok(Json(Page::new(found.collect(), more, |c| &c.id)))
}

/// Let a job's checkpoint answer, as the promotion of a policy does. Only policies can be
/// promoted: adapters that were trained with objectives.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/checkpoints/{checkpoint_id}/promote",
    operation_id = "promote_job_checkpoint",
    tag = "jobs",
    params(
        ("id" = String, Path, description = "The job's id."),
        ("checkpoint_id" = String, Path, description = "The checkpoint's id."),
    ),
    request_body = PromoteJobCheckpoint,
    responses(
        (status = 200, description = "It answers.", body = PromotedBody),
        (status = 400, description = "The request or the checkpoint cannot be used.",
         body = ErrorBody),
        (status = 404, description = "No such job or checkpoint.", body = ErrorBody),
        (status = 409, description = "The policy is of another version, the gate refuses, or the \
         checkpoint is damaged; what was live still is.", body = ErrorBody),
    )
)]
pub(super) async fn promote_job_checkpoint(
    State(app): State<Arc<App>>,
    IdPath((job, checkpoint)): IdPath<(String, String)>,
    JsonBody(mut body): JsonBody<PromoteJobCheckpoint>,
) -> Result<Json<PromotedBody>, ApiError> {
    let found = match number_of(&checkpoint, PREFIX, &job) {
        Some(step) => app.job_checkpoint(&job, step).await?,
        None => app.job(&job).await.map(|_| None)?,
    };
    let (info, source) = found.ok_or_else(|| FineTuningError::NoCheckpoint {
        job: job.clone(),
        checkpoint: checkpoint.chars().take(80).collect(),
    })?;
    let policy = body.policy.take().unwrap_or(info.model);
    promote(&app, ("policy", policy), source, body.into()).await
}
