//! Speaks HTTP: routes, request and response shapes, errors.
//!
//! Handlers read a shape, call one method of the service's `App`, and word what comes back. What
//! went wrong becomes a status and a code in `error` alone. `openapi/openapi.json` is generated
//! from the handlers.

mod admin;
mod asking;
mod auth;
mod body;
mod comparisons;
mod envelope;
mod error;
mod fields;
mod generate;
mod generate_shapes;
mod grammar;
mod health;
mod messages;
mod objectives;
mod openai;
mod openapi;
mod playground;
mod profiles;
mod reply;
mod sampling;
mod sse;
mod strict_json;
mod sweep;
mod tell;
mod tokens;
mod weights;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::App;
use error::ApiError;

pub use openapi::openapi_json;

/// Every route of the public listener.
pub fn router(app: Arc<App>) -> Router {
    let (routes, document) = routes().split_for_parts();
    let document = Arc::<str>::from(openapi::render(document));
    routes
        .merge(admin::plain_routes())
        .route(
            "/v1/models/{id}/{*rest}",
            get(openai::get_model_with_slashes),
        )
        .route(
            "/openapi.json",
            get(move || openapi::serve(Arc::clone(&document))),
        )
        .route("/", get(playground::get_playground))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            auth::guard,
        ))
        .layer(DefaultBodyLimit::max(body::BODY_LIMIT))
        .layer(middleware::from_fn(envelope::wrap))
        .with_state(app)
}

/// The routes that the OpenAPI document describes.
fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(generate::create_generation))
        .routes(routes!(sweep::create_sweep))
        .routes(routes!(openai::create_chat_completion))
        .routes(routes!(openai::create_completion))
        .routes(routes!(tokens::create_tokens))
        .routes(routes!(tokens::create_text_of_tokens))
        .routes(routes!(openai::list_models))
        .routes(routes!(openai::get_model))
        .routes(routes!(objectives::get_objectives))
        .routes(routes!(profiles::list_profiles))
        .routes(routes!(
            profiles::get_profile,
            profiles::put_profile,
            profiles::delete_profile
        ))
        .routes(routes!(comparisons::create_comparison))
        .routes(routes!(comparisons::suggest_comparison))
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_readiness))
        .routes(routes!(health::get_version))
}

async fn no_route(request: Request) -> ApiError {
    ApiError::no_route(request.method().as_str(), request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}
