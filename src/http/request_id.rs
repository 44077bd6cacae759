//! The id of a request and the trace it belongs to: taken from the caller where they are sound.

use axum::http::{HeaderMap, HeaderName};

use crate::telemetry::CallerSpan;

/// The header of a request's id, in and out.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id taken from a caller.
const LONGEST_ID: usize = 128;

/// The id of one request.
#[derive(Debug, Clone)]
pub(super) struct RequestId(String);

impl RequestId {
    /// The caller's own where it is 1 to 128 visible ASCII characters, else a new one: half of an
    /// id would find the wrong lines in a log.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(REQUEST_ID).iter();
        let id = given.next().filter(|_| given.next().is_none());
        let id = id.and_then(|id| id.to_str().ok());
        match id.filter(|id| is_sound(id)) {
            Some(id) => Self(id.to_owned()),
            None => Self::invented(),
        }
    }

    /// A new one.
    pub(super) fn invented() -> Self {
        Self(uuid::Uuid::now_v7().simple().to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_sound(id: &str) -> bool {
    (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic())
}

/// The trace and the span that a caller works on, of `traceparent` (W3C Trace Context 1).
pub(super) fn trace_of(headers: &HeaderMap) -> Option<CallerSpan> {
    let text = headers.get("traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        part.len() == length && part.chars().all(digit)
    };
    let sound = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    // later versions may append to what version 00 has
    let whole = version != "ff" && (version != "00" || parts.next().is_none());
    let named = trace.contains(|c| c != '0') && span.contains(|c| c != '0');
    let low = flags
        .chars()
        .next_back()
        .and_then(|digit| digit.to_digit(16));
    (sound && whole && named).then(|| CallerSpan {
        trace: trace.to_owned(),
        span: span.to_owned(),
        sampled: low.is_some_and(|bits| bits & 1 == 1),
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn a_callers_id_is_kept_whole_or_replaced() {
        let check = |values: &[&str], kept: bool| {
            let id = RequestId::of(&with("x-request-id", values));
            assert_eq!(Some(&id.as_str()) == values.first(), kept, "{values:?}");
            assert!((1..=LONGEST_ID).contains(&id.as_str().len()));
        };
        check(&["abc-123"], true);
        check(&[&"x".repeat(128)], true);
        check(&[&"x".repeat(129)], false);
        check(&["a b"], false);
        check(&["a\tb"], false);
        check(&[""], false);
        check(&["a", "b"], false);
        check(&[], false);
    }

    #[test]
    fn a_trace_is_read_where_it_is_sound() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        const SPAN: &str = "00f067aa0ba902b7";
        let check = |text: &str, sound: bool| {
            let headers = with("traceparent", &[text]);
            let expected = sound.then(|| CallerSpan {
                trace: TRACE.to_owned(),
                span: SPAN.to_owned(),
                sampled: !text.ends_with("-00"),
            });
            assert_eq!(trace_of(&headers), expected, "{text}");
        };
        check(&format!("00-{TRACE}-{SPAN}-01"), true);
        check(&format!("00-{TRACE}-{SPAN}-00"), true);
        check(&format!("01-{TRACE}-{SPAN}-01-more"), true);
        check(&format!("00-{TRACE}-{SPAN}-01-more"), false);
        check(&format!("ff-{TRACE}-{SPAN}-01"), false);
        check(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), false);
        check(&format!("00-{}-{SPAN}-01", "0".repeat(32)), false);
        check(&format!("00-{TRACE}-{}-01", "0".repeat(16)), false);
        check(&format!("00-{TRACE}-{SPAN}"), false);
        check("", false);
    }
}
