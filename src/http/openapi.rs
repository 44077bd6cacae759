//! The OpenAPI documents, generated from the handlers and committed as `openapi/openapi.json` and
//! `openapi/admin.json`.

use std::sync::Arc;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;
use utoipa::openapi::schema::AnyOfBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Type};

/// What the document says beside the routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Steersman",
        description = "Serves language models that every request can steer: the caller gives \
                       objective weights, the policy is told them, and the reply says what was used.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "generation", description = "Steered answers."),
        (name = "tokens", description = "Text to tokens and back."),
        (name = "models", description = "What can be asked, and what it can be steered by."),
        (name = "profiles", description = "Weights with a name, and learning them from choices."),
        (name = "operation", description = "For whoever runs the server."),
    )
)]
pub(super) struct Document;

/// What the admin routes' document says beside them.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Steersman, administration",
        description = "Trains policies in background jobs. Mirrors OpenAI's fine-tuning API, so \
                       that the official client works with the base URL `…/admin/v1`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "files", description = "What jobs are trained on."),
        (name = "jobs", description = "Training in the background."),
    )
)]
pub(super) struct AdminDocument;

/// The document as it is committed: indented, with a final line break.
pub fn openapi_json() -> String {
    render(super::routes().into_openapi())
}

/// The document of the admin routes, as it is committed.
pub fn admin_json() -> String {
    render(super::admin::routes().into_openapi())
}

pub(super) fn render(mut document: utoipa::openapi::OpenApi) -> String {
    super::auth::describe(&mut document);
    describe_streams(&mut document);
    // a document is strings, lists and maps; it always serialises
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// The schema of a stream is that of one event, whose `data` holds a chunk or tells the end.
fn describe_streams(document: &mut utoipa::openapi::OpenApi) {
    let operations = document.paths.paths.values_mut();
    let replies = operations
        .filter_map(|item| item.post.as_mut())
        .flat_map(|operation| operation.responses.responses.values_mut());
    for reply in replies {
        let RefOr::T(reply) = reply else { continue };
        let Some(RefOr::T(stream)) = reply.content.get_mut("text/event-stream") else {
            continue;
        };
        let end = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("The last event."))
            .enum_values(Some(["[DONE]"]));
        let chunk = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("A chunk as JSON."))
            .content_media_type("application/json")
            .content_schema(stream.schema.take());
        let data = AnyOfBuilder::new().item(end).item(chunk);
        let event = ObjectBuilder::new().property("data", data).required("data");
        stream.schema = Some(event.into());
    }
}

pub(super) async fn serve(document: Arc<str>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        document.to_string(),
    )
}
