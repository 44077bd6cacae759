//! Asks a hub, and whomever it sends on to. Who asks is told to the hub alone: a redirect to
//! another host goes without the token, and never from https to plain http.

use std::time::Duration;

use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, LOCATION, RANGE, RETRY_AFTER, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::redirect::{is_same_origin, leaves_tls, resolve};
use super::settings::{HubSettings, Token};
use crate::outbound;

/// How long the head of an answer is waited for.
const HEAD: Duration = Duration::from_secs(30);
/// Redirects in a row.
const HOPS: usize = 8;
/// Most characters of another's words that are repeated.
const WORDS: usize = 200;

/// Why a request brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("{host} cannot be reached: {problem}")]
    Unreachable {
        /// Who was asked.
        host: String,
        /// Why not.
        problem: String,
    },
    /// Nothing comes.
    #[error("nothing came from {host} for {seconds} s")]
    Silent {
        /// Who was asked.
        host: String,
        /// How long.
        seconds: u64,
    },
    /// The answer broke off.
    #[error("the answer of {host} broke off: {problem}")]
    Cut {
        /// Who was asked.
        host: String,
        /// How.
        problem: String,
    },
    /// An answer with a status of failure.
    #[error("{host} answered {status}{}", reason.as_ref().map_or(String::new(), |it| format!(" ({it})")))]
    Refused {
        /// Who was asked.
        host: String,
        /// The HTTP status.
        status: u16,
        /// The hub's word for what is wrong, where it was the hub that answered.
        code: Option<String>,
        /// Its sentence.
        reason: Option<String>,
        /// After how long it wants to be asked again.
        wait: Option<Duration>,
    },
    /// An answer that no hub gives.
    #[error("{host} answered otherwise than a hub does: {problem}")]
    Odd {
        /// Who was asked.
        host: String,
        /// What is odd.
        problem: String,
    },
}

impl CallError {
    /// Whether the same request may do better later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Cut { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::Odd { .. } => false,
        }
    }

    /// After how long the other side wants to be asked again.
    pub(super) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Refused { wait, .. } => *wait,
            _ => None,
        }
    }
}

/// Sends requests. To be made and used within one runtime.
pub(super) struct Client {
    http: outbound::Client<Empty<Bytes>>,
    token: Option<Token>,
    endpoint: String,
}

impl Client {
    pub(super) fn new(settings: &HubSettings) -> Self {
        Self {
            http: outbound::client(outbound::connector()),
            token: settings.token.clone(),
            endpoint: settings.endpoint.clone(),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(super) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// An address of the hub, of parts that are already fit for one.
    pub(super) fn address(&self, route: &str) -> Result<Uri, CallError> {
        let address = format!("{}/{route}", self.endpoint);
        address.parse().map_err(|_| CallError::Odd {
            host: self.endpoint.clone(),
            problem: format!("{address} is no address"),
        })
    }

    /// The answer at the end of all redirects, or the first that is `enough`; one that says
    /// failure is an error. `from` leaves out so many bytes of it.
    pub(super) async fn ask(
        &self,
        method: &Method,
        address: Uri,
        from: u64,
        mut enough: impl FnMut(&HeaderMap, StatusCode) -> bool,
    ) -> Result<Response<Incoming>, CallError> {
        let hub: Uri = self.address("")?;
        let mut address = address;
        for _ in 0..HOPS {
            let is_hub = is_same_origin(&hub, &address);
            let response = self.send(method, &address, from, is_hub).await?;
            let status = response.status();
            if status.is_client_error() || status.is_server_error() {
                return Err(refused(&address, &response, is_hub));
            }
            if enough(response.headers(), status) || !status.is_redirection() {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION);
            let target = location
                .and_then(|value| value.to_str().ok())
                .and_then(|text| resolve(&address, text));
            let target = target.ok_or_else(|| odd(&address, "a redirect to nowhere"))?;
            if leaves_tls(&address, &target) {
                return Err(odd(&address, "a redirect from https to plain http"));
            }
            address = target;
        }
        Err(odd(&address, "too many redirects"))
    }

    async fn send(
        &self,
        method: &Method,
        address: &Uri,
        from: u64,
        is_hub: bool,
    ) -> Result<Response<Incoming>, CallError> {
        let mut request = Request::builder()
            .method(method)
            .uri(address)
            .header(USER_AGENT, concat!("steersman/", env!("CARGO_PKG_VERSION")))
            // sizes and hashes are those of the files themselves
            .header(ACCEPT_ENCODING, "identity");
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
            request = request.header(AUTHORIZATION, token.header.clone());
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| odd(address, &error.to_string()))?;
        let sent = tokio::time::timeout(HEAD, self.http.request(request)).await;
        let sent = sent.map_err(|_| CallError::Silent {
            host: host(address),
            seconds: HEAD.as_secs(),
        })?;
        sent.map_err(|error| {
            let problem = deepest(&error);
            match error.is_connect() {
                true => CallError::Unreachable {
                    host: host(address),
                    problem,
                },
                false => CallError::Cut {
                    host: host(address),
                    problem,
                },
            }
        })
    }
}

pub(super) fn odd(address: &Uri, problem: &str) -> CallError {
    CallError::Odd {
        host: host(address),
        problem: problem.to_owned(),
    }
}

/// Who is at an address, for messages.
pub(super) fn host(address: &Uri) -> String {
    let authority = address.authority();
    authority.map_or_else(String::new, |it| it.as_str().to_owned())
}

fn refused(address: &Uri, response: &Response<Incoming>, is_hub: bool) -> CallError {
    // another host's words are not the hub's
    let said = |name: &str| {
        let value = response.headers().get(name)?.to_str().ok()?;
        let text: String = value.chars().take(WORDS).collect();
        Some(text).filter(|text| is_hub && !text.is_empty())
    };
    let status = response.status();
    let wait = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => wait(response.headers()),
        _ => None,
    };
    CallError::Refused {
        host: host(address),
        status: status.as_u16(),
        code: said("x-error-code"),
        reason: said("x-error-message"),
        wait,
    }
}

/// After how long to ask again: `Retry-After: 60`, or what the hub sends, where `t` is the end of
/// the window: `RateLimit: "api";r=0;t=60`.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let seconds = |text: &str| text.trim().parse().ok().map(Duration::from_secs);
    text(RETRY_AFTER.as_str()).and_then(seconds).or_else(|| {
        let parts = text("ratelimit")?.split(';');
        let window = parts.filter_map(|part| part.trim().strip_prefix("t="));
        window.filter_map(seconds).next()
    })
}

/// What went wrong at the bottom of it; the errors above only say that something did.
pub(super) fn deepest(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;

    use super::*;

    #[test]
    fn a_hub_says_when_to_ask_again() {
        let of = |name: HeaderName, value: &'static str| {
            let value = value.parse().expect("a header");
            wait(&HeaderMap::from_iter([(name, value)])).map(|wait| wait.as_secs())
        };
        let limit = HeaderName::from_static("ratelimit");
        assert_eq!(of(RETRY_AFTER, "60"), Some(60));
        assert_eq!(of(RETRY_AFTER, "Fri, 31 Dec 1999 23:59:59 GMT"), None);
        assert_eq!(of(limit.clone(), "\"api\";r=0;t=55"), Some(55));
        assert_eq!(of(limit, "\"api\";r=0"), None);
    }
}
