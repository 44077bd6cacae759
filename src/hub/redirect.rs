//! Where a redirect leads, and whether it stays with whom was asked.

use hyper::Uri;

/// Whether two addresses are of one server: scheme, host and port are the same.
pub(super) fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, _) => 80,
    };
    let same_host = match (one.host(), other.host()) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => false,
    };
    same_host && one.scheme_str() == other.scheme_str() && port(one) == port(other)
}

/// Whether what is encrypted so far would go on in the open.
pub(super) fn leaves_tls(from: &Uri, to: &Uri) -> bool {
    from.scheme_str() == Some("https") && to.scheme_str() != Some("https")
}

/// Where a `Location` leads, seen from an address.
pub(super) fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let scheme = from.scheme_str()?;
    let target = if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{}{location}", from.authority()?)
    } else if location.contains("://") {
        location.to_owned()
    } else {
        let folder = from
            .path()
            .rsplit_once('/')
            .map_or("", |(folder, _)| folder);
        format!("{scheme}://{}{folder}/{location}", from.authority()?)
    };
    let target = target.split('#').next().unwrap_or_default();
    let target: Uri = target.parse().ok()?;
    let is_web = matches!(target.scheme_str(), Some("http" | "https"));
    (is_web && target.host().is_some()).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().expect(text)
    }

    #[test]
    fn a_redirect_is_resolved_against_where_it_came_from() {
        for (location, target) in [
            ("https://cdn.x/a?b=c#d", Some("https://cdn.x/a?b=c")),
            ("/api/y", Some("https://hub.x:8443/api/y")),
            ("//cdn.x/y", Some("https://cdn.x/y")),
            ("y", Some("https://hub.x:8443/a/y")),
            ("file:///etc/passwd", None),
            ("ftp://x/y", None),
            ("http://", None),
        ] {
            let found = resolve(&uri("https://hub.x:8443/a/b"), location);
            assert_eq!(found, target.map(uri), "{location}");
        }
    }

    #[test]
    fn nothing_goes_from_https_into_the_open() {
        assert!(leaves_tls(&uri("https://a"), &uri("http://a")));
        for (from, to) in [
            ("https://a", "https://b"),
            ("http://a", "http://b"),
            ("http://a", "https://a"),
        ] {
            assert!(!leaves_tls(&uri(from), &uri(to)), "{from} {to}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let hub = uri("https://hub.x/a");
        for (other, same) in [
            ("https://hub.x/b", true),
            ("https://HUB.x:443/", true),
            ("http://hub.x/", false),
            ("https://hub.x:444/", false),
            ("https://cdn.hub.x/", false),
            ("https://hub.x.evil.y/", false),
        ] {
            assert_eq!(is_same_origin(&hub, &uri(other)), same, "{other}");
        }
    }
}
