//! Who may use which route. Deny by default: what the table does not name does not exist.
//!
//! The table is the one place that grants anything. A route that is mounted but not listed
//! answers 404, and a test walks the OpenAPI document for routes that are not listed. Decisions
//! go by the router's own matched path, never by the request's text, so the two cannot disagree.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder};

use super::account::Account;
use super::cross_site;
use super::error::ApiError;
use crate::service::{Access, AccessError, App, Scope, Standing};

/// What a caller needs to use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// Nothing: it tells nothing that is not the same for every server of this version, or only
    /// whether the process lives.
    Nothing,
    /// Any valid key.
    Key,
    /// A key with this scope.
    Scoped(Scope),
}

const GENERATE: Need = Need::Scoped(Scope::Generate);
const PROFILES: Need = Need::Scoped(Scope::Profiles);
const ADMIN: Need = Need::Scoped(Scope::Admin);

/// Every route that may be mounted: path, method, need. `HEAD` goes by `GET`.
const ROUTES: &[(&str, Method, Need)] = &[
    ("/", Method::GET, Need::Nothing),
    ("/openapi.json", Method::GET, Need::Nothing),
    ("/healthz", Method::GET, Need::Nothing),
    ("/readyz", Method::GET, Need::Nothing),
    ("/health", Method::GET, Need::Nothing),
    ("/ping", Method::GET, Need::Nothing),
    ("/docs", Method::GET, Need::Nothing),
    ("/docs/{file}", Method::GET, Need::Nothing),
    ("/metrics", Method::GET, Need::Scoped(Scope::Metrics)),
    ("/version", Method::GET, Need::Key),
    ("/v1/models", Method::GET, Need::Key),
    ("/v1/models/{id}", Method::GET, Need::Key),
    ("/v1/models/{id}/{*rest}", Method::GET, Need::Key),
    ("/v1/objectives", Method::GET, Need::Key),
    ("/v1/generate", Method::POST, GENERATE),
    ("/v1/chat/completions", Method::POST, GENERATE),
    ("/v1/completions", Method::POST, GENERATE),
    ("/v1/sweep", Method::POST, GENERATE),
    ("/v1/tokenize", Method::POST, GENERATE),
    ("/v1/detokenize", Method::POST, GENERATE),
    ("/v1/profiles", Method::GET, PROFILES),
    ("/v1/profiles/{id}", Method::GET, PROFILES),
    ("/v1/profiles/{id}", Method::PUT, PROFILES),
    ("/v1/profiles/{id}", Method::DELETE, PROFILES),
    ("/v1/profiles/{id}/comparisons", Method::POST, PROFILES),
    ("/v1/profiles/{id}/comparisons/next", Method::POST, PROFILES),
    ("/admin/v1/openapi.json", Method::GET, Need::Nothing),
    ("/admin/v1/files", Method::GET, ADMIN),
    ("/admin/v1/files", Method::POST, ADMIN),
    ("/admin/v1/files/{id}", Method::GET, ADMIN),
    ("/admin/v1/files/{id}", Method::DELETE, ADMIN),
    ("/admin/v1/files/{id}/content", Method::GET, ADMIN),
    ("/admin/v1/fine_tuning/jobs", Method::GET, ADMIN),
    ("/admin/v1/fine_tuning/jobs", Method::POST, ADMIN),
    ("/admin/v1/fine_tuning/jobs/{id}", Method::GET, ADMIN),
    (
        "/admin/v1/fine_tuning/jobs/{id}/cancel",
        Method::POST,
        ADMIN,
    ),
    ("/admin/v1/fine_tuning/jobs/{id}/pause", Method::POST, ADMIN),
    (
        "/admin/v1/fine_tuning/jobs/{id}/resume",
        Method::POST,
        ADMIN,
    ),
    ("/admin/v1/fine_tuning/jobs/{id}/events", Method::GET, ADMIN),
    (
        "/admin/v1/fine_tuning/jobs/{id}/checkpoints",
        Method::GET,
        ADMIN,
    ),
    (
        "/admin/v1/fine_tuning/jobs/{id}/checkpoints/{checkpoint_id}/promote",
        Method::POST,
        ADMIN,
    ),
    ("/admin/v1/policies", Method::GET, ADMIN),
    ("/admin/v1/policies/{id}", Method::DELETE, ADMIN),
    ("/admin/v1/policies/{id}/promote", Method::POST, ADMIN),
    ("/admin/v1/policies/rollback", Method::POST, ADMIN),
];

/// Lets a request through to its route, or says why not.
pub(super) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // no route: the fallback says so
        return next.run(request).await;
    };
    let need = match need(path.as_str(), request.method()) {
        Ok(need) => need,
        Err(allowed) => return refuse(&request, &allowed),
    };
    if need == Need::Nothing {
        return next.run(request).await;
    }
    let access = match identify(&app, request.headers()).await {
        Ok(access) => access,
        Err(error) => return ApiError::from(error).into_response(),
    };
    if access.key_id.is_none()
        && let Err(error) = cross_site::check(&request)
    {
        return error.into_response();
    }
    if let Some(account) = request.extensions().get::<Account>() {
        account.asked_by(access.key_id.clone());
    }
    let mut response = match check_scope(&access, need).and_then(|()| access.admit()) {
        Ok(()) => {
            request.extensions_mut().insert(access.clone());
            next.run(request).await
        }
        Err(error) => ApiError::from(error).into_response(),
    };
    tell_limits(response.headers_mut(), &access);
    response
}

/// What a route needs; where it is not listed, the methods that are listed for its path.
fn need(path: &str, method: &Method) -> Result<Need, Vec<Method>> {
    let get = Method::GET;
    let method = if method == Method::HEAD { &get } else { method };
    let of_path = || ROUTES.iter().filter(|(listed, _, _)| *listed == path);
    let found = of_path().find(|(_, listed, _)| listed == method);
    found
        .map(|(_, _, need)| *need)
        .ok_or_else(|| of_path().map(|(_, listed, _)| listed.clone()).collect())
}

fn refuse(request: &Request, allowed: &[Method]) -> Response {
    let (method, path) = (request.method().as_str(), request.uri().path());
    if allowed.is_empty() {
        tracing::error!("{path} is mounted but not listed in the table of routes");
        return ApiError::no_route(method, path).into_response();
    }
    let mut response = ApiError::wrong_method(method, path).into_response();
    let mut names: Vec<_> = allowed.iter().map(Method::as_str).collect();
    if allowed.contains(&Method::GET) {
        names.push(Method::HEAD.as_str());
    }
    if let Ok(value) = HeaderValue::from_str(&names.join(",")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Tells who asks.
async fn identify(app: &App, headers: &HeaderMap) -> Result<Access, AccessError> {
    // without keys the header decides nothing, and many clients always send some key
    match secret_of(headers) {
        Ok(secret) => app.authenticate(secret).await,
        Err(malformed) => app.authenticate(None).await.map_err(|error| match error {
            AccessError::Missing => malformed,
            other => other,
        }),
    }
}

fn check_scope(access: &Access, need: Need) -> Result<(), AccessError> {
    let needed = match need {
        Need::Scoped(scope) if !access.allows(scope) => scope,
        _ => return Ok(()),
    };
    let scopes: Vec<_> = access.scopes.iter().map(|scope| scope.as_str()).collect();
    let has = match scopes.is_empty() {
        true => "none".to_owned(),
        false => scopes.join(", "),
    };
    Err(AccessError::ScopeRequired { needed, has })
}

/// The secret of `authorization: Bearer SECRET`.
fn secret_of(headers: &HeaderMap) -> Result<Option<&str>, AccessError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().map_err(|_| AccessError::Malformed)?;
    let (scheme, secret) = text.split_once(' ').ok_or(AccessError::Malformed)?;
    let sound = values.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    match sound && !secret.trim().is_empty() {
        true => Ok(Some(secret.trim())),
        false => Err(AccessError::Malformed),
    }
}

/// Adds `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` where the key has limits.
fn tell_limits(headers: &mut HeaderMap, access: &Access) {
    for standing in access.standings() {
        let Standing {
            what,
            per_minute,
            remaining,
            full_in,
        } = standing;
        let values = [
            ("limit", per_minute.to_string()),
            ("remaining", remaining.to_string()),
            ("reset", duration(full_in)),
        ];
        for (word, value) in values {
            let name = HeaderName::try_from(format!("x-ratelimit-{word}-{what}"));
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                headers.insert(name, value);
            }
        }
    }
}

/// As OpenAI writes durations: `12ms`, `1.5s`, `6m0s`.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds < 60 => {
            format!("{}s", (time.as_secs_f64() * 1000.0).round() / 1000.0)
        }
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

/// Adds to the document what this file decides: the keys, and the replies of those turned away.
pub(super) fn describe(document: &mut OpenApi) {
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An API key, `sk-steer-…`. A server without keys listens on loopback only and needs \
             none.",
        ))
        .build();
    document
        .components
        .get_or_insert_with(Components::default)
        .add_security_scheme("key", RefOr::T(SecurityScheme::Http(scheme)));
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::PUT, &mut item.put),
            (Method::POST, &mut item.post),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            if let (Some(operation), Ok(need)) = (operation, need(path, &method)) {
                describe_one(operation, need);
            }
        }
    }
}

fn describe_one(operation: &mut Operation, need: Need) {
    let scopes: Vec<String> = match need {
        Need::Nothing => return,
        Need::Key => Vec::new(),
        Need::Scoped(scope) => vec![scope.to_string()],
    };
    let forbidden = "The key does not have the scope of this route, or may not ask for these \
                     weights; of a server without keys: a web page of another site asks.";
    let mut replies = vec![
        ("401", "No key, or none that is valid."),
        (
            "429",
            "The key's requests or tokens are used up for now, or the queue is full.",
        ),
        ("503", "The server cannot serve now."),
        ("403", forbidden),
    ];
    if operation.request_body.is_some() {
        replies.push(("408", "The body did not arrive in time."));
    }
    operation.security = Some(vec![SecurityRequirement::new("key", scopes)]);
    for (status, description) in replies {
        let reply = ResponseBuilder::new().description(description).content(
            "application/json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Error")))
                .build(),
        );
        let replies = &mut operation.responses.responses;
        replies
            .entry(status.to_owned())
            .or_insert_with(|| reply.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_route_is_listed() {
        let documents = [crate::http::routes(), crate::http::admin::routes()];
        let documents = documents.map(utoipa_axum::router::OpenApiRouter::into_openapi);
        for (path, item) in documents.iter().flat_map(|document| &document.paths.paths) {
            let stated = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
                (Method::DELETE, &item.delete),
                (Method::PATCH, &item.patch),
                (Method::HEAD, &item.head),
                (Method::OPTIONS, &item.options),
                (Method::TRACE, &item.trace),
            ];
            for (method, operation) in stated {
                if operation.is_some() {
                    assert!(
                        need(path, &method).is_ok(),
                        "{method} {path} states no need"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_not_listed_is_denied() {
        assert_eq!(need("/v1/secret", &Method::GET), Err(Vec::new()));
        let listed = need("/v1/profiles/{id}", &Method::POST).expect_err("not listed");
        assert_eq!(listed, [Method::GET, Method::PUT, Method::DELETE]);
        assert_eq!(need("/healthz", &Method::HEAD), Ok(Need::Nothing));
    }

    #[test]
    fn the_secret_is_read_from_one_bearer_header() {
        let check = |values: &[&str], expected: Option<Option<&str>>| {
            let mut headers = HeaderMap::new();
            for value in values {
                let value = HeaderValue::from_str(value).expect("visible");
                headers.append(header::AUTHORIZATION, value);
            }
            assert_eq!(secret_of(&headers).ok(), expected, "{values:?}");
        };
        check(&[], Some(None));
        check(&["Bearer abc"], Some(Some("abc")));
        check(&["bearer  abc "], Some(Some("abc")));
        check(&["abc"], None);
        check(&["Bearer "], None);
        check(&["Basic abc"], None);
        check(&["Bearer abc", "Bearer abc"], None);
    }

    #[test]
    fn durations_are_written_as_clients_read_them() {
        let check = |ms: u64, text: &str| assert_eq!(duration(Duration::from_millis(ms)), text);
        check(0, "0ms");
        check(12, "12ms");
        check(1500, "1.5s");
        check(60_000, "1m0s");
        check(365_000, "6m5s");
    }
}
