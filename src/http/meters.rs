//! `GET /metrics`: what the transport counts, and the page that gathers everybody's figures.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use crate::service::App;
use crate::telemetry::{Gauge, MEDIA_TYPE, Page, Tally, names};

/// The instruments of the transport.
#[derive(Debug, Default)]
pub(super) struct HttpMeters {
    /// Method, route, status.
    pub(super) requests: Tally<(&'static str, String, u16)>,
    /// By code.
    pub(super) errors: Tally<&'static str>,
    pub(super) connections: Gauge,
    pub(super) refused_connections: Tally<&'static str>,
    pub(super) late_connections: Tally<&'static str>,
}

/// How metrics are told.
#[derive(Debug, Clone)]
pub(super) struct Scrape {
    pub(super) meters: Arc<HttpMeters>,
    /// Under vLLM's names too.
    pub(super) vllm_names: bool,
}

/// Metrics in the text format of Prometheus. Needs the scope `metrics`.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "get_metrics",
    tag = "operation",
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain"))
)]
pub(super) async fn get_metrics(
    State(app): State<Arc<App>>,
    Extension(scrape): Extension<Scrape>,
) -> impl IntoResponse {
    let mut page = match scrape.vllm_names {
        // the base, which every policy runs on
        true => Page::with_aliases(app.policies().first().map_or("", |base| base.id.as_str())),
        false => Page::new(),
    };
    app.report(&mut page);
    scrape.meters.report(&mut page);
    report_process(&mut page);
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, page.finish())
}

impl HttpMeters {
    fn report(&self, page: &mut Page) {
        let requests = self.requests.counts();
        let requests = requests.iter().map(|((method, route, status), count)| {
            let labels = [
                ("method", (*method).to_owned()),
                ("route", route.clone()),
                ("status", status.to_string()),
            ];
            (labels, *count as f64)
        });
        page.numbers(&names::HTTP_REQUESTS, requests);
        page.number(&names::CONNECTIONS, self.connections.get() as f64);
        for (metric, label, tally) in [
            (names::HTTP_ERRORS, "code", &self.errors),
            (
                names::REFUSED_CONNECTIONS,
                "bound",
                &self.refused_connections,
            ),
            (names::LATE_CONNECTIONS, "at", &self.late_connections),
        ] {
            let counts = tally.counts();
            let counts = counts.iter().map(|(word, n)| ([(label, *word)], *n as f64));
            page.numbers(&metric, counts);
        }
    }
}

/// What the system says of this process; nothing where it does not say it as Linux does.
fn report_process(page: &mut Page) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse().ok());
    if let Some(kibibytes) = kibibytes {
        let kibibytes: u64 = kibibytes;
        page.number(&names::MEMORY, (kibibytes * 1024) as f64);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        page.number(&names::FILES, files.count() as f64);
    }
}
