//! Turns what went wrong into a status, a stable code and the one error shape of every route.
//!
//! The only place that knows statuses. A server's fault is told by the request's id alone; its
//! cause goes to the log.

mod fine_tuning;
mod promotion;

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::service::{AccessError, RequestError, WeightsSource, chain};
use crate::steering::WeightError;

/// The body of every reply that is not a success.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorBody {
    /// What went wrong.
    pub(super) error: ErrorDetail,
}

/// What went wrong, for a person and for a program.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct ErrorDetail {
    /// A sentence that names the field, its value and what was expected.
    pub(super) message: String,
    /// The kind, for example `invalid_request_error`.
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    /// The field or header at fault, where there is one.
    pub(super) param: Option<String>,
    /// A stable word to branch on, for example `objective_conflict`.
    pub(super) code: &'static str,
}

/// An error on its way to becoming a reply.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    status: StatusCode,
    detail: ErrorDetail,
    retry_after: Option<Duration>,
}

const INVALID: &str = "invalid_request_error";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, code: &'static str, message: String) -> Self {
        let detail = ErrorDetail {
            message,
            kind,
            param: None,
            code,
        };
        Self {
            status,
            detail,
            retry_after: None,
        }
    }

    /// 400 with a code of the caller's choice.
    pub(super) fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, code, message.into())
    }

    /// Names the field at fault.
    #[must_use]
    pub(super) fn with_param(mut self, param: impl Into<String>) -> Self {
        self.detail.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    fn retried_after(self, wait: Duration) -> Self {
        Self {
            retry_after: Some(wait),
            ..self
        }
    }

    /// No such route.
    pub(super) fn no_route(method: &str, path: &str) -> Self {
        let message = format!("there is no route {method} {path}; GET /openapi.json lists them");
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found_error",
            "route_not_found",
            message,
        )
    }

    /// The route exists, for other methods.
    pub(super) fn wrong_method(method: &str, path: &str) -> Self {
        let message =
            format!("{path} does not take {method}; the header `allow` says what it does");
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            INVALID,
            "method_not_allowed",
            message,
        )
    }

    /// The body is larger than the server takes.
    pub(super) fn body_too_large(limit_bytes: usize) -> Self {
        let message = format!("the body is larger than the {limit_bytes} bytes this server takes");
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            INVALID,
            "body_too_large",
            message,
        )
    }

    /// The body did not arrive in time.
    pub(super) fn body_too_slow(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        let message = format!("the body did not arrive whole within {seconds} s of its head");
        Self::too_slow(message)
    }

    /// The head did not arrive in time.
    pub(super) fn head_too_slow(limit: Duration) -> Self {
        let seconds = limit.as_secs_f64();
        let message = format!("the request's head did not arrive whole within {seconds} s");
        Self::too_slow(message)
    }

    fn too_slow(message: String) -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, INVALID, "request_timeout", message)
    }

    /// The head is larger than the server takes.
    pub(super) fn head_too_large(limit_bytes: usize) -> Self {
        let message = format!(
            "the request's head is larger than the {limit_bytes} bytes this server takes, or has \
             more than 100 header fields"
        );
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Self::new(status, INVALID, "headers_too_large", message)
    }

    /// The request's target is longer than any.
    pub(super) fn uri_too_long() -> Self {
        let message = "the request's target is longer than this server takes".to_owned();
        Self::new(StatusCode::URI_TOO_LONG, INVALID, "uri_too_long", message)
    }

    /// What was sent is no request.
    pub(super) fn not_http() -> Self {
        Self::invalid("malformed_request", "this is not a request of HTTP/1.1")
    }

    /// The server takes no further connection.
    pub(super) fn too_many_connections() -> Self {
        let message = "the server has as many connections as it takes; try again shortly, and \
                       send requests over connections that are open already";
        Self::unavailable("too_many_connections", message, 1)
    }

    /// The body is not declared as JSON.
    pub(super) fn wrong_content_type(found: Option<&str>) -> Self {
        let found = found.map_or("none".to_owned(), |found| format!("`{found}`"));
        let message = format!("the header `content-type` must be `application/json`, got {found}");
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            INVALID,
            "unsupported_media_type",
            message,
        )
        .with_param("content-type")
    }

    /// Without keys: the request names a host that is not this machine, as a page does whose own
    /// name was made to lead here.
    pub(super) fn foreign_host() -> Self {
        let message = "a server without keys answers under loopback names only, such as \
                       127.0.0.1 and localhost; create a key with `steersman keys create` to use \
                       it under another";
        forbidden("cross_site_request", message.to_owned()).with_param("host")
    }

    /// Without keys: a browser sends this for a page of another site.
    pub(super) fn foreign_page() -> Self {
        let message = "a server without keys takes this from programs and from its own pages \
                       only, and a web page of another origin asks; create a key with \
                       `steersman keys create` to use it from there";
        forbidden("cross_site_request", message.to_owned()).with_param("origin")
    }

    /// The server's own fault. The reply names the request, the log has the cause.
    pub(super) fn internal() -> Self {
        let message = "the server failed on this request; its log has the cause".to_owned();
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "server_error",
            "engine_error",
            message,
        )
    }

    /// Nobody can be served now.
    pub(super) fn unavailable(
        code: &'static str,
        message: impl Into<String>,
        retry_after_s: u32,
    ) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let error = Self::new(status, "overloaded_error", code, message.into());
        error.retried_after(Duration::from_secs(u64::from(retry_after_s)))
    }

    /// The stable word to branch on.
    pub(super) fn code(&self) -> &'static str {
        self.detail.code
    }

    /// The status it becomes.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The same error, naming the request where the server is at fault.
    #[must_use]
    pub(super) fn for_request(mut self, request_id: &str) -> Self {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            self.detail.message = format!(
                "the server failed on this request; its log has the cause under {request_id}"
            );
        }
        self
    }

    /// The body, for streams that fail half-way.
    pub(super) fn body(&self) -> ErrorBody {
        ErrorBody {
            error: self.detail.clone(),
        }
    }
}

impl From<AccessError> for ApiError {
    fn from(error: AccessError) -> Self {
        let message = error.to_string();
        let unauthorized = |message| {
            let kind = "authentication_error";
            Self::new(StatusCode::UNAUTHORIZED, kind, "invalid_api_key", message)
                .with_param("authorization")
        };
        match error {
            AccessError::Missing
            | AccessError::Malformed
            | AccessError::Unknown
            | AccessError::Revoked
            | AccessError::Expired => unauthorized(message),
            AccessError::ScopeRequired { .. } => forbidden("scope_required", message),
            AccessError::Limited { wait, .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, "rate_limit_error", "rate_limit_exceeded", message)
                    .retried_after(wait)
            }
            AccessError::Store(_) => store_down(&chain(&error)),
        }
    }
}

/// The cause stays in the log: it may tell where the database is.
fn store_down(cause: &str) -> ApiError {
    tracing::error!("{cause}");
    let message = "the server's state cannot be read or written now; try again shortly";
    ApiError::unavailable("store_unavailable", message, 1)
}

fn forbidden(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "permission_error", code, message)
}

impl From<RequestError> for ApiError {
    fn from(error: RequestError) -> Self {
        let message = chain(&error);
        match error {
            RequestError::ModelNotFound { .. } => {
                not_found("model_not_found", message).with_param("model")
            }
            RequestError::ProfileNotFound { from, .. } => not_found("profile_not_found", message)
                .with_param(from.map_or("id", WeightsSource::param)),
            RequestError::ProfileChanged { .. } => {
                let status = StatusCode::CONFLICT;
                Self::new(status, "conflict_error", "generation_mismatch", message)
                    .with_param("expected_version")
            }
            RequestError::WeightForbidden { objective, .. } => {
                forbidden("objective_weight_forbidden", message)
                    .with_param(format!("objective_weights.{objective}"))
            }
            RequestError::Unscorable { .. } => {
                Self::invalid("rewards_unavailable", message).with_param("chosen")
            }
            RequestError::Rewards { .. } => {
                Self::invalid("rewards_unavailable", message).with_param("score")
            }
            RequestError::Store(_) => store_down(&message),
            RequestError::NoStore => Self::unavailable("store_unavailable", message, 60),
            RequestError::Invalid { param, .. } => {
                Self::invalid("invalid_value", message).with_param(param)
            }
            RequestError::Weights { from, source } => from_weights(from, &source, message),
            RequestError::ObjectiveConflict { second, .. } => {
                Self::invalid("objective_conflict", message).with_param(second.param())
            }
            RequestError::NoObjectives { from, .. } => {
                Self::invalid("unknown_objective", message).with_param(from.param())
            }
            RequestError::ContextOverflow { .. } => {
                Self::invalid("context_length_exceeded", message).with_param("messages")
            }
            RequestError::Prompt {
                by_caller: true,
                field,
                ..
            } => Self::invalid("invalid_value", message).with_param(field),
            RequestError::Point { index, source } => {
                let mut error = Self::from(*source);
                error.detail.message = format!("`points[{index}]`: {}", error.detail.message);
                error.with_param(format!("points[{index}]"))
            }
            RequestError::Constraint(_) => {
                Self::invalid("invalid_value", message).with_param("response_format")
            }
            RequestError::QueueFull { .. } | RequestError::QueuedTokensFull { .. } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                let error = Self::new(status, "rate_limit_error", "queue_full", message);
                error.retried_after(Duration::from_secs(1))
            }
            RequestError::QueueTimeout { .. } => {
                let status = StatusCode::GATEWAY_TIMEOUT;
                Self::new(status, "timeout_error", "queue_timeout", message)
            }
            RequestError::Draining => Self::unavailable("draining", message, 1),
            RequestError::EngineStopped => {
                tracing::error!("{message}");
                Self::unavailable(
                    "engine_dead",
                    "the engine has stopped; it must be restarted",
                    30,
                )
            }
            RequestError::Prompt { .. } | RequestError::Engine(_) | RequestError::Mix(_) => {
                tracing::error!("{message}");
                Self::internal()
            }
        }
    }
}

fn not_found(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "not_found_error", code, message)
}

fn from_weights(from: WeightsSource, source: &WeightError, message: String) -> ApiError {
    let param = match source.objective() {
        Some(name) if from == WeightsSource::Body => format!("{}.{name}", from.param()),
        _ => from.param().to_owned(),
    };
    ApiError::invalid(source.code(), message).with_param(param)
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            let whole = u64::try_from(seconds).unwrap_or(u64::MAX);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole));
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert("retry-after-ms", HeaderValue::from(ms.max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::CONFLICT {
            // clients retry a 409 by themselves, and it would be the same one
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        // for `envelope`, which knows the request's id
        response.extensions_mut().insert(self);
        response
    }
}
