//! Traces of requests, for an OpenTelemetry collector: what a request's line of log tells, as spans.
//!
//! Spans are made when a request is over, from times that were taken where things happened. They
//! hold figures, ids and words of closed lists, never what a caller wrote. Built in by the cargo
//! feature `otel`; without it [`Traces::start`] says so.

#[cfg(feature = "otel")]
mod collector;
#[cfg(feature = "otel")]
mod export;

use std::sync::Arc;
use std::time::Instant;

use super::AnswerTimes;
#[cfg(feature = "otel")]
use export::Exporter;

/// Where the environment names a collector.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

/// Why traces cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The program was built without them.
    #[error(
        "--otlp-endpoint is given, but this program was built without traces; build it with \
         `cargo build --release --features otel`"
    )]
    NotBuilt,
    /// The settings, ours or those of the environment, name no collector that can be spoken to.
    #[error("traces cannot be told: {0}; expected for example --otlp-endpoint http://HOST:4318")]
    Settings(String),
}

/// The span of a caller that a request works for (W3C Trace Context).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerSpan {
    /// 32 hex digits.
    pub trace: String,
    /// 16 hex digits.
    pub span: String,
    /// Whether the caller keeps its own spans of this trace.
    pub sampled: bool,
}

/// A request that is over.
#[derive(Debug, Clone)]
pub struct RequestTrace<'a> {
    /// Its method, a word of a closed list.
    pub method: &'static str,
    /// Its route, as the program writes it.
    pub route: &'a str,
    /// The status of its reply.
    pub status: u16,
    /// Its id.
    pub request_id: &'a str,
    /// Whose trace it is part of.
    pub caller: Option<&'a CallerSpan>,
    /// The model that answered.
    pub model: Option<&'a str>,
    /// The version of its policy.
    pub policy_version: Option<&'a str>,
    /// Of all answers together.
    pub prompt_tokens: usize,
    /// Those of them that were found in the cache.
    pub cached_tokens: usize,
    /// Of all answers together.
    pub completion_tokens: usize,
    /// The code of what went wrong.
    pub error: Option<&'static str>,
    /// Whether the reply went out to its end.
    pub complete: bool,
    /// When it began.
    pub started: Instant,
    /// Its answers.
    pub answers: Vec<AnswerTimes>,
}

/// The way to the collector, where there is one.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Exporter>>);

/// What cannot be made in a program without traces.
#[cfg(not(feature = "otel"))]
#[derive(Debug)]
enum Exporter {}

impl Traces {
    /// Starts telling traces to the collector at this base address (its route `/v1/traces` is
    /// added), or to the one that the environment names (`OTEL_EXPORTER_OTLP_ENDPOINT` and its
    /// kin); tells nobody where neither does. Further settings are the environment's.
    ///
    /// Call it on a tokio runtime, which then carries what is sent.
    ///
    /// # Errors
    /// The program has no traces, or the settings are unsound.
    pub fn start(endpoint: Option<&str>) -> Result<Self, TracesError> {
        let says = |name: &str, word: &str| {
            std::env::var(name).is_ok_and(|value| value.trim().eq_ignore_ascii_case(word))
        };
        let named = ENDPOINTS
            .iter()
            .any(|name| std::env::var(name).is_ok_and(|value| !value.trim().is_empty()));
        if says("OTEL_SDK_DISABLED", "true") || says("OTEL_TRACES_EXPORTER", "none") {
            return Ok(Self::default());
        }
        match (endpoint, named) {
            (None, false) => Ok(Self::default()),
            _ => Self::start_exporter(endpoint),
        }
    }

    #[cfg(feature = "otel")]
    fn start_exporter(endpoint: Option<&str>) -> Result<Self, TracesError> {
        Ok(Self(Some(Arc::new(Exporter::start(endpoint)?))))
    }

    #[cfg(not(feature = "otel"))]
    fn start_exporter(endpoint: Option<&str>) -> Result<Self, TracesError> {
        if endpoint.is_some() {
            return Err(TracesError::NotBuilt);
        }
        // set for all programs of a machine, as a rule
        tracing::warn!("the environment names a collector of traces, but this build has none");
        Ok(Self::default())
    }

    /// Whether anybody is told.
    pub fn are_on(&self) -> bool {
        self.0.is_some()
    }

    /// Tells of a request that is over. Does not wait: what the collector cannot take in time is
    /// lost.
    pub fn tell(&self, request: &RequestTrace<'_>) {
        let Some(exporter) = &self.0 else { return };
        #[cfg(feature = "otel")]
        exporter.tell(request);
        #[cfg(not(feature = "otel"))]
        {
            let _ = request;
            match **exporter {}
        }
    }

    /// Sends what is left. Blocks, at most for some seconds.
    pub fn end(&self) {
        #[cfg(feature = "otel")]
        if let Some(exporter) = &self.0 {
            exporter.end();
        }
    }
}
