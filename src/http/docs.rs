//! `GET /docs`: a page that reads `/openapi.json` and lets every route be tried. It comes whole from
//! this server and needs no other.

use axum::extract::Request;
use axum::http::header;
use axum::response::{Html, IntoResponse, Response};

use super::error::ApiError;

/// Nothing inline, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// The page's own files, with their media types.
const FILES: &[(&str, &str, &str)] = &[
    (
        "page.js",
        "text/javascript; charset=utf-8",
        include_str!("docs/page.js"),
    ),
    (
        "page.css",
        "text/css; charset=utf-8",
        include_str!("docs/page.css"),
    ),
];

pub(super) async fn get_docs() -> impl IntoResponse {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(include_str!("docs/page.html")))
}

pub(super) async fn get_docs_file(request: Request) -> Response {
    let (method, path) = (request.method().as_str(), request.uri().path());
    let asked = path.strip_prefix("/docs/");
    let Some((_, media_type, text)) = FILES.iter().find(|(name, _, _)| Some(*name) == asked) else {
        return ApiError::no_route(method, path).into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, *text).into_response()
}
