//! `POST`, `GET /admin/v1/fine_tuning/jobs`, `GET …/{id}` and `POST …/{id}/cancel|pause|resume`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use utoipa::IntoResponses;

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
    params(
        PageQuery,
        ("metadata" = Option<HashMap<String, String>>, Query, style = DeepObject, explode,
         description = "Only jobs with these entries in their `metadata`: `metadata[team]=a`."),
    ),
    responses(
        (status = 200, description = "A page of jobs.", body = Page<JobBody>),
        (status = 400, description = "A query that cannot be used.", body = ErrorBody),
    )
)]
pub(super) async fn list_jobs(
    State(app): State<Arc<App>>,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
) -> Result<Json<Page<JobBody>>, ApiError> {
    let takes = "`after`, `limit` and `metadata[NAME]`";
    let (metadata, rest) = split_metadata(read(query, takes)?);
    let query = PageQuery::of_pairs(rest, takes)?;
    let after = cursor(query.after.as_deref(), "ftjob-")?;
    let (jobs, more) = app.jobs(after, query.limit()?, &metadata).await?;
    let jobs = jobs.into_iter().map(JobBody::from).collect();
    Ok(Json(Page::new(jobs, more, |job| &job.id)))
}

/// Names and values of a query.
type Pairs = Vec<(String, String)>;

/// The entries `metadata[NAME]` of a query, and the others.
fn split_metadata(pairs: Pairs) -> (Pairs, Pairs) {
    let (mut metadata, mut rest) = (Vec::new(), Vec::new());
    for (name, value) in pairs {
        let inner = name.strip_prefix("metadata[");
        match inner.and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => metadata.push((inner.to_owned(), value)),
            None => rest.push((name, value)),
        }
    }
    (metadata, rest)
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

/// What turning a job is answered with.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "only what it tells the document is used")]
#[expect(clippy::large_enum_variant, reason = "none is ever made")]
enum Turned {
    /// The job; `asked` while its worker has not followed yet.
    #[response(status = 200)]
    Job(JobBody),
    /// No such job.
    #[response(status = 404)]
    NoJob(ErrorBody),
    /// It is over.
    #[response(status = 409)]
    Over(ErrorBody),
}

/// End a job for good; one that runs ends within a step.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/cancel",
    operation_id = "cancel_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(Turned)
)]
pub(super) async fn cancel_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    turn(&app, &id, JobTurn::Cancel).await
}

/// Let a job wait; one that runs saves after its step and waits.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/pause",
    operation_id = "pause_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(Turned)
)]
pub(super) async fn pause_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    turn(&app, &id, JobTurn::Pause).await
}

/// Let a paused job go on from its last saved step.
#[utoipa::path(
    post,
    path = "/admin/v1/fine_tuning/jobs/{id}/resume",
    operation_id = "resume_job",
    tag = "jobs",
    params(("id" = String, Path, description = "The job's id.")),
    responses(Turned)
)]
pub(super) async fn resume_job(
    State(app): State<Arc<App>>,
    IdPath(id): IdPath,
) -> Result<Json<JobBody>, ApiError> {
    turn(&app, &id, JobTurn::Resume).await
}

async fn turn(app: &App, id: &str, turn: JobTurn) -> Result<Json<JobBody>, ApiError> {
    Ok(Json(app.turn_job(id, turn).await?.into()))
}
