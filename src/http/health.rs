//! `GET /healthz`, `/readyz`, `/version`: whether the process lives, whether it answers, what it is.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, ErrorBody};
use crate::service::{App, Unready};

/// How the process does.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// `live` or `ready`.
    #[schema(example = "ready")]
    status: &'static str,
}

/// What is running.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// Always `steersman`.
    #[schema(example = "steersman")]
    name: &'static str,
    /// Its version.
    version: &'static str,
}

/// The names under which probes made for other servers ask whether the process lives.
pub(super) fn aliases() -> Router<Arc<App>> {
    Router::new()
        .route("/health", get(get_health))
        .route("/ping", get(get_health))
}

/// Whether the process lives. Says nothing about the model: ask `/readyz`. `/health` and `/ping`,
/// where probes made for other servers ask, answer the same.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "get_health",
    tag = "operation",
    responses((status = 200, description = "It lives.", body = Health))
)]
pub(super) async fn get_health() -> Json<Health> {
    Json(Health { status: "live" })
}

/// Whether requests are answered: a token was decoded lately, else one is decoded now.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "get_readiness",
    tag = "operation",
    responses(
        (status = 200, description = "It answers.", body = Health),
        (status = 503, description = "It does not.", body = ErrorBody),
    )
)]
pub(super) async fn get_readiness(State(app): State<Arc<App>>) -> Result<Json<Health>, ApiError> {
    match app.ready().await {
        Ok(()) => Ok(Json(Health { status: "ready" })),
        Err(Unready::Draining) => Err(ApiError::unavailable(
            "draining",
            "the server is shutting down",
            1,
        )),
        Err(Unready::EngineDead) => {
            let message = "the engine has stopped; the process must be restarted";
            Err(ApiError::unavailable("engine_dead", message, 30))
        }
        Err(Unready::Silent) => {
            let message = "no token was decoded lately, and a probe did not get one in time";
            Err(ApiError::unavailable("engine_silent", message, 5))
        }
        Err(Unready::Failed(reason)) => {
            let message = format!("no token was decoded lately, and a probe failed: {reason}");
            Err(ApiError::unavailable("engine_failed", message, 5))
        }
    }
}

/// What is running.
#[utoipa::path(
    get,
    path = "/version",
    operation_id = "get_version",
    tag = "operation",
    responses((status = 200, description = "Name and version.", body = Version))
)]
pub(super) async fn get_version() -> Json<Version> {
    Json(Version {
        name: "steersman",
        version: env!("CARGO_PKG_VERSION"),
    })
}
