//! Speaks HTTP: routes, request and response shapes, errors.
//!
//! Handlers read a shape, call one method of the service's `App`, and word what comes back. What
//! went wrong becomes a status and a code in `error` alone. `openapi/openapi.json` is generated
//! from the handlers.

mod access_log;
mod account;
mod admin;
mod asking;
mod auth;
mod bodies;
mod body;
mod comparisons;
mod cross_site;
mod docs;
mod envelope;
mod error;
mod fields;
mod generate;
mod generate_shapes;
mod grammar;
mod health;
mod listener;
mod messages;
mod metadata;
mod meters;
mod objectives;
mod openai;
mod openapi;
mod playground;
mod profiles;
mod reply;
mod request_id;
mod sampling;
mod settings;
mod slashes;
mod sse;
mod strict_json;
mod sweep;
mod tell;
mod tokens;
mod truncation;
mod weights;

use std::sync::Arc;

use axum::extract::Request;
use axum::middleware;
use axum::routing::get;
use axum::{Extension, Router};
use tower::util::MapRequest;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::App;
use access_log::Watch;
use error::ApiError;
use meters::{HttpMeters, Scrape};
use settings::BodyLimits;

pub use listener::{ListenerSettings, serve};
pub use openapi::{admin_json, openapi_json};
pub use settings::HttpSettings;

/// Which routes a listener has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Those of callers; those of admins too, unless these have a listener of their own.
    Public,
    /// Those of admins alone.
    Admin,
}

/// Every route of the public listener.
pub fn router(app: Arc<App>, settings: &HttpSettings) -> Router {
    router_with(app, Side::Public, settings, Arc::default())
}

/// Every route of the admin listener, where it has one of its own.
pub fn admin_router(app: Arc<App>, settings: &HttpSettings) -> Router {
    router_with(app, Side::Admin, settings, Arc::default())
}

/// The same, counting in these instruments.
fn router_with(
    app: Arc<App>,
    side: Side,
    settings: &HttpSettings,
    meters: Arc<HttpMeters>,
) -> Router {
    let routes = match side {
        Side::Public if app.shares_admin_routes() => public().merge(admin::plain_routes()),
        Side::Public => public(),
        Side::Admin => admin::plain_routes()
            .route("/healthz", get(health::get_health))
            .merge(health::aliases()),
    };
    let routes = routes
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(
            Arc::clone(&app),
            auth::guard,
        ))
        .layer(Extension(BodyLimits::from(settings)))
        .layer(Extension(Scrape {
            meters: Arc::clone(&meters),
            vllm_names: settings.vllm_metrics,
        }))
        .layer(middleware::from_fn_with_state(
            Watch {
                meters,
                traces: settings.traces.clone(),
            },
            envelope::wrap,
        ))
        .with_state(app);
    // around the whole, since routes are found before what is around them is asked
    Router::new().fallback_service(MapRequest::new(routes, slashes::without_extra))
}

/// The routes of callers, with those that the document does not describe.
fn public() -> Router<Arc<App>> {
    let (routes, document) = routes().split_for_parts();
    let document = Arc::<str>::from(openapi::render(document));
    routes
        .merge(health::aliases())
        .route(
            "/v1/models/{id}/{*rest}",
            get(openai::get_model_with_slashes),
        )
        .route(
            "/openapi.json",
            get(move || openapi::serve(Arc::clone(&document))),
        )
        .route("/", get(playground::get_playground))
        .route("/docs", get(docs::get_docs))
        .route("/docs/{file}", get(docs::get_docs_file))
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
        .routes(routes!(meters::get_metrics))
}

async fn no_route(request: Request) -> ApiError {
    ApiError::no_route(request.method().as_str(), request.uri().path())
}

async fn wrong_method(request: Request) -> ApiError {
    ApiError::wrong_method(request.method().as_str(), request.uri().path())
}
