//! Spans of requests, in OpenTelemetry's terms.

use std::time::{Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry::{Context, KeyValue, SpanId, TraceId};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};

use super::super::AnswerTimes;
use super::collector::Collector;
use super::{CallerSpan, RequestTrace, TracesError};

/// The route of traces under a collector's address.
const ROUTE: &str = "/v1/traces";

/// Sends spans in batches, from a thread of the SDK.
#[derive(Debug)]
pub(super) struct Exporter {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Exporter {
    pub(super) fn start(endpoint: Option<&str>) -> Result<Self, TracesError> {
        let settings = |error: String| TracesError::Settings(error);
        let mut builder = SpanExporter::builder()
            .with_http()
            .with_http_client(Collector::new().map_err(settings)?)
            .with_protocol(Protocol::HttpBinary);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(address(endpoint)?);
        }
        let exporter = builder
            .build()
            .map_err(|error| settings(error.to_string()))?;
        let named = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"]
            .iter()
            .filter_map(|name| std::env::var(name).ok())
            .zip([true, false])
            .any(|(value, whole)| !value.is_empty() && (whole || value.contains("service.name=")));
        let mut resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        if !named {
            resource = resource.with_service_name("steersman");
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build())
            .build();
        Ok(Self {
            tracer: provider.tracer("steersman"),
            provider,
        })
    }

    /// One span for the request, and three for each of its answers.
    pub(super) fn tell(&self, request: &RequestTrace<'_>) {
        let now = Now::default();
        let parent = request.caller.map_or_else(Context::new, |caller| {
            Context::new().with_remote_span_context(context_of(caller))
        });
        let mut span = self
            .tracer
            .span_builder(format!("{} {}", request.method, request.route))
            .with_kind(SpanKind::Server)
            .with_start_time(now.at(request.started))
            .with_attributes(attributes(request))
            .start_with_context(&self.tracer, &parent);
        if request.status >= 500 || (request.error.is_some() && request.status < 400) {
            // a refusal is the caller's fault, a stream that broke off is ours
            span.set_status(Status::error(request.error.unwrap_or("error")));
        }
        let inside = Context::new().with_remote_span_context(span.span_context().clone());
        for (index, answer) in request.answers.iter().enumerate() {
            self.tell_answer(index, answer, (&inside, &now));
        }
        span.end_with_timestamp(now.wall);
    }

    fn tell_answer(&self, index: usize, answer: &AnswerTimes, (inside, now): (&Context, &Now)) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let stages = [
            ("queue", Some(answer.asked), answer.started, Vec::new()),
            (
                "prefill",
                answer.started,
                answer.first_token,
                vec![
                    KeyValue::new("gen_ai.usage.input_tokens", count(answer.prompt_tokens)),
                    KeyValue::new("steersman.cached_tokens", count(answer.cached_tokens)),
                ],
            ),
            (
                "decode",
                answer.first_token,
                None,
                vec![
                    KeyValue::new(
                        "gen_ai.usage.output_tokens",
                        count(answer.completion_tokens),
                    ),
                    KeyValue::new("gen_ai.response.finish_reasons", answer.end),
                ],
            ),
        ];
        for (name, from, to, mut attributes) in stages {
            let Some(from) = from else { break };
            attributes.push(KeyValue::new("steersman.answer", count(index)));
            let mut span = self
                .tracer
                .span_builder(name)
                .with_kind(SpanKind::Internal)
                .with_start_time(now.at(from))
                .with_attributes(attributes)
                .start_with_context(&self.tracer, inside);
            if to.is_none() && answer.end == "error" {
                span.set_status(Status::error("error"));
            }
            span.end_with_timestamp(now.at(to.unwrap_or(answer.ended)));
        }
    }

    pub(super) fn end(&self) {
        if let Err(error) = self.provider.shutdown() {
            tracing::warn!("the last traces were not told: {error}");
        }
    }
}

/// The collector's whole address.
fn address(base: &str) -> Result<String, TracesError> {
    let refused = |reason: &str| TracesError::Settings(format!("`{base}` {reason}"));
    let uri: hyper::Uri = base.parse().map_err(|_| refused("is no address"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
        return Err(refused("has no http or https scheme, or no host"));
    }
    let base = base.trim_end_matches('/');
    Ok(match base.ends_with(ROUTE) {
        true => base.to_owned(),
        false => format!("{base}{ROUTE}"),
    })
}

fn attributes(request: &RequestTrace<'_>) -> Vec<KeyValue> {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::new("http.request.method", request.method),
        KeyValue::new("http.route", request.route.to_owned()),
        KeyValue::new("http.response.status_code", i64::from(request.status)),
        KeyValue::new("steersman.request_id", request.request_id.to_owned()),
        KeyValue::new("steersman.complete", request.complete),
    ];
    if let Some(model) = request.model {
        attributes.extend([
            KeyValue::new("gen_ai.response.model", model.to_owned()),
            KeyValue::new("gen_ai.usage.input_tokens", count(request.prompt_tokens)),
            KeyValue::new(
                "gen_ai.usage.output_tokens",
                count(request.completion_tokens),
            ),
            KeyValue::new("steersman.cached_tokens", count(request.cached_tokens)),
        ]);
    }
    if let Some(version) = request.policy_version {
        attributes.push(KeyValue::new(
            "steersman.policy_version",
            version.to_owned(),
        ));
    }
    if let Some(code) = request.error {
        attributes.push(KeyValue::new("error.type", code));
    }
    attributes
}

fn context_of(caller: &CallerSpan) -> SpanContext {
    let trace = TraceId::from_hex(&caller.trace).unwrap_or(TraceId::INVALID);
    let span = SpanId::from_hex(&caller.span).unwrap_or(SpanId::INVALID);
    let flags = TraceFlags::default().with_sampled(caller.sampled);
    SpanContext::new(trace, span, flags, true, TraceState::default())
}

/// One moment on both clocks, so that all times of a request fit together.
struct Now {
    wall: SystemTime,
    steady: Instant,
}

impl Default for Now {
    fn default() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }
}

impl Now {
    fn at(&self, moment: Instant) -> SystemTime {
        self.wall - self.steady.saturating_duration_since(moment)
    }
}
