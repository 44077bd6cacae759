//! `POST`, `GET /admin/v1/fine_tuning/jobs`, `GET …/{id}` and `POST …/{id}/cancel|pause|resume`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

use super::job_shapes::{CreateJob, JobBody};
use super::page::{IdPath, Page, PageQuery, cursor, read};
use crate::http::body::JsonBody;
use crate::http::error::{ApiError, ErrorBody};
use crate::service::{App, JobTurn};

/// Make a training job.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs",
    operation_id = "create_job",
    tag = "jobs",
    request_body = CreateJob,
    responses(
        (status = 200, description = "It waits for a worker, with every default filled in.",
         body = JobBody),
        (status = 400, description = "Something of it cannot be used.", body = ErrorBody),
        (status = 404, description = "No such model.", body = ErrorBody),
        (status = 413, description = "The body is too large.", body = ErrorBody),
        (status = 415, description = "The body is not JSON.", body = ErrorBody),
    )
)]
pub(super) async fn create_job(
    State(app): State<Arc<App>>,
    JsonBody(request): JsonBody<CreateJob>,
) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.create_job(request.read()?).await?.into()))
}

/// List the jobs, newest first.
#[utoipa::path(
    get,
    path = "/admin/v1/fine_tuning/jobs",
    operation_id = "list_jobs",
    tag = "jobs",
    params(PageQuery),
    responses(
        (status = 200, description = "A page of jobs.", body = Page<JobBody>),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
    )
)]
pub(super) async fn list_jobs(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<JobBody>>, ApiError> {
    let query = read(query, "`after` and `limit`")?;
    let after = cursor(query.after.as_deref(), "ftjob-")?;
    let (jobs, more) = app.jobs(after, query.limit()?).await?;
    let jobs = jobs.into_iter().map(JobBody::from).collect();
    Ok(Json(Page::new(jobs, more, |job| &job.id)))
}

/// Read a job.
#[utoipa::path(
    get,
    path = "/admin/v1/fine_tuning/jobs/{id}",
    operation_id = "get_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job.", body = JobBody),
        (status = 404, description = "No such job.", body = ErrorBody),
    )
)]
pub(super) async fn get_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.job(&id).await?.into()))
}

/// End a job for good; one that runs ends within a step.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/cancel",
    operation_id = "cancel_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job; `asked` while its worker has not followed yet.",
         body = JobBody),
        (status = 404, description = "No such job.", body = ErrorBody),
        (status = 409, description = "It is over.", body = ErrorBody),
    )
)]
pub(super) async fn cancel_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.turn_job(&id, JobTurn::Cancel).await?.into()))
}

/// Let a job wait; one that runs saves after its step and waits.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/pause",
    operation_id = "pause_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job; `asked` while its worker has not followed yet.",
         body = JobBody),
        (status = 404, description = "No such job.", body = ErrorBody),
        (status = 409, description = "It is over.", body = ErrorBody),
    )
)]
pub(super) async fn pause_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.turn_job(&id, JobTurn::Pause).await?.into()))
}

/// Let a paused job go on from its last saved step.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/resume",
    operation_id = "resume_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(
        (status = 200, description = "The job.", body = JobBody),
        (status = 404, description = "No such job.", body = ErrorBody),
        (status = 409, description = "It is over.", body = ErrorBody),
    )
)]
pub(super) async fn resume_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.turn_job(&id, JobTurn::Resume).await?.into()))
}
