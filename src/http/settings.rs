//! What the routes take of a request before they read it.

use std::time::Duration;

use crate::telemetry::Traces;

/// Bounds of bodies, and how metrics are told.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Largest body taken, in bytes.
    pub max_body_bytes: usize,
    /// For a body to arrive whole, counted from its head.
    pub body_timeout: Duration,
    /// Whether metrics are told under vLLM's names too.
    pub vllm_metrics: bool,
    /// Who is told of requests that are over.
    pub traces: Traces,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            max_body_bytes: 2 << 20,
            body_timeout: Duration::from_secs(30),
            vllm_metrics: false,
            traces: Traces::default(),
        }
    }
}

/// The bounds that a request's body has to keep, for whoever reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub(super) bytes: usize,
    pub(super) timeout: Duration,
}

impl From<&HttpSettings> for BodyLimits {
    fn from(settings: &HttpSettings) -> Self {
        Self {
            bytes: settings.max_body_bytes,
            timeout: settings.body_timeout,
        }
    }
}
