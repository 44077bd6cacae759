//! Keeps web pages of other sites away from a server without keys.
//!
//! Such a server listens on loopback only, but a browser on its machine is there too, and sends
//! what any page asks it to. So a request must name a loopback host, or a page whose own name
//! leads here (DNS rebinding) would be one of ours; and what changes something must not come from
//! a page of another origin. With keys none of this is needed: no browser adds one by itself.

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, header};

use super::error::ApiError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another site may have asked for.
pub(super) fn check(request: &Request) -> Result<(), ApiError> {
    let headers = request.headers();
    let named = request.uri().authority().map(Authority::as_str);
    // a request without a host comes from no browser
    let host = match named.or(only(headers, &header::HOST)?) {
        Some(host) if !is_loopback(host) => return Err(ApiError::foreign_host()),
        host => host,
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        // it changes nothing, and without CORS headers no other origin sees the reply
        return Ok(());
    }
    let own_site = match only(headers, &SEC_FETCH_SITE)? {
        None | Some("same-origin" | "none") => true,
        Some(_) => false,
    };
    let own_origin = match (only(headers, &header::ORIGIN)?, host) {
        (None, _) => true,
        (Some(origin), Some(host)) => is_of(origin, host),
        (Some(_), None) => false,
    };
    match own_site && own_origin {
        true => Ok(()),
        false => Err(ApiError::foreign_page()),
    }
}

/// A header's value, where there is one; two values, or one that is no text, are nobody's.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text.trim())),
        _ => Err(ApiError::foreign_page()),
    }
}

/// Whether `host`, with or without a port, names this machine to every browser.
fn is_loopback(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host().to_ascii_lowercase();
    let v6 = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    if let Some(v6) = v6 {
        return v6.parse().is_ok_and(|ip: Ipv6Addr| ip.is_loopback());
    }
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse().is_ok_and(|ip: Ipv4Addr| ip.is_loopback())
}

/// Whether `origin` is that of the pages of `host`.
fn is_of(origin: &str, host: &str) -> bool {
    let Some((scheme, place)) = origin.split_once("://") else {
        return false;
    };
    matches!(scheme, "http" | "https") && place.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn allowed(method: Method, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/admin/v1/files");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(Body::empty()).expect("sound")).is_ok()
    }

    #[test]
    fn only_loopback_names_are_hosts() {
        for host in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
        ] {
            assert!(allowed(Method::GET, &[("host", host)]), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "notlocalhost",
            "10.0.0.1",
            "0.0.0.0:8080",
            "[::2]",
            "localhost@evil.example",
            "evil.example@localhost",
            "",
        ] {
            assert!(!allowed(Method::GET, &[("host", host)]), "{host}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert!(!allowed(Method::GET, &twice));
        assert!(allowed(Method::POST, &[]), "a program without a host");
    }

    #[test]
    fn what_changes_something_comes_from_no_other_page() {
        let host = ("host", "127.0.0.1:8080");
        let check = |fields: &[(&str, &str)], expected: bool| {
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                let fields = [&[host], fields].concat();
                assert_eq!(allowed(method, &fields), expected, "{fields:?}");
            }
        };
        check(&[], true);
        check(&[("origin", "http://127.0.0.1:8080")], true);
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "none")], true);
        for origin in [
            "null",
            "",
            "https://evil.example",
            "http://127.0.0.1:3000",
            "http://localhost:8080",
            "file://127.0.0.1:8080",
            "http://127.0.0.1:8080.evil.example",
        ] {
            check(&[("origin", origin)], false);
        }
        for site in ["cross-site", "same-site", "whatever"] {
            check(&[("sec-fetch-site", site)], false);
            let both = [
                ("sec-fetch-site", site),
                ("origin", "http://127.0.0.1:8080"),
            ];
            check(&both, false);
        }
    }

    #[test]
    fn a_page_elsewhere_may_link_here() {
        let fields = [
            ("host", "localhost:8080"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(allowed(Method::GET, &fields));
    }
}
