//! `/admin/v1`: files and training jobs, in the shapes of OpenAI's fine-tuning API, and which
//! version of a policy answers.

mod checkpoints;
mod content;
mod events;
mod file_shapes;
mod files;
mod job_shapes;
mod jobs;
mod method_schema;
mod page;
mod policies;
mod policy_shapes;
mod upload;

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi;
use crate::service::App;

/// The routes that `openapi/admin.json` describes.
pub(super) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::AdminDocument::openapi())
        .routes(routes!(files::list_files, files::create_file))
        .routes(routes!(files::get_file, files::delete_file))
        .routes(routes!(files::get_file_content))
        .routes(routes!(jobs::list_jobs, jobs::create_job))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::cancel_job))
        .routes(routes!(jobs::pause_job))
        .routes(routes!(jobs::resume_job))
        .routes(routes!(events::list_job_events))
        .routes(routes!(checkpoints::list_job_checkpoints))
        .routes(routes!(checkpoints::promote_job_checkpoint))
        .merge(policies::routes())
}

/// The same for a listener, with their document.
pub(super) fn plain_routes() -> Router<Arc<App>> {
    let (routes, document) = routes().split_for_parts();
    let document = Arc::<str>::from(openapi::render(document));
    routes.route(
        "/admin/v1/openapi.json",
        get(move || openapi::serve(Arc::clone(&document))),
    )
}
