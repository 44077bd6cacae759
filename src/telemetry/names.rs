//! Every metric there is: its name, its meaning, and vLLM's name for the same where it has one.
//!
//! Base units, as Prometheus wants them: seconds, bytes, tokens, `_total` for what only grows.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Values by range.
    Histogram,
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// What it means, in a sentence.
    pub help: &'static str,
    /// What dashboards made for vLLM call it.
    pub alias: Option<&'static str>,
}

impl Metric {
    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        let alias = None;
        Self {
            name,
            kind,
            help,
            alias,
        }
    }

    const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, help)
    }

    const fn alias(self, alias: &'static str) -> Self {
        let alias = Some(alias);
        Self { alias, ..self }
    }
}

/// Bounds of times in seconds, from a token to a long answer.
pub const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0,
];

/// Bounds of tokens computed in one iteration.
pub const TOKENS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0,
];

macro_rules! metrics {
    ($($id:ident = $metric:expr;)*) => {
        $(
            #[expect(missing_docs, reason = "each says what it means in its own help")]
            pub const $id: Metric = $metric;
        )*
        /// All of them.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

metrics! {
    BUILD = Metric::gauge("steersman_build_info", "Always 1; the label tells the version.");
    UPTIME = Metric::gauge("steersman_uptime_seconds", "Since the model was loaded.");
    MEMORY = Metric::gauge("steersman_resident_memory_bytes", "Memory that the process holds.");
    FILES = Metric::gauge("steersman_open_files", "Files and sockets that the process holds open.");

    RUNNING = Metric::gauge("steersman_requests_running", "Sequences that are computed now.")
        .alias("vllm:num_requests_running");
    WAITING = Metric::gauge("steersman_requests_waiting", "Sequences that wait for a place.")
        .alias("vllm:num_requests_waiting");
    WAITING_TOKENS = Metric::gauge(
        "steersman_waiting_prompt_tokens",
        "Prompt tokens of the sequences that wait.",
    );
    KV_USAGE = Metric::gauge(
        "steersman_kv_cache_usage_ratio",
        "Share of the cache's blocks that sequences hold, from 0 to 1.",
    )
    .alias("vllm:kv_cache_usage_perc");
    KV_BLOCKS = Metric::gauge(
        "steersman_kv_cache_blocks",
        "Blocks of the cache: held by sequences, kept for their content, or free.",
    );
    PREFIX_QUERIES = Metric::counter(
        "steersman_prefix_cache_queries_total",
        "Prompt tokens that were looked up in the cache.",
    )
    .alias("vllm:prefix_cache_queries_total");
    PREFIX_HITS = Metric::counter(
        "steersman_prefix_cache_hits_total",
        "Prompt tokens that were found in the cache.",
    )
    .alias("vllm:prefix_cache_hits_total");
    PREEMPTIONS = Metric::counter(
        "steersman_preemptions_total",
        "Sequences that gave their blocks up for others and were computed again.",
    )
    .alias("vllm:num_preemptions_total");
    RESTARTS = Metric::counter(
        "steersman_engine_restarts_total",
        "Times that the engine's loop was built anew after a fault.",
    );
    ITERATIONS = Metric::counter(
        "steersman_engine_iterations_total",
        "Passes through the model, failed ones included.",
    );
    LOOP_AGE = Metric::gauge(
        "steersman_engine_loop_age_seconds",
        "Since the engine's loop last turned; 0 while it has nothing to do. A high one is a stuck \
         engine.",
    );
    PROMPT_TOKENS = Metric::counter(
        "steersman_prompt_tokens_total",
        "Prompt tokens of the sequences that began, cached ones included.",
    )
    .alias("vllm:prompt_tokens_total");
    GENERATION_TOKENS = Metric::counter("steersman_generation_tokens_total", "Tokens generated.")
        .alias("vllm:generation_tokens_total");
    FINISHED = Metric::counter(
        "steersman_requests_finished_total",
        "Sequences that ended: stop, length, abort (the caller left or a stop string was met), \
         error.",
    )
    .alias("vllm:request_success_total");
    QUEUE_TIME = Metric::histogram(
        "steersman_request_queue_time_seconds",
        "From submission to a sequence's first place among the running.",
    )
    .alias("vllm:request_queue_time_seconds");
    FIRST_TOKEN = Metric::histogram(
        "steersman_time_to_first_token_seconds",
        "From submission to a sequence's first token.",
    )
    .alias("vllm:time_to_first_token_seconds");
    INTER_TOKEN = Metric::histogram(
        "steersman_inter_token_latency_seconds",
        "Between two tokens of a sequence.",
    )
    .alias("vllm:inter_token_latency_seconds");
    REQUEST_TIME = Metric::histogram(
        "steersman_e2e_request_latency_seconds",
        "From submission to a sequence's end.",
    )
    .alias("vllm:e2e_request_latency_seconds");
    ITERATION_TOKENS = Metric::histogram(
        "steersman_iteration_tokens",
        "Tokens computed in one iteration.",
    )
    .alias("vllm:iteration_tokens_total");

    ANSWERS = Metric::counter(
        "steersman_answers_total",
        "Requests that were taken on, by policy and by where their weights came from.",
    );

    HTTP_REQUESTS = Metric::counter(
        "steersman_http_requests_total",
        "Requests, by method, route and status; a route that does not exist is `none`.",
    );
    HTTP_ERRORS = Metric::counter(
        "steersman_http_errors_total",
        "Refusals and failures, those in the middle of a stream included, by their code.",
    );
    CONNECTIONS = Metric::gauge("steersman_connections", "Connections that are open.");
    REFUSED_CONNECTIONS = Metric::counter(
        "steersman_connections_refused_total",
        "Connections that were refused, by the bound they met: of all, or of one peer.",
    );
    LATE_CONNECTIONS = Metric::counter(
        "steersman_connections_late_total",
        "Connections closed on clients that were too slow: idle, sending a head, taking a reply.",
    );
}

/// Told under vLLM's names alone: routers read from it which adapters a server has at work. The
/// newest value counts, so it is the time.
pub const LORA_REQUESTS: Metric = Metric::gauge(
    "vllm:lora_requests_info",
    "Which adapters have sequences that run and that wait, and how many can; the value is the time.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_follow_their_kind() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in ALL {
            for name in [Some(metric.name), metric.alias].into_iter().flatten() {
                assert!(seen.insert(name), "{name} is there twice");
            }
            let name = metric.name;
            assert!(name.starts_with("steersman_"), "{name}");
            let counts = metric.kind == Kind::Counter;
            assert_eq!(name.ends_with("_total"), counts, "{name}");
            assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
        }
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [SECONDS, TOKENS] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
