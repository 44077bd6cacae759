//! Paths with slashes too many, as clients write them whose base URL ends in one.

use axum::extract::Request;
use axum::http::uri::{PathAndQuery, Uri};

/// The same request without slashes at the end of its path, and without empty segments in it. A
/// path that begins with two stays as it is: it reads as the name of a host.
pub(super) fn without_extra(mut request: Request) -> Request {
    if let Some(uri) = shortened(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// `None` where there is nothing to take away.
fn shortened(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if path.starts_with("//") || !(path.ends_with('/') || path.contains("//")) {
        return None;
    }
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let mut short: String = segments.flat_map(|segment| ["/", segment]).collect();
    if short.is_empty() {
        short.push('/');
    }
    if let Some(query) = uri.query() {
        short = format!("{short}?{query}");
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(short).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slashes_go() {
        for (given, expected) in [
            ("/v1/models/", Some("/v1/models")),
            ("/v1//models", Some("/v1/models")),
            ("/v1/models//?a=/b/", Some("/v1/models?a=/b/")),
            ("http://host:1/v1/models/", Some("http://host:1/v1/models")),
            ("/v1/models/a%2F", None),
            ("/v1/models?a=//", None),
            ("//v1/models", None),
            ("//", None),
            ("*", None),
        ] {
            let uri: Uri = given.parse().expect("sound");
            let found = shortened(&uri).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{given}");
        }
        let root: Uri = "/".parse().expect("sound");
        assert_eq!(
            shortened(&root).map(|uri| uri.to_string()).as_deref(),
            Some("/")
        );
    }
}
